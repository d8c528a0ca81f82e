"""What else would tell a delta's bits: conditional entropies of a tensor against its base.

    python benches/compare/contexts.py OLD.safetensors NEW.safetensors TENSOR...

Values are mapped to integers in the order of the floats and subtracted. A symbol is the sign, the
bit length and the three bits below the highest one of the difference; the bits below are raw.
Prints bits a value of the symbols: given the base's exponent, and given one more thing as well.
What a model takes to learn is counted: a quarter of the logarithm of the number of values for each
symbol of each context. For a tensor of 16-bit floats the same of the value alone: sign and
exponent, and the mantissa given them. Needs NumPy.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy
from bound import MANTISSA_BITS, ordered, symbols_of
from numpy.typing import NDArray
from states import State

Words = NDArray[numpy.int64]


def words_of(state: State, name: str) -> tuple[Words, int, int]:
    """A tensor's bits as a table, with bits a value and bits of a mantissa."""
    part = state.tensors[name]
    kind = numpy.uint32 if part.width == 4 else numpy.uint16
    words = state.bytes_of(part).view(kind).astype(numpy.int64)
    return words, 8 * part.width, MANTISSA_BITS[part.dtype]


def bits_given(symbols: Words, context: Words) -> float:
    """Bits a value of the symbols given a context, with what it takes to learn the model."""
    _, of_both = numpy.unique(context << 12 | symbols, return_counts=True)
    _, of_context = numpy.unique(context, return_counts=True)
    entropy = (of_context * numpy.log2(of_context)).sum() - (of_both * numpy.log2(of_both)).sum()
    model = numpy.log2(len(symbols)) / 4 * len(of_both)
    return float((entropy + model) / len(symbols))


def siblings_of(state: State, name: str) -> dict[str, str]:
    """The moments of a weight, by how this repository's workloads call them."""
    stem = name.removeprefix("model.")
    names = {kind: f"optim.{kind}.{stem}" for kind in ("exp_avg", "exp_avg_sq")}
    return {kind: found for kind, found in names.items() if found in state.tensors}


def report(old: State, new: State, name: str) -> None:
    """Prints one tensor's rows."""
    words, bits, mantissa = words_of(new, name)
    base, _, _ = words_of(old, name)
    symbols, length, raw = symbols_of(ordered(words, bits) - ordered(base, bits))
    exponent = base >> mantissa & 0xFF
    row = (json.loads(new.data[8 : new.header_bytes])[name]["shape"] or [1])[-1]
    left, above = numpy.roll(length, 1), numpy.roll(length, row)
    contexts = {
        "the base's exponent": exponent,
        "and the length to the left": exponent << 6 | left,
        "and the length above": exponent << 6 | above,
        "and the mean of both": exponent << 6 | (left + above) // 2,
        "and the base's first mantissa bits": exponent << 2 | base >> (mantissa - 2) & 3,
    }
    for kind, sibling in siblings_of(new, name).items():
        other, _, its_mantissa = words_of(new, sibling)
        contexts[f"and the exponent of its {kind}"] = exponent << 9 | other >> its_mantissa
    print(f"{name}: {raw.mean():.3f} raw bits a value, and of symbols given")
    for what, context in contexts.items():
        print(f"    {what}: {bits_given(symbols, context):.3f}")
    if bits == 16:
        head, tail = words >> mantissa, words & ((1 << mantissa) - 1)
        apart = bits_given(head, numpy.zeros_like(head))
        print(
            f"    alone: {apart:.3f} and a mantissa of {bits_given(tail, head):.3f} of {mantissa}"
        )


def main() -> None:
    """Reports on every tensor that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("tensors", nargs="+")
    args = parser.parse_args()
    old, new = State(args.old), State(args.new)
    for name in args.tensors:
        report(old, new, name)


if __name__ == "__main__":
    main()
