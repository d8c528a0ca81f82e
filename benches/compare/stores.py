"""milepost itself: a store for each level and restore budget, and what a restore costs there."""

from __future__ import annotations

import filecmp
import json
import time
from pathlib import Path

from external import call
from inprocess import Figures
from states import State

LEVELS = ("fast", "balanced", "archive")
BUDGETS = ("1.5", "2", "4", "16")


def measure_store(
    milepost: Path, files: list[Path], work: Path, level: str, budget: str
) -> tuple[Figures, dict[str, object]]:
    """Saves, restores and compares every file, on one thread; figures, and costs of a restore.

    Costs: `planned` is the most bytes that any restore reads and decodes by the store's own
    account, over a full file's; `measured` is the slowest restore's time over that of the first
    checkpoint, which is stored in full.
    """
    store, back = work / f"store-{level}-{budget}", work / "restored.safetensors"
    tool = (milepost, "-s", store, "--json", "-j", "1", "--progress", "none")
    call(*tool, "init", "--restore-budget", budget, "--level", level)
    figures = Figures(identical=True)
    before = 0
    for path in files:
        started = time.perf_counter()
        call(*tool, "save", path, "--step", State(path).step)
        figures.encode_speeds.append(path.stat().st_size / (time.perf_counter() - started))
        size = json.loads(call(*tool, "stats"))["disk_bytes"]
        figures.sizes.append(size - before)
        before = size
    seconds = []
    for path in files:
        started = time.perf_counter()
        call(*tool, "restore", f"step:{State(path).step}", "-o", back, "--force")
        seconds.append(time.perf_counter() - started)
        figures.decode_speeds.append(path.stat().st_size / seconds[-1])
        figures.identical &= filecmp.cmp(path, back, shallow=False)
    back.unlink()
    log = json.loads(call(*tool, "log"))["checkpoints"]
    costs = [c["restore_cost"] / c["logical_bytes"] for c in log if c["restore_cost"]]
    facts = {"planned": max(costs, default=None), "measured": max(seconds) / seconds[0]}
    return figures, facts
