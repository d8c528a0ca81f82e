"""Arrays of any framework as named bytes: borrowed, or copied into memory of our own.

Frameworks are looked up among what the program has imported; none is imported to save.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Protocol

from milepost import dtypes
from milepost.errors import UnsupportedTypeError
from milepost.scalars import described


class Leaf(Protocol):
    """An array that is about to be saved."""

    #: Which framework's array it is: "numpy", "torch", "jax" or "tensorflow".
    kind: str
    #: The store's dtype, and the shape in elements of it.
    dtype: str
    shape: tuple[int, ...]
    #: Bytes of its elements.
    nbytes: int
    #: Equal for two arrays that are the same elements of the same memory.
    identity: object
    #: If the store has no such dtype: the framework's own name of it, and the shape in its
    #: elements; the bytes are then stored as U8 with one more dimension.
    raw: dict[str, Any] | None

    def borrow(self) -> Any:
        """The bytes, contiguous: without a copy where they are so already."""

    def copy_into(self, target: memoryview) -> None:
        """Copies the bytes into memory of `nbytes` bytes."""


def as_leaf(value: Any, path: str) -> Leaf | None:
    """The leaf of an array, or None if `value` is no array.

    Raises UnsupportedTypeError, naming `path`, for an array that cannot be stored as it is.
    """
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        return _torch_leaf(value, path)
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _numpy_leaf(value, path, "numpy")
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(value, jax.Array):
        return _jax_leaf(value, path)
    if is_tensorflow(value):
        return _tensorflow_leaf(value, path)
    return None


def _torch_leaf(value: Any, path: str) -> Leaf:
    import torch

    why, hint = None, None
    if torch.nn.parameter.is_lazy(value):
        why, hint = "has no shape yet", "run the lazy module once first"
    elif type(value).__name__ == "DTensor":
        why, hint = "is sharded over processes", "save it with milepost.dcp"
    elif value.device.type == "meta":
        why, hint = "is on the meta device and has no values", "materialize it first"
    elif value.layout != torch.strided:
        why, hint = f"has the layout {value.layout}", "save `.to_dense()` of it"
    elif value.is_quantized:
        why, hint = "is quantized", "save `.int_repr()`, `.q_scale()` and `.q_zero_point()`"
    if why is not None:
        raise UnsupportedTypeError(f"the tensor at {path!r} {why}", code="tensor", hint=hint)
    return _TorchLeaf(value.detach().resolve_conj().resolve_neg())


class _TorchLeaf:
    kind = "torch"

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor
        shape = tuple(tensor.shape)
        self.nbytes = int(tensor.numel() * tensor.element_size())
        storage = tensor.untyped_storage()
        self.identity: object = self
        if self.nbytes:
            self.identity = (
                "torch",
                str(tensor.device),
                storage.data_ptr(),
                tensor.storage_offset(),
                str(tensor.dtype),
                shape,
                tensor.stride(),
            )
        named = dtypes.of_torch(tensor.dtype)
        self.raw: dict[str, Any] | None = None
        self.dtype, self.shape = named or "U8", shape
        if named is None:
            name = str(tensor.dtype).removeprefix("torch.")
            self.raw = {"dtype": name, "shape": list(shape)}
            self.shape = (*shape, int(tensor.element_size()))

    def borrow(self) -> Any:
        return torch_bytes(self._tensor.cpu().contiguous())

    def copy_into(self, target: memoryview) -> None:
        import torch

        if not self.nbytes:
            return
        memory = torch.frombuffer(target, dtype=torch.uint8)
        if self.raw is None:
            memory = memory.view(self._tensor.dtype).view(self.shape)
            memory.copy_(self._tensor)
        else:
            memory.numpy()[...] = self.borrow()


def torch_dtype_name(tensor: Any) -> str | None:
    """The store's name of a torch tensor's dtype, or None if its bytes can only be stored raw."""
    return dtypes.of_torch(tensor.dtype)


def torch_bytes(tensor: Any) -> Any:
    """A uint8 NumPy array over the memory of a contiguous CPU tensor."""
    import torch

    size = tensor.numel() * tensor.element_size()
    if size == 0:
        return bytearray()
    at = tensor.storage_offset() * tensor.element_size()
    flat = torch.empty(0, dtype=torch.uint8)
    flat.set_(tensor.untyped_storage(), at, (size,), (1,))
    return flat.numpy()


def _numpy_leaf(value: Any, path: str, kind: str) -> Leaf:
    import numpy as np

    why, hint = None, None
    if isinstance(value, np.ma.MaskedArray):
        why, hint = "is masked", "save its `.data` and `.mask`"
    elif value.dtype.hasobject:
        why, hint = "holds Python objects", "convert it to numbers, or save `.tolist()` of it"
    if why is not None:
        raise UnsupportedTypeError(f"the array at {path!r} {why}", code="tensor", hint=hint)
    return _NumpyLeaf(np.asarray(value), kind)


class _NumpyLeaf:
    def __init__(self, array: Any, kind: str) -> None:
        self.kind = kind
        self._array = array
        self.nbytes = int(array.nbytes)
        self.identity: object = self
        if self.nbytes:
            at = array.__array_interface__["data"][0]
            kept = (array.dtype.str, array.dtype.name, array.shape, array.strides)
            self.identity = ("numpy", at, *kept)
        named = dtypes.of_numpy(array.dtype)
        self.raw: dict[str, Any] | None = None
        self.dtype, self.shape = named or "U8", tuple(array.shape)
        if named is None:
            self.raw = {"dtype": described(array.dtype), "shape": list(array.shape)}
            self.shape = (*array.shape, int(array.dtype.itemsize))

    def borrow(self) -> Any:
        return numpy_bytes(self._contiguous())

    def _contiguous(self) -> Any:
        import numpy as np

        # Not ascontiguousarray, which makes one dimension of none.
        return np.require(self._array, requirements="C")

    def copy_into(self, target: memoryview) -> None:
        import numpy as np

        if self.nbytes and self.raw is None:
            memory = np.frombuffer(target, dtype=self._array.dtype).reshape(self.shape)
            np.copyto(memory, self._array)
        elif self.nbytes:
            target[:] = memoryview(self.borrow())


def numpy_bytes(array: Any) -> Any:
    """A uint8 NumPy array over the memory of a C-contiguous array."""
    import numpy as np

    if array.nbytes == 0:
        return bytearray()
    return array.reshape(-1).view(np.uint8)


def _jax_leaf(value: Any, path: str) -> Leaf:
    import jax
    import numpy as np

    if jax.numpy.issubdtype(value.dtype, jax.dtypes.extended):
        raise UnsupportedTypeError(
            f"the array at {path!r} is of JAX's dtype {value.dtype}, which is no numbers",
            code="tensor",
            hint="save jax.random.key_data of it, and wrap it with jax.random.wrap_key_data",
        )
    if not value.is_fully_addressable:
        raise UnsupportedTypeError(
            f"the array at {path!r} is sharded over processes",
            code="tensor",
            hint="gather it first, as with jax.experimental.multihost_utils",
        )
    return _NumpyLeaf(np.asarray(value), "jax")


def is_tensorflow(value: Any) -> bool:
    """Whether it is a tensor or a variable of TensorFlow."""
    # While TensorFlow is being imported it lacks both.
    tensorflow = sys.modules.get("tensorflow")
    kinds = getattr(tensorflow, "Tensor", None), getattr(tensorflow, "Variable", None)
    return None not in kinds and isinstance(value, kinds)  # type: ignore[arg-type]


def _tensorflow_leaf(value: Any, path: str) -> Leaf:
    import numpy as np

    why, hint = None, None
    if not hasattr(value, "numpy"):
        why, hint = "is of a graph and has no values", "save it outside of tf.function"
    elif value.dtype.name in ("string", "variant", "resource") or value.dtype.is_quantized:
        why = f"holds no plain numbers but {value.dtype.name}s"
        hint = "save a tf.train.Checkpoint with milepost.tensorflow"
    if why is not None:
        raise UnsupportedTypeError(f"the tensor at {path!r} {why}", code="tensor", hint=hint)
    leaf = _NumpyLeaf(np.asarray(value.numpy()), "tensorflow")
    # Of a variable each look makes an array of its own.
    leaf.identity = ("tensorflow", value.ref()) if leaf.nbytes else leaf
    return leaf


@dataclass(frozen=True)
class LeafSpec:
    """What a checkpoint says of an array: enough to make it again."""

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    raw: dict[str, Any] | None = None
