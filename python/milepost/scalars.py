"""Leaves of a state tree that are no arrays, as JSON that keeps every bit of them.

docs/python.md describes the format. Numbers that JSON readers may round or confuse are objects
with one key: `{"int": hex}`, `{"float": 16 hex digits of the IEEE 754 bits}`.
"""

from __future__ import annotations

import base64
import struct
import sys
from typing import Any

from milepost.errors import CorruptionError, UnsupportedTypeError

#: Integers beyond this would lose digits in readers whose numbers are doubles.
_JSON_INT_MAX = 2**53
#: Longer bytes become blobs of their own.
INLINE_BYTES_MAX = 4096


def float_bits(value: float) -> str:
    """The bits of a float as 16 hex digits, most significant first."""
    return struct.pack(">d", value).hex()


def bits_float(text: str) -> float:
    """The float of 16 hex digits."""
    value: float = struct.unpack(">d", bytes.fromhex(text))[0]
    return value


def encode(value: Any) -> Any:
    """The JSON of a scalar, or NotImplemented if `value` is none."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) <= _JSON_INT_MAX else {"int": hex(value)}
    if kind is float:
        return {"float": float_bits(value)}
    if kind is complex:
        return {"complex": [float_bits(value.real), float_bits(value.imag)]}
    if kind is bytes or kind is bytearray:
        return {kind.__name__: base64.b64encode(value).decode("ascii")}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and isinstance(value, numpy.generic):
        return _encode_numpy(value)
    if numpy is not None and isinstance(value, numpy.dtype) and not value.hasobject:
        return {"numpy.dtype": described(value)}
    if torch is not None and isinstance(value, torch.dtype):
        return {"torch.dtype": str(value).removeprefix("torch.")}
    if torch is not None and isinstance(value, torch.device):
        return {"torch.device": str(value)}
    return NotImplemented


def _encode_numpy(value: Any) -> Any:
    if value.dtype.hasobject:
        return NotImplemented
    data = base64.b64encode(value.tobytes()).decode("ascii")
    return {"numpy": [described(value.dtype), data]}


def described(dtype: Any) -> Any:
    """What `numpy_dtype` makes the dtype of again; lists and text, as JSON has them."""
    import numpy as np

    if not dtype.type.__module__.startswith("numpy"):
        # NumPy describes those of other packages by their size alone.
        return dtype.name
    return _listed(np.lib.format.dtype_to_descr(dtype))


def _listed(descr: Any) -> Any:
    return [_listed(part) for part in descr] if isinstance(descr, list | tuple) else descr


def decode(node: dict[str, Any]) -> Any:
    """The scalar of an object with one key, or NotImplemented if it is none."""
    [(key, held)] = node.items()
    match key:
        case "int":
            return int(held, 16)
        case "float":
            return bits_float(held)
        case "complex":
            return complex(bits_float(held[0]), bits_float(held[1]))
        case "bytes":
            return base64.b64decode(held)
        case "bytearray":
            return bytearray(base64.b64decode(held))
        case "numpy":
            return _decode_numpy(*held)
        case "numpy.dtype":
            return numpy_dtype(held)
        case "torch.dtype":
            return _torch_named(held)
        case "torch.device":
            import torch

            return torch.device(held)
    return NotImplemented


def _decode_numpy(described: Any, data: str) -> Any:
    import numpy as np

    dtype = numpy_dtype(described)
    if not dtype.itemsize:
        return np.zeros((), dtype)[()]
    return np.frombuffer(base64.b64decode(data), dtype=dtype, count=1)[0]


def numpy_dtype(described: Any) -> Any:
    """The NumPy dtype of a description, as `numpy.lib.format.dtype_to_descr` makes it.

    Raises UnsupportedTypeError if it needs a package that is not installed.
    """
    import numpy as np

    if isinstance(described, list):
        described = [tuple(_field(part)) for part in described]
    try:
        return np.lib.format.descr_to_dtype(described)
    except TypeError:
        pass
    try:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, described))
    except (ImportError, AttributeError, TypeError):
        raise UnsupportedTypeError(
            f"this NumPy has no dtype {described!r}", code="dtype", hint="install ml_dtypes"
        ) from None


def _field(part: list[Any]) -> list[Any]:
    """A field's name, dtype and shape with the tuples that NumPy asks for."""
    name, of, *shape = part
    of = [tuple(_field(p)) for p in of] if isinstance(of, list) else of
    name = tuple(name) if isinstance(name, list) else name
    return [name, of, *(tuple(s) for s in shape)]


def _torch_named(name: str) -> Any:
    import torch

    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise CorruptionError(f"{name!r} is no torch dtype", code="tree")
    return found
