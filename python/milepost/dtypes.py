"""Element types: the store's names, and those of NumPy and PyTorch for the same bits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from milepost.errors import UnsupportedTypeError

if TYPE_CHECKING:
    import numpy as np
    import torch

#: The store's name of each torch dtype that has the very same elements.
OF_TORCH = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex32": "C32",
    "complex64": "C64",
    "complex128": "C128",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
_TO_TORCH = {ours: theirs for theirs, ours in OF_TORCH.items()}

#: The store's name of each NumPy dtype, those of the ml_dtypes package included.
OF_NUMPY = {name: ours for name, ours in OF_TORCH.items() if name != "complex32"}
_TO_NUMPY = {ours: theirs for theirs, ours in OF_NUMPY.items()}
_OF_ML_DTYPES = frozenset(name for name in OF_NUMPY if name.startswith(("bfloat", "float8")))


def of_torch(dtype: torch.dtype) -> str | None:
    """The store's name of a torch dtype, or None if its bytes can only be stored raw."""
    return OF_TORCH.get(str(dtype).removeprefix("torch."))


def to_torch(name: str) -> torch.dtype:
    """The torch dtype of one of the store's names.

    Raises UnsupportedTypeError if this version of torch has none.
    """
    import torch

    found = getattr(torch, _TO_TORCH.get(name, ""), None)
    if isinstance(found, torch.dtype):
        return found
    raise UnsupportedTypeError(
        f"this torch has no dtype for {name}",
        code="dtype",
        hint="`.tobytes()` gives the bytes as they are",
    )


def of_numpy(dtype: np.dtype[Any]) -> str | None:
    """The store's name of a NumPy dtype, or None if its bytes can only be stored raw."""
    if dtype.byteorder == (">" if sys.byteorder == "little" else "<"):
        return None
    return OF_NUMPY.get(dtype.name)


def to_numpy(name: str) -> np.dtype[Any]:
    """The NumPy dtype of one of the store's names.

    Raises UnsupportedTypeError if there is none, or if it is one of the ml_dtypes package and that
    is not installed.
    """
    import numpy as np

    found = _TO_NUMPY.get(name)
    if found is None:
        raise UnsupportedTypeError(
            f"NumPy has no dtype for {name}",
            code="dtype",
            hint="`.torch()` may, and `.tobytes()` gives the bytes as they are",
        )
    if found not in _OF_ML_DTYPES:
        return np.dtype(found)
    try:
        import ml_dtypes
    except ImportError:
        raise UnsupportedTypeError(
            f"NumPy alone has no dtype for {name}",
            code="dtype",
            hint="install ml_dtypes, or use `.torch()`",
        ) from None
    named: np.dtype[Any] = np.dtype(getattr(ml_dtypes, found))
    return named
