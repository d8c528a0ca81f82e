"""Small training states whose bytes follow from run and step alone, as safetensors files.

Whoever knows run and step knows what a restore must give back: nothing has to be kept beside.
"""

from __future__ import annotations

import json
import random
import struct
from array import array
from functools import lru_cache
from typing import NamedTuple

# What `forget --drop` takes away in these states.
OPTIMIZER = "optim.*"
FLOATS = 1500
NOISE = 5000


class Tensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


def drift(run: str, step: int, floats: int) -> bytes:
    """Floats near those of every other step and run: worth a delta."""
    base = random.Random("base")
    shift = 1.0 + random.Random(f"{run}/{step}").random() * 1e-3
    return array("f", (base.gauss(0.0, 1.0) * shift for _ in range(floats))).tobytes()


def noise(seed: object, count: int) -> bytes:
    return random.Random(str(seed)).randbytes(count)


def tensors_of(run: str, step: int) -> dict[str, Tensor]:
    """What all runs share, what runs share at the same step, and what only this state has."""
    scale = 40 if run.startswith("large") else 1
    floats, count = FLOATS * scale, NOISE * scale
    return {
        "embed.frozen": Tensor("U8", (count,), noise("frozen", count)),
        "model.w": Tensor("F32", (floats,), drift(run, step, floats)),
        "optim.m": Tensor("U8", (count,), noise(f"{run}/{step}", count)),
        "optim.shared": Tensor("U8", (count,), noise(step // 2, count)),
    }


def encode(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file: length of the header, the header as JSON, the bytes."""
    header: dict[str, object] = {"__metadata__": metadata}
    at = 0
    for name, tensor in tensors.items():
        end = at + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(t.data for t in tensors.values())


def decode(file: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    (length,) = struct.unpack_from("<Q", file)
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)
    body = memoryview(file)[8 + length :]
    places = {name: entry["data_offsets"] for name, entry in header.items()}
    return {
        name: Tensor(entry["dtype"], tuple(entry["shape"]), bytes(body[slice(*places[name])]))
        for name, entry in header.items()
    }


@lru_cache(maxsize=512)
def state(run: str, step: int) -> bytes:
    """The file of a state: about 21 KB, and 860 KB in runs that are called large."""
    return encode(tensors_of(run, step), {"run": run, "step": str(step)})


@lru_cache(maxsize=512)
def thinned(run: str, step: int) -> dict[str, Tensor]:
    """What is left of a state without its optimizer."""
    left = tensors_of(run, step)
    return {name: tensor for name, tensor in left.items() if not name.startswith("optim.")}


def differs(file: bytes, expected: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are missing, too many or not as they should be."""
    found = decode(file)
    names = sorted({*found, *expected})
    return [name for name in names if found.get(name) != expected.get(name)]
