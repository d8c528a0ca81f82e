"""Kills trainings with SIGKILL, at random moments and in the middle of saves.

A nursery is a process that imports a framework once and forks a child for each training, so that
many can be started and killed in little time. A training is a module in `trainings/`, with
`train(folder, steps)`: it goes on from what is in the folder's `store`, or begins, and returns
the digest of all that it ends with.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

NURSERY = Path(__file__).parent / "nursery.py"
#: Seconds that a training may take; on a busy machine they start slowly.
TIMEOUT_S = 120
#: How soon a save is noticed, and at most how long after that the training is killed.
_LOOK_S, _LATER_S = 0.0005, 0.004


@dataclass
class Nursery:
    """Starts trainings of one module."""

    module: str
    #: Kills that came while a save was under way, and kills in all.
    in_saves: int = 0
    kills: int = 0
    #: What each start told of itself: the step it went on from, or "begins".
    starts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(NURSERY), self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"},
        )
        assert self._line() == "ready"

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(TIMEOUT_S)
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def _start(self, folder: Path, steps: int) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{folder} {steps}\n")
        self._process.stdin.flush()
        return int(self._line())

    def run(self, folder: Path, steps: int) -> tuple[str, float]:
        """Trains to the end; returns the digest, and the seconds that it took."""
        started = time.monotonic()
        self._start(folder, steps)
        status = int(self._line())
        errors = (folder / "errors").read_text()
        assert status == 0, (status, errors)
        told = (folder / "told").read_text().splitlines()
        assert len(told) == 2, (told, errors)
        self.starts.append(told[0])
        return told[1], time.monotonic() - started

    def kill(self, folder: Path, steps: int, *, after: float | None, saves: int = 1) -> bool:
        """Trains, and kills after so many seconds, or in the middle of one of the next saves.

        Whether it was still running. All processes of the training are killed, or one of its
        ranks, whom the others must not outlive.
        """
        before = _under_way(folder)
        pid = self._start(folder, steps)
        if after is not None:
            time.sleep(after)
        else:
            _wait_for_a_save(folder, before, saves, pid)
            time.sleep(random.uniform(0, _LATER_S))
        ranks = [int(p.read_text() or 0) for p in folder.glob("rank*.pid")]
        victim = random.choice([0, *ranks])
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL) if victim else os.killpg(pid, signal.SIGKILL)
        status = int(self._line())
        assert status in (0, -signal.SIGKILL), (folder / "errors").read_text()
        if status == 0:
            return False
        self.kills += 1
        self.in_saves += bool(_under_way(folder) - before)
        told = folder / "told"
        if told.exists() and (line := told.read_text().splitlines()):
            self.starts.append(line[0])
        return True


def _under_way(folder: Path) -> set[str]:
    """The transactions of saves that have begun and not ended; of what was killed, they stay."""
    return {p.name for p in (folder / "store" / "txn").glob("*.txn")}


def _wait_for_a_save(folder: Path, before: set[str], number: int, pid: int) -> None:
    """Returns in the middle of the so manieth save from now, or if none comes."""
    ends, seen = time.monotonic() + TIMEOUT_S, set(before)
    while number and time.monotonic() < ends and Path(f"/proc/{pid}").exists():
        new = _under_way(folder) - seen
        seen |= new
        number -= bool(new)
        time.sleep(_LOOK_S)
