"""Rivals that run in this process, one thread each: bytes out, and seconds to encode and decode."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import zstandard
from planes import bitx_decode, bitx_encode, tensorx_decode, tensorx_encode
from states import FLOATS, Part, State
from zipnn import ZipNN

Coded = list[bytes]


@dataclass
class Figures:
    """What one method made of a workload; sizes in bytes, speeds in bytes of raw a second."""

    sizes: list[int] = field(default_factory=list)
    encode_speeds: list[float] = field(default_factory=list)
    decode_speeds: list[float] = field(default_factory=list)
    identical: bool | None = None
    note: str = ""

    def summary(self) -> dict[str, object]:
        """For the JSON: totals, bytes after the first checkpoint, medians."""
        speeds = {"encode": self.encode_speeds, "decode": self.decode_speeds}
        facts: dict[str, object] = {
            "total_bytes": sum(self.sizes),
            "after_first_bytes": sum(self.sizes[1:]),
            "identical": self.identical,
            "note": self.note,
        }
        for name, values in speeds.items():
            facts[f"{name}_bytes_per_second"] = statistics.median(values) if values else None
        return facts


@dataclass(frozen=True)
class Method:
    """How to code a state on an optional base; `base` is none, first or previous."""

    base: str
    encode: Callable[[State, State | None], Coded]
    decode: Callable[[Coded, State, State | None], bytes]
    note: str = ""


def zstd_method(level: int) -> Method:
    """zstd of the whole file."""

    def encode(state: State, _base: State | None) -> Coded:
        return [zstandard.ZstdCompressor(level=level).compress(state.data)]

    def decode(coded: Coded, _layout: State, _base: State | None) -> bytes:
        return zstandard.ZstdDecompressor().decompress(coded[0])

    return Method("none", encode, decode)


def _zipnn(dtype: str) -> ZipNN:
    return ZipNN(input_format="byte", bytearray_dtype=FLOATS[dtype], threads=1)


def zipnn_encode(words: numpy.ndarray, dtype: str) -> bytes:
    """ZipNN of floats; zstd of what ZipNN does not take, such as integers and short parts."""
    if dtype in FLOATS and len(words) >= 64 and len(words) % 4 == 0:
        # A copy: ZipNN changes its input in place.
        return b"N" + bytes(_zipnn(dtype).compress(bytearray(words.tobytes())))
    return b"Z" + zstandard.ZstdCompressor(level=3).compress(words.tobytes())


def zipnn_decode(data: bytes, dtype: str) -> numpy.ndarray:
    """The inverse of `zipnn_encode`."""
    if data[:1] == b"N":
        back = bytes(_zipnn(dtype).decompress(data[1:]))
    else:
        back = zstandard.ZstdDecompressor().decompress(data[1:])
    return numpy.frombuffer(back, numpy.uint8)


def zipnn_xor_encode(new: numpy.ndarray, base: numpy.ndarray | None, dtype: str, _w: int) -> bytes:
    """ZipNN of the XOR with a base, or alone."""
    return zipnn_encode(new if base is None else new ^ base, dtype)


def zipnn_xor_decode(data: bytes, base: numpy.ndarray | None, dtype: str, _w: int) -> numpy.ndarray:
    """The inverse of `zipnn_xor_encode`."""
    words = zipnn_decode(data, dtype)
    return words if base is None else words ^ base


def by_parts(base_kind: str, encode_part: Callable, decode_part: Callable, tensors: bool) -> Method:
    """A method that codes each tensor, or each run of one dtype, and the header with zstd 3."""

    def parts_of(state: State) -> list[Part]:
        return list(state.tensors.values()) if tensors else state.runs

    def base_of(state: State, base: State | None, at: int) -> numpy.ndarray | None:
        return base.bytes_of(parts_of(base)[at]) if state.like(base) else None

    def encode(state: State, base: State | None) -> Coded:
        header = state.data[: state.header_bytes]
        coded = [zstandard.ZstdCompressor(level=3).compress(header)]
        for at, part in enumerate(parts_of(state)):
            words = state.bytes_of(part)
            coded.append(encode_part(words, base_of(state, base, at), part.dtype, part.width))
        return coded

    def decode(coded: Coded, layout: State, base: State | None) -> bytes:
        pieces = [zstandard.ZstdDecompressor().decompress(coded[0])]
        for at, part in enumerate(parts_of(layout)):
            on = base_of(layout, base, at)
            pieces.append(decode_part(coded[at + 1], on, part.dtype, part.width).tobytes())
        return b"".join(pieces)

    return Method(base_kind, encode, decode)


def methods() -> dict[str, Method]:
    """All rivals of this process by name, in the order of the table."""
    found = {
        "zstd -3": zstd_method(3),
        "ZipNN alone": by_parts("none", zipnn_xor_encode, zipnn_xor_decode, False),
        "ZipNN on XOR, previous": by_parts("previous", zipnn_xor_encode, zipnn_xor_decode, False),
    }
    for base in ("first", "previous"):
        found[f"BitX, {base}"] = by_parts(base, bitx_encode, bitx_decode, True)
        found[f"TensorX, {base}"] = by_parts(base, tensorx_encode, tensorx_decode, True)
    return found


def measure(method: Method, files: list[Path]) -> Figures:
    """Encodes and decodes every file once, timed, and compares all bytes."""
    figures = Figures(identical=True, note=method.note)
    first = previous = None
    for path in files:
        state = State(path)
        base = {"none": None, "first": first, "previous": previous}[method.base]
        started = time.perf_counter()
        coded = method.encode(state, base)
        between = time.perf_counter()
        back = method.decode(coded, state, base)
        ended = time.perf_counter()
        figures.sizes.append(sum(map(len, coded)))
        figures.encode_speeds.append(len(state.data) / (between - started))
        figures.decode_speeds.append(len(state.data) / (ended - between))
        figures.identical &= back == state.data
        first, previous = first or state, state
    return figures
