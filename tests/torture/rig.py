"""What every rig has: its arguments, its clock, what it found, and the line that it ends with."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# What must not happen where something is killed or cut off.
LOST, OTHER = "acknowledged checkpoints lost", "other faults"
# More violations say nothing new.
MOST_SHOWN = 20
# Seconds between two lines of progress.
PROGRESS_EVERY = 60


def arguments(about: str, scale: str, default: int, meaning: str) -> argparse.ArgumentParser:
    """A parser with what all rigs take."""
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, formatter_class=how)
    parser.add_argument("--milepost", type=Path, default=ROOT / "target/release/milepost")
    parser.add_argument(f"--{scale}", type=int, default=default, help=meaning)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is random")
    return parser


class Rig:
    """A run of a rig: what was done, and what was wrong."""

    def __init__(
        self, name: str, given: argparse.Namespace, kinds: tuple[str, ...] = ("faults",)
    ) -> None:
        self.name, self.seed = name, given.seed
        self.milepost = given.milepost.resolve()
        self.started = self.told = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.wrong = Counter(dict.fromkeys(kinds, 0))
        # A rig that is told to end clears up behind it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(f"{name}: told to end"))
        if not self.milepost.is_file():
            sys.exit(f"{name}: no command at {self.milepost}: cargo build --release")
        print(f"{name}: seed {self.seed}", flush=True)

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] += by
        if (now := time.monotonic()) - self.told >= PROGRESS_EVERY:
            self.told = now
            print(f"{self.name}: {self.so_far()} ...", flush=True)

    def violation(self, kind: str, story: str) -> None:
        """Something that must not be; `story` says all that is needed to see it again."""
        self.wrong[kind] += 1
        if self.wrong.total() <= MOST_SHOWN:
            line = "; ".join(story.split("\n"))
            print(f"{self.name}: VIOLATION: {kind}: {line} (seed {self.seed})", flush=True)

    def end(self) -> int:
        """Prints the summary; the exit code."""
        print(f"{self.name}: {self.so_far()}, seed {self.seed}", flush=True)
        return 1 if self.wrong.total() else 0

    def so_far(self) -> str:
        """What was done and found, and in how many seconds."""
        done = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        found = ", ".join(f"{count} {kind}" for kind, count in self.wrong.items())
        return f"{done}; {found}; {time.monotonic() - self.started:.1f} s"

    def skip(self, why: str) -> int:
        """Says that nothing was done, and why; where changes are judged, that is a failure."""
        print(f"{self.name}: skipped: {why}", flush=True)
        return 1 if os.environ.get("CI") else 0

    def thread(self, act: Callable[[], None], kind: str) -> threading.Thread:
        """A thread whose own failure is told: else less would be done, and nobody would know."""

        def watched() -> None:
            try:
                act()
            except Exception as error:  # whatever it is, the rig did not do its work
                self.violation(kind, f"the rig itself fails: {error!r}")

        return threading.Thread(target=watched)


def lacking(*programs: str, root: bool = False) -> str | None:
    """What a rig would need and is not here."""
    if root and os.geteuid() != 0:
        return "needs root, to mount"
    missing = [program for program in programs if shutil.which(program) is None]
    return f"needs {', '.join(missing)}" if missing else None


@contextmanager
def in_memory() -> Iterator[Path]:
    """A temporary folder, on a file system in memory where there is one."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="milepost-torture-", dir=where) as folder:
        yield Path(folder)
