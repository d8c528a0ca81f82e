"""How costs grow: with the length of a run, with the size of a state, with the number of threads.

    python benches/growth.py --milepost target/release/milepost --plot docs/growth.svg

Prints a table for each and draws them all. What should be flat is flat in the plot, what should
be linear is a straight line of slope 1 on its logarithmic axes. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from scale import (
    bench_restore,
    bench_save,
    call,
    median_ms,
    normal_floats,
    rotations,
    write_safetensors,
)

GB = 1e9


@dataclass
class Lines:
    """Some lines over one axis."""

    title: str
    x_label: str
    y_label: str
    x: list[float] = field(default_factory=list)
    y: dict[str, list[float]] = field(default_factory=dict)
    logarithmic: bool = False

    def add(self, x: float, **values: float) -> None:
        """A point of every line; also a row of the table."""
        self.x.append(x)
        for name, value in values.items():
            self.y.setdefault(name.replace("_", " "), []).append(value)
        print(f"| {x:,.0f} | " + " | ".join(f"{v:.3g}" for v in values.values()) + " |", flush=True)

    def head(self, *names: str) -> None:
        """The head of the table."""
        print(f"\n{self.title}: {self.y_label}\n\n| {self.x_label} | " + " | ".join(names) + " |")
        print("| --- " * (len(names) + 1) + "|")


def history(milepost: Path, work: Path, count: int) -> Lines:
    """A run of tiny checkpoints: what one more save costs, and to find and restore the newest."""
    lines = Lines("length of a run", "checkpoints", "ms")
    lines.head("one save among hundreds", "list the newest ten", "restore the newest")
    store, folder = work / "history", work / "tiny"
    folder.mkdir()
    call(milepost, "-s", store, "-q", "init")
    values = normal_floats(1024, 0.02, 1)
    batch, out = max(1, count // 10), work / "out.safetensors"
    tool = (milepost, "-s", store, "-q")
    for first in range(0, count, batch):
        paths = []
        for step in range(first, first + batch):
            values[step % 1024] += 1e-3
            paths.append(folder / f"step-{step:06}.safetensors")
            write_safetensors(paths[-1], step, [("w", values), ("step", array("f", [step]))])
        started = time.perf_counter()
        for at in range(0, batch, 500):
            call(
                milepost,
                "-s",
                store,
                "-q",
                "save",
                "--durability",
                "relaxed",
                *paths[at : at + 500],
            )
        save = (time.perf_counter() - started) / batch * 1e3
        shutil.rmtree(folder)
        folder.mkdir()
        lines.add(
            first + batch,
            one_save_among_hundreds=save,
            list_the_newest_ten=median_ms(lambda: call(*tool, "log", "-n", "10")),
            restore_the_newest=median_ms(
                lambda: call(*tool, "restore", "latest", "-o", out, "--force")
            ),
        )
    return lines


def measure(
    milepost: Path, work: Path, paths: list[Path], threads: int, repeats: int
) -> list[float]:
    """Seconds of a first save, of a delta, and of restoring the delta into memory."""
    first, delta = bench_save(work, *paths, threads=threads, repeats=repeats)
    store = work / "measured"
    call(milepost, "-s", store, "-q", "init")
    call(milepost, "-s", store, "-q", "save", *paths)
    flags = ("--threads", str(threads), "--repeats", str(repeats))
    restore = statistics.median(bench_restore(store, "latest", *flags)["seconds"])
    shutil.rmtree(store)
    return [first, delta, restore]


def states(work: Path, megabytes: float) -> list[Path]:
    """A state of that size, and the same with every value changed a little."""
    paths = []
    count = max(1, int(megabytes * 1e6 / 4 / 8))
    for step in (1, 2):
        path = work / f"state-{step}.safetensors"
        block = normal_floats(count, 0.02 * (1 + 1e-4 * step), 5)
        write_safetensors(path, step, rotations(block, 8))
        paths.append(path)
    return paths


def sizes(milepost: Path, work: Path, largest: float) -> Lines:
    """States from 1 MB on, each four times the one before."""
    lines = Lines("size of a state", "MB", "seconds", logarithmic=True)
    lines.head("first save", "delta", "restore")
    megabytes = 1.0
    while megabytes <= largest:
        repeats = 7 if megabytes < 300 else 3
        seconds = measure(milepost, work, states(work, megabytes), 0, repeats)
        lines.add(megabytes, first_save=seconds[0], delta=seconds[1], restore=seconds[2])
        megabytes *= 4
    return lines


def threads(milepost: Path, work: Path, megabytes: float) -> Lines:
    """One state on one thread, two, and so on to twice the cores."""
    lines = Lines("threads", "threads", "GB/s")
    lines.head("first save", "delta", "restore")
    paths = states(work, megabytes)
    number = 1
    while number <= 2 * (os.cpu_count() or 1):
        seconds = measure(milepost, work, paths, number, 7)
        speeds = [megabytes / 1e3 / s for s in seconds]
        lines.add(number, first_save=speeds[0], delta=speeds[1], restore=speeds[2])
        number *= 2
    return lines


def draw(plots: list[Lines], path: Path) -> None:
    """One picture of all, side by side."""
    pyplot.rcParams |= {"svg.hashsalt": "milepost", "font.size": 9, "font.family": "sans-serif"}
    figure, axes = pyplot.subplots(1, len(plots), figsize=(4.2 * len(plots), 3.4))
    for lines, axis in zip(plots, axes, strict=True):
        for name, values in lines.y.items():
            axis.plot(lines.x, values, marker="o", markersize=3, label=name)
        if lines.logarithmic:
            axis.set_xscale("log")
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
            axis.set_xlim(left=0)
        axis.set(title=lines.title, xlabel=lines.x_label, ylabel=lines.y_label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measures all three and draws them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milepost", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder on the disk to measure")
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--largest", type=float, default=1024, help="MB of the largest state")
    args = parser.parse_args()
    milepost = args.milepost.resolve()
    work = Path(tempfile.mkdtemp(prefix="milepost-growth-", dir=args.work))
    try:
        plots = [
            history(milepost, work, args.checkpoints),
            sizes(milepost, work, args.largest),
            threads(milepost, work, 256),
        ]
    finally:
        shutil.rmtree(work)
    draw(plots, args.plot)


if __name__ == "__main__":
    main()
