"""Tensors of a checkpoint that are read when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from milepost import _engine, arrays
from milepost.errors import InvalidInputError, NotFoundError
from milepost.leaves import LeafSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch


class LazyTensor:
    """A tensor of a checkpoint, or a part of one. Nothing is read before it is asked for.

    `tensor[:8]` picks rows at the cost of these rows; further dimensions can be indexed with
    integers and slices as well, at the cost of the rows.
    """

    def __init__(
        self,
        native: _engine.NativeCheckpoint,
        spec: LeafSpec,
        dropped: bool = False,
        picks: tuple[tuple[Any, ...], ...] = (),
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self._native, self._spec, self._dropped = native, spec, dropped
        self._picks = picks
        whole = tuple(spec.raw["shape"]) if spec.raw is not None else spec.shape
        #: Elements along each dimension.
        self.shape: tuple[int, ...] = whole if shape is None else shape

    @property
    def name(self) -> str:
        """The tensor's name in the checkpoint."""
        return self._spec.name

    @property
    def dtype(self) -> str:
        """The name of its element type, as in a safetensors header; `F32` for instance."""
        return self._spec.dtype if self._spec.raw is None else str(self._spec.raw["dtype"])

    @property
    def stored(self) -> tuple[str, list[int]]:
        """The dtype and the shape that the store knows it by."""
        return self._spec.dtype, list(self._spec.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return self._spec.nbytes

    @property
    def dropped(self) -> bool:
        """Whether its data was dropped by `forget(drop=...)`; it cannot be read any more."""
        return self._dropped

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of no dimensions has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        part = "part of " if self._picks else ""
        return f"LazyTensor({part}{self.name!r}, shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, index: Any) -> LazyTensor:
        """A part; integers, slices and `...` are understood.

        Raises InvalidInputError for an index of another kind, IndexError if it is out of range.
        """
        parts, shape = _picked(index, self.shape)
        return LazyTensor(self._native, self._spec, self._dropped, (*self._picks, parts), shape)

    def numpy(self) -> npt.NDArray[Any]:
        """A new NumPy array of it, writable.

        Raises UnsupportedTypeError if NumPy has no such dtype: ml_dtypes brings bf16 and f8.
        """
        array: np.ndarray[Any, Any] = self._read("numpy")
        return array

    def torch(self, device: Any = None) -> torch.Tensor:
        """A new torch tensor of it, on `device`; by default in main memory."""
        tensor: torch.Tensor = arrays.finish(self._read("torch"), "torch", device)
        return tensor

    def tobytes(self) -> bytes:
        """The bytes of the whole tensor: its elements in row-major order, little-endian."""
        if self._picks:
            raise InvalidInputError("only the bytes of a whole tensor can be had", code="rows")
        memory = bytearray(self.nbytes)
        self._native.read({self.name: memory})
        return bytes(memory)

    def load(self, device: Any = None) -> Any:
        """An array of the framework that it was saved from."""
        kind = self._spec.kind
        return arrays.finish(self._read(kind), kind, device)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def read_into(self, memory: Any) -> None:
        """Decodes the whole tensor into a writable, contiguous buffer of `nbytes` bytes."""
        if self._picks:
            raise InvalidInputError("only a whole tensor can be read into memory", code="rows")
        self._native.read({self.name: memory})

    def _read(self, framework: str) -> Any:
        first = self._picks[0][0] if self._picks and self._picks[0] else None
        if first is None or self._spec.raw is not None or not self._spec.shape:
            array, memory = arrays.allocate(self._spec, framework)
            self._native.read({self.name: memory})
            return _apply(array, self._picks)
        start, stop, rest = _rows(first, self._spec.shape[0])
        row = self._spec.nbytes // max(self._spec.shape[0], 1)
        shape = (stop - start, *self._spec.shape[1:])
        part = LeafSpec(self.name, self._spec.kind, self.dtype, shape, row * (stop - start))
        array, memory = arrays.allocate(part, framework)
        if stop > start:
            self._native.read_rows(self.name, start, stop, memory)
        return _apply(array, ((rest, *self._picks[0][1:]), *self._picks[1:]))


def _apply(array: Any, picks: tuple[tuple[Any, ...], ...]) -> Any:
    if not picks:
        return array
    kept_type = type(array)
    for pick in picks:
        array = array[pick]
    if kept_type.__name__ == "ndarray":
        import numpy as np

        # A scalar stays an array, and what was not picked is not kept alive.
        return np.array(array)
    return array.clone()


def _rows(pick: Any, length: int) -> tuple[int, int, Any]:
    """The rows that a pick of the first dimension needs, and the pick within them."""
    if isinstance(pick, int):
        return pick, pick + 1, 0
    start, stop, step = pick.indices(length)
    chosen = range(start, stop, step)
    if not chosen:
        return 0, 0, slice(0, 0)
    low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
    return low, high + 1, slice(None, None, step)


def _picked(index: Any, shape: tuple[int, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """An index with a part for each dimension it names, and the shape of what it picks."""
    parts = index if isinstance(index, tuple) else (index,)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        fill = (slice(None),) * (len(shape) - len(parts) + 1)
        parts = (*parts[:at], *fill, *parts[at + 1 :])
    if len(parts) > len(shape):
        raise IndexError(f"{len(parts)} indices for {len(shape)} dimensions")
    picked: list[Any] = []
    left: list[int] = []
    for part, length in zip(parts, shape, strict=False):
        if isinstance(part, slice):
            if part.step is not None and part.step < 1:
                raise InvalidInputError("the step of a slice must be 1 or more", code="index")
            picked.append(part)
            left.append(len(range(*part.indices(length))))
        elif isinstance(part, int) and not isinstance(part, bool):
            if not -length <= part < length:
                raise IndexError(f"index {part} of a dimension of {length}")
            picked.append(part % length)
        else:
            raise InvalidInputError(
                f"a tensor cannot be indexed by {part!r}",
                code="index",
                hint="use integers and slices, or index what `.numpy()` returns",
            )
    return tuple(picked), (*left, *shape[len(parts) :])


def require(tensors: dict[str, LazyTensor], name: str) -> LazyTensor:
    """The tensor of that name.

    Raises NotFoundError with names that are alike.
    """
    found = tensors.get(name)
    if found is not None:
        return found
    import difflib

    close = difflib.get_close_matches(name, tensors, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "`.keys()` lists them"
    raise NotFoundError(f"the checkpoint has no tensor {name!r}", code="tensor", hint=hint)
