"""Which ways to save survive a power cut: at once behind the save, and when the machine was idle.

Each saver has a file system of its own, so that no sync of another helps it. A new checkpoint is
saved under a name of its own; when the save has returned, or so many seconds later, the file
system is cut off, as in power_cuts.py, and what is left is loaded and compared.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import mounts
import rig as rigs
import states
from store import Store

SIZE = 96 << 20
TORCH = ("torch.save", "safetensors", "torch DCP")
MILEPOST = "milepost"
NAMES = {
    "torch.save": "`torch.save`",
    "safetensors": "safetensors `save_file`",
    "torch DCP": "`torch.distributed.checkpoint`",
    MILEPOST: "`milepost save`",
}


class Torch:
    """A process with PyTorch, which saves and loads when asked."""

    def __init__(self, python: Path) -> None:
        script = Path(__file__).with_name("torch_savers.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([python, script], text=True, **pipes)
        self.versions = self.answer()

    def answer(self) -> str:
        line = self.process.stdout.readline().strip()
        if not line:
            raise OSError("the process with PyTorch has ended")
        return line

    def ask(self, do: str, saver: str, path: Path, step: int) -> str:
        asked = {"do": do, "saver": saver, "path": str(path), "step": step}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


class Comparison:
    """All savers, each at work on a file system of its own."""

    def __init__(self, rig: rigs.Rig, torch: Torch, folder: Path) -> None:
        self.rig, self.torch, self.folder = rig, torch, folder
        self.savers = [*TORCH, MILEPOST]
        self.step = 0
        self.survived: Counter[tuple[str, float]] = Counter()
        self.why: dict[tuple[str, float], Counter[str]] = {}

    def at(self, saver: str) -> Path:
        return self.folder / f"at-{saver.replace(' ', '-')}"

    def image(self, saver: str) -> Path:
        return self.folder / "pool" / f"{saver.replace(' ', '-')}.img"

    def file(self) -> bytes:
        """As large as the others' states, new at every step."""
        data = random.Random(self.step).randbytes(8 * 256 * 1024)
        tensors = {
            f"layer{i}": states.Tensor("F32", (65536,), data[i << 18 : (i + 1) << 18])
            for i in range(8)
        }
        return states.encode(tensors, {"step": str(self.step)})

    def path(self, root: Path) -> Path:
        return root / f"step_{self.step}"

    def save(self, saver: str) -> None:
        if saver in TORCH:
            said = self.torch.ask("save", saver, self.path(self.at(saver)), self.step)
            if said != "ok":
                raise OSError(f"{saver}: {said}")
            return
        source = self.folder / "source.safetensors"
        source.write_bytes(self.file())
        store = Store(self.rig.milepost, self.at(saver) / "store")
        done = store.run("save", source, "--step", self.step)
        if done.code != 0:
            raise OSError(f"milepost: {done.err}")

    def load(self, saver: str, root: Path) -> str:
        if saver in TORCH:
            return self.torch.ask("load", saver, self.path(root), self.step)
        done = Store(self.rig.milepost, root / "store").run(
            "-q", "restore", f"step:{self.step}", "-o", "-"
        )
        if done.code != 0:
            return done.told
        return "ok" if done.out == self.file() else "other bytes than were saved"

    def cut(self, delay: float) -> None:
        """One new checkpoint of each saver, and what a cut so long after it leaves."""
        self.step += 1
        returned = {}
        for saver in self.savers:
            self.save(saver)
            returned[saver] = time.monotonic()
            if delay == 0.0:
                mounts.clone(self.image(saver), self.image(f"{saver}-cut"))
        for saver in self.savers if delay else []:
            time.sleep(max(0.0, returned[saver] + delay - time.monotonic()))
            mounts.clone(self.image(saver), self.image(f"{saver}-cut"))
        for saver in self.savers:
            copy = self.image(f"{saver}-cut")
            with mounts.mounted(copy, self.folder / "cut") as root:
                said = self.load(saver, root)
            copy.unlink()
            self.rig.count("cuts")
            self.survived[saver, delay] += said == "ok"
            if said != "ok":
                kept = self.why.setdefault((saver, delay), Counter())
                kept[said.split(":")[0] if saver in TORCH else said] += 1
            if saver == MILEPOST and said != "ok":
                self.rig.violation(rigs.LOST, f"step {self.step}: {said}")

    def run(self, rounds: int, delays: list[float]) -> None:
        for delay in delays:
            for _ in range(rounds):
                # Fresh file systems: nothing that came before fills or syncs them.
                with ExitStack() as stack:
                    for saver in self.savers:
                        mounts.make(self.image(saver), "ext4", SIZE)
                        stack.enter_context(mounts.mounted(self.image(saver), self.at(saver)))
                    Store(self.rig.milepost, self.at(MILEPOST) / "store").run("init")
                    self.settle()
                    self.cut(delay)

    def settle(self) -> None:
        """An older checkpoint that is safe, as in a training that goes on."""
        self.step += 1
        for saver in self.savers:
            self.save(saver)
            mounts.call("sync", "-f", self.at(saver))

    def table(self, rounds: int, delays: list[float]) -> str:
        heads = ["cut at once" if d == 0 else f"cut after {d:g} s" for d in delays]
        lines = [f"| saver | {' | '.join(heads)} | what was left else |"]
        lines.append("| --- |" + " --- |" * (len(delays) + 1))
        for saver in self.savers:
            cells = [f"{self.survived[saver, delay]} of {rounds}" for delay in delays]
            left = Counter[str]()
            for delay in delays:
                left.update(self.why.get((saver, delay), {}))
            told = ", ".join(f"{what} ({count})" for what, count in left.most_common(3))
            lines.append(f"| {NAMES[saver]} | {' | '.join(cells)} | {told or '-'} |")
        return "\n".join(lines)


def compare(rig: rigs.Rig, given: argparse.Namespace, folder: Path) -> None:
    """Prints a table of how many new checkpoints were there behind a cut."""
    torch = Torch(given.torch_python)
    try:
        comparison = Comparison(rig, torch, folder)
        comparison.run(given.cuts, [0.0, given.idle])
        print(f"\nNew checkpoints that load; {torch.versions}; ext4\n")
        print(comparison.table(given.cuts, [0.0, given.idle]), flush=True)
    finally:
        torch.end()
