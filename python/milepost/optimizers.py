"""What PyTorch's optimizers tell of their tensors: which moments belong to which weight."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

#: A tensor, how it came from others (`adam`, `second-moment`, `momentum`, `sum-of-squares`,
#: `average` or `copy`), and those others.
Relation = tuple[str, str, list[str]]


def is_optimizer(value: Any) -> bool:
    """Whether it is an optimizer of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.optim.Optimizer)


def relations(optimizer: Any, name_of: Callable[[Any], str | None]) -> Iterator[Relation]:
    """The relations of an optimizer's tensors.

    `name_of` tells what a tensor is saved as, or None if it is not saved. The store predicts a
    tensor from those that it is related to, and holds every prediction against the truth.
    """
    for weight, state in optimizer.state.items():
        if not isinstance(state, dict):
            continue
        mean, square, buffer, total = (
            _name(state.get(key), name_of)
            for key in ("exp_avg", "exp_avg_sq", "momentum_buffer", "sum")
        )
        name = _name(weight, name_of)
        if mean is not None and square is not None:
            if name is not None:
                yield name, "adam", [mean, square]
            else:
                yield square, "second-moment", [mean]
        elif buffer is not None and name is not None:
            yield name, "momentum", [buffer]
        elif total is not None and name is not None:
            yield total, "sum-of-squares", [name]


def weights(optimizer: Any) -> list[Any]:
    """The tensors that an optimizer moves, in its order."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _name(value: Any, name_of: Callable[[Any], str | None]) -> str | None:
    torch = sys.modules["torch"]
    return name_of(value) if isinstance(value, torch.Tensor) else None
