"""Whether two state trees are the same, bit for bit and type for type."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same bits of the same types; NaN is the same as itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        return _bytes(one) == _bytes(other)
    if isinstance(one, np.ndarray | np.generic):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and one.tobytes() == other.tobytes()
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, complex):
        return same((one.real, one.imag), (other.real, other.imag))
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True) if len(one) == len(other) else ()
        return len(one) == len(other) and all(same(a, b) for a, b in pairs)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _bytes(tensor: torch.Tensor) -> bytes:
    whole = tensor.detach().cpu().contiguous()
    start, size = whole.storage_offset(), whole.element_size()
    raw = bytes(whole.untyped_storage().tolist())
    return raw[start * size : (start + whole.numel()) * size]
