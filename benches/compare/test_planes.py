"""The re-created codecs give back what they took: odd lengths, NaN payloads, with and without base.

python benches/compare/test_planes.py
"""

from __future__ import annotations

import sys
import unittest

import numpy
from planes import bitx_decode, bitx_encode, tensorx_decode, tensorx_encode

CODECS = {"BitX": (bitx_encode, bitx_decode), "TensorX": (tensorx_encode, tensorx_decode)}
DTYPES = {"F32": 4, "BF16": 2, "F16": 2, "U8": 1, "I64": 8}
LENGTHS = (0, 1, 2, 3, 5, 4_096, 65_537, (2 << 20) - 1, (2 << 20) + 3)


class RoundTrip(unittest.TestCase):
    """Every codec on every dtype."""

    def check(self, new: numpy.ndarray, base: numpy.ndarray | None) -> None:
        """Encodes and decodes with every codec and dtype; all bytes must be the same."""
        for name, (encode, decode) in CODECS.items():
            for dtype, width in DTYPES.items():
                with self.subTest(codec=name, dtype=dtype, length=len(new), base=base is not None):
                    back = decode(encode(new, base, dtype, width), base, dtype, width)
                    self.assertEqual(back.tobytes(), new.tobytes())

    def test_random_bytes_of_odd_lengths(self) -> None:
        """Random bytes hold every kind of value; odd lengths leave a tail."""
        random = numpy.random.default_rng(1)
        for length in LENGTHS:
            new = random.integers(0, 256, length, numpy.uint8)
            base = random.integers(0, 256, length, numpy.uint8)
            self.check(new, None)
            self.check(new, base)

    def test_all_sixteen_bit_words(self) -> None:
        """Every bf16 and f16 there is, NaN payloads and negative zero among them."""
        words = numpy.arange(1 << 16, dtype=numpy.uint16).view(numpy.uint8)
        self.check(words, None)
        self.check(words, words[::-1].copy())
        self.check(words, words)

    def test_special_floats_of_four_bytes(self) -> None:
        """NaN payloads, infinities, subnormals and zeros of both signs."""
        heads = numpy.array([0, 1, 0x7F80, 0x7F81, 0x7FC0, 0x7FFF], numpy.uint32) << 16
        words = numpy.concatenate([heads, heads | 1, heads | 0x8000_0000, heads | 0x8000_FFFF])
        self.check(words.astype(numpy.uint32).view(numpy.uint8), None)
        ones = numpy.ones(len(words), numpy.float32).view(numpy.uint8)
        self.check(words.astype(numpy.uint32).view(numpy.uint8), ones)


def main() -> None:
    """Runs all tests and closes with one line of counts."""
    result = unittest.TextTestRunner(verbosity=0).run(
        unittest.defaultTestLoader.loadTestsFromTestCase(RoundTrip)
    )
    failed = len(result.failures) + len(result.errors)
    print(f"compare: {max(0, result.testsRun - failed)} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
