"""Shows that costs do not grow with history or size: many checkpoints, long chains, large states.

    python benches/scale.py --milepost target/release/milepost [PART ...]

Parts: `unchanged` (a save in which nothing changed), `many` (10,000 tiny checkpoints: open, list
and restore the newest), `chain` (the deepest of 200 dense checkpoints against one raw full
file), `memory` (peak memory of saving and restoring a state of 4 GB). All by default. Only the
standard library is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path

MB = 1_000_000


def call(*command: object) -> str:
    """Runs a command; its standard output. A failure ends the script."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def median_ms(action: Callable[[], object], repeats: int = 7) -> float:
    """Median milliseconds of a call, after one to warm up."""
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def write_safetensors(path: Path, step: int, tensors: Iterable[tuple[str, array]]) -> int:
    """Writes float tensors as a safetensors file; returns its length."""
    header: dict[str, object] = {"__metadata__": {"step": str(step)}}
    offset, parts = 0, []
    for name, values in tensors:
        length = len(values) * values.itemsize
        header[name] = {
            "dtype": "F32",
            "shape": [len(values)],
            "data_offsets": [offset, offset + length],
        }
        offset += length
        parts.append(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in parts:
            values.tofile(file)
    return path.stat().st_size


def normal_floats(count: int, scale: float, seed: int) -> array:
    """Gaussian values: a block of them, repeated with small differences to be quick."""
    generator = random.Random(seed)
    block = [generator.gauss(0.0, scale) for _ in range(min(count, 1 << 16))]
    values = array("f")
    while len(values) < count:
        factor = 1.0 + generator.random() * 1e-2
        values.extend(v * factor for v in block[: count - len(values)])
    return values


def unchanged(milepost: Path, work: Path) -> None:
    """Saves the same state twice under two steps."""
    store, state = work / "unchanged", work / "state.safetensors"
    tensors = [(f"layer.{i}.weight", normal_floats(1 << 20, 0.02, i)) for i in range(16)]
    call(milepost, "-s", store, "-q", "init")
    for step in (1, 2):
        length = write_safetensors(state, step, tensors)
        call(milepost, "-s", store, "-q", "save", state)
    entries = json.loads(call(milepost, "-s", store, "--json", "log"))["checkpoints"]
    added = next(e["added_bytes"] for e in entries if e["step"] == 2)
    print(f"unchanged: {added:,} bytes added for {length:,}: {added / length:.4%}")


def many(milepost: Path, work: Path, count: int) -> None:
    """Fills a run with tiny checkpoints, then times a fresh process on it."""
    store, folder = work / "many", work / "tiny"
    folder.mkdir()
    call(milepost, "-s", store, "-q", "init")
    values = normal_floats(1024, 0.02, 1)
    started = time.perf_counter()
    batch = 500
    for first in range(0, count, batch):
        paths = []
        for step in range(first, min(count, first + batch)):
            values[step % 1024] += 1e-3
            paths.append(folder / f"step-{step:06}.safetensors")
            write_safetensors(paths[-1], step, [("w", values), ("step", array("f", [step]))])
        call(milepost, "-s", store, "-q", "save", "--durability", "relaxed", *paths)
        for path in paths:
            path.unlink()
    seconds = time.perf_counter() - started
    out = work / "out.safetensors"
    per_save = f"{seconds / count * 1e3:.1f} ms a save"
    nothing = median_ms(lambda: call(milepost, "version"))
    listing = median_ms(lambda: call(milepost, "-s", store, "-q", "log", "-n", "10"))
    whole = median_ms(lambda: call(milepost, "-s", store, "--json", "log"))
    newest = median_ms(lambda: call(milepost, "-s", store, "-q", "restore", "latest", "-o", out, "--force"))
    print(
        f"many: {count} checkpoints ({per_save}); a process that does nothing {nothing:.0f} ms, "
        f"newest ten {listing:.0f} ms, whole log as JSON {whole:.0f} ms, restore newest {newest:.0f} ms"
    )


def bench_restore(store: Path, revision: str, *flags: str) -> dict:
    """What the restore benchmark says of one revision."""
    command = ("cargo", "bench", "-q", "--bench", "restore", "--", store, *flags, revision)
    return json.loads(call(*command).splitlines()[-1])


def read_raw(path: Path) -> float:
    """Seconds to read a file from a cold cache, the best of what a full checkpoint could do."""
    buffer = bytearray(path.stat().st_size)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    with open(fd, "rb", buffering=0) as file:
        view, at = memoryview(buffer), 0
        while count := file.readinto(view[at:]):
            at += count
    return time.perf_counter() - started


def chain(milepost: Path, work: Path, count: int) -> None:
    """Saves a dense drift of every value, then restores the costliest checkpoint, cold."""
    store, state = work / "chain", work / "state.safetensors"
    call(milepost, "-s", store, "-q", "init")
    size, generator = 4 << 20, random.Random(7)
    values = normal_floats(size, 0.02, 3)
    drift = normal_floats(size, 1e-5, 4)
    for step in range(count):
        length = write_safetensors(state, step, [("w", values)])
        call(milepost, "-s", store, "-q", "save", "--durability", "relaxed", state)
        shift = generator.randrange(size)
        moved = drift[shift:] + drift[:shift]
        values = array("f", map(float.__add__, values, moved))
    entries = json.loads(call(milepost, "-s", store, "--json", "log"))["checkpoints"]
    costliest = max(entries, key=lambda e: e["restore_cost"])
    revision = f"step:{costliest['step']}"
    facts = bench_restore(store, revision, "--cold", "--repeats", "7")
    warm = bench_restore(store, revision, "--repeats", "7")
    raw = statistics.median(read_raw(state) for _ in range(7))
    cold = statistics.median(facts["seconds"])
    stored = sum(e["added_bytes"] for e in entries) / sum(e["logical_bytes"] for e in entries)
    print(
        f"chain: {count} checkpoints of {length / MB:.0f} MB stored at {stored:.3f}; costliest is "
        f"step {costliest['step']}, depth {costliest['depth']}, cost by the model "
        f"{costliest['restore_cost'] / costliest['logical_bytes']:.2f}; cold restore {cold * 1e3:.0f} ms "
        f"against {raw * 1e3:.0f} ms to read the raw file cold: {cold / raw:.2f}x "
        f"(warm {statistics.median(warm['seconds']) * 1e3:.0f} ms)"
    )


def rotations(block: array, count: int) -> Iterable[tuple[str, array]]:
    """Tensors of the same values at other places, so that no two chunks are alike."""
    for index in range(count):
        yield f"layer.{index}", block[index * 17 :] + block[: index * 17]


def peak_memory(command: list[object]) -> tuple[int, float]:
    """Peak anonymous memory of a process in bytes, sampled, and its seconds."""
    started = time.perf_counter()
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        peak = max(peak, int(found.group(1)) * 1024 if found else 0)
        time.sleep(0.005)
    if process.wait() != 0:
        sys.exit(f"failed: {command}")
    return peak, time.perf_counter() - started


def memory(milepost: Path, work: Path, gigabytes: int) -> None:
    """Saves a large state, then a changed one against it, and restores it to a file."""
    store, state, out = work / "memory", work / "large.safetensors", work / "out.safetensors"
    call(milepost, "-s", store, "-q", "init")
    count = gigabytes * 1_000_000_000 // 4 // 32
    for step in (1, 2):
        factor = 1e-4 * step
        block = normal_floats(count, 0.02 * (1 + factor), 5)
        length = write_safetensors(state, step, rotations(block, 32))
        del block
        peak, seconds = peak_memory([milepost, "-s", store, "-q", "save", state])
        print(
            f"memory: save {step} of {length / 1e9:.2f} GB took {seconds:.1f} s and at most "
            f"{peak / MB:.0f} MB of memory"
        )
    command = [milepost, "-s", store, "-q", "restore", "latest", "-o", out]
    peak, seconds = peak_memory(command)
    same = subprocess.run(["cmp", state, out]).returncode == 0
    print(f"memory: restore took {seconds:.1f} s and at most {peak / MB:.0f} MB; identical: {same}")
    if not same:
        sys.exit("the restored file differs")


def main() -> None:
    """Runs the parts that are asked for in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milepost", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder on the disk to measure")
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--chain", type=int, default=200)
    parser.add_argument("--gigabytes", type=int, default=4)
    parser.add_argument("parts", nargs="*", default=["unchanged", "many", "chain", "memory"])
    args = parser.parse_args()
    milepost = args.milepost.resolve()
    parts = {
        "unchanged": lambda work: unchanged(milepost, work),
        "many": lambda work: many(milepost, work, args.checkpoints),
        "chain": lambda work: chain(milepost, work, args.chain),
        "memory": lambda work: memory(milepost, work, args.gigabytes),
    }
    for part in args.parts:
        work = Path(tempfile.mkdtemp(prefix="milepost-scale-", dir=args.work))
        try:
            parts[part](work)
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
