#!/usr/bin/env python3
"""A reference reader of the milepost store format, version 1.0, written from the specification alone.

It is written for clarity and in the order of the specification's sections; `# Section 9.2` and `# R47` say where a rule comes
from.  It needs numpy and zstandard.  Every chunk that it gives out was hashed.

    reference_reader.py STORE                        prints what the store holds as one JSON document
    reference_reader.py STORE --checkpoint NAME      the same of one checkpoint: an id, a tag, or `latest` of run main
    reference_reader.py STORE --extract RUN SEQ OUT  writes a checkpoint as the safetensors file that it was made from
    reference_reader.py --all FOLDER                 holds every golden store below FOLDER against its expected.json
    reference_reader.py --examples SPEC              decodes the worked records of the specification

A store that is refused ends it with status 1 and one line of JSON on standard error: kind, code and message.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import zstandard

# ---------------------------------------------------------------------------------------------------------- Appendix A
MAGIC = bytes.fromhex("8d4d50530d0a1a0a")
VERSION_MAJOR, READER_FLAGS_KNOWN, ENVELOPE_LEN = 1, 0, 32
KIND_STORE, KIND_PACK, KIND_MANIFEST, KIND_TAG = b"STOR", b"PACK", b"CKPT", b"TAG "
PACK_CONTEXT, CHECKPOINT_CONTEXT = b"milepost v1 pack index", b"milepost v1 checkpoint body"
ID_LEN, RECORD_ALIGN, RECORD_FIXED_LEN, TRAILER_MAGIC, TRAILER_LEN, INDEX_ENTRY_LEN = 32, 16, 12, b"MPKE", 32, 64
SECTION_IGNORABLE, SECTION_BODY, SECTION_PLACEMENT, SECTION_DROPPED = 1 << 31, 1, 2, 5
SECTION_PACKS, SECTION_STATISTICS, SECTION_RELATIONS = 0x80000003, 0x80000004, 0x80000006
RELATION_KINDS = {1: ("adam", 2), 2: ("second-moment", 1), 3: ("momentum", 1), 4: ("average", 1), 5: ("copy", 1),
                  6: ("sum-of-squares", 1)}
SECTION_CODER_RAW, SECTION_CODER_ZSTD, PATTERN_LEN_MAX = 0, 1, 16
KEY_LEN_MAX, VALUE_LEN_MAX, RANK_MAX, ENTRIES_MAX, CHUNK_REFS_MAX = 4096, 16777216, 32, 4194304, 8388608
CHUNK_LEN_MAX, CHUNK_LEN_SETTING_MIN, CHUNK_LEN_SETTING_MAX, RECORD_OVERHEAD_MAX = 67108864, 4096, 16777216, 4096
PARAMS_LEN_MAX, RECORDS_MAX, PACK_LEN_MAX, SECTIONS_MAX = 4096, 4194304, 1099511627776, 64
SECTION_LEN_MAX, MANIFEST_LEN_MAX, SMALL_FILE_LEN_MAX = 536870912, 1073741824, 65536
ZSTD_WINDOW_LOG_MAX, RECIPE_RECORDS_MAX = 26, 4096

# Rights of this reader (sections 16.1 and 20), not of the format.
LOGICAL_BYTES_MAX = 1 << 36  # bytes of one checkpoint
CACHE_BYTES_MAX = 1 << 30  # decoded chunks that are kept
HASH_BATCH_BYTES = 1 << 23  # decoded bytes that are hashed together


# ----------------------------------------------------------------------------------------------------------- Section 2
class Cursor:
    """Reads consecutive fields; behind the end it rejects with R1."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, length: int) -> bytes:
        reject_if(length > self.left(), "truncated")
        self.at += length
        return self.data[self.at - length : self.at]

    def uint(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def count(self, most: int, least_item: int) -> int:
        """The count of a list, held against its limit (R13) and the bytes that are left (R14)."""
        count = self.uint(4)
        reject_if(count > most, "count", "limit")
        reject_if(count * least_item > self.left(), "count")
        return count

    def key(self) -> str:
        """R15."""
        length = self.uint(2)
        reject_if(not 1 <= length <= KEY_LEN_MAX, "key")
        key = utf8(self.take(length), "key")
        reject_if(any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in key), "key")
        return key

    def keyed(self, least_item: int, item: Callable[[Cursor], Any]) -> dict[str, Any]:
        """A list of items behind keys that strictly ascend, byte by byte (R16)."""
        pairs = [(self.key(), item(self)) for _ in range(self.count(ENTRIES_MAX, least_item))]
        keys = [key.encode() for key, _ in pairs]
        reject_if(any(a >= b for a, b in zip(keys, keys[1:])), "name-order")
        return dict(pairs)

    def end(self) -> None:
        reject_if(self.left(), "trailing-bytes")  # R12


def utf8(data: bytes, code: str) -> str:
    try:
        return data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise Reject("corrupt", code) from None


# ----------------------------------------------------------------------------------------------------------- Section 3
class Reject(Exception):
    """A store, or a part of it, is refused: who must act (`kind`), and the one condition (`reason`, a code)."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason = kind, reason


def reject_if(broken: object, code: str, kind: str = "corrupt") -> None:
    """Rejects where a rule is broken."""
    if broken:
        raise Reject(kind, code)


# --------------------------------------------------------------------------------------------------------- Section 5.1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # Section 5.2
PACK_FOLDER = re.compile(r"[0-9a-f]{2}")
PACK_FILE = re.compile(r"([0-9a-f]{64})\.pack")
MANIFEST_FILE = re.compile(r"([0-9]{20})-([0-9a-f]{64})\.ckpt")


def listing(folder: str, want_folders: bool) -> list[str]:
    """Sorted names of a folder's regular files or folders. Links and the like are ignored; a missing folder is an empty one."""
    if not os.path.lexists(folder):
        return []
    mode = os.lstat(folder).st_mode
    reject_if(not stat.S_ISDIR(mode), "link" if stat.S_ISLNK(mode) else "file-type")
    with os.scandir(folder) as entries:
        return sorted(
            e.name
            for e in entries
            if (e.is_dir(follow_symlinks=False) if want_folders else e.is_file(follow_symlinks=False))
        )


def file_len(path: str) -> int:
    """Length of a regular file that is no link (R3)."""
    reject_if(not os.path.lexists(path), "file", "not-found")
    status = os.lstat(path)
    reject_if(not stat.S_ISREG(status.st_mode), "link" if stat.S_ISLNK(status.st_mode) else "file-type")
    return status.st_size


def read_range(path: str, offset: int, length: int) -> bytes:
    """Exactly these bytes of a file (R1)."""
    reject_if(offset + length > file_len(path), "truncated")
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        file.seek(offset)
        data = file.read(length)
    reject_if(len(data) != length, "truncated")
    return data


def read_enveloped(path: str, kind: bytes, most: int) -> bytes:
    """A whole file: its envelope is judged before its length, so that a newer file is unsupported; then R2."""
    size = file_len(path)
    check_envelope(read_range(path, 0, min(size, ENVELOPE_LEN)), kind)
    reject_if(size > most, "file-length", "limit")
    return read_range(path, 0, size)


# --------------------------------------------------------------------------------------------------------- Section 5.3
def check_format(root: str) -> None:
    """Checks FORMAT. A reader needs nothing of it but that it may go on."""
    path = os.path.join(root, "FORMAT")
    reject_if(not os.path.lexists(path), "no-store", "not-found")
    data = read_enveloped(path, KIND_STORE, SMALL_FILE_LEN_MAX)
    reject_if(len(data) < 72, "truncated")
    reject_if(crc32(data[:-4]) != int.from_bytes(data[-4:], "little"), "format-checksum")  # R9
    cursor = Cursor(data[:-4])
    cursor.take(ENVELOPE_LEN + 16)
    chunk_len, restore_budget_milli, _full_every = cursor.uint(4), cursor.uint(4), cursor.uint(4)
    _depth_max, level, reserved = cursor.uint(1), cursor.uint(1), cursor.uint(2)
    in_range = CHUNK_LEN_SETTING_MIN <= chunk_len <= CHUNK_LEN_SETTING_MAX and 1000 <= restore_budget_milli <= 1000000
    reject_if(not in_range, "setting")  # R11
    reject_if(level > 2 or reserved, "format-field")  # Section 5.3.1, R10
    cursor.keyed(6, Cursor.key)
    cursor.end()


