"""The entropy bounds of a plain delta, in bytes: what an ideal static coder would reach.

Values are mapped to integers in the order of the floats and subtracted. A symbol is the sign, the
bit length and the three bits below the highest one of the difference; its entropy is of order 0,
within the class of values whose base has the same sign and exponent. The bits below are raw. A
tensor whose bound alone (order-0 of sign and exponent, mantissa raw) is smaller counts with that.
"""

from __future__ import annotations

from pathlib import Path

import numpy
from states import Part, State

MANTISSA_BITS = {"F32": 23, "BF16": 7, "F16": 10}
TOP_BITS = 3
SYMBOLS = 1_024


def _entropy(counts: numpy.ndarray) -> float:
    """Bits in all to code events with these counts, order 0."""
    counts = counts[counts > 0].astype(numpy.float64)
    return float((counts * (numpy.log2(counts.sum()) - numpy.log2(counts))).sum())


def _words(state: State, part: Part) -> numpy.ndarray:
    kind = numpy.uint32 if part.width == 4 else numpy.uint16
    return state.bytes_of(part).view(kind).astype(numpy.int64)


def ordered(words: numpy.ndarray, bits: int) -> numpy.ndarray:
    """Floats' bits as integers that are ordered as the floats are."""
    negative = words >> (bits - 1) == 1
    return numpy.where(negative, (1 << (bits - 1)) - 1 - words, words)


def alone_bits(words: numpy.ndarray, dtype: str) -> float:
    """Sign and exponent at order 0, the mantissa raw."""
    mantissa = MANTISSA_BITS[dtype]
    return _entropy(numpy.bincount(words >> mantissa)) + mantissa * len(words)


def symbols_of(difference: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Symbols of differences, their bit lengths, and how many bits below are raw."""
    size = numpy.abs(difference)
    length = numpy.frexp(size.astype(numpy.float64))[1].astype(numpy.int64)
    raw = numpy.maximum(length - 1 - TOP_BITS, 0)
    top = (size >> raw) & ((1 << TOP_BITS) - 1)
    return (length << 4 | top << 1 | (difference < 0)).astype(numpy.int64), length, raw


def delta_bits(new: numpy.ndarray, base: numpy.ndarray, dtype: str, bits: int) -> float:
    """The bound of class-conditional differences, in bits."""
    symbol, _, raw = symbols_of(ordered(new, bits) - ordered(base, bits))
    classes = base >> MANTISSA_BITS[dtype]
    total = float(raw.sum())
    key = classes * SYMBOLS + symbol
    counts = numpy.bincount(key, minlength=(int(classes.max()) + 1) * SYMBOLS)
    for row in counts.reshape(-1, SYMBOLS):
        total += _entropy(row) if row.any() else 0.0
    return total


def state_bits(state: State, base: State | None) -> float:
    """The bound of one state on its base; what is no float of 16 or 32 bits counts raw or not."""
    total = 0.0
    on = base if state.like(base) else None
    for name, part in state.tensors.items():
        before = on.tensors[name] if on else None
        same = before and bytes(state.bytes_of(part)) == bytes(on.bytes_of(before))
        if same or part.start == part.stop:
            continue
        if part.dtype not in MANTISSA_BITS:
            total += 8 * (part.stop - part.start)
            continue
        words = _words(state, part)
        bits = alone_bits(words, part.dtype)
        if on and before:
            delta = delta_bits(words, _words(on, before), part.dtype, 8 * part.width)
            bits = min(bits, delta)
        total += bits
    return total


def sparse_bits(state: State, base: State) -> float:
    """H(p) + 1.2 p bits a value, with p the share of all values that changed."""
    changed = values = 0
    for name, part in state.tensors.items():
        words = _words(state, part)
        changed += int((words != _words(base, base.tensors[name])).sum())
        values += len(words)
    return _entropy(numpy.array([changed, values - changed])) + 1.2 * changed


def bounds(files: list[Path]) -> dict[str, list[int]]:
    """Bytes for each file: the plain delta's bound, and for 16-bit states the sparse one."""
    found: dict[str, list[int]] = {"delta": []}
    previous = None
    for path in files:
        state = State(path)
        found["delta"].append(round(state_bits(state, previous) / 8))
        all_bf16 = all(part.dtype == "BF16" for part in state.tensors.values())
        if previous and all_bf16 and state.like(previous):
            found.setdefault("sparse", [found["delta"][0]])
            found["sparse"].append(round(sparse_bits(state, previous) / 8))
        previous = state
    return found
