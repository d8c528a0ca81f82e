#!/usr/bin/env python3
"""A reference reader of the milepost store format, version 1.0, written from the specification alone.

It is written for clarity and in the order of the specification's sections; a comment `# Section 9.2` says where a rule comes
from.  It needs Python 3.11, numpy and zstandard.  It reads as a verifier at level "data" does (section 14.4): every chunk of
every checkpoint is decoded and hashed.

    reference_reader.py STORE                           prints what the store holds as one JSON document
    reference_reader.py STORE --extract RUN SEQ OUT     writes a checkpoint as the safetensors file that it was made from
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import zstandard

# ---------------------------------------------------------------------------------------------------------- Appendix A
MAGIC = bytes.fromhex("8d4d50530d0a1a0a")
VERSION_MAJOR, READER_FLAGS_KNOWN, ENVELOPE_LEN = 1, 0, 32
KIND_STORE, KIND_PACK, KIND_MANIFEST, KIND_TAG = b"STOR", b"PACK", b"CKPT", b"TAG "
PACK_CONTEXT, CHECKPOINT_CONTEXT = b"milepost v1 pack index", b"milepost v1 checkpoint body"
ID_LEN, RECORD_ALIGN, RECORD_FIXED_LEN, TRAILER_MAGIC, TRAILER_LEN, INDEX_ENTRY_LEN = 32, 16, 12, b"MPKE", 32, 64
SECTION_IGNORABLE, SECTION_BODY, SECTION_PLACEMENT = 0x80000000, 0x00000001, 0x00000002
SECTION_PACKS, SECTION_STATISTICS = 0x80000003, 0x80000004
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
def align16(n: int) -> int:
    """The smallest multiple of 16 not below n."""
    return -(-n // RECORD_ALIGN) * RECORD_ALIGN


def crc32(data: bytes | memoryview) -> int:
    """CRC-32 of gzip and PNG."""
    return zlib.crc32(data)


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

    def key(self) -> bytes:
        """R15. The bytes are kept, as keys are compared byte by byte."""
        length = self.uint(2)
        reject_if(not 1 <= length <= KEY_LEN_MAX, "key")
        key = self.take(length)
        reject_if(any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in utf8(key, "key")), "key")
        return key

    def end(self) -> None:
        """R12."""
        reject_if(self.left(), "trailing-bytes")


def utf8(data: bytes, code: str) -> str:
    try:
        return data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        corrupt(code)


def check_ascending(keys: Sequence[bytes]) -> None:
    """R16."""
    reject_if(any(a >= b for a, b in zip(keys, keys[1:])), "name-order")


# ----------------------------------------------------------------------------------------------------------- Section 3
class Reject(Exception):
    """A store, or a part of it, is refused: who must act (`kind`), and the one condition (`reason`, a code)."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason = kind, reason


def corrupt(code: str) -> NoReturn:
    raise Reject("corrupt", code)


def unsupported(code: str) -> NoReturn:
    raise Reject("unsupported", code)


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
    try:
        mode = os.lstat(folder).st_mode
    except FileNotFoundError:
        return []
    if not stat.S_ISDIR(mode):
        corrupt("link" if stat.S_ISLNK(mode) else "file-type")
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries
                      if (e.is_dir(follow_symlinks=False) if want_folders else e.is_file(follow_symlinks=False)))