# ----------------------------------------------------------------------------------------------------------- Section 6
def check_envelope(data: bytes, kind: bytes) -> None:
    """Section 6.2, in its order."""
    reject_if(len(data) < ENVELOPE_LEN, "truncated")
    magic, found, major, _minor, reader_flags, _writer_flags, reserved, crc = struct.unpack_from("<8s4sHHIIII", data)
    reject_if(magic != MAGIC, "magic")
    reject_if(crc != crc32(data[:28]), "envelope-checksum")
    reject_if(found != kind, "file-kind")
    reject_if(major != VERSION_MAJOR or reader_flags & ~READER_FLAGS_KNOWN, "format-version", "unsupported")
    reject_if(reserved, "reserved")


# ----------------------------------------------------------------------------------------------------------- Section 7
IV = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32
)
PERMUTATION = np.array([2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8])
CHUNK_START, CHUNK_END, PARENT, ROOT, DERIVE_KEY_CONTEXT, DERIVE_KEY_MATERIAL = 1, 2, 4, 8, 32, 64
LEAF_LEN, BLOCK_LEN = 1024, 64  # BLAKE3 calls a leaf of its tree a chunk
Array = np.ndarray[Any, Any]


def compress(chaining: Array, words: Array, counter: Array, block_len: Array, flags: Array) -> Array:
    """BLAKE3's compression of many blocks at once: chaining is 8 x n, words 16 x n, the others n; the result is 8 x n."""
    n = chaining.shape[1]
    a, b, c = chaining[:4].copy(), chaining[4:].copy(), np.repeat(IV[:4, None], n, axis=1)
    d = np.stack([counter & 0xFFFFFFFF, counter >> 32, block_len, flags]).astype(np.uint32)
    for _ in range(7):
        for diagonal, first in ((False, 0), (True, 8)):
            if diagonal:
                b, c, d = b[[1, 2, 3, 0]], c[[2, 3, 0, 1]], d[[3, 0, 1, 2]]
            for half, (right_d, right_b) in enumerate(((16, 12), (8, 7))):
                a += b
                a += words[first + half : first + 8 : 2]
                d ^= a
                d = (d >> right_d) | (d << (32 - right_d))
                c += d
                b ^= c
                b = (b >> right_b) | (b << (32 - right_b))
            if diagonal:
                b, c, d = b[[3, 0, 1, 2]], c[[2, 3, 0, 1]], d[[1, 2, 3, 0]]
        words = words[PERMUTATION]
    return np.concatenate([a ^ c, b ^ d])


