"""Forks a training for each line it is told: see kills.py."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path


def child(train: object, folder: Path, steps: int) -> None:
    """Trains in a process group of its own, whose output goes to files."""
    os.setsid()
    os.chdir(folder)
    errors = os.open("errors", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    status = 1
    with contextlib.suppress(BaseException):
        try:
            digest = train(folder, steps)  # type: ignore[operator]
            with open("told", "a") as told:
                told.write(f"{digest}\n")
            sys.stdout.flush()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
    os._exit(status)


def main(name: str) -> None:
    """Says `ready`; then for each line the process's id and how it ended."""
    sys.path.insert(0, str(Path(__file__).parent / "trainings"))
    train = importlib.import_module(name).train
    print("ready", flush=True)
    for line in sys.stdin:
        folder, steps = line.split()
        os.makedirs(folder, exist_ok=True)
        for old in ("told", "rank0.pid", "rank1.pid"):
            (Path(folder) / old).unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            child(train, Path(folder), int(steps))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
