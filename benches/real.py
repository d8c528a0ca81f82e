"""Saves real training states into stores, restores and compares them, and prints the table.

Everything is timed in one run on the same disk, in turn, so that the ratios hold on a noisy
machine: `safetensors.save_file` with fsync of file and folder, then a durable `milepost save`
of the same state, state by state. Sizes stand beside full safetensors files, zstd level 3 of
each file, and ZipNN alone and on a chain of XORs.

    python benches/real.py --milepost target/release/milepost --states DIR
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import safetensors.torch
import zstandard
from safetensors import safe_open

BUDGETS = ("2", "16")
GB = 1e9


@dataclass
class Result:
    """What one store made of the states: bytes, and seconds for each save and restore."""

    stored: int = 0
    identical: int = 0
    verified: bool = False
    save_seconds: list[float] = field(default_factory=list)
    memory_seconds: list[float] = field(default_factory=list)
    file_seconds: list[float] = field(default_factory=list)


def timed(action) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def call(*command: object) -> str:
    """Runs a command; its standard output. A failure ends the benchmark."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def sync(path: Path) -> None:
    """Makes a file or folder durable."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def load_state(path: Path) -> tuple[dict, dict]:
    """Tensors and metadata of a safetensors file."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def save_full(state: tuple[dict, dict], target: Path) -> None:
    """What people do today, made durable."""
    tensors, metadata = state
    safetensors.torch.save_file(tensors, target, metadata)
    sync(target)
    sync(target.parent)


def drain() -> None:
    """Waits until earlier writes are on the disk, so that nobody pays for another's."""
    os.sync()


def save_all(milepost: Path, states: list[Path], work: Path, repeats: int) -> dict[str, Result]:
    """Saves every state with each saver in turn; the last repeat's stores stay."""
    results = {name: Result() for name in ("full", *BUDGETS)}
    for repeat in range(repeats):
        for budget in BUDGETS:
            store = work / f"store-{budget}"
            shutil.rmtree(store, ignore_errors=True)
            call(milepost, "-s", store, "-q", "init", "--restore-budget", budget)
        for path in states:
            state = load_state(path)
            target = work / f"full-{repeat}-{path.name}"
            drain()
            results["full"].save_seconds.append(timed(lambda: save_full(state, target)))
            del state
            target.unlink()
            for budget in BUDGETS:
                store = work / f"store-{budget}"
                drain()
                command = (milepost, "-s", store, "-q", "save", path)
                results[budget].save_seconds.append(timed(lambda: call(*command)))
    return results


def restore_all(milepost: Path, states: list[Path], work: Path, result: Result, budget: str) -> None:
    """Restores every state into a file, compares it with the original, and verifies the store."""
    store = work / f"store-{budget}"
    for path in states:
        step = int(path.stem.split("-")[-1])
        target = work / "restored.safetensors"
        command = (milepost, "-s", store, "-q", "restore", f"step:{step}", "-o", target, "--force")
        result.file_seconds.append(timed(lambda: call(*command)))
        result.identical += filecmp.cmp(path, target, shallow=False)
        target.unlink()
    call(milepost, "-s", store, "verify", "--read-data")
    result.verified = True
    result.stored = json.loads(call(milepost, "-s", store, "--json", "stats"))["disk_bytes"]


def restore_to_memory(states: list[Path], work: Path, result: Result, budget: str) -> None:
    """Times restores into memory from a warm cache, newest and all others."""
    revisions = [f"step:{int(path.stem.split('-')[-1])}" for path in states]
    store = work / f"store-{budget}"
    out = call("cargo", "bench", "-q", "--bench", "restore", "--", store, "--repeats", "5", *revisions)
    for line in out.splitlines():
        facts = json.loads(line)
        result.memory_seconds.append(statistics.median(facts["seconds"]))


def rival_sizes(states: list[Path]) -> dict[str, int]:
    """Bytes that other lossless tools make of the same files."""
    from zipnn import ZipNN

    def zipnn(data: bytes) -> int:
        whole = bytearray(data[: len(data) // 4 * 4])
        return len(ZipNN(input_format="byte", bytearray_dtype="float32").compress(whole))

    sizes = {"zstd -3, each file": 0, "ZipNN, each file": 0, "ZipNN, unbounded XOR chain": 0}
    previous = None
    for path in states:
        data = path.read_bytes()
        sizes["zstd -3, each file"] += len(zstandard.ZstdCompressor(level=3).compress(data))
        header = 8 + int.from_bytes(data[:8], "little")
        body = data[header:]
        alone = header + zipnn(body)
        sizes["ZipNN, each file"] += alone
        if previous is None:
            sizes["ZipNN, unbounded XOR chain"] += alone
        else:
            pair = numpy.frombuffer(body, numpy.uint8) ^ numpy.frombuffer(previous, numpy.uint8)
            sizes["ZipNN, unbounded XOR chain"] += header + zipnn(pair.tobytes())
        previous = body
    return sizes


def machine() -> str:
    """Processor, cores, memory and kernel, for the table's head."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((l.split(":")[1].strip() for l in info.splitlines() if "model name" in l), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def report(states: list[Path], results: dict[str, Result], rivals: dict[str, int]) -> list[str]:
    """The lines of the table, in Markdown."""
    raw = sum(path.stat().st_size for path in states)
    each = raw / len(states)
    full = statistics.median(results["full"].save_seconds)
    lines = [
        f"{len(states)} states of {each / 1e6:.1f} MB; {machine()}",
        "",
        "| what | stored / full | save, GB/s (median) | against safetensors + fsync |"
        " restore to memory, GB/s (newest / slowest) | restore to file, GB/s (median) |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| safetensors + fsync | 1.000 | {each / full / GB:.2f} | 1.0x | | |",
    ]
    for name, size in rivals.items():
        lines.append(f"| {name} | {size / raw:.3f} | | | | |")
    for budget in BUDGETS:
        r = results[budget]
        save = statistics.median(r.save_seconds)
        lines.append(
            f"| milepost, restore budget {budget} | {r.stored / raw:.4f} | {each / save / GB:.2f} "
            f"| {full / save:.1f}x | {each / r.memory_seconds[-1] / GB:.2f} / "
            f"{each / max(r.memory_seconds) / GB:.2f} "
            f"| {each / statistics.median(r.file_seconds) / GB:.2f} |"
        )
    for budget in BUDGETS:
        r = results[budget]
        lines.append("")
        lines.append(
            f"restore budget {budget}: {r.identical} of {len(states)} files byte-identical, "
            f"store verified: {'yes' if r.verified else 'no'}"
        )
    return lines


def main() -> None:
    """Runs everything and fails if a file differs or a goal for size is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milepost", type=Path, required=True)
    parser.add_argument("--states", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for stores, on the disk to measure")
    args = parser.parse_args()
    states = sorted(args.states.glob("*.safetensors"))
    with tempfile.TemporaryDirectory(dir=args.work or args.states) as folder:
        work = Path(folder)
        milepost = args.milepost.resolve()
        results = save_all(milepost, states, work, args.repeats)
        for budget in BUDGETS:
            restore_all(milepost, states, work, results[budget], budget)
            restore_to_memory(states, work, results[budget], budget)
        print("\n".join(report(states, results, rival_sizes(states))))
    if any(results[b].identical != len(states) for b in BUDGETS):
        sys.exit("a restored file differs from the one that was saved")


if __name__ == "__main__":
    main()
