"""What `compact --reencode` makes of a run of which every second checkpoint was forgotten.

    python benches/anew.py --milepost target/release/milepost --data DIR --workloads "step finetune"

Saves the checkpoints of a workload twice, with relations of tensors and without, forgets every
second, collects, compacts and codes anew. Prints the bytes of the store after each over those of
the raw files that are left, and checks that every checkpoint came through.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path


class Store:
    """A store that the command works on."""

    def __init__(self, milepost: Path, root: Path, budget: str) -> None:
        self.tool = [str(milepost), "-s", str(root), "--json", "--progress", "none"]
        self.call("init", "--restore-budget", budget)

    def call(self, *args: str) -> dict[str, object]:
        """Runs one command and reads what it prints."""
        ran = subprocess.run([*self.tool, *args], capture_output=True, text=True, check=True)
        printed: dict[str, object] = json.loads(ran.stdout)
        return printed

    def size(self) -> int:
        """Bytes of all its files."""
        size = self.call("stats")["disk_bytes"]
        assert isinstance(size, int)
        return size


def measure(milepost: Path, files: list[Path], budget: str, relations: bool) -> list[float]:
    """The store's size when collected, compacted and coded anew, in shares of what is left."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as work:
        store = Store(milepost, Path(work) / "store", budget)
        for number, path in enumerate(files):
            told = [] if relations else ["--no-relations"]
            store.call("save", str(path), "--step", str(number), *told)
        store.call("forget", *(f"main@step:{n}" for n in range(0, len(files), 2)))
        left = sum(path.stat().st_size for path in files[1::2])
        shares = []
        for command in (("gc",), ("compact",), ("compact", "--reencode")):
            store.call(*command)
            shares.append(store.size() / left)
        store.call("verify")
        for number, path in list(enumerate(files))[1::2]:
            back = Path(work) / "back.safetensors"
            store.call("restore", f"main@step:{number}", "-o", str(back), "--force")
            if back.read_bytes() != path.read_bytes():
                raise SystemExit(f"{path} came back changed")
        return shares


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milepost", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the workloads")
    parser.add_argument("--workloads", default="pretrain step finetune lora ema")
    parser.add_argument("--budgets", default="2 16")
    args = parser.parse_args()
    print("| workload | budget | relations | collected | compacted | coded anew |")
    print("| --- | --- | --- | --- | --- | --- |")
    for workload in args.workloads.split():
        files = sorted((args.data / workload).glob("*.safetensors"))
        for budget in args.budgets.split():
            for relations in (False, True):
                shares = measure(args.milepost.resolve(), files, budget, relations)
                cells = " | ".join(f"{share:.4f}" for share in shares)
                kept = "kept" if relations else "none"
                print(f"| {workload} | {budget} | {kept} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
