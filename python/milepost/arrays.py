"""Memory for what is loaded: arrays of each framework, and the bytes they lie in."""

from __future__ import annotations

import sys
from typing import Any

from milepost import dtypes
from milepost.errors import UnsupportedTypeError
from milepost.leaves import LeafSpec, numpy_bytes, torch_bytes
from milepost.scalars import numpy_dtype

#: The frameworks that a leaf can be loaded as.
FRAMEWORKS = ("numpy", "torch", "jax", "tensorflow")


def default_framework() -> str:
    """For tensors of which nobody said whose they are: torch if the program uses it."""
    return "torch" if "torch" in sys.modules else "numpy"


def allocate(spec: LeafSpec, framework: str | None = None) -> tuple[Any, Any]:
    """A new array for a leaf, and its bytes to decode into.

    Raises UnsupportedTypeError if the framework is not installed or has no such dtype.
    """
    kind = framework or spec.kind
    if kind == "torch" and (spec.raw is None or spec.kind == "torch"):
        return _torch(spec)
    if kind in FRAMEWORKS:
        array, memory = _numpy(spec)
        return (array, memory) if kind != "torch" else _torch_of(array, spec)
    raise UnsupportedTypeError(
        f"there is no framework {kind!r}", code="framework", hint=f"one of {FRAMEWORKS}"
    )


def _torch(spec: LeafSpec) -> tuple[Any, Any]:
    try:
        import torch
    except ImportError:
        raise UnsupportedTypeError(
            f"{spec.name!r} is a torch tensor, and torch is not installed",
            code="framework",
            hint='install torch, or load with framework="numpy"',
        ) from None
    if spec.raw is None:
        tensor = torch.empty(spec.shape, dtype=dtypes.to_torch(spec.dtype))
        return tensor, torch_bytes(tensor)
    dtype = getattr(torch, spec.raw["dtype"], None)
    if not isinstance(dtype, torch.dtype):
        raise UnsupportedTypeError(
            f"this torch has no dtype {spec.raw['dtype']!r}", code="dtype", hint="upgrade torch"
        )
    tensor = torch.empty(tuple(spec.raw["shape"]), dtype=dtype)
    return tensor, torch_bytes(tensor)


def _numpy(spec: LeafSpec) -> tuple[Any, Any]:
    try:
        import numpy as np
    except ImportError:
        raise UnsupportedTypeError(
            "arrays cannot be loaded without NumPy", code="framework", hint="install numpy"
        ) from None
    if spec.raw is None:
        array = np.empty(spec.shape, dtype=dtypes.to_numpy(spec.dtype))
    elif spec.kind == "torch":
        raise UnsupportedTypeError(
            f"NumPy has no dtype for torch's {spec.raw['dtype']}",
            code="dtype",
            hint='load it with framework="torch"',
        )
    else:
        array = np.empty(tuple(spec.raw["shape"]), dtype=numpy_dtype(spec.raw["dtype"]))
    return array, numpy_bytes(array)


def _torch_of(array: Any, spec: LeafSpec) -> tuple[Any, Any]:
    import torch

    try:
        tensor = torch.from_numpy(array)
    except TypeError:
        raise UnsupportedTypeError(
            f"torch has no dtype for NumPy's {array.dtype}",
            code="dtype",
            hint=f'load {spec.name!r} with framework="numpy"',
        ) from None
    return tensor, numpy_bytes(array)


def finish(array: Any, framework: str, device: Any = None) -> Any:
    """The array where it belongs, once its bytes are decoded."""
    if framework == "jax":
        import jax

        return jax.device_put(array, device) if device is not None else jax.numpy.asarray(array)
    if framework == "tensorflow":
        import tensorflow

        with tensorflow.device(device):
            return tensorflow.constant(array)
    if device is not None and hasattr(array, "to"):
        return array.to(device)
    return array
