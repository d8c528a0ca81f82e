"""Re-creations of two published delta codecs: XOR with a base, byte planes, zstd.

BitX (ZipLLM): XOR as 16-bit words; exponents (bits 14..7) in one stream, sign and mantissa in
another; zstd level 3 on each. It is made for bf16 alone; other widths get plain byte planes here.
TensorX (TensorDex): XOR and byte planes, in pieces of 2 MiB, zstd level 1.
Input of any length is taken: bytes behind the last whole value are a stream of their own.
"""

from __future__ import annotations

import numpy
import zstandard

BITX_LEVEL = 3
TENSORX_LEVEL = 1
TENSORX_PIECE = 2 << 20

Bytes = numpy.ndarray


def split_planes(words: Bytes, width: int) -> list[bytes]:
    """Byte planes, lowest first, and what is left over behind the last whole word."""
    whole = len(words) // width * width
    grid = words[:whole].reshape(-1, width)
    return [*(grid[:, i].tobytes() for i in range(width)), words[whole:].tobytes()]


def join_planes(planes: list[bytes], width: int) -> Bytes:
    """The inverse of `split_planes`."""
    grid = numpy.empty((len(planes[0]), width), numpy.uint8)
    for i in range(width):
        grid[:, i] = numpy.frombuffer(planes[i], numpy.uint8)
    return numpy.concatenate([grid.reshape(-1), numpy.frombuffer(planes[width], numpy.uint8)])


def split_exponents(words: Bytes) -> list[bytes]:
    """Exponents of bf16 words, sign and mantissa together, and a last odd byte."""
    whole = len(words) // 2 * 2
    values = words[:whole].view(numpy.uint16)
    exponents = (values >> 7).astype(numpy.uint8)
    rest = ((values >> 8) & 0x80 | values & 0x7F).astype(numpy.uint8)
    return [exponents.tobytes(), rest.tobytes(), words[whole:].tobytes()]


def join_exponents(streams: list[bytes]) -> Bytes:
    """The inverse of `split_exponents`."""
    exponents = numpy.frombuffer(streams[0], numpy.uint8).astype(numpy.uint16)
    rest = numpy.frombuffer(streams[1], numpy.uint8).astype(numpy.uint16)
    values = (rest & 0x80) << 8 | exponents << 7 | rest & 0x7F
    return numpy.concatenate([values.view(numpy.uint8), numpy.frombuffer(streams[2], numpy.uint8)])


def pack(streams: list[bytes], level: int) -> bytes:
    """Streams behind each other, each with its length in 8 bytes in front."""
    coder = zstandard.ZstdCompressor(level=level)
    coded = [coder.compress(stream) for stream in streams]
    return b"".join(len(part).to_bytes(8, "little") + part for part in coded)


def unpack(data: bytes) -> list[bytes]:
    """The inverse of `pack`."""
    decoder = zstandard.ZstdDecompressor()
    streams, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        streams.append(decoder.decompress(data[at + 8 : at + 8 + length]))
        at += 8 + length
    return streams


def bitx_encode(new: Bytes, base: Bytes | None, dtype: str, width: int) -> bytes:
    """BitX of a tensor; without a base, the same without the XOR."""
    words = new if base is None else new ^ base
    streams = split_exponents(words) if dtype == "BF16" else split_planes(words, width)
    return pack(streams, BITX_LEVEL)


def bitx_decode(data: bytes, base: Bytes | None, dtype: str, width: int) -> Bytes:
    """The inverse of `bitx_encode`."""
    streams = unpack(data)
    words = join_exponents(streams) if dtype == "BF16" else join_planes(streams, width)
    return words if base is None else words ^ base


def tensorx_encode(new: Bytes, base: Bytes | None, _dtype: str, width: int) -> bytes:
    """TensorX of a tensor; without a base, the same without the XOR."""
    words = new if base is None else new ^ base
    starts = range(0, len(words), TENSORX_PIECE)
    pieces = (split_planes(words[at : at + TENSORX_PIECE], width) for at in starts)
    return pack([stream for piece in pieces for stream in piece], TENSORX_LEVEL)


def tensorx_decode(data: bytes, base: Bytes | None, _dtype: str, width: int) -> Bytes:
    """The inverse of `tensorx_encode`."""
    streams = unpack(data)
    count = width + 1
    pieces = (streams[at : at + count] for at in range(0, len(streams), count))
    joined = [join_planes(piece, width) for piece in pieces]
    words = numpy.concatenate(joined) if joined else numpy.empty(0, numpy.uint8)
    return words if base is None else words ^ base
