"""A store, reached as people reach it: by the built command, one process for each call."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

# Far longer than any call takes: only a hang lasts so long.
PATIENCE = 60.0
# Exit codes of the command.
NO_STORE, LOCKED, NOT_FOUND, DAMAGED, NO_SPACE = 10, 11, 12, 13, 15
HUNG = 124


class Done(NamedTuple):
    """How a call ended: exit code (negative: the signal), standard output, standard error."""

    code: int
    out: bytes
    err: str

    @property
    def told(self) -> str:
        """The line that says what went wrong; warnings may come before it."""
        return next((line for line in self.err.splitlines() if line.startswith("error: ")), "")

    def complaint(self) -> str | None:
        """What is wrong with the way in which it failed, if it failed."""
        if self.code == HUNG:
            return "hangs"
        if "panicked" in self.err or "RUST_BACKTRACE" in self.err:
            return f"panics: {self.err.strip()[:300]}"
        if self.code > 0 and len(self.told) < 20:
            return f"exits with {self.code} and no clear sentence: {self.err.strip()[:300]!r}"
        return None


class Store:
    """A folder, and the command that works on it."""

    def __init__(self, milepost: Path, root: Path) -> None:
        self.milepost, self.root = milepost, root
        # Checkpoints that were restored and compared.
        self.compared = 0

    def command(self, *words: object) -> list[str]:
        return [str(self.milepost), "-s", str(self.root), *map(str, words)]

    def run(self, *words: object, before: Iterable[object] = (), **how: Any) -> Done:
        """Runs a command; `before` is put in front of it, `how` goes to the process."""
        command = [*map(str, before), *self.command(*words)]
        try:
            done = subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, **how
            )
        except subprocess.TimeoutExpired as late:
            return Done(HUNG, late.stdout or b"", (late.stderr or b"").decode(errors="replace"))
        return Done(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def ask(self, *words: object) -> dict[str, Any]:
        """The answer of a command that must not fail."""
        done = self.run("--json", "-j", 1, *words)
        if done.code != 0:
            raise Refused(f"{' '.join(map(str, words))} exits with {done.code}: {done.err.strip()}")
        return json.loads(done.out)

    def leftovers(self) -> list[str]:
        """Files that a store at rest does not have after a collection."""
        left = [p for kind in ("txn/*.txn", "txn/*.tmp", "trash/*") for p in self.root.glob(kind)]
        return sorted(f"{path.parent.name}/{path.name}" for path in left)


class Refused(Exception):
    """A call failed that must not fail."""