def open_file(path: str) -> tuple[int, int]:
    """Descriptor and length of a regular file that no link leads to (R3)."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        raise Reject("not-found", "file") from None
    reject_if(stat.S_ISLNK(mode), "link")
    reject_if(not stat.S_ISREG(mode), "file-type")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    return descriptor, os.fstat(descriptor).st_size


def read_range(path: str, offset: int, length: int) -> bytes:
    """R1: exactly these bytes of a file."""
    descriptor, size = open_file(path)
    try:
        reject_if(offset + length > size, "truncated")
        data = bytearray()
        while len(data) < length and (part := os.pread(descriptor, length - len(data), offset + len(data))):
            data += part
    finally:
        os.close(descriptor)
    reject_if(len(data) != length, "truncated")
    return bytes(data)


def read_enveloped(path: str, kind: bytes, most: int) -> bytes:
    """A whole file: its envelope is judged before its length, so that a newer file is unsupported; then R2."""
    descriptor, size = open_file(path)
    os.close(descriptor)
    check_envelope(read_range(path, 0, min(size, ENVELOPE_LEN)), kind)
    reject_if(size > most, "file-length", "limit")
    return read_range(path, 0, size)


# --------------------------------------------------------------------------------------------------------- Section 5.3
def check_format(root: str) -> None:
    """Checks FORMAT. A reader needs nothing of it but that it may go on."""
    path = os.path.join(root, "FORMAT")
    if not os.path.lexists(path):
        raise Reject("not-found", "no-store")
    data = read_enveloped(path, KIND_STORE, SMALL_FILE_LEN_MAX)
    reject_if(len(data) < 72, "truncated")
    reject_if(crc32(data[:-4]) != int.from_bytes(data[-4:], "little"), "format-checksum")  # R9
    cursor = Cursor(data[:-4])
    cursor.take(ENVELOPE_LEN + 16)
    chunk_len, restore_budget_milli, _full_every = cursor.uint(4), cursor.uint(4), cursor.uint(4)
    _depth_max, level, reserved = cursor.uint(1), cursor.uint(1), cursor.uint(2)
    if not CHUNK_LEN_SETTING_MIN <= chunk_len <= CHUNK_LEN_SETTING_MAX or not 1000 <= restore_budget_milli <= 1000000:
        corrupt("setting")  # R11
    reject_if(level > 2 or reserved, "format-field")  # Section 5.3.1, R10
    check_ascending([(cursor.key(), cursor.key())[0] for _ in range(cursor.count(ENTRIES_MAX, 6))])
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
IV = np.array([0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32)
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
        lefts, rights = [p[0] for p in pairs], [p[1] for p in pairs]
        flags = np.array([mode | PARENT | (ROOT if p[2] else 0) for p in pairs])
        zero = np.zeros(len(pairs), np.uint64)
        block = np.concatenate([values[:, lefts], values[:, rights]])
        values[:, lefts] = compress(np.repeat(key[:, None], len(pairs), axis=1), block, zero, zero + BLOCK_LEN, flags)
        trees = [tree[::2] for tree in trees]
    return [values[:, tree[0]].astype("<u4").tobytes() for tree in trees]


def blake3(message: bytes) -> bytes:
    """BLAKE3 in mode `hash`."""
    return blake3_many([message])[0]


def blake3_derive_key(context: bytes, material: bytes) -> bytes:
    """BLAKE3 in mode `derive_key`."""
    context_key = np.frombuffer(blake3_many([context], IV, DERIVE_KEY_CONTEXT)[0], "<u4").astype(np.uint32)
    return blake3_many([material], context_key, DERIVE_KEY_MATERIAL)[0]


# ----------------------------------------------------------------------------------------------------------- Section 8
def chunk_lengths(total: int, chunk: int) -> Iterator[int]:
    """The lengths of the chunks of `total` bytes."""
    return (min(chunk, total - start) for start in range(0, total, chunk))


# ----------------------------------------------------------------------------------------------------------- Section 9
@dataclass(frozen=True, slots=True)
class Entry:
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
    descriptor, size = open_file(path)
    os.close(descriptor)
    check_envelope(read_range(path, 0, min(size, ENVELOPE_LEN)), KIND_PACK)
    reject_if(size < ENVELOPE_LEN + 8 + TRAILER_LEN, "truncated")
    trailer = read_range(path, size - TRAILER_LEN, TRAILER_LEN)  # Section 9.4
    magic, index_offset, index_len, pack_len, crc = struct.unpack("<4sQQQI", trailer)
    reject_if(magic != TRAILER_MAGIC or crc != crc32(trailer[:28]), "pack-trailer")  # R40
    reject_if(pack_len != size or pack_len > PACK_LEN_MAX or index_offset < ENVELOPE_LEN  # R41
            or index_offset + index_len + TRAILER_LEN != size or index_len > 8 + RECORDS_MAX * (64 + 32 * 255), "pack-length")
    index = read_range(path, index_offset, index_len)
    reject_if(blake3_derive_key(PACK_CONTEXT, index).hex() != pack_id, "index-hash")  # R42
    return parse_index(index, index_offset, path)


def parse_index(index: bytes, index_offset: int, path: str) -> dict[bytes, Entry]:
    """Section 9.3, and the extents of section 9.1."""
    cursor = Cursor(index)
    record_count, input_count = cursor.uint(4), cursor.uint(4)
    reject_if(record_count > RECORDS_MAX, "count", "limit")  # R13
    reject_if(len(index) != 8 + INDEX_ENTRY_LEN * record_count + ID_LEN * input_count, "index-length")  # R43
    rows = [ENTRY.unpack(cursor.take(INDEX_ENTRY_LEN)) for _ in range(record_count)]
    reject_if(any(a[0] >= b[0] for a, b in zip(rows, rows[1:])), "index-order")  # R44
    reject_if(sum(row[9] for row in rows) != input_count, "index-length")  # R43
    entries: dict[bytes, Entry] = {}
    for chunk, offset, stored_len, raw_len, crc, _cost, _cycle_len, _age, depth, inputs in rows:
        ids = tuple(cursor.take(ID_LEN) for _ in range(inputs))
        reject_if(not 1 <= raw_len <= CHUNK_LEN_MAX or not RECORD_FIXED_LEN <= stored_len <= raw_len + RECORD_OVERHEAD_MAX
                or (depth == 0) != (inputs == 0) or chunk in ids, "index-entry")  # R45
        entries[chunk] = Entry(path, offset, stored_len, raw_len, crc, depth, ids)
    place = ENVELOPE_LEN
    for entry in sorted(entries.values(), key=lambda e: e.offset):  # R46
        reject_if(entry.offset != place, "record-extent")
        place = align16(entry.offset + entry.stored_len)
    reject_if(place != index_offset, "record-extent")
    return entries


# ---------------------------------------------------------------------------------------------------------- Section 10
PREDICTOR_NONE, PREDICTOR_BASE = 0, 1  # Section 10.2; the code is also the number of inputs
IDENTITY, ROTATE, FLOAT_SUBTRACT, INT_SUBTRACT, XOR, ROTATED_XOR = range(6)  # Section 10.3
WHOLE, PLANES, LEADING = range(3)  # Section 10.4
RAW, CONSTANT, ZSTD = range(3)  # Section 10.5


def inverse(transform: int, u: Array, b: Array | None) -> Array:
    """Section 10.3, column "Reader"; arithmetic on numpy's unsigned arrays is modulo 2^w."""
    top_bit = 8 * u.itemsize - 1
    top = 1 << top_bit
    if transform == IDENTITY:
        return u
    if transform == ROTATE:
        return (u >> 1) | (u << top_bit)
    assert b is not None
    if transform == XOR:
        return u ^ b
    if transform == ROTATED_XOR:
        return ((u >> 1) | (u << top_bit)) ^ b
    difference = (u >> 1) ^ -(u & 1)  # unzigzag
    if transform == INT_SUBTRACT:
        return difference + b
    ordered = difference + np.where(b >= top, ~b, b ^ top)  # FLOAT_SUBTRACT
    return np.where(ordered >= top, ordered ^ top, ~ordered)


