"""A checkpoint, open for reading: a mapping of names to tensors that are read when asked for."""

from __future__ import annotations

import copy
import datetime
import fnmatch
import html
from collections.abc import Iterator, KeysView, Mapping
from typing import Any

from milepost import _engine, arrays, tree, tree_decode
from milepost.errors import NotFoundError
from milepost.lazy import LazyTensor, require
from milepost.leaves import LeafSpec
from milepost.names import shown
from milepost.progress import Progress, Shown
from milepost.reports import utc

Patterns = str | list[str] | tuple[str, ...]


class Checkpoint(Mapping[str, LazyTensor]):
    """One checkpoint. As a mapping it is flat: the names of all tensors.

    `load()` gives back the very tree that was saved, `tree()` the same with lazy tensors.
    """

    def __init__(self, native: _engine.NativeCheckpoint) -> None:
        self._native = native
        told = native.describe()
        #: 64 hex digits: the hash of everything that it holds.
        self.id: str = told["id"]
        #: The id of the checkpoint that it continues, or None.
        self.parent: str | None = told["parent"]
        #: The run that it belongs to, and its place there.
        self.run: str = told["run"]
        self.seq: int = told["seq"]
        #: The training step.
        self.step: int = told["step"]
        #: When it was saved, by the writer's clock.
        self.time: datetime.datetime = utc(told["time_ms"])
        #: As they were given to `save`.
        self.metrics: dict[str, float] = told["metrics"]
        self.metadata: dict[str, str] = told["metadata"]
        #: Bytes of its tensors and blobs; bytes that saving it added to the store.
        self.logical_bytes: int = told["logical_bytes"]
        self.added_bytes: int = told["added_bytes"]
        #: "full", or "delta" if a part of it is stored as a difference.
        self.kind: str = "full" if told["full"] else "delta"
        #: Of its deepest record.
        self.depth: int = told["depth"]
        #: "relaxed", "durable" or "verified".
        self.durability: str = told["durability"]
        self._blobs = told["blobs"]
        self._views = {view["name"]: view for view in native.tensors()}
        self._document = tree.BLOB
        self._root: Any = None
        self._nodes: dict[str, Any] | None = None
        self._tensors: dict[str, LazyTensor] | None = None

    def __getitem__(self, name: str) -> LazyTensor:
        """The tensor of that name, or of another name that it is tied to.

        Raises NotFoundError, which is a KeyError, if there is none.
        """
        flat = self._flat()
        if name not in flat:
            name = self.tied.get(name, name)
        return require(flat, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __contains__(self, name: object) -> bool:
        return name in self._views

    def keys(self, pattern: str | None = None) -> KeysView[str]:
        """The tensors' names, sorted; those that match a pattern, as `model.*`, if one is given."""
        names = [n for n in self._views if pattern is None or fnmatch.fnmatchcase(n, pattern)]
        return dict.fromkeys(names).keys()

    def __repr__(self) -> str:
        size = f"{self.logical_bytes / 2**20:.1f} MiB"
        return (
            f"<milepost.Checkpoint {self.id[:8]}: step {self.step} of run {self.run!r}, "
            f"{len(self)} tensors, {size}, {self.kind}>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{view['dtype']}</td>"
            f"<td>{tuple(view['shape'])}</td><td>{view['byte_len']:,}</td></tr>"
            for name, view in list(self._views.items())[:50]
        )
        more = f"<p>and {len(self) - 50} more</p>" if len(self) > 50 else ""
        head = html.escape(repr(self).strip("<>"))
        return (
            f"<p>{head}</p><table><thead><tr><th>tensor</th><th>dtype</th><th>shape</th>"
            f"<th>bytes</th></tr></thead><tbody>{rows}</tbody></table>{more}"
        )

    @property
    def blobs(self) -> dict[str, int]:
        """The names of its blobs and their lengths in bytes."""
        return dict(self._blobs)

    @property
    def tied(self) -> dict[str, str]:
        """Further names of tensors that were saved in several places, and the first one of each."""
        found: dict[str, str] = {}
        for path, told in tree_decode.tensors(self.root()):
            name = ".".join(part if isinstance(part, str) else repr(part) for part in path)
            if name not in self._views and told["name"] in self._views:
                found[name] = told["name"]
        return found

    def blob(self, name: str) -> bytes:
        """The bytes of a blob.

        Raises NotFoundError if there is none of that name.
        """
        return self._native.blob(name)

    def tree(self) -> Any:
        """The tree that was saved, with a LazyTensor for every array. Reads no tensor."""
        flat = self._flat()
        builder = tree_decode.Builder(lambda told, _path: flat[told["name"]], self.blob)
        return builder.build(self.root())

    def load(
        self,
        only: Patterns | None = None,
        *,
        framework: str | None = None,
        device: Any = None,
        progress: Progress = None,
    ) -> Any:
        """The tree that was saved, in new memory.

        `only` is a pattern, or several, of paths such as `model.*`; of a dict only what matches is
        loaded then, lists and tuples are taken as a whole. Arrays are of the framework they were
        saved from, or of `framework`: "torch", "numpy" or "jax". Torch tensors go to `device`.

        Raises CorruptionError if something that is asked for is damaged, and NotFoundError if
        `only` matches nothing.
        """
        return self._read(self._chosen(only), framework, device, progress)

    def _chosen(self, only: Patterns | None) -> Any:
        """The root, or what of it matches."""
        if only is None:
            return self.root()
        patterns = [only] if isinstance(only, str) else list(only)
        node = _pruned(self.root(), (), patterns)
        if node is None:
            raise NotFoundError(
                f"nothing in the checkpoint matches {patterns}",
                code="pattern",
                hint="`.keys()` lists the tensors",
            )
        return node

    def node(self, key: str) -> Any:
        """The node of a key of the tree's outermost dict.

        Raises NotFoundError if there is none.
        """
        if self._nodes is None:
            [held] = self.root().values()
            self._nodes = {key: value for key, value in held if isinstance(key, str)}
        if key not in self._nodes:
            raise NotFoundError(f"the checkpoint's tree has no {key!r}", code="key")
        return self._nodes[key]

    def value(self, key: str) -> Any:
        """What the tree's outermost dict holds at a key, in new memory."""
        return self._read(self.node(key))

    def _read(
        self, node: Any, framework: str | None = None, device: Any = None, progress: Progress = None
    ) -> Any:
        """The value of a node, with all of its arrays decoded at once, in new memory."""
        wanted: dict[str, Any] = {}
        made: list[tuple[Any, str]] = []

        def reserve(told: dict[str, Any], _path: Any) -> _Slot:
            spec = self.spec(told)
            array, memory = arrays.allocate(spec, framework)
            wanted[spec.name] = memory
            made.append((array, framework or spec.kind))
            return _Slot(len(made) - 1)

        slots = tree_decode.Builder(reserve, self.blob).build(node)
        with Shown(progress, f"load step {self.step}") as callback:
            self._native.read(wanted, callback)
        done = [arrays.finish(array, kind, device) for array, kind in made]
        return _filled(slots, done)

    def root(self) -> Any:
        """The root node of the tree's document; of a checkpoint without one, its tensors."""
        if self._root is None:
            if self._document in self._blobs:
                self._root = tree_decode.parse(self.blob(self._document))
            else:
                kind = arrays.default_framework()
                nodes = [[n, {"tensor": {"name": n, "as": kind}}] for n in self._views]
                self._root = {"dict": nodes}
        return self._root

    def spec(self, told: dict[str, Any]) -> LeafSpec:
        """What is known of the tensor of a node."""
        view = self._views.get(told["name"])
        if view is None:
            raise NotFoundError(f"the tree names a tensor {told['name']!r} that is not there")
        shape = tuple(view["shape"])
        dtype, nbytes = view["dtype"], view["byte_len"]
        return LeafSpec(told["name"], told["as"], dtype, shape, nbytes, told.get("raw"))

    def _flat(self) -> dict[str, LazyTensor]:
        if self._tensors is None:
            told: dict[str, dict[str, Any]] = {}
            tree_decode.Builder(lambda t, _path: told.setdefault(t["name"], t), _no_bytes).build(
                self.root()
            )
            kind = arrays.default_framework()
            self._tensors = {
                name: LazyTensor(
                    self._native,
                    self.spec(told.get(name, {"name": name, "as": kind})),
                    view["dropped"],
                )
                for name, view in self._views.items()
            }
        return self._tensors

    def part(self, document: str) -> Checkpoint:
        """The same checkpoint, read by another of its documents; for this package's modules.

        Raises NotFoundError if it has no such document.
        """
        if document not in self._blobs:
            raise NotFoundError(f"the checkpoint has no {document!r}", code="document")
        other = copy.copy(self)
        other._document, other._root = document, None
        other._nodes = other._tensors = None
        return other

    @property
    def native(self) -> _engine.NativeCheckpoint:
        """The engine's own, for this package's modules."""
        return self._native


class _Slot:
    """Stands for an array while its bytes are on their way."""

    def __init__(self, number: int) -> None:
        self.number = number


def _filled(value: Any, arrays_: list[Any]) -> Any:
    """The tree with arrays for slots."""
    if isinstance(value, _Slot):
        return arrays_[value.number]
    kind = type(value)
    if kind in tree.DICTS:
        # In place: a Counter of arrays, say, is not to be built anew.
        for key in value:
            value[key] = _filled(value[key], arrays_)
        return value
    if kind is list:
        return [_filled(v, arrays_) for v in value]
    if kind is tuple:
        return tuple(_filled(v, arrays_) for v in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*(_filled(v, arrays_) for v in value))
    return value


def _no_bytes(_name: str) -> bytes:
    return b""


def _pruned(node: Any, path: tuple[Any, ...], patterns: list[str]) -> Any:
    """The node with only what matches, or None."""
    text = shown(path) if path else ""
    if path and any(fnmatch.fnmatchcase(text, p) for p in patterns):
        return node
    if isinstance(node, dict):
        [(key, held)] = node.items()
        if key in tree.DICTS.values():
            kept = [
                [k, pruned]
                for (k, v, p) in tree_decode.pairs(held, path)
                if (pruned := _pruned(v, p, patterns)) is not None
            ]
            return {key: kept} if kept else None
        if key == "state":
            inner = _pruned(held, path, patterns)
            return None if inner is None else {key: inner}
        if key in ("tuple", "named"):
            items = held if key == "tuple" else held["items"]
            return (
                node if any(_any_match(n, path, i, patterns) for i, n in enumerate(items)) else None
            )
    if isinstance(node, list):
        return node if any(_any_match(n, path, i, patterns) for i, n in enumerate(node)) else None
    return None


def _any_match(node: Any, path: tuple[Any, ...], index: int, patterns: list[str]) -> bool:
    return _pruned(node, (*path, index), patterns) is not None
