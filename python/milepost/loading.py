"""Loading into what is there already: tensors are decoded straight into their memory.

Everything is compared before anything is written: a load that does not fit changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from milepost import arrays, leaves, optimizers, stateful, tree, tree_decode
from milepost.checkpoint import Checkpoint
from milepost.errors import MismatchError
from milepost.leaves import LeafSpec
from milepost.names import Path, shown
from milepost.progress import Callback
from milepost.reports import LoadReport


def load_into(
    checkpoint: Checkpoint, target: Any, *, strict: bool = True, progress: Callback | None = None
) -> LoadReport:
    """Fills `target` with what `checkpoint` holds; see Store.load_into."""
    plan = _Plan(checkpoint)
    plan.match(target, checkpoint.root(), (), None)
    report = plan.report
    if not report.strict and strict:
        raise mismatch(report)
    plan.execute(progress)
    return report


def mismatch(report: LoadReport) -> MismatchError:
    """The error that a target and a checkpoint do not fit; nothing was changed then."""
    error = MismatchError(
        f"the checkpoint does not fit: {report}",
        code="load",
        hint="pass strict=False to load what fits; `error.report` lists everything",
    )
    error.report = report
    return error


class _Plan:
    """What is decoded where, and what is done afterwards."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.report = LoadReport(checkpoint.id, checkpoint.run, checkpoint.step)
        self._direct: dict[str, Any] = {}
        self._copies: list[tuple[str, Callable[[Any], object], LeafSpec]] = []
        self._after: list[Callable[[], object]] = []

    def match(
        self, target: Any, node: Any, path: Path, put: Callable[[Any], object] | None
    ) -> None:
        """Compares a target with a node; `put` sets another value in its place, if that can be."""
        inner = _inner(node)
        spec = self._spec(inner)
        if leaves_of(target):
            if spec is None:
                self._differs(path, "the checkpoint has no array here")
            else:
                self._tensor(target, spec, path)
        elif _is_module(target):
            self._module(target, inner, path)
        elif (give := stateful.giver(target)) is not None:
            if self._groups_fit(target, node, path):
                self._give(give, node, path)
        elif isinstance(target, dict) and _pairs(inner, path) is not None:
            self._dict(target, inner, path)
        elif isinstance(target, list | tuple) and _items(inner) is not None:
            self._sequence(target, _items(inner), path, put)
        elif put is not None:
            self._value(node, path, put)
        else:
            self._fixed(target, node, path)

    def _spec(self, node: Any) -> LeafSpec | None:
        if isinstance(node, dict) and "tensor" in node:
            return self._checkpoint.spec(node["tensor"])
        return None

    def _differs(self, path: Path, why: str) -> None:
        self.report.mismatched.append((shown(path), why))

    def _tensor(self, target: Any, spec: LeafSpec, path: Path) -> None:
        leaf = leaves.as_leaf(target, shown(path))
        assert leaf is not None
        kept = (leaf.dtype, tuple(leaf.shape), leaf.raw)
        if kept[:2] != (spec.dtype, spec.shape) or _raw(kept[2]) != _raw(spec.raw):
            why = (
                f"{_form(spec.dtype, spec.shape)} is saved, {_form(leaf.dtype, leaf.shape)} is here"
            )
            return self._differs(path, why)
        self.report.loaded.append(shown(path))
        self.report.nbytes += spec.nbytes
        memory = _writable(target)
        if memory is not None and spec.name not in self._direct:
            self._direct[spec.name] = memory
        elif memory is None or not _same_memory(memory, self._direct[spec.name]):
            self._copies.append((spec.name, _copier(target), spec))
        return None

    def _module(self, module: Any, node: Any, path: Path) -> None:
        pairs = _pairs(node, path)
        state = module.state_dict()
        plain = all(leaves_of(value) for value in state.values())
        if pairs is None:
            return self._differs(path, "the checkpoint has no state of a module here")
        if not plain or _has_load_hooks(module):
            return self._give(module.load_state_dict, node, path)
        return self._dict(state, node, path)

    def _dict(self, target: Any, node: Any, path: Path) -> None:
        there = {key: (child, at) for key, child, at in _pairs(node, path) or []}
        for key in list(target):
            if key not in there:
                self.report.missing.append(shown((*path, key)))
                continue
            child, at = there[key]
            self.match(target[key], child, at, _setter(target, key))
        for key, (child, at) in there.items():
            if key not in target:
                self.report.unexpected.extend(_paths(child, at))

    def _sequence(
        self, target: Any, items: list[Any], path: Path, put: Callable[[Any], object] | None
    ) -> None:
        if len(target) != len(items):
            why = f"{len(items)} items are saved, {len(target)} are here"
            return self._differs(path, why)
        fixed = isinstance(target, tuple)
        if fixed and put is not None and not any(_has_place(t) for t in target):
            node = {"tuple": items}
            return self._value(node, path, put)
        for index, (value, child) in enumerate(zip(target, items, strict=True)):
            setter = None if fixed else _setter(target, index)
            self.match(value, child, (*path, index), setter)
        return None

    def _groups_fit(self, target: Any, node: Any, path: Path) -> bool:
        """Whether an optimizer moves as many tensors, in as many groups, as the saved one did."""
        if not optimizers.is_optimizer(target):
            return True
        saved = self._plain(node)
        groups = saved.get("param_groups") if isinstance(saved, dict) else None
        there = [len(group["params"]) for group in target.param_groups]
        if not isinstance(groups, list) or [len(g["params"]) for g in groups] == there:
            return True
        found = [len(group["params"]) for group in groups]
        self._differs(path, f"groups of {found} tensors are saved, of {there} are here")
        return False

    def _give(self, give: Callable[[Any], object], node: Any, path: Path) -> None:
        self._value(node, path, give)

    def _value(self, node: Any, path: Path, put: Callable[[Any], object]) -> None:
        """Lets `put` have the value of a node, with arrays in new memory."""
        self.report.loaded.extend(_paths(node, path))
        put_later = put

        def of_tensor(told: dict[str, Any], _path: Path) -> Any:
            spec = self._checkpoint.spec(told)
            array, memory = arrays.allocate(spec)
            self._checkpoint.native.read({spec.name: memory})
            self.report.nbytes += spec.nbytes
            return arrays.finish(array, spec.kind)

        builder = tree_decode.Builder(of_tensor, self._checkpoint.blob)
        self._after.append(lambda: put_later(builder.build(node, path)))

    def _fixed(self, target: Any, node: Any, path: Path) -> None:
        """A value that cannot be replaced where it is must be the saved one already."""
        try:
            same = tree.encode(target).document == tree.encode(self._plain(node)).document
        except TypeError:
            same = False
        if same:
            self.report.loaded.append(shown(path))
        else:
            self._differs(path, "this value cannot be replaced: it is no dict, list or array")

    def _plain(self, node: Any) -> Any:
        return tree_decode.Builder(lambda t, _p: t["name"], self._checkpoint.blob).build(node)

    def execute(self, progress: Callback | None) -> None:
        """Decodes, copies, and gives states back, in this order."""
        memories = dict(self._direct)
        made: dict[str, Any] = {}
        for name, _, spec in self._copies:
            if name not in made:
                made[name], memory = arrays.allocate(spec)
                if name not in memories:
                    memories[name] = memory
        self._checkpoint.native.read(memories, progress)
        for name, copy, spec in self._copies:
            if name in self._direct:
                # Decoded elsewhere; this one wants the same bytes.
                made[name], memory = arrays.allocate(spec)
                memoryview(memory)[:] = memoryview(self._direct[name])
            copy(made[name])
        for give in self._after:
            try:
                give()
            except Exception as error:
                error.add_note("milepost: arrays were loaded already when this was raised")
                raise


