"""Tensors with few values or few changes: what a store takes, beside zstd and the entropy.

    python benches/scenarios.py --milepost target/release/milepost

Each scenario is one tensor of 2048 by 1024 values in a store of its own, or two of which the second
is a delta: then what the second save added counts. Prints raw size over stored size. Needs NumPy,
ml_dtypes, safetensors and zstandard; every file that comes back is compared.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import zstandard
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.generic]
ROWS, COLUMNS = 2048, 1024
BF16 = np.dtype(ml_dtypes.bfloat16)
F32 = np.dtype(np.float32)


def quantised(weights: NDArray[np.float32], bits: int, group: int) -> NDArray[np.float32]:
    """Integers times a scale, one scale for each group of values."""
    grouped = weights.reshape(-1, group)
    scale = np.abs(grouped).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    values: NDArray[np.float32] = (np.round(grouped / scale) * scale).astype(np.float32)
    return values.reshape(weights.shape)


def scenarios() -> Iterator[tuple[str, list[Array]]]:
    """Names and the states that are saved one after the other."""
    chance = np.random.default_rng(0)
    shape = (ROWS, COLUMNS)
    weights = (chance.standard_normal(shape) * 0.02).astype(np.float32)
    for dtype in (F32, BF16):
        yield f"{dtype.name}, dense", [weights.astype(dtype)]
        for zeros in (0.5, 0.9):
            held = np.where(chance.random(shape) < zeros, 0, weights)
            yield f"{dtype.name}, {zeros:.0%} zeros", [held.astype(dtype)]
        for bits, group, of in (
            (8, weights.size, "tensor"),
            (8, COLUMNS, "row"),
            (4, weights.size, "tensor"),
            (4, 128, "128"),
        ):
            held = quantised(weights, bits, group).astype(dtype)
            yield f"int{bits} as {dtype.name}, a scale for a {of}", [held]
        for share in (0.001, 0.01, 0.05, 0.2, 0.5):
            changed = chance.random(shape) < share
            before = weights.astype(dtype)
            factor = 1 + chance.standard_normal(shape) * 0.01
            moved = (before.astype(np.float32) * factor).astype(dtype)
            yield f"{dtype.name}, {share:.1%} moved", [before, np.where(changed, moved, before)]
            other = (chance.standard_normal(shape) * 0.02).astype(dtype)
            yield f"{dtype.name}, {share:.1%} new", [before, np.where(changed, other, before)]
    yield "bool, 30% true", [chance.random(shape) < 0.3]
    eight = np.clip(np.round(weights * 2000), -127, 127).astype(np.int8)
    yield "int8", [eight]
    yield "int8, 5% moved", [eight, eight + (chance.random(shape) < 0.05).astype(np.int8)]
    yield "int64, ids", [chance.integers(0, 50257, shape)]


def folder_len(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def stored(milepost: Path, files: list[Path], folder: Path, budget: str) -> int:
    """Bytes that the last of the files added; it comes back as it was."""
    store, before, after = folder / f"store-{budget}", 0, 0
    command = [str(milepost), "-q", "--store", str(store)]
    subprocess.run([*command, "init", "--restore-budget", budget], check=True)
    for step, path in enumerate(files):
        before = after if step else folder_len(store)
        words = [*command, "save", str(path), "--step", str(step)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        after = folder_len(store)
    back = subprocess.run(
        [*command, "restore", "latest", "-o", "-"], check=True, capture_output=True
    )
    assert back.stdout == files[-1].read_bytes(), f"{files[-1]} did not come back"
    return after - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--milepost", type=Path, required=True)
    given = parser.parse_args()
    print(f"{'scenario':36} {'budget 2':>10} {'budget 16':>10} {'zstd -3':>10} {'xor zstd -3':>12}")
    for name, states in scenarios():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            files = [folder / f"{number}.safetensors" for number in range(len(states))]
            for path, state in zip(files, states, strict=True):
                save_file({"w": np.ascontiguousarray(state)}, path)
            raw = files[-1].read_bytes()
            lens = [stored(given.milepost, files, folder, budget) for budget in ("2", "16")]
            lens.append(len(zstandard.compress(raw, 3)))
            if len(states) > 1:
                first, last = (np.frombuffer(state.tobytes(), np.uint8) for state in states)
                planes = (first ^ last).reshape(-1, states[0].dtype.itemsize).T
                lens.append(len(zstandard.compress(np.ascontiguousarray(planes).tobytes(), 3)))
        widths = (10, 10, 10, 12)
        ratios = " ".join(f"{len(raw) / n:{w}.2f}" for n, w in zip(lens, widths, strict=False))
        print(f"{name:36} {ratios}", flush=True)


if __name__ == "__main__":
    main()
