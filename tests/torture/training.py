"""States as a training run would save them: safetensors bytes that follow from run and step."""

from __future__ import annotations

import functools
import json
import math
import random
import struct
from array import array

Key = tuple[str, int]  # a run and a step


@functools.lru_cache(maxsize=512)
def state(key: Key) -> bytes:
    """A part that never changes, a part that drifts, a part that is new every time."""
    run, step = key
    weights = array("f", (math.sin(i * 0.1) * (1 + step * 1e-4) for i in range(3000)))
    tensors = {
        "frozen": ("U8", random.Random(0).randbytes(8000)),
        "optim.m": ("U8", random.Random(f"{run} {step}").randbytes(6000)),
        "weights": ("F32", weights.tobytes()),
    }
    header, data = {}, b""
    for name, (dtype, raw) in tensors.items():
        shape = [len(raw) // (4 if dtype == "F32" else 1)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data