def leaves_of(value: Any) -> bool:
    """Whether a value is an array that can be written to in place."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    is_torch = torch is not None and isinstance(value, torch.Tensor)
    is_numpy = numpy is not None and isinstance(value, numpy.ndarray)
    return is_torch or is_numpy or _is_variable(value)


def _is_variable(value: Any) -> bool:
    """Whether it is a variable of TensorFlow, which is assigned to."""
    return leaves.is_tensorflow(value) and hasattr(value, "assign")


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _has_load_hooks(module: Any) -> bool:
    """Whether loading does more than to copy, so that the module must do it itself."""
    own = type(module).load_state_dict
    import torch

    if own is not torch.nn.Module.load_state_dict:
        return True
    plain = torch.nn.Module._load_from_state_dict
    return any(
        part._load_state_dict_pre_hooks
        or part._load_state_dict_post_hooks
        or part._state_dict_hooks
        or (
            type(part)._load_from_state_dict is not plain
            and not type(part).__module__.startswith("torch.nn.modules")
        )
        for part in module.modules()
    )


def _has_place(value: Any) -> bool:
    return leaves_of(value) or isinstance(value, dict | list) or stateful.giver(value) is not None


def _setter(holder: Any, key: Any) -> Callable[[Any], object]:
    def put(value: Any) -> None:
        holder[key] = value

    return put


def _inner(node: Any) -> Any:
    while isinstance(node, dict) and "state" in node:
        node = node["state"]
    return node


def _pairs(node: Any, path: Path) -> list[tuple[Any, Any, Path]] | None:
    """Keys, nodes and paths of a mapping's node, or None if it is no mapping's."""
    if isinstance(node, dict):
        [(kind, held)] = node.items()
        if kind in tree.DICTS.values():
            return [(at[-1], child, at) for _, child, at in tree_decode.pairs(held, path)]
    return None


def _items(node: Any) -> Any:
    if isinstance(node, dict) and "tuple" in node:
        return node["tuple"]
    if isinstance(node, dict) and "named" in node:
        return node["named"]["items"]
    return node if isinstance(node, list) else None


def _paths(node: Any, path: Path) -> list[str]:
    """The paths of all leaves below a node."""
    node = _inner(node)
    pairs, items = _pairs(node, path), _items(node)
    if pairs:
        return [p for _, child, at in pairs for p in _paths(child, at)]
    if items:
        return [p for i, child in enumerate(items) for p in _paths(child, (*path, i))]
    return [shown(path)]


def _raw(raw: dict[str, Any] | None) -> Any:
    return None if raw is None else (str(raw["dtype"]), list(raw["shape"]))


def _form(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}{list(shape)}"


def _writable(target: Any) -> Any:
    """The bytes of an array to decode into, or None if they must be copied to it."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(target, torch.Tensor):
        fits = target.device.type == "cpu" and target.is_contiguous()
        plain = fits and not target.is_conj() and not target.is_neg()
        return leaves.torch_bytes(target.detach()) if plain else None
    if _is_variable(target):
        return None
    if target.flags.c_contiguous and target.flags.writeable:
        return leaves.numpy_bytes(target)
    return None


def _same_memory(one: Any, other: Any) -> bool:
    if not len(one):
        return not len(other)
    here, there = (a.__array_interface__["data"][0] for a in (one, other))
    return bool(here == there)


def _copier(target: Any) -> Callable[[Any], object]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(target, torch.Tensor):
        found = torch

        def copy(value: Any) -> None:
            with found.no_grad():
                target.copy_(found.as_tensor(value))

        return copy
    if _is_variable(target):
        return lambda value: target.assign(value)
    return lambda value: target.__setitem__(..., value)
