"""Saves and loads again and again: nothing of the process may grow.

    python benches/endurance.py --work DIR [--rounds 10000] [--out figures.json]

A round changes a state, saves it, waiting or in the background, and loads it in one of several
ways; the last twenty checkpoints stay. Memory, file descriptors and threads are counted by the
operating system. Prints the most of each within each tenth of the rounds but the first; exits with
1 if in the last there are more threads than in the second, more descriptors by more than there are
checkpoints, which come and go with collections, or more memory by more than so many MiB.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import milepost

#: What the allocators of C and of Python may keep more, from one moment to another.
GROWTH_MIB_MAX = 16
KEPT = 20


def counted() -> dict[str, float]:
    """Memory that is resident and not of files, descriptors and threads of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return {
        "memory_mib": int(anonymous.split()[1]) / 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def a_round(store: milepost.Store, state: dict[str, object], number: int) -> None:
    weights = state["weights"]
    assert isinstance(weights, np.ndarray)
    weights += np.random.default_rng(number).normal(size=weights.shape)
    state["step"] = number
    handle = store.save(
        number,
        state,
        wait=number % 3 != 0,
        durability="relaxed" if number % 4 else "durable",
        keep=milepost.Keep(last=KEPT),
        metrics={"loss": 1 / (number + 1)},
    )
    handle.result()
    how = number % 4
    if how == 0:
        report = store.load_into(state)
        assert report is not None and report.step == number
    elif how == 1:
        assert np.array_equal(store["latest"].load()["weights"], weights)
    elif how == 2:
        assert np.array_equal(store[number]["weights"][3:5].numpy(), weights[3:5])
    else:
        assert store["latest~1"].step < number and len(store.log()) <= KEPT + 2


def endure(work: Path, rounds: int) -> dict[str, Any]:
    shutil.rmtree(work, ignore_errors=True)
    state: dict[str, object] = {"weights": np.random.default_rng(0).normal(size=(64, 256))}
    started = time.monotonic()
    tenth = max(1, rounds // 10)
    most: list[dict[str, float]] = [{} for _ in range(10)]
    with milepost.open(work, chunk_bytes=4096) as store:
        for number in range(rounds):
            a_round(store, state, number)
            if number % max(1, tenth // 100) == 0:
                seen = most[min(number // tenth, 9)]
                for name, value in counted().items():
                    seen[name] = max(value, seen.get(name, 0))
    shutil.rmtree(work)
    return {"rounds": rounds, "most": most, "seconds": time.monotonic() - started}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    figures = endure(given.work / "endurance", given.rounds)
    if given.out is not None:
        given.out.write_text(json.dumps(figures))
    most = figures["most"][1:]
    print(f"{given.rounds} saves and loads in {figures['seconds']:.0f} s; the most in each tenth")
    for name in most[0]:
        print(f"{name}: {', '.join(f'{seen[name]:.0f}' for seen in most)}")
    more = {name: most[-1][name] - most[0][name] for name in most[0]}
    grown = more["memory_mib"] > GROWTH_MIB_MAX
    grown = grown or more["descriptors"] > KEPT or more["threads"] > 0
    print("something grows" if grown else "nothing grows")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