def leading_words(streams: list[bytes], params: bytes, b: Array) -> Array:
    """Section 10.4.3: the residual words of layout `leading`."""
    w, lane_type = 8 * b.itemsize, b.dtype
    keys, shifts = params[0::2], params[1::2]
    if len(params) % 2 or not params or keys[0] != 0 or max(shifts) > w - 8 or any(a >= c for a, c in zip(keys, keys[1:])):
        corrupt("leading-params")  # R57
    table = np.zeros(256, np.int64)  # the shift of each key
    for key, shift in zip(keys, shifts):
        table[key:] = shift
    leading, low, escapes = (np.frombuffer(stream, np.uint8) for stream in streams)
    escaped = leading == 255
    shift = np.where(escaped, 0, table[(b >> (w - 9)) & 0xFF if w > 8 else 0])
    ends = np.cumsum(shift)
    reject_if(-(-int(ends[-1]) // 8) != len(low) or int(escaped.sum()) * b.itemsize != len(escapes), "leading-streams")  # R59
    starts = ends - shift
    padded = np.concatenate([low, np.zeros(8, np.uint8)]).astype(np.uint64)
    window = np.zeros(len(b), np.uint64)
    for k in range(8):  # at most 56 bits behind at most 7 lie in eight bytes
        window |= padded[np.minimum(starts // 8 + k, len(padded) - 1)] << np.uint64(8 * k)
    width = shift.astype(np.uint64)
    bits = (window >> (starts % 8).astype(np.uint64)) & ((np.uint64(1) << width) - np.uint64(1))
    words = ((leading.astype(np.uint64) << width) | bits).astype(lane_type)
    words[escaped] = np.frombuffer(escapes.tobytes(), lane_type)
    return words


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
    unsupported("coder")  # R51


def decode_zstd(stored: bytes, length: int) -> bytes:
    """Section 10.5: exactly one frame of RFC 8878 that decodes to exactly `length` bytes (R56)."""
    cursor = Cursor(stored)
    reject_if(len(stored) < 6 or cursor.take(4) != b"\x28\xb5\x2f\xfd", "zstd-frame")
    try:
        descriptor = cursor.uint(1)
        single_segment = bool(descriptor & 0x20)
        window_byte = 0 if single_segment else cursor.uint(1)
        dictionary = cursor.uint((0, 1, 2, 4)[descriptor & 3])
        size_len = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
        content = cursor.uint(size_len) + (256 if size_len == 2 else 0)
    except Reject:
        corrupt("zstd-frame")
    base = 1 << (10 + (window_byte >> 3))
    window = content if single_segment else base + base // 8 * (window_byte & 7)
    if descriptor & 0x08 or dictionary or (size_len and content != length) or window > 1 << ZSTD_WINDOW_LOG_MAX:
        corrupt("zstd-frame")
    try:  # if the frame has no content size, the buffer is `length` bytes, else they are equal
        data = zstandard.ZstdDecompressor().decompress(stored, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError:
        corrupt("zstd-frame")
    reject_if(len(data) != length, "zstd-frame")
    return data


def check_head(head: tuple[int, ...], entry: Entry, inputs: list[bytes], coders: list[int]) -> None:
    """Section 10.6: all rules on the head of a record."""
    predictor, transform, layout, lane_width, input_count, stream_count, params_len, raw_len = head
    reject_if(predictor > PREDICTOR_BASE or transform > ROTATED_XOR or layout > LEADING, "encoding", "unsupported")  # R50
    needs_base = transform >= FLOAT_SUBTRACT
    if not (raw_len == entry.raw_len and lane_width in (1, 2, 4, 8) and raw_len % lane_width == 0  # R52
            and input_count == len(inputs) == predictor and needs_base == (predictor == PREDICTOR_BASE)
            and all(len(data) == raw_len for data in inputs) and (params_len == 0 or layout == LEADING)
            and (layout != LEADING or (needs_base and lane_width > 1))):
        corrupt("record-rule")
    reject_if(stream_count != {WHOLE: 1, PLANES: lane_width, LEADING: 3}[layout], "record-streams")  # R53
    reject_if(layout == LEADING and coders[1:] != [RAW, RAW], "leading-coder")  # R58


def decode(record: bytes, entry: Entry, inputs: list[bytes]) -> bytes:
    """Section 10.6: the bytes of a chunk, from its record and the bytes of its inputs."""
    cursor = Cursor(record)
    head = struct.unpack("<BBBBBBHI", cursor.take(RECORD_FIXED_LEN))  # Section 9.2
    _predictor, transform, layout, lane_width, _input_count, stream_count, params_len, raw_len = head
    reject_if(raw_len > CHUNK_LEN_MAX or params_len > PARAMS_LEN_MAX, "record-limits", "limit")  # R48
    params = cursor.take(params_len)
    table = [cursor.uint(4) for _ in range(stream_count)]
    reject_if(sum(item & 0x0FFFFFFF for item in table) != cursor.left(), "record-length")  # R49
    coders = [item >> 28 for item in table]
    check_head(head, entry, inputs, coders)
    stored = [cursor.take(item & 0x0FFFFFFF) for item in table]
    lane_type, lanes = np.dtype(f"<u{lane_width}"), raw_len // lane_width
    base = np.frombuffer(inputs[0], lane_type) if inputs else None
    if layout == WHOLE:
        words = np.frombuffer(decode_stream(coders[0], stored[0], raw_len), lane_type)
    elif layout == PLANES:
        planes = [decode_stream(coder, part, lanes) for coder, part in zip(coders, stored)]
        words = np.frombuffer(np.frombuffer(b"".join(planes), np.uint8).reshape(lane_width, lanes).T.tobytes(), lane_type)
    else:
        assert base is not None
        words = leading_words([decode_stream(coders[0], stored[0], lanes), stored[1], stored[2]], params, base)
    return inverse(transform, words, base).astype(lane_type).tobytes()


# ---------------------------------------------------------------------------------------------------------- Section 11
DTYPES: dict[int, tuple[str, int]] = {  # Section 11.4: name and bits
    1: ("BOOL", 8), 2: ("U8", 8), 3: ("I8", 8), 4: ("U16", 16), 5: ("I16", 16), 6: ("U32", 32), 7: ("I32", 32),
    8: ("U64", 64), 9: ("I64", 64), 16: ("F16", 16), 17: ("BF16", 16), 18: ("F32", 32), 19: ("F64", 64),
    24: ("C32", 32), 25: ("C64", 64), 26: ("C128", 128), 32: ("F8_E4M3", 8), 33: ("F8_E5M2", 8),
    34: ("F8_E4M3FNUZ", 8), 35: ("F8_E5M2FNUZ", 8), 36: ("F8_E8M0", 8), 40: ("F6_E2M3", 6), 41: ("F6_E3M2", 6), 42: ("F4", 4),
}
DURABILITY_RELAXED, DURABILITY_VERIFIED = 0, 2  # Section 11.3.1


@dataclass(slots=True)
class Item:
    """A tensor or a blob (then dtype is empty): bytes that are cut into chunks of `chunk` bytes."""

    name: str
    dtype: str
    shape: list[int]
    total: int
    chunk: int
    ids: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Body:
    """Section 11.2."""

    parent: bytes | None
    step: int
    metadata: dict[str, str]
    metrics: dict[str, int]
    tensors: list[Item]
    blobs: list[Item]


@dataclass(slots=True)
class Manifest:
    """A manifest that passed every check but whether it counts."""

    run: str
    seq: int
    id: bytes
    body: Body
    durability: int
    boot: bytes
    hints: list[bytes]


def read_sections(data: bytes) -> dict[int, bytes]:
    """Section 11.1: the sections that are known, decoded."""
    cursor = Cursor(data)
    cursor.take(ENVELOPE_LEN)
    count = cursor.count(SECTIONS_MAX, 20)
    table = [struct.unpack("<IIIII", cursor.take(20)) for _ in range(count)]
    reject_if(crc32(data[ENVELOPE_LEN : cursor.at]) != cursor.uint(4), "section-table")  # R17
    reject_if(any(a[0] >= b[0] for a, b in zip(table, table[1:])), "section-order")  # R18
    known = (SECTION_BODY, SECTION_PLACEMENT, SECTION_PACKS, SECTION_STATISTICS)
    sections: dict[int, bytes] = {}
    for kind, coder, raw_len, stored_len, crc in table:
        reject_if(kind not in known and not kind & SECTION_IGNORABLE, "section-kind", "unsupported")  # R19
        reject_if(raw_len > SECTION_LEN_MAX, "section-length", "limit")  # R22
        stored = cursor.take(stored_len)
        reject_if(crc32(stored) != crc, "section-checksum")  # R20
        if kind in known:
            sections[kind] = decode_section(coder, stored, raw_len)
    cursor.end()
    reject_if(SECTION_BODY not in sections or SECTION_PLACEMENT not in sections, "section-missing")  # R24
    return sections


def decode_section(coder: int, stored: bytes, raw_len: int) -> bytes:
    """R21 and R23."""
    reject_if(coder not in (SECTION_CODER_RAW, SECTION_CODER_ZSTD), "section-coder")
    reject_if(coder == SECTION_CODER_RAW and len(stored) != raw_len, "section-length")
    reject_if(coder == SECTION_CODER_ZSTD and raw_len > 32768 * len(stored), "section-length")
    return stored if coder == SECTION_CODER_RAW else decode_zstd(stored, raw_len)


def parse_body(data: bytes) -> Body:
    """Section 11.2."""
    cursor = Cursor(data)
    has_parent = cursor.uint(1)
    reject_if(has_parent > 1, "body-parent")  # R25
    parent = cursor.take(ID_LEN) if has_parent else None
    step = cursor.uint(8)
    metadata = [(cursor.key(), parse_value(cursor)) for _ in range(cursor.count(ENTRIES_MAX, 7))]
    check_ascending([key for key, _ in metadata])
    metrics = [(cursor.key(), cursor.uint(8)) for _ in range(cursor.count(ENTRIES_MAX, 11))]
    check_ascending([key for key, _ in metrics])
    tensors = [parse_tensor(cursor) for _ in range(cursor.count(ENTRIES_MAX, 13))]
    check_ascending([item.name.encode() for item in tensors])
    blobs = [parse_blob(cursor) for _ in range(cursor.count(ENTRIES_MAX, 19))]
    check_ascending([item.name.encode() for item in blobs])
    counts = [-(-item.total // item.chunk) for item in tensors + blobs]
    reject_if(sum(counts) > CHUNK_REFS_MAX, "chunk-refs", "limit")  # R32
    reject_if(cursor.left() != ID_LEN * sum(counts), "chunk-ids")  # R33
    for item, count in zip(tensors + blobs, counts):
        item.ids = [cursor.take(ID_LEN) for _ in range(count)]
    return Body(parent, step, {k.decode(): v for k, v in metadata}, {k.decode(): v for k, v in metrics}, tensors, blobs)


def parse_value(cursor: Cursor) -> str:
    """R26 and R27: the value of a metadata entry."""
    length = cursor.uint(4)
    reject_if(length > VALUE_LEN_MAX, "metadata-value", "limit")
    return utf8(cursor.take(length), "utf8")


def parse_tensor(cursor: Cursor) -> Item:
    """Section 11.2.1."""
    name, code, rank = cursor.key().decode(), cursor.uint(1), cursor.uint(1)
    reject_if(code not in DTYPES, "dtype-code", "unsupported")  # R28
    reject_if(rank > RANK_MAX, "rank", "limit")  # R29
    shape = [cursor.uint(8) for _ in range(rank)]
    chunk_elements = cursor.uint(8)
    dtype, width = DTYPES[code]
    elements = 0 if 0 in shape else 1
    for dimension in shape:
        elements *= dimension
    bits = elements * width
    reject_if(bits >= 1 << 64 or bits % 8, "tensor-size")  # R30
    reject_if(chunk_elements * width % 8 or not 1 <= chunk_elements * width // 8 <= CHUNK_LEN_MAX, "chunk-size")  # R31
    return Item(name, dtype, shape, bits // 8, chunk_elements * width // 8)


def parse_blob(cursor: Cursor) -> Item:
    """Section 11.2.2."""
    name, byte_len, chunk_len = cursor.key().decode(), cursor.uint(8), cursor.uint(8)
    reject_if(not 1 <= chunk_len <= CHUNK_LEN_MAX, "chunk-size")  # R31
    return Item(name, "", [], byte_len, chunk_len)


def parse_placement(data: bytes) -> tuple[str, int, int, bytes]:
    """Section 11.3: run, seq, durability, boot. Bytes that follow are of later minor versions."""
    cursor = Cursor(data)
    run, seq, _time_ms = cursor.key().decode(), cursor.uint(8), cursor.uint(8)
    reject_if(not NAME.fullmatch(run), "run-name")  # R34
    full, _depth = cursor.uint(1), cursor.uint(1)
    _logical_bytes, _added_bytes, _restore_cost, _chunks, _new_chunks = (cursor.uint(8) for _ in range(5))
    durability, boot = cursor.uint(1), cursor.take(16)
    reject_if(full > 1 or durability > DURABILITY_VERIFIED, "placement")  # R35
    return run, seq, durability, boot


def parse_packs(data: bytes) -> list[bytes]:
    """Section 11.5: the ids of the packs that are hinted at."""
    cursor = Cursor(data)
    hints = [(cursor.take(ID_LEN), cursor.uint(8)) for _ in range(cursor.count(RECORDS_MAX, 40))]
    cursor.end()
    return [pack for pack, _ in hints]


def check_statistics(data: bytes, tensors: int) -> None:
    """Section 11.6."""
    cursor = Cursor(data)
    count = cursor.count(ENTRIES_MAX, 24)
    reject_if(count != tensors, "statistics")  # R38
    cursor.take(24 * count)
    cursor.end()


def read_manifest(path: str, run: str, seq: int, checkpoint_id: bytes) -> Manifest:
    """Section 14.2, steps 2 to 4."""
    sections = read_sections(read_enveloped(path, KIND_MANIFEST, MANIFEST_LEN_MAX))
    body = parse_body(sections[SECTION_BODY])
    placed_run, placed_seq, durability, boot = parse_placement(sections[SECTION_PLACEMENT])
    hints = parse_packs(sections[SECTION_PACKS]) if SECTION_PACKS in sections else []
    if SECTION_STATISTICS in sections:
        check_statistics(sections[SECTION_STATISTICS], len(body.tensors))
    reject_if(blake3_derive_key(CHECKPOINT_CONTEXT, sections[SECTION_BODY]) != checkpoint_id, "manifest-id")  # R36
    reject_if((placed_run, placed_seq) != (run, seq), "manifest-place")  # R37
    return Manifest(run, seq, checkpoint_id, body, durability, boot, hints)


def safetensors_file(chunks: Chunks, body: Body) -> Iterator[tuple[int, bytes]]:
    """Section 11.7.1: offsets and bytes of the safetensors file that a checkpoint was made from."""
    blobs = {blob.name: blob for blob in body.blobs}
    tensors = {tensor.name: tensor for tensor in body.tensors}
    if "safetensors.header" not in blobs:
        raise Reject("not-found", "safetensors-header")
    head = b"".join(chunks.item(blobs["safetensors.header"]))
    yield 0, head
    for name, value in json.loads(head[8:]).items():
        if name == "__metadata__":
            continue
        start, end = value["data_offsets"]
        reject_if(name not in tensors or tensors[name].total != end - start, "safetensors-header")
        yield len(head) + start, b"".join(chunks.item(tensors[name]))


# ---------------------------------------------------------------------------------------------------------- Section 12
class Chunks:
    """Section 12.1 with P = all sound packs of the store: finds, decodes and hashes chunks."""

    def __init__(self, root: str) -> None:
        self.records: dict[bytes, Entry] = {}
        self.faults: list[Reject] = []  # of packs that are left out of P
        self.cache: dict[bytes, bytes] = {}
        self.cached = 0
        self.pending: list[tuple[bytes, bytes]] = []
        folder = os.path.join(root, "packs")
        for prefix in filter(PACK_FOLDER.fullmatch, listing(folder, True)):
            for name in listing(os.path.join(folder, prefix), False):
                match = PACK_FILE.fullmatch(name)
                if match and name.startswith(prefix):
                    self.add_pack(os.path.join(folder, prefix, name), match[1])

    def add_pack(self, path: str, pack_id: str) -> None:
        """Packs come in the order of their ids, so that of records of least depth the first stays."""
        try:
            index = read_pack_index(path, pack_id)
        except Reject as fault:
            self.faults.append(fault)
            return
        for chunk, entry in index.items():
            if chunk not in self.records or entry.depth < self.records[chunk].depth:
                self.records[chunk] = entry

    def unresolved(self, code: str) -> NoReturn:
        """A damaged pack is reported if a chunk is missing without it; above all one of a newer version."""
        for fault in sorted(self.faults, key=lambda f: f.kind != "unsupported"):
            raise fault
        corrupt(code)

    def recipe(self, chunk: bytes, raw_len: int) -> list[tuple[bytes, Entry]]:
        """Every record that a chunk needs, inputs before what needs them (`resolve` of the specification, without decoding)."""
        found: dict[bytes, Entry] = {}
        todo = [(chunk, 256)]  # no depth reaches 256
        while todo:
            wanted, below = todo.pop()
            if wanted not in self.records:  # R60
                self.unresolved("chunk-missing")
            entry = self.records[wanted]
            if entry.depth >= below:  # R61
                self.unresolved("input-depth")
            if wanted not in found:
                found[wanted] = entry
                todo += [(other, entry.depth) for other in entry.inputs]
            reject_if(len(found) > RECIPE_RECORDS_MAX, "recipe-records", "limit")
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
        reject_if(pending and blake3_many([data for _, data in pending]) != [chunk for chunk, _ in pending], "chunk-hash")

    def item(self, item: Item) -> Iterator[bytes]:
        """The chunks of a tensor or blob, in order."""
        for chunk, raw_len in zip(item.ids, chunk_lengths(item.total, item.chunk)):
            yield self.chunk(chunk, raw_len)


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
        self.chunks = Chunks(root)

    def runs(self) -> list[str]:
        return [name for name in listing(os.path.join(self.root, "runs"), True) if NAME.fullmatch(name)]

    def tags(self) -> dict[str, str]:
        folder = os.path.join(self.root, "tags")
        return {name: read_tag(os.path.join(folder, name)).hex() for name in listing(folder, False) if NAME.fullmatch(name)}

    def checkpoints(self, run: str) -> list[tuple[int, str]]:
        """Section 14.3: seq and id of a run's checkpoints, in ascending order; nothing is read but names."""
        matches = map(MANIFEST_FILE.fullmatch, listing(os.path.join(self.root, "runs", run), False))
        return sorted((int(m[1]), m[2]) for m in matches if m and int(m[1]) < 1 << 64)

    def manifest(self, run: str, seq: int, checkpoint_id: str) -> Manifest:
        """A checkpoint's manifest; one that does not count is rejected (section 11.3.1, R39)."""
        path = os.path.join(self.root, "runs", run, f"{seq:020d}-{checkpoint_id}.ckpt")
        manifest = read_manifest(path, run, seq, bytes.fromhex(checkpoint_id))
        if manifest.durability == DURABILITY_RELAXED and (manifest.boot == bytes(16) or manifest.boot != own_boot()):
            for item in manifest.body.tensors + manifest.body.blobs:
                for chunk, raw_len in zip(item.ids, chunk_lengths(item.total, item.chunk)):
                    for _, entry in self.chunks.recipe(chunk, raw_len):
                        self.chunks.record(entry)
        return manifest

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
        body = manifest.body
        reject_if(sum(item.total for item in body.tensors + body.blobs) > LOGICAL_BYTES_MAX, "logical-bytes", "limit")
        hashes: list[str] = []
        for item in body.tensors + body.blobs:
            digest = hashlib.sha256()
            for data in self.chunks.item(item):
                digest.update(data)
            hashes.append(digest.hexdigest())
        self.chunks.check_hashes()
        blob_hashes = hashes[len(body.tensors) :]
        return {
            "run": manifest.run, "seq": manifest.seq, "step": body.step, "id": manifest.id.hex(),
            "parent": body.parent.hex() if body.parent is not None else None, "metadata": body.metadata,
            "metrics": {name: f"{bits:016x}" for name, bits in body.metrics.items()},
            "tensors": {t.name: {"dtype": t.dtype, "shape": t.shape, "sha256": h} for t, h in zip(body.tensors, hashes)},
            "blobs": {blob.name: h for blob, h in zip(body.blobs, blob_hashes)},
        }


def own_boot() -> bytes:
    """Section 11.3.1, note: this machine's boot, or no bytes if it cannot be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            text = file.read(36)
    except OSError:
        return b""
    return blake3(text)[:16] if len(text) == 36 else b""


# ------------------------------------------------------------------------------------------------------------- Command
def document(store: Store) -> dict[str, Any]:
    """Everything that the store holds."""
    checkpoints = [store.describe(store.manifest(run, *name)) for run in store.runs() for name in store.checkpoints(run)]
    return {"checkpoints": checkpoints, "tags": store.tags()}


def extract(store: Store, run: str, seq: int, out: str) -> None:
    """Writes a checkpoint's safetensors file. The file gets its bytes only after all of them were hashed."""
    for found, checkpoint_id in store.checkpoints(run):
        if found == seq:
            parts = list(safetensors_file(store.chunks, store.manifest(run, seq, checkpoint_id).body))
            store.chunks.check_hashes()
            with open(out, "wb") as file:
                for offset, data in parts:
                    file.seek(offset)
                    file.write(data)
            return
    raise Reject("not-found", "checkpoint")


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 5) or len(arguments) == 5 and arguments[1] != "--extract":
        print(__doc__, file=sys.stderr)
        return 2
    try:
        store = Store(arguments[0])
        if len(arguments) == 5:
            extract(store, arguments[2], int(arguments[3]), arguments[4])
        else:
            print(json.dumps(document(store), indent=1))
    except Reject as fault:
        print(json.dumps({"error": {"kind": fault.kind, "reason": fault.reason}}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
