"""What PyTorch's modules tell of each other: which is a running average or a copy of which."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from milepost import optimizers
from milepost.optimizers import Relation

NameOf = Callable[[Any], str | None]


def is_module(value: Any) -> bool:
    """Whether it is a module of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def relations(
    modules: Sequence[Any], trained_by: Sequence[Any], name_of: NameOf
) -> Iterator[Relation]:
    """The relations of modules that have the same tensors, and of the masters of half floats.

    Of two alike in f32 the one that an optimizer moves is averaged by the other; one in bf16 or
    f16 is a copy of one in f32, or of f32 weights that an optimizer moves. `name_of` tells what a
    tensor is saved as. What does not hold costs a little time, as the store tries every relation.
    """
    moved = {id(weight) for one in trained_by for weight in optimizers.weights(one)}
    for one, other in itertools.permutations(modules, 2):
        yield from _of_pair(_tensors(one), _tensors(other), moved, name_of)
    for optimizer, module in itertools.product(trained_by, modules):
        yield from _of_masters(optimizers.weights(optimizer), list(module.parameters()), name_of)


def _tensors(module: Any) -> dict[str, Any]:
    """The parameters and buffers by name; those that an AveragedModel averages by their own."""
    torch = sys.modules["torch"]
    if isinstance(module, torch.optim.swa_utils.AveragedModel):
        module = module.module
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _of_pair(
    source: dict[str, Any], other: dict[str, Any], moved: set[int], name_of: NameOf
) -> Iterator[Relation]:
    if source.keys() != other.keys():
        return
    if any(source[name].shape != other[name].shape for name in source):
        return
    is_moved = any(id(tensor) in moved for tensor in source.values())
    is_average = is_moved and not any(id(tensor) in moved for tensor in other.values())
    for name, of in source.items():
        if kind := _kind(of, other[name], is_average):
            yield from _told(other[name], kind, of, name_of)


def _of_masters(masters: list[Any], copies: list[Any], name_of: NameOf) -> Iterator[Relation]:
    if [m.shape for m in masters] != [c.shape for c in copies]:
        return
    for of, copy in zip(masters, copies, strict=True):
        if _kind(of, copy, is_average=False) == "copy":
            yield from _told(copy, "copy", of, name_of)


def _kind(of: Any, other: Any, is_average: bool) -> str | None:
    torch = sys.modules["torch"]
    if of.dtype != torch.float32:
        return None
    if other.dtype in (torch.bfloat16, torch.float16):
        return "copy"
    return "average" if is_average and other.dtype == torch.float32 else None


def _told(tensor: Any, kind: str, of: Any, name_of: NameOf) -> Iterator[Relation]:
    name, of_name = name_of(tensor), name_of(of)
    if name is not None and of_name is not None and name != of_name:
        yield name, kind, [of_name]