def blake3_many(messages: Sequence[bytes], key: Array = IV, mode: int = 0) -> list[bytes]:
    """The 32-byte BLAKE3 hashes of many messages, worked out side by side."""
    counts = [max(1, -(-len(m) // LEAF_LEN)) for m in messages]
    padded = b"".join(m.ljust(count * LEAF_LEN, b"\0") for m, count in zip(messages, counts))
    words = np.frombuffer(padded, "<u4").reshape(-1, LEAF_LEN // BLOCK_LEN, 16)
    number = np.concatenate([np.arange(count, dtype=np.uint64) for count in counts])
    length = np.full(len(number), LEAF_LEN)
    ends = np.cumsum(counts) - 1
    length[ends] = [len(m) - (count - 1) * LEAF_LEN for m, count in zip(messages, counts)]
    lone = np.repeat(np.array(counts) == 1, counts)
    values = np.repeat(key[:, None], len(number), axis=1)
    for i in range(LEAF_LEN // BLOCK_LEN):  # the leaves, block by block
        live = np.nonzero((length > i * BLOCK_LEN) | (i == 0))[0]
        left = length[live] - i * BLOCK_LEN
        last = left <= BLOCK_LEN
        flags = mode | (CHUNK_START if i == 0 else 0) | last * CHUNK_END | (last & lone[live]) * ROOT
        block = np.ascontiguousarray(words[live, i].T)
        values[:, live] = compress(values[:, live], block, number[live], np.minimum(left, BLOCK_LEN), flags)
    starts = [int(end) - count + 1 for end, count in zip(ends, counts)]
    trees = [list(range(start, start + count)) for start, count in zip(starts, counts)]
    while any(len(tree) > 1 for tree in trees):  # the parents, level by level; an odd last node moves up as it is
        pairs = [(tree[i], tree[i + 1], len(tree) == 2) for tree in trees for i in range(0, len(tree) - 1, 2)]
        lefts, rights, roots = (list(column) for column in zip(*pairs))
        flags, zero = mode | PARENT | np.array(roots) * ROOT, np.zeros(len(pairs), np.uint64)
        block = np.concatenate([values[:, lefts], values[:, rights]])
        values[:, lefts] = compress(np.repeat(key[:, None], len(pairs), axis=1), block, zero, zero + BLOCK_LEN, flags)
        trees = [tree[::2] for tree in trees]
    return [values[:, tree[0]].astype("<u4").tobytes() for tree in trees]


def blake3_derive_key(context: bytes, material: bytes) -> bytes:
    """BLAKE3 in mode `derive_key`."""
    context_key = np.frombuffer(blake3_many([context], IV, DERIVE_KEY_CONTEXT)[0], "<u4").astype(np.uint32)
    return blake3_many([material], context_key, DERIVE_KEY_MATERIAL)[0]


# ----------------------------------------------------------------------------------------------------------- Section 8
class Item(NamedTuple):
    """A tensor or a blob (then dtype is empty): `total` bytes that are cut into chunks of `chunk` bytes."""

    dtype: str
    shape: list[int]
    total: int
    chunk: int
    ids: list[bytes]  # filled when all tensors and blobs are known

    def chunks(self) -> Iterator[tuple[bytes, int]]:
        """Ids and lengths of the chunks."""
        return ((chunk, min(self.chunk, self.total - i * self.chunk)) for i, chunk in enumerate(self.ids))


# ----------------------------------------------------------------------------------------------------------- Section 9
class Entry(NamedTuple):
    """Section 9.3: one entry of a pack's index, and where its pack lies."""

    pack: str
    offset: int
    stored_len: int
    raw_len: int
    crc: int
    depth: int
    inputs: tuple[bytes, ...]


ENTRY = struct.Struct("<32sQIIIIIHBB")


def read_pack_index(path: str, pack_id: str) -> dict[bytes, Entry]:
    """Section 9.1: enters a pack from its end."""
    size = file_len(path)
    check_envelope(read_range(path, 0, min(size, ENVELOPE_LEN)), KIND_PACK)
    reject_if(size < ENVELOPE_LEN + 8 + TRAILER_LEN, "truncated")
    trailer = read_range(path, size - TRAILER_LEN, TRAILER_LEN)  # Section 9.4
    magic, index_offset, index_len, pack_len, crc = struct.unpack("<4sQQQI", trailer)
    reject_if(magic != TRAILER_MAGIC or crc != crc32(trailer[:28]), "pack-trailer")  # R40
    reject_if(
        pack_len != size
        or pack_len > PACK_LEN_MAX
        or index_offset < ENVELOPE_LEN  # R41
        or index_offset + index_len + TRAILER_LEN != size
        or index_len > 8 + RECORDS_MAX * (64 + 32 * 255),
        "pack-length",
    )
    index = read_range(path, index_offset, index_len)
    reject_if(blake3_derive_key(PACK_CONTEXT, index).hex() != pack_id, "index-hash")  # R42
    return parse_index(index, index_offset, path)


def parse_index(index: bytes, index_offset: int, path: str) -> dict[bytes, Entry]:
    """Section 9.3, and the extents of section 9.1."""
    cursor = Cursor(index)
    record_count, input_count = cursor.uint(4), cursor.uint(4)
    reject_if(record_count > RECORDS_MAX, "count", "limit")  # R13
    reject_if(INDEX_ENTRY_LEN * record_count > cursor.left(), "count")  # R14
    reject_if(len(index) != 8 + INDEX_ENTRY_LEN * record_count + ID_LEN * input_count, "index-length")  # R43
    rows = [ENTRY.unpack(cursor.take(INDEX_ENTRY_LEN)) for _ in range(record_count)]
    reject_if(any(a[0] >= b[0] for a, b in zip(rows, rows[1:])), "index-order")  # R44
    reject_if(sum(row[9] for row in rows) < input_count, "trailing-bytes")  # R12
    entries: dict[bytes, Entry] = {}
    for chunk, offset, stored_len, raw_len, crc, _cost, _cycle_len, _age, depth, inputs in rows:
        ids = tuple(cursor.take(ID_LEN) for _ in range(inputs))
        reject_if(
            not 1 <= raw_len <= CHUNK_LEN_MAX
            or not RECORD_FIXED_LEN <= stored_len <= raw_len + RECORD_OVERHEAD_MAX
            or (depth == 0) != (inputs == 0)
            or chunk in ids,
            "index-entry",
        )  # R45
        entries[chunk] = Entry(path, offset, stored_len, raw_len, crc, depth, ids)
    place = ENVELOPE_LEN
    for entry in sorted(entries.values(), key=lambda e: e.offset):  # R46
        reject_if(entry.offset != place, "record-extent")
        place = -(-(entry.offset + entry.stored_len) // RECORD_ALIGN) * RECORD_ALIGN  # align16
    reject_if(place != index_offset, "record-extent")
    return entries


# ---------------------------------------------------------------------------------------------------------- Section 10
PREDICTOR_NONE, PREDICTOR_BASE, CAST, LINEAR, SECOND_MOMENT, ADAM = range(6)  # Section 10.2
SPARSE_SECOND_MOMENT, SPARSE_ADAM, SUM_OF_SQUARES = range(6, 9)
ROUNDED_LINEAR, ROUNDED_SECOND_MOMENT = 10, 11
SECOND_MOMENTS = (SECOND_MOMENT, SPARSE_SECOND_MOMENT, ROUNDED_SECOND_MOMENT)
INPUTS_OF = {0: (0, 0), 1: (1, 1), CAST: (1, 1), LINEAR: (1, 4), ROUNDED_LINEAR: (1, 4), SPARSE_ADAM: (4, 4)}
INPUTS_OF |= dict.fromkeys((*SECOND_MOMENTS, ADAM, SUM_OF_SQUARES), (3, 3))
IDENTITY, ROTATE, FLOAT_SUBTRACT, INT_SUBTRACT, XOR, ROTATED_XOR = range(6)  # Section 10.3
WHOLE, PLANES, LEADING, GRID, GRID_DELTA, CLASSES, SPARSE, PALETTE = range(8)  # Section 10.4
RAW, CONSTANT, ZSTD = range(3)  # Section 10.5
GRID_PARAMS = struct.Struct("<IIQHBB")  # Section 10.4.4
TURN_MAX = 8


def predictor_params(predictor: int, inputs: int) -> int:
    """Section 10.2: bytes of the predictor's own parameters."""
    lengths = {CAST: 1, LINEAR: 8 * inputs, ROUNDED_LINEAR: 8 * inputs, ADAM: 16, SPARSE_ADAM: 16, SUM_OF_SQUARES: 9}
    return (lengths | dict.fromkeys(SECOND_MOMENTS, 32)).get(predictor, 0)


def coefficients(params: bytes) -> list[float]:
    """R72: numbers of binary64, 0 or of a magnitude from 2^-200 to 2^200."""
    values = [float(c) for c in np.frombuffer(params, "<f8")]
    reject_if(any(c != 0 and not 2.0**-200 <= abs(c) <= 2.0**200 for c in values), "predictor-params")
    return values


def numbers(data: bytes) -> Array:
    """Section 10.2.1: lanes of binary32 as binary64; subnormal ones count as zero."""
    bits = np.frombuffer(data, "<u4")
    return np.where(bits & 0x7F800000 == 0, np.uint32(0), bits).view("<f4").astype(np.float64)


def rounded(x: Array) -> Array:
    """Section 10.2.1: to binary32, ties to even; what would be subnormal is zero."""
    return np.where(np.abs(x) < 2.0**-126, 0.0, x).astype(np.float32)


def cast_half(bits: Array, to_f16: bool) -> Array:
    """Section 10.2.1: binary32 to bfloat16 or binary16."""
    is_nan = bits & 0x7FFFFFFF > 0x7F800000
    if not to_f16:
        even = bits + (0x7FFF + (bits >> 16 & 1)).astype(np.uint32)
        return (np.where(is_nan, bits | 0x00400000, even) >> 16).astype("<u2")
    halves = bits.view("<f4").astype("<f2").view("<u2")  # IEEE 754's conversion, but for NaNs
    nans = (bits >> 16 & 0x8000 | 0x7E00 | bits >> 13 & 0x3FF).astype("<u2")
    return np.where(is_nan, nans, halves)


def predict(predictor: int, params: bytes, inputs: list[bytes], lane_type: np.dtype[Any]) -> Array | None:
    """Section 10.2: the base value of every lane."""
    if predictor <= PREDICTOR_BASE:
        return np.frombuffer(inputs[0], lane_type) if inputs else None
    if predictor == CAST:
        reject_if(params[0] > 1, "predictor-params")
        return cast_half(np.frombuffer(inputs[0], "<u4"), params[0] == 1)
    first, x = np.frombuffer(inputs[0], "<u4"), [numbers(data) for data in inputs]
    if predictor == SUM_OF_SQUARES:
        reject_if(params[0] > 1, "predictor-params")
        (c,) = coefficients(params[1:])
        moved = c * (x[1] - x[2])
        kept = 1 - moved * moved
        value = rounded(x[0] * kept if params[0] else x[0] / kept)
    elif predictor in (ADAM, SPARSE_ADAM):
        given = np.frombuffer(params, "<f4")
        unfit = [(b & 0x7F800000) in (0, 0x7F800000) and b & 0x7FFFFFFF != 0 for b in given.view("<u4").tolist()]
        reject_if(any(unfit), "predictor-params")
        decay, step, scale, epsilon = (float(c) for c in given)
        once = [*x]  # w0, m1, v1, and m0 of predictor 7
        denominator = rounded(rounded(rounded(np.sqrt(once[2])).astype(float) / scale).astype(float) + epsilon)
        update = rounded(rounded(step * once[1]).astype(float) / denominator.astype(float))
        value = rounded(rounded(once[0] * decay).astype(float) + update.astype(float))
    else:
        if predictor in SECOND_MOMENTS:
            v0, m1, m0 = x
            x = [v0, m1 * m1, m1 * m0, m0 * m0]
        total: Array | None = None
        for c, values in zip(coefficients(params), x):
            product = c * values
            if total is None and predictor in (ROUNDED_LINEAR, ROUNDED_SECOND_MOMENT):
                product = rounded(product).astype(float)
            total = product if total is None else total + product
        assert total is not None
        value = rounded(total)
    found = value.view("<u4")
    found = np.where(found & 0x7F800000 == 0x7F800000, first, found)
    if predictor in (SPARSE_SECOND_MOMENT, SPARSE_ADAM, SUM_OF_SQUARES):
        after, before = inputs[1], inputs[2 if predictor != SPARSE_ADAM else 3]
        found = np.where(np.frombuffer(after, "<u4") == np.frombuffer(before, "<u4"), first, found)
    return found


class Class(NamedTuple):
    """Section 10.4.5: the keys of a class are from first_key up to that of the next."""

    first_key: int
    shift: int
    mode: int


def classes_of(params: bytes, w: int) -> list[Class]:
    """R69."""
    classes = [Class(*params[i : i + 3]) for i in range(0, len(params) - 2, 3)]
    reject_if(len(params) % 3 or not 1 <= len(classes) <= 32 or classes[0].first_key != 0, "classes-params")
    reject_if(any(a.first_key >= b.first_key for a, b in zip(classes, classes[1:])), "classes-params")
    reject_if(any(c.shift > w - 8 or c.mode > 16 or (c.mode and c.shift) for c in classes), "classes-params")
    return classes


class Bits:
    """Bits of a stream, the least significant of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.data, self.value, self.at = data, int.from_bytes(data, "little"), 0

    def take(self, count: int) -> int:
        reject_if(self.at + count > 8 * len(self.data), "classes-streams")
        self.at += count
        return self.value >> (self.at - count) & ((1 << count) - 1)

    def rice(self, k: int, most: int) -> int:
        ones = 0
        while self.take(1):
            ones += 1
            reject_if(ones << k > most, "classes-streams")
        number = ones << k | self.take(k)
        reject_if(number > most, "classes-streams")
        return number

    def is_done(self) -> bool:
        return -(-self.at // 8) == len(self.data)


def classes_words(classes: list[Class], coders: list[int], stored: list[bytes], b: Array) -> Array:
    """Section 10.4.5: the residual words of layout `classes`, word by word."""
    w = 8 * b.itemsize
    keys = b >> (w - 9) & 0xFF if w > 8 else (b << 1) & 0xFF | b >> 7
    ends = [c.first_key for c in classes[1:]] + [256]
    lanes = [np.nonzero((keys >= c.first_key) & (keys < end))[0] for c, end in zip(classes, ends)]
    *own, (gaps, values, low, escapes) = *stored[:-4], stored[-4:]
    reader, places, sparse = Bits(gaps), {}, [i for i, c in enumerate(classes) if c.mode]
    for i in sparse:
        at, found, count = 0, [], len(lanes[i])
        while True:
            at += reader.rice(classes[i].mode - 1, count - at)
            if at == count:
                break
            found.append(at)
            at += 1
        places[i] = found
    reject_if(not reader.is_done(), "classes-streams")
    total = sum(len(found) for found in places.values())
    value = iter(decode_stream(coders[-3], values, total))
    leading = iter([decode_stream(c, part, len(lanes[i])) for c, part, i in zip(
        coders, own, (i for i, c in enumerate(classes) if not c.mode))])
    words, bits, escape = np.zeros(len(b), b.dtype), Bits(low), Cursor(escapes)

    def escaped() -> int:
        reject_if(escape.left() < b.itemsize, "classes-streams")
        return escape.uint(b.itemsize)

    for i, c in enumerate(classes):
        if c.mode:
            for at in places[i]:
                v = next(value)
                reject_if(v == 255, "classes-streams")
                words[lanes[i][at]] = escaped() if v == 254 else v + 1
        else:
            for lane, byte in zip(lanes[i].tolist(), next(leading)):
                words[lane] = escaped() if byte == 255 else byte << c.shift | bits.take(c.shift)
    reject_if(not bits.is_done() or escape.left(), "classes-streams")
    return words


def sparse_words(params: bytes, coders: list[int], stored: list[bytes], lane_type: np.dtype, n: int) -> Array:
    """Section 10.4.6: the residual words of layout `sparse`."""
    reject_if(len(params) != 8, "sparse-params")  # R73
    count, gap_len = struct.unpack("<II", params)
    reject_if(count > n or not count <= gap_len <= count + n // 255, "sparse-params")
    gaps = decode_stream(coders[0], stored[0], gap_len)
    planes = [decode_stream(coder, part, count) for coder, part in zip(coders[1:], stored[1:])]
    reject_if(gaps[-1:] == b"\xff", "sparse-gaps")  # R74
    words, at, found = np.zeros(n, lane_type), 0, 0
    for gap in gaps:
        at += gap
        if gap == 255:
            continue
        reject_if(at >= n or found == count, "sparse-gaps")
        words[at] = int.from_bytes(bytes(plane[found] for plane in planes), "little")
        at, found = at + 1, found + 1
    reject_if(found != count, "sparse-gaps")
    return words


def palette_words(params: bytes, coders: list[int], stored: list[bytes], lane_type: np.dtype, n: int) -> Array:
    """Section 10.4.7: the words of layout `palette`."""
    reject_if(len(params) != 1, "palette-params")  # R75
    count = params[0] + 1
    b = 1 if count <= 2 else 2 if count <= 4 else 4 if count <= 16 else 8
    values = np.frombuffer(decode_stream(coders[0], stored[0], count * lane_type.itemsize), lane_type)
    packed = np.frombuffer(decode_stream(coders[1], stored[1], -(-n * b // 8)), np.uint8)
    indices = (packed[:, None] >> np.arange(0, 8, b, np.uint8) & (1 << b) - 1).reshape(-1)[:n]
    reject_if(bool((indices >= count).any()), "palette-index")  # R76
    return values[indices]


def inverse(transform: int, u: Array, b: Array | None) -> Array:
    """Section 10.3, column "Reader"; arithmetic on numpy's unsigned arrays is modulo 2^w."""
    top = 1 << (8 * u.itemsize - 1)
    rotated = (u >> 1) | (u << (8 * u.itemsize - 1))
    if transform <= ROTATE:
        return u if transform == IDENTITY else rotated
    assert b is not None
    if transform >= XOR:
        return (u if transform == XOR else rotated) ^ b
    difference = (u >> 1) ^ -(u & 1)  # unzigzag
    if transform == INT_SUBTRACT:
        return difference + b
    ordered = difference + np.where(b >= top, ~b, b ^ top)  # FLOAT_SUBTRACT
    return np.where(ordered >= top, ordered ^ top, ~ordered)


def leading_words(streams: list[bytes], params: bytes, b: Array) -> Array:
    """Section 10.4.3: the residual words of layout `leading`."""
    w, keys, shifts = 8 * b.itemsize, params[0::2], params[1::2]
    reject_if(
        len(params) % 2
        or not params
        or keys[0] != 0
        or max(shifts) > w - 8
        or any(a >= c for a, c in zip(keys, keys[1:])),
        "leading-params",
    )  # R57
    table = np.zeros(256, np.int64)  # the shift of each key
    for key, shift in zip(keys, shifts):
        table[key:] = shift
    leading, low, escapes = (np.frombuffer(stream, np.uint8) for stream in streams)
    escaped = leading == 255
    shift = np.where(escaped, 0, table[(b >> (w - 9)) & 0xFF if w > 8 else 0])
    ends = np.cumsum(shift)
    reject_if(
        -(-int(ends[-1]) // 8) != len(low) or int(escaped.sum()) * b.itemsize != len(escapes), "leading-streams"
    )  # R59
    starts = ends - shift
    padded = np.concatenate([low, np.zeros(8, np.uint8)]).astype(np.uint64)
    window = np.zeros(len(b), np.uint64)
    for k in range(8):  # at most 56 bits behind at most 7 lie in eight bytes
        window |= padded[np.minimum(starts // 8 + k, len(padded) - 1)] << np.uint64(8 * k)
    width = shift.astype(np.uint64)
    bits = (window >> (starts % 8).astype(np.uint64)) & ((np.uint64(1) << width) - np.uint64(1))
    words = ((leading.astype(np.uint64) << width) | bits).astype(b.dtype)
    words[escaped] = escapes.view(b.dtype)
    return words


class Grid(NamedTuple):
    """Section 10.4.4: the parameters of layouts `grid` and `grid-delta`, for n lanes of w bits."""

    row_len: int
    column: int
    level: int
    weight: int
    unit: int
    turn: int

    def rows(self, n: int) -> int:
        return -(-(self.column + n) // self.row_len)


def grid_of(params: bytes, layout: int, w: int, n: int) -> Grid:
    """Reads and checks the parameters (R1, R66)."""
    reject_if(len(params) < GRID_PARAMS.size, "truncated")
    reject_if(len(params) > GRID_PARAMS.size, "grid-params")
    grid = Grid(*GRID_PARAMS.unpack(params))
    reject_if(
        grid.column >= grid.row_len
        or grid.rows(n) + grid.row_len > n
        or grid.level >= 1 << w
        or (layout == GRID and grid.weight != 0)
        or grid.unit >= w
        or grid.turn > TURN_MAX,
        "grid-params",
    )
    return grid


def grid_words(grid: Grid, streams: list[bytes], b: Array | None, lane_type: np.dtype[Any]) -> Array:
    """Section 10.4.4: the residual words. Arithmetic is on Python's integers where a product needs more than 64 bits."""
    w, n = 8 * lane_type.itemsize, len(streams[0])
    low, *planes, overflow, terms = (np.frombuffer(stream, np.uint8) for stream in streams)
    reject_if(
        (low.astype(np.uint16) << grid.turn).max() > 255
        or (overflow >> grid.turn if grid.turn < 8 else overflow * 0).max(),
        "grid-overflow",
    )  # R67
    joined = ((low.astype(np.uint16) << grid.turn) | overflow).astype(np.uint8)
    words = np.frombuffer(np.stack([joined, *planes], axis=1).tobytes(), lane_type)
    place = grid.column + np.arange(n)
    signed = terms.view(np.int8).astype(np.int64)
    both = signed[place // grid.row_len] + signed[grid.rows(n) + place % grid.row_len]
    predicted = (both.astype(np.uint64) << np.uint64(grid.unit)) + np.uint64(grid.level)
    if b is not None:
        rotated = (b << 1) | (b >> (w - 1))
        shares = [int(word) * grid.weight >> 15 & (1 << 64) - 1 for word in rotated]
        predicted = predicted + np.array(shares, np.uint64)
    even = predicted.astype(lane_type) & ~lane_type.type(1)
    turned = (words >> grid.turn) | (words << (w - grid.turn)) if grid.turn else words
    return turned + even


def decode_stream(coder: int, stored: bytes, length: int) -> bytes:
    """Section 10.5."""
    if coder == RAW:
        reject_if(len(stored) != length, "raw-stream")  # R54
        return stored
    if coder == CONSTANT:
        reject_if(not 1 <= len(stored) <= PATTERN_LEN_MAX or length % len(stored), "constant-pattern")  # R55
        return stored * (length // len(stored))
    if coder == ZSTD:
        return decode_zstd(stored, length)
    raise Reject("unsupported", "coder")  # R51


def decode_zstd(stored: bytes, length: int) -> bytes:
    """Section 10.5: exactly one frame of RFC 8878 that decodes to exactly `length` bytes (R56)."""
    cursor = Cursor(stored.ljust(18, b"\0"))  # a header that is cut short fails below
    reject_if(cursor.take(4) != b"\x28\xb5\x2f\xfd", "zstd-frame")
    descriptor = cursor.uint(1)
    single_segment = bool(descriptor & 0x20)
    window_byte = 0 if single_segment else cursor.uint(1)
    dictionary = cursor.uint((0, 1, 2, 4)[descriptor & 3])
    size_len = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    content = cursor.uint(size_len) + (256 if size_len == 2 else 0)
    base = 1 << (10 + (window_byte >> 3))
    window = content if single_segment else base + base // 8 * (window_byte & 7)
    reject_if(descriptor & 0x08 or dictionary or (size_len and content != length), "zstd-frame")
    reject_if(window > 1 << ZSTD_WINDOW_LOG_MAX, "zstd-frame")
    try:  # if the frame has no content size, the buffer is `length` bytes, else they are equal
        data = zstandard.ZstdDecompressor().decompress(stored, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Reject("corrupt", "zstd-frame") from None
    reject_if(len(data) != length, "zstd-frame")
    return data


def check_head(head: tuple[int, ...], entry: Entry, inputs: list[bytes], coders: list[int]) -> None:
    """Section 10.6: all rules on the head of a record."""
    predictor, transform, layout, lane_width, input_count, stream_count, params_len, raw_len = head
    reject_if(predictor not in INPUTS_OF or transform > ROTATED_XOR or layout > PALETTE, "encoding", "unsupported")  # R50
    least, most = INPUTS_OF[predictor]
    own_params = predictor_params(predictor, len(inputs))
    grid = layout in (GRID, GRID_DELTA)
    needs_base = transform >= FLOAT_SUBTRACT or layout == GRID_DELTA
    ok = (
        raw_len == entry.raw_len
        and lane_width in (1, 2, 4, 8)
        and raw_len % lane_width == 0
        and input_count == len(inputs)
        and least <= input_count <= most
        and needs_base == (predictor != PREDICTOR_NONE)
        and all(len(data) == (2 * raw_len if predictor == CAST else raw_len) for data in inputs)
        and params_len >= own_params
        and (params_len == own_params or layout > PLANES)
        and lane_width == {0: lane_width, 1: lane_width, CAST: 2}.get(predictor, 4)
        and (layout != CLASSES or transform >= FLOAT_SUBTRACT)
        and (layout != PALETTE or transform == IDENTITY)
        and (layout != LEADING or (needs_base and lane_width > 1))
        and (not grid or (transform == ROTATE and lane_width > 1))
    )
    reject_if(not ok, "record-rule")  # R52
    if layout == CLASSES:
        return
    streams_of = {WHOLE: 1, PLANES: lane_width, LEADING: 3, SPARSE: lane_width + 1, PALETTE: 2}
    reject_if(stream_count != streams_of.get(layout, lane_width + 2), "record-streams")  # R53
    reject_if(layout == LEADING and coders[1:] != [RAW, RAW], "leading-coder")  # R58


def decode(record: bytes, entry: Entry, inputs: list[bytes]) -> bytes:
    """Section 10.6: the bytes of a chunk, from its record and the bytes of its inputs."""
    cursor = Cursor(record)
    head = struct.unpack("<BBBBBBHI", cursor.take(RECORD_FIXED_LEN))  # Section 9.2
    predictor, transform, layout, lane_width, _input_count, stream_count, params_len, raw_len = head
    reject_if(raw_len > CHUNK_LEN_MAX or params_len > PARAMS_LEN_MAX, "record-limits", "limit")  # R48
    params = cursor.take(params_len)
    table = [cursor.uint(4) for _ in range(stream_count)]
    reject_if(sum(item & 0x0FFFFFFF for item in table) != cursor.left(), "record-length")  # R49
    coders = [item >> 28 for item in table]
    check_head(head, entry, inputs, coders)
    stored = [cursor.take(item & 0x0FFFFFFF) for item in table]
    lane_type, lanes = np.dtype(f"<u{lane_width}"), raw_len // lane_width
    own = predictor_params(predictor, len(inputs))
    with np.errstate(all="ignore"):
        base = predict(predictor, params[:own], inputs, lane_type)
    params = params[own:]
    if layout == WHOLE:
        words = np.frombuffer(decode_stream(coders[0], stored[0], raw_len), lane_type)
    elif layout == PLANES:
        planes = [decode_stream(coder, part, lanes) for coder, part in zip(coders, stored)]
        words = np.frombuffer(
            np.frombuffer(b"".join(planes), np.uint8).reshape(lane_width, lanes).T.tobytes(), lane_type
        )
    elif layout in (GRID, GRID_DELTA):
        grid = grid_of(params, layout, 8 * lane_width, lanes)
        lengths = [lanes] * (lane_width + 1) + [grid.rows(lanes) + grid.row_len]
        streams = [decode_stream(*part) for part in zip(coders, stored, lengths)]
        words, base = grid_words(grid, streams, base, lane_type), None
    elif layout == CLASSES:
        assert base is not None
        classes = classes_of(params, 8 * lane_width)
        reject_if(stream_count != sum(not c.mode for c in classes) + 4, "record-streams")  # R53
        reject_if([coders[i] for i in (-4, -2, -1)] != [RAW, RAW, RAW], "classes-coder")  # R70
        words = classes_words(classes, coders, stored, base)
    elif layout == SPARSE:
        words = sparse_words(params, coders, stored, lane_type, lanes)
    elif layout == PALETTE:
        words = palette_words(params, coders, stored, lane_type, lanes)
    else:
        assert base is not None
        words = leading_words([decode_stream(coders[0], stored[0], lanes), stored[1], stored[2]], params, base)
    return inverse(transform, words, base).astype(lane_type).tobytes()


# ---------------------------------------------------------------------------------------------------------- Section 11
DTYPES: dict[int, tuple[str, int]] = {  # Section 11.4: name and bits
    1: ("BOOL", 8),
    2: ("U8", 8),
    3: ("I8", 8),
    4: ("U16", 16),
    5: ("I16", 16),
    6: ("U32", 32),
    7: ("I32", 32),
    8: ("U64", 64),
    9: ("I64", 64),
    16: ("F16", 16),
    17: ("BF16", 16),
    18: ("F32", 32),
    19: ("F64", 64),
    24: ("C32", 32),
    25: ("C64", 64),
    26: ("C128", 128),
    32: ("F8_E4M3", 8),
    33: ("F8_E5M2", 8),
    34: ("F8_E4M3FNUZ", 8),
    35: ("F8_E5M2FNUZ", 8),
    36: ("F8_E8M0", 8),
    40: ("F6_E2M3", 6),
    41: ("F6_E3M2", 6),
    42: ("F4", 4),
}
DURABILITY_RELAXED, DURABILITY_VERIFIED = 0, 2  # Section 11.3.1


class Body(NamedTuple):
    """Section 11.2."""

    parent: bytes | None
    step: int
    metadata: dict[str, str]
    metrics: dict[str, int]
    tensors: dict[str, Item]
    blobs: dict[str, Item]
    dropped: list[str]  # names, section 11.7; not among the tensors
    relations: dict[str, list[str]]  # section 11.9: kind and names

    def items(self) -> list[Item]:
        return [*self.tensors.values(), *self.blobs.values()]


class Manifest(NamedTuple):
    """A manifest that passed every check but whether it counts."""

    run: str
    seq: int
    id: bytes
    body: Body
    durability: int
    boot: bytes
    hints: list[str]  # ids of packs, section 11.5


def read_sections(data: bytes) -> dict[int, bytes]:
    """Section 11.1: the sections that are known, decoded."""
    cursor = Cursor(data)
    cursor.take(ENVELOPE_LEN)
    count = cursor.uint(4)
    reject_if(count > SECTIONS_MAX or count * 20 > cursor.left(), "section-table")  # R17
    table = [struct.unpack("<IIIII", cursor.take(20)) for _ in range(count)]
    reject_if(crc32(data[ENVELOPE_LEN : cursor.at]) != cursor.uint(4), "section-table")  # R17
    reject_if(any(a[0] >= b[0] for a, b in zip(table, table[1:])), "section-order")  # R18
    known = (SECTION_BODY, SECTION_PLACEMENT, SECTION_DROPPED, SECTION_PACKS, SECTION_STATISTICS, SECTION_RELATIONS)
    sections: dict[int, bytes] = {}
    for kind, coder, raw_len, stored_len, crc in table:
        reject_if(kind not in known and not kind & SECTION_IGNORABLE, "section-kind", "unsupported")  # R19
        reject_if(raw_len > SECTION_LEN_MAX, "section-length", "limit")  # R22
        stored = cursor.take(stored_len)
        reject_if(crc32(stored) != crc, "section-checksum")  # R20
        if kind in known:
            reject_if(coder not in (SECTION_CODER_RAW, SECTION_CODER_ZSTD), "section-coder")  # R21
            most = raw_len if coder == SECTION_CODER_RAW else 32768 * stored_len
            reject_if(raw_len > most or (coder == SECTION_CODER_RAW and stored_len != raw_len), "section-length")  # R23
            sections[kind] = stored if coder == SECTION_CODER_RAW else decode_zstd(stored, raw_len)
    cursor.end()
    reject_if(SECTION_BODY not in sections or SECTION_PLACEMENT not in sections, "section-missing")  # R24
    return sections


def parse_body(data: bytes) -> Body:
    """Section 11.2."""
    cursor = Cursor(data)
    has_parent = cursor.uint(1)
    reject_if(has_parent > 1, "body-parent")  # R25
    parent, step = cursor.take(ID_LEN) if has_parent else None, cursor.uint(8)
    metadata, metrics = cursor.keyed(7, parse_value), cursor.keyed(11, lambda _: cursor.uint(8))
    tensors, blobs = cursor.keyed(13, parse_tensor), cursor.keyed(19, parse_blob)
    body = Body(parent, step, metadata, metrics, tensors, blobs, [], {})
    counts = [-(-item.total // item.chunk) for item in body.items()]
    reject_if(sum(counts) > CHUNK_REFS_MAX, "chunk-refs", "limit")  # R32
    reject_if(cursor.left() != ID_LEN * sum(counts), "chunk-ids")  # R33
    for item, count in zip(body.items(), counts):
        item.ids.extend(cursor.take(ID_LEN) for _ in range(count))
    return body


def parse_value(cursor: Cursor) -> str:
    """The value of a metadata entry."""
    length = cursor.uint(4)
    reject_if(length > VALUE_LEN_MAX, "metadata-value", "limit")  # R27
    return utf8(cursor.take(length), "utf8")  # R26


def parse_tensor(cursor: Cursor) -> Item:
    """Section 11.2.1."""
    code, rank = cursor.uint(1), cursor.uint(1)
    reject_if(code not in DTYPES, "dtype-code", "unsupported")  # R28
    reject_if(rank > RANK_MAX, "rank", "limit")  # R29
    shape = [cursor.uint(8) for _ in range(rank)]
    chunk_elements = cursor.uint(8)
    dtype, width = DTYPES[code]
    bits = math.prod(shape) * width
    reject_if(bits >= 1 << 64 or bits % 8, "tensor-size")  # R30
    reject_if(chunk_elements * width % 8 or not 1 <= chunk_elements * width // 8 <= CHUNK_LEN_MAX, "chunk-size")  # R31
    return Item(dtype, shape, bits // 8, chunk_elements * width // 8, [])


def parse_blob(cursor: Cursor) -> Item:
    """Section 11.2.2."""
    byte_len, chunk_len = cursor.uint(8), cursor.uint(8)
    reject_if(not 1 <= chunk_len <= CHUNK_LEN_MAX, "chunk-size")  # R31
    return Item("", [], byte_len, chunk_len, [])


def parse_placement(data: bytes) -> tuple[str, int, int, bytes]:
    """Section 11.3: run, seq, durability, boot. Bytes that follow are of later minor versions."""
    cursor = Cursor(data)
    run, seq, _time_ms = cursor.key(), cursor.uint(8), cursor.uint(8)
    reject_if(not NAME.fullmatch(run), "run-name")  # R34
    full, _depth = cursor.uint(1), cursor.uint(1)
    cursor.take(5 * 8)  # logical_bytes, added_bytes, restore_cost, chunks, new_chunks
    durability, boot = cursor.uint(1), cursor.take(16)
    reject_if(full > 1 or durability > DURABILITY_VERIFIED, "placement")  # R35
    return run, seq, durability, boot


def parse_list(data: bytes, most: int, item_len: int) -> list[bytes]:
    """Sections 11.5 and 11.6: a section that is a list of items of one length."""
    cursor = Cursor(data)
    items = [cursor.take(item_len) for _ in range(cursor.count(most, item_len))]
    cursor.end()
    return items


def read_manifest(path: str, run: str, seq: int, checkpoint_id: bytes) -> Manifest:
    """Section 14.2, steps 2 to 4."""
    sections = read_sections(read_enveloped(path, KIND_MANIFEST, MANIFEST_LEN_MAX))
    body = parse_body(sections[SECTION_BODY])
    placed_run, placed_seq, durability, boot = parse_placement(sections[SECTION_PLACEMENT])
    hints = parse_list(sections.get(SECTION_PACKS, bytes(4)), RECORDS_MAX, 40)
    if SECTION_STATISTICS in sections:
        statistics = parse_list(sections[SECTION_STATISTICS], ENTRIES_MAX, 24)
        reject_if(len(statistics) != len(body.tensors), "statistics")  # R38
    if SECTION_RELATIONS in sections:
        parse_relations(body, sections[SECTION_RELATIONS])
    if SECTION_DROPPED in sections:
        drop_tensors(body, sections[SECTION_DROPPED])
    reject_if(blake3_derive_key(CHECKPOINT_CONTEXT, sections[SECTION_BODY]) != checkpoint_id, "manifest-id")  # R36
    reject_if((placed_run, placed_seq) != (run, seq), "manifest-place")  # R37
    return Manifest(run, seq, checkpoint_id, body, durability, boot, sorted(hint[:ID_LEN].hex() for hint in hints))


def parse_relations(body: Body, data: bytes) -> None:
    """Section 11.9: for each tensor the kind of its relation, and the tensors that it came from."""
    names, cursor, last = list(body.tensors), Cursor(data), -1
    for _ in range(cursor.count(ENTRIES_MAX, 6)):
        tensor, kind, count = cursor.uint(4), cursor.uint(1), cursor.uint(1)
        places = [cursor.uint(4) for _ in range(count)]
        known, needs = RELATION_KINDS.get(kind, ("", count))
        good = last < tensor and max([tensor, *places]) < len(names) and count == needs
        reject_if(not good, "relations")  # R77
        last = tensor
        if known:
            body.relations[names[tensor]] = [known, *(names[place] for place in places)]
    cursor.end()


def drop_tensors(body: Body, data: bytes) -> None:
    """Section 11.7: takes the dropped tensors out of the body's, and keeps their names."""
    places = [int.from_bytes(item, "little") for item in parse_list(data, ENTRIES_MAX, 4)]
    names = list(body.tensors)
    ascending = all(a < b for a, b in zip(places, places[1:]))
    reject_if(not places or not ascending or places[-1] >= len(names), "dropped")  # R68
    for place in places:
        body.dropped.append(names[place])
        del body.tensors[names[place]]


def safetensors_file(chunks: Chunks, body: Body) -> Iterator[tuple[int, bytes]]:
    """Section 11.8.1: offsets and bytes of the safetensors file that a checkpoint was made from."""
    reject_if("safetensors.header" not in body.blobs, "safetensors-header", "not-found")
    head = b"".join(chunks.item(body.blobs["safetensors.header"]))
    yield 0, head
    try:
        places = {name: value["data_offsets"] for name, value in json.loads(head[8:]).items() if name != "__metadata__"}
    except (ValueError, AttributeError, LookupError, TypeError):
        raise Reject("corrupt", "safetensors-header") from None
    for name, (start, end) in places.items():
        reject_if(name not in body.tensors or body.tensors[name].total != end - start, "safetensors-header")
        yield len(head) + start, b"".join(chunks.item(body.tensors[name]))


# ---------------------------------------------------------------------------------------------------------- Section 12
class Chunks:
    """Section 12.1: finds, decodes and hashes the chunks of one checkpoint, whose manifest hints at these packs."""

    def __init__(self, root: str, hints: list[str]) -> None:
        self.folder = os.path.join(root, "packs")
        self.records: dict[bytes, Entry] = {}  # the record of each chunk in P
        self.indexes: dict[str, dict[bytes, Entry]] = {}
        self.looked_at_all = False
        self.cache, self.cached = dict[bytes, bytes](), 0
        self.pending: list[tuple[bytes, bytes]] = []
        for pack in hints:
            path = os.path.join(self.folder, pack[:2], f"{pack}.pack")
            if os.path.lexists(path):
                self.indexes[pack] = read_pack_index(path, pack)
        self.settle()

    def settle(self) -> None:
        """Takes the record of least depth of each chunk; one whose inputs do not resolve below it is passed over if all packs were
        looked at. Of records of one depth the one of the least pack id is taken."""
        self.records = {}
        every = [(e.depth, pack, chunk, e) for pack, index in self.indexes.items() for chunk, e in index.items()]
        for depth, _, chunk, entry in sorted(every, key=lambda record: record[:3]):
            found = [self.records.get(other) for other in entry.inputs]
            resolves = all(other is not None and other.depth < depth for other in found)
            if chunk not in self.records and (resolves or not self.looked_at_all):
                self.records[chunk] = entry

    def look_at_all(self) -> None:
        """Adds every pack of the store that is whole."""
        self.looked_at_all = True
        for prefix in filter(PACK_FOLDER.fullmatch, listing(self.folder, True)):
            for name in listing(os.path.join(self.folder, prefix), False):
                match = PACK_FILE.fullmatch(name)
                if not match or not name.startswith(prefix) or match[1] in self.indexes:
                    continue
                try:
                    index = read_pack_index(os.path.join(self.folder, prefix, name), match[1])
                    for entry in index.values():
                        self.record(entry)
                except Reject:
                    continue
                self.indexes[match[1]] = index
        self.settle()

    def recipe(self, chunk: bytes, raw_len: int) -> list[tuple[bytes, Entry]]:
        """Every record that a chunk needs; where P lacks one, all packs are looked at before that is an error."""
        try:
            return self.recipe_in_p(chunk, raw_len)
        except Reject as fault:
            if fault.reason not in ("chunk-missing", "input-depth") or self.looked_at_all:
                raise
            first = fault
        self.look_at_all()
        try:
            return self.recipe_in_p(chunk, raw_len)
        except Reject as fault:
            raise (first if fault.reason in ("chunk-missing", "input-depth") else fault) from None

    def recipe_in_p(self, chunk: bytes, raw_len: int) -> list[tuple[bytes, Entry]]:
        """`resolve` of the specification, without decoding: inputs come before what needs them."""
        found: dict[bytes, Entry] = {}
        todo = [(chunk, 256)]  # no depth reaches 256
        while todo:
            wanted, below = todo.pop()
            reject_if(wanted not in self.records, "chunk-missing")  # R60
            entry = self.records[wanted]
            reject_if(entry.depth >= below, "input-depth")  # R61
            if wanted not in found:
                found[wanted] = entry
                reject_if(len(entry.inputs) > 4, "inputs", "unsupported")  # R65
                todo += [(other, entry.depth) for other in entry.inputs]
            reject_if(len(found) > RECIPE_RECORDS_MAX, "recipe", "limit")
        reject_if(found[chunk].raw_len != raw_len, "chunk-length")  # R62
        return sorted(found.items(), key=lambda pair: pair[1].depth)

    def record(self, entry: Entry) -> bytes:
        """Section 14.2, step 8."""
        record = read_range(entry.pack, entry.offset, entry.stored_len)
        reject_if(crc32(record) != entry.crc, "record-checksum")  # R47
        return record

    def chunk(self, chunk: bytes, raw_len: int) -> bytes:
        """The bytes of a chunk. They are hashed before long: see check_hashes."""
        if chunk in self.cache and len(self.cache[chunk]) == raw_len:
            return self.cache[chunk]
        made: dict[bytes, bytes] = {}
        for wanted, entry in self.recipe(chunk, raw_len):
            if wanted not in self.cache:
                inputs = [made[other] for other in entry.inputs]
                data = decode(self.record(entry), entry, inputs)
                self.pending.append((wanted, data))
                self.cache[wanted] = data
                self.cached += len(data)
            made[wanted] = self.cache[wanted]
        if sum(len(data) for _, data in self.pending) > HASH_BATCH_BYTES:
            self.check_hashes()
        if self.cached > CACHE_BYTES_MAX:
            self.cache, self.cached = {}, 0
        return made[chunk]

    def check_hashes(self) -> None:
        """R63: holds the chunks that were decoded since the last call against their ids."""
        pending, self.pending = self.pending, []
        reject_if(
            pending and blake3_many([data for _, data in pending]) != [chunk for chunk, _ in pending], "chunk-hash"
        )

    def item(self, item: Item) -> Iterator[bytes]:
        """The chunks of a tensor or blob, in order."""
        return (self.chunk(chunk, raw_len) for chunk, raw_len in item.chunks())


# ---------------------------------------------------------------------------------------------------------- Section 13
def read_tag(path: str) -> bytes:
    """The checkpoint id that a tag names."""
    data = read_enveloped(path, KIND_TAG, SMALL_FILE_LEN_MAX)
    reject_if(len(data) < 68, "truncated")
    reject_if(crc32(data[:64]) != int.from_bytes(data[64:68], "little"), "tag-checksum")  # R64
    reject_if(len(data) > 68, "trailing-bytes")  # R12
    return data[32:64]


# ---------------------------------------------------------------------------------------------------------- Section 14
class Store:
    """An opened store."""

    def __init__(self, root: str) -> None:
        check_format(root)
        self.root = root

    def runs(self) -> list[str]:
        return [name for name in listing(os.path.join(self.root, "runs"), True) if NAME.fullmatch(name)]

    def tags(self) -> dict[str, str]:
        folder = os.path.join(self.root, "tags")
        return {
            name: read_tag(os.path.join(folder, name)).hex() for name in listing(folder, False) if NAME.fullmatch(name)
        }

    def checkpoints(self, run: str) -> list[tuple[int, str]]:
        """Section 14.3: seq and id of a run's checkpoints, in ascending order; nothing is read but names."""
        matches = map(MANIFEST_FILE.fullmatch, listing(os.path.join(self.root, "runs", run), False))
        return sorted((int(m[1]), m[2]) for m in matches if m and int(m[1]) < 1 << 64)

    def manifest(self, run: str, seq: int, checkpoint_id: str) -> Manifest:
        """A checkpoint's manifest; one that does not count is rejected (section 11.3.1, R39)."""
        path = os.path.join(self.root, "runs", run, f"{seq:020d}-{checkpoint_id}.ckpt")
        manifest = read_manifest(path, run, seq, bytes.fromhex(checkpoint_id))
        if manifest.durability == DURABILITY_RELAXED and (manifest.boot == bytes(16) or manifest.boot != own_boot()):
            chunks = Chunks(self.root, manifest.hints)
            for item in manifest.body.items():
                for chunk, raw_len in item.chunks():
                    for _, entry in chunks.recipe(chunk, raw_len):
                        chunks.record(entry)
        return manifest

    def find(self, name: str) -> Manifest:
        """The checkpoint of an id or a tag, or `latest` of run main."""
        if name == "latest":
            newest = self.newest("main")
            if newest is None:
                raise Reject("not-found", "revision")
            return newest
        if not re.fullmatch("[0-9a-f]{64}", name):
            reject_if(not NAME.fullmatch(name), "revision", "not-found")
            name = read_tag(os.path.join(self.root, "tags", name)).hex()
        places = [(run, seq) for run in self.runs() for seq, found in self.checkpoints(run) if found == name]
        reject_if(not places, "revision", "not-found")
        faults = []
        for run, seq in places:  # of several manifests of one id, any that is sound will do
            try:
                return self.manifest(run, seq, name)
            except Reject as fault:
                faults.append(fault)
        raise faults[0]

    def newest(self, run: str) -> Manifest | None:
        """Section 14.3: the last that is sound and counts. One that needs a newer reader is an error."""
        for seq, checkpoint_id in reversed(self.checkpoints(run)):
            try:
                return self.manifest(run, seq, checkpoint_id)
            except Reject as fault:
                if fault.kind == "unsupported":
                    raise
                print(f"passed over {run}@{seq}: {fault}", file=sys.stderr)
        return None

    def describe(self, manifest: Manifest) -> dict[str, Any]:
        """What a checkpoint holds, every byte of it decoded and hashed."""
        body, chunks = manifest.body, Chunks(self.root, manifest.hints)
        reject_if(sum(item.total for item in body.items()) > LOGICAL_BYTES_MAX, "logical-bytes", "limit")
        tensors = {
            name: {"dtype": t.dtype, "shape": t.shape, "sha256": sha256(chunks, t)} for name, t in body.tensors.items()
        }
        blobs = {name: sha256(chunks, blob) for name, blob in body.blobs.items()}
        chunks.check_hashes()
        return {
            "run": manifest.run,
            "seq": manifest.seq,
            "step": body.step,
            "id": manifest.id.hex(),
            "parent": body.parent.hex() if body.parent is not None else None,
            "metadata": body.metadata,
            "metrics": {name: f"{bits:016x}" for name, bits in body.metrics.items()},
            "tensors": tensors,
            **({"dropped": body.dropped} if body.dropped else {}),
            **({"relations": body.relations} if body.relations else {}),
            "blobs": blobs,
        }


def sha256(chunks: Chunks, item: Item) -> str:
    digest = hashlib.sha256()
    for data in chunks.item(item):
        digest.update(data)
    return digest.hexdigest()


def own_boot() -> bytes:
    """Section 11.3.1, note: this machine's boot, or no bytes if it cannot be told."""
    path = "/proc/sys/kernel/random/boot_id"
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as file:
        return blake3_many([file.read(36)])[0][:16]


# ------------------------------------------------------------------------------------------------------------- Command
def document(store: Store) -> dict[str, Any]:
    """Everything that the store holds; what a power cut left damaged is passed over (section 14.3)."""
    checkpoints = []
    for run in store.runs():
        for seq, checkpoint_id in store.checkpoints(run):
            try:
                manifest = store.manifest(run, seq, checkpoint_id)
            except Reject as fault:
                if fault.kind == "unsupported":
                    raise
                print(f"passed over {run}@{seq}: {fault}", file=sys.stderr)
                continue
            checkpoints.append(store.describe(manifest))
    return {"checkpoints": checkpoints, "tags": store.tags()}


def extract(store: Store, run: str, seq: int, out: str) -> None:
    """Writes a checkpoint's safetensors file. The file gets its bytes only after all of them were hashed."""
    ids = [checkpoint_id for found, checkpoint_id in store.checkpoints(run) if found == seq]
    reject_if(not ids, "checkpoint", "not-found")
    manifest = store.manifest(run, seq, ids[0])
    chunks = Chunks(store.root, manifest.hints)
    parts = list(safetensors_file(chunks, manifest.body))
    chunks.check_hashes()
    with open(out, "wb") as file:
        for offset, data in parts:
            file.seek(offset)
            file.write(data)


def disagreement(kind: str, root: str) -> str | None:
    """What a golden store's expected.json says and the reader does not."""
    with open(os.path.join(root, "expected.json"), encoding="utf-8") as file:
        expected = json.load(file)
    try:
        store = Store(root)
        if kind == "good":
            return None if document(store) == expected else "it does not hold what is expected"
        store.describe(store.find(expected["checkpoint"]))
    except Reject as fault:
        wanted = (expected.get("kind"), expected.get("code"))
        if (fault.kind, fault.reason) == wanted:
            return None
        return f"refused as {fault}, not as {wanted}"
    return "it is not refused"


def compare_all(folder: str) -> int:
    """Goes through every golden store."""
    right, wrong = 0, 0
    for kind in ("good", "must-reject"):
        for name in listing(os.path.join(folder, kind), True):
            fault = disagreement(kind, os.path.join(folder, kind, name))
            right, wrong = right + (fault is None), wrong + (fault is not None)
            if fault:
                print(f"{kind}/{name}: {fault}")
    print(f"reference reader: {right} stores as expected, {wrong} not")
    return 1 if wrong or not right else 0


def check_examples(path: str) -> int:
    """Decodes the specification's blocks: a record, a line of bytes for each input, the chunk's bytes."""
    with open(path, encoding="utf-8") as file:
        blocks = re.findall(r"```record\nrecord(.*)\n((?:input.*\n)+)output(.*)\n```", file.read())
    right = 0
    for block in blocks:
        record, output = bytes.fromhex(block[0]), bytes.fromhex(block[2])
        inputs = [bytes.fromhex(line.removeprefix("input")) for line in block[1].splitlines()]
        inputs = [data for data in inputs if data]
        entry = Entry("", 0, len(record), len(output), crc32(record), len(inputs), (bytes(ID_LEN),) * len(inputs))
        found = decode(record, entry, inputs)
        right += found == output
        if found != output:
            print(f"a worked record decodes to {found.hex(' ')}, not to {output.hex(' ')}")
    print(f"worked examples: {right} right, {len(blocks) - right} wrong")
    return 1 if right < len(blocks) or not blocks else 0


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["--all", folder]:
                return compare_all(folder)
            case ["--examples", path]:
                return check_examples(path)
            case [root]:
                print(json.dumps(document(Store(root)), indent=1))
            case [root, "--checkpoint", name]:
                store = Store(root)
                print(json.dumps(store.describe(store.find(name)), indent=1))
            case [root, "--extract", run, seq, out]:
                extract(Store(root), run, int(seq), out)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except Reject as fault:
        print(json.dumps({"kind": fault.kind, "code": fault.reason, "message": str(fault)}), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
