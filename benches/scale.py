"""Shows that costs do not grow with history or size: many checkpoints, long chains, large states.

    python benches/scale.py --milepost target/release/milepost [PART ...]

Parts: `unchanged` (a save in which nothing changed), `many` (10,000 tiny checkpoints: open, list
and restore the newest), `chain` (the deepest of 200 dense checkpoints against one raw full
file), `small` (10,000 tensors of 1 KB against one tensor of as many bytes), `one` (a tensor of 1 MB
out of a cold store of 10 GB), `memory` (peak memory of saving and restoring a state of 4 GB). All
by default. Only the standard library is needed.
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


def bench_save(work: Path, *paths: Path, threads: int = 0, repeats: int = 5) -> list[float]:
    """Median seconds of saving each of the files, one after the other, durably."""
    flags = ("--folder", work, "--threads", threads, "--repeats", repeats)
    printed = call("cargo", "bench", "-q", "--bench", "save", "--", *flags, *paths)
    return [statistics.median(json.loads(line)["seconds"]) for line in printed.splitlines()]


def small(milepost: Path, work: Path) -> None:
    """Saves and restores a state of many small tensors beside one of a single tensor."""
    count, length = 10_000, 256
    values = normal_floats(count * length, 0.02, 6)
    moved = array("f", (v * 1.0001 for v in values))
    slices = [(f"t{i:05}", i * length) for i in range(count)]
    for title in ("10,000 tensors of 1 KB", "one tensor"):
        paths = [work / "first.safetensors", work / "second.safetensors"]
        for step, (path, held) in enumerate(zip(paths, (values, moved), strict=True)):
            parts = [("t", held)]
            if title != "one tensor":
                parts = [(name, held[at : at + length]) for name, at in slices]
            write_safetensors(path, step, parts)
        first, delta = bench_save(work, *paths)
        store = work / title.split()[0]
        call(milepost, "-s", store, "-q", "init")
        call(milepost, "-s", store, "-q", "save", *paths)
        facts = bench_restore(store, "latest", "--repeats", "15")
        restore = statistics.median(facts["seconds"])
        print(
            f"small: {title}: first save {first * 1e3:.1f} ms, delta {delta * 1e3:.1f} ms, restore "
            f"of the delta into memory {restore * 1e3:.1f} ms of which opening and planning "
            f"{statistics.median(facts['planning_seconds']) * 1e3:.1f} ms"
        )


def one(milepost: Path, work: Path, gigabytes: int) -> None:
    """Restores one small tensor of a large state from a cold cache."""
    store, state = work / "one", work / "state.safetensors"
    call(milepost, "-s", store, "-q", "init")
    block = normal_floats(gigabytes * 1_000_000_000 // 4 // 40, 0.02, 8)
    tensors = [*rotations(block, 40), ("wanted", normal_floats(1 << 18, 0.02, 9))]
    length = write_safetensors(state, 1, tensors)
    del tensors, block
    call(milepost, "-s", store, "-q", "save", state)
    state.unlink()
    facts = bench_restore(store, "latest", "--only", "wanted", "--cold", "--repeats", "15")
    warm = bench_restore(store, "latest", "--only", "wanted", "--repeats", "15")
    latency = statistics.median(read_block(store) for _ in range(31))
    print(
        f"one: 1 MB of a store of {length / 1e9:.1f} GB, cold: {median_of(facts, 'seconds')} of which "
        f"opening and planning {median_of(facts, 'planning_seconds')}; warm {median_of(warm, 'seconds')}; "
        f"a cold read of 4 KB takes {latency * 1e3:.2f} ms"
    )


def median_of(facts: dict, key: str) -> str:
    """Median milliseconds."""
    return f"{statistics.median(facts[key]) * 1e3:.1f} ms"


def read_block(store: Path) -> float:
    """Seconds to read a block of the largest pack from a cold cache: the disk's latency."""
    path = max(store.glob("packs/*/*"), key=lambda p: p.stat().st_size)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    at = random.randrange(path.stat().st_size // 4096) * 4096
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    started = time.perf_counter()
    os.pread(fd, 4096, at)
    seconds = time.perf_counter() - started
    os.close(fd)
    return seconds


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


def memory(milepost: Path, work: Path, gigabytes: int, saves: int) -> None:
    """Saves a large state, then changed ones against it, and restores the last to a file."""
    store, state, out = work / "memory", work / "large.safetensors", work / "out.safetensors"
    call(milepost, "-s", store, "-q", "init")
    count = gigabytes * 1_000_000_000 // 4 // 32
    for step in range(1, saves + 1):
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
    parser.add_argument("--gigabytes", type=int, default=4, help="of `memory`")
    parser.add_argument("--saves", type=int, default=2, help="of `memory`")
    parser.add_argument("--store-gigabytes", type=int, default=10, help="of `one`")
    parts = ["unchanged", "many", "chain", "small", "one", "memory"]
    parser.add_argument("parts", nargs="*", default=parts)
    args = parser.parse_args()
    milepost = args.milepost.resolve()
    known = {
        "unchanged": lambda work: unchanged(milepost, work),
        "many": lambda work: many(milepost, work, args.checkpoints),
        "chain": lambda work: chain(milepost, work, args.chain),
        "small": lambda work: small(milepost, work),
        "one": lambda work: one(milepost, work, args.store_gigabytes),
        "memory": lambda work: memory(milepost, work, args.gigabytes, args.saves),
    }
    for part in args.parts:
        work = Path(tempfile.mkdtemp(prefix="milepost-scale-", dir=args.work))
        try:
            known[part](work)
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
