"""Runs milepost and its rivals over the workloads and writes every figure to one JSON file.

The file is written anew after each method, and figures that it has for a workload are replaced.

    python benches/compare/compare.py --milepost target/release/milepost --data DIR --out FILE
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from bound import bounds
from external import call, repository, xdelta3, zstd_19
from inprocess import Figures, measure, methods
from states import load_states
from stores import BUDGETS, LEVELS, measure_store

WORKLOADS = ("pretrain", "step", "finetune", "rl", "lora", "embed", "ema", "public")
GROUPS = ("milepost", "bounds", "inprocess", "xdelta3", "borg", "restic", "zstd-19")


def machine() -> dict[str, object]:
    """Processor, cores, memory and kernel."""
    info = Path("/proc/cpuinfo").read_text()
    lines = [line.split(":")[1].strip() for line in info.splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": lines[0] if lines else "?",
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release(),
    }


def versions(milepost: Path) -> dict[str, str]:
    """What ran, by name; a program that is not there is told as such."""
    found = {name: version(name) for name in ("numpy", "zipnn", "zstandard")}
    found["python"] = platform.python_version()
    found["milepost"] = call(milepost, "--version").split()[-1]
    for program, flag in (("zstd", "-V"), ("xdelta3", "-V"), ("borg", "-V"), ("restic", "version")):
        if not shutil.which(program):
            found[program] = "not installed"
            continue
        lines = call("sh", "-c", f"{program} {flag} 2>&1").splitlines()
        found[program] = lines[0].strip("* ") if lines else "?"
    return found


class Run:
    """The figures so far, and where they are written."""

    def __init__(self, out: Path, milepost: Path) -> None:
        self.out = out
        self.report = json.loads(out.read_text()) if out.exists() else {"workloads": {}}
        self.report |= {"machine": machine(), "versions": versions(milepost)}

    def begin(self, workload: str, files: list[Path]) -> dict[str, dict]:
        """A workload's figures, with what its raw files take."""
        sizes = [path.stat().st_size for path in files]
        facts = self.report["workloads"].setdefault(workload, {"methods": {}})
        facts["raw"] = {"total_bytes": sum(sizes), "after_first_bytes": sum(sizes[1:])}
        facts["states"] = len(files)
        return facts

    def write(self) -> None:
        """Puts the file in place whole."""
        partial = self.out.with_suffix(".partial")
        partial.write_text(json.dumps(self.report, indent=1))
        partial.rename(self.out)

    def add(self, workload: str, name: str, make: Callable[[], Figures]) -> None:
        """Measures one method; a failure is recorded, and counts as one."""
        try:
            summary = make().summary()
        except (RuntimeError, OSError) as error:
            summary = {"failed": str(error)[:500]}
        self.report["workloads"][workload]["methods"][name] = summary
        self.write()
        raw = self.report["workloads"][workload]["raw"]["total_bytes"]
        share = summary.get("total_bytes", 0) / raw
        print(f"{workload}: {name}: {share:.4f} of raw", file=sys.stderr)


def run_stores(
    run: Run, name: str, files: list[Path], milepost: Path, args: argparse.Namespace
) -> None:
    """milepost at each level and restore budget that is asked for."""
    costs = run.report["workloads"][name].setdefault("restore_costs", {})
    for level in args.levels.split():
        for budget in args.budgets.split():
            label = f"milepost {level}, budget {budget}"

            def make(level: str = level, budget: str = budget, label: str = label) -> Figures:
                with tempfile.TemporaryDirectory(dir=args.work) as work:
                    figures, facts = measure_store(milepost, files, Path(work), level, budget)
                costs[label] = facts
                return figures

            run.add(name, label, make)


def run_programs(run: Run, name: str, files: list[Path], args: argparse.Namespace) -> None:
    """Rivals that are programs of their own, each in a folder that goes when it ends."""
    programs: dict[str, tuple[str, Callable[[Path], Figures]]] = {
        "xdelta3": ("xdelta3, previous", lambda work: xdelta3(files, work)),
        "borg": ("borg", lambda work: repository(files, work, "borg")),
        "restic": ("restic", lambda work: repository(files, work, "restic")),
        "zstd-19": ("zstd -19", lambda work: zstd_19(files, work, args.sample_19)),
    }
    for group, (label, measure_in) in programs.items():
        if group not in args.groups.split():
            continue

        def make(measure_in: Callable[[Path], Figures] = measure_in) -> Figures:
            with tempfile.TemporaryDirectory(dir=args.work) as work:
                return measure_in(Path(work))

        run.add(name, label, make)


def run_workload(run: Run, name: str, milepost: Path, args: argparse.Namespace) -> None:
    """All groups that are asked for, over one workload."""
    files = load_states(args.data / name)
    if not files:
        print(f"{args.data / name}: no checkpoints, left out", file=sys.stderr)
        return
    facts = run.begin(name, files)
    groups = args.groups.split()
    if "milepost" in groups:
        run_stores(run, name, files, milepost, args)
    if "bounds" in groups:
        facts["bounds"] = {
            kind: {"total_bytes": sum(sizes), "after_first_bytes": sum(sizes[1:])}
            for kind, sizes in bounds(files).items()
        }
        run.write()
    if "inprocess" in groups:
        for label, method in methods().items():
            run.add(name, label, lambda method=method: measure(method, files))
    run_programs(run, name, files, args)


def main() -> None:
    """Measures what is asked for and fails if anything came back changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milepost", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the workloads")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--work", type=Path, help="folder for stores and repositories")
    parser.add_argument("--workloads", default=" ".join(WORKLOADS))
    parser.add_argument("--groups", default=" ".join(GROUPS))
    parser.add_argument("--levels", default=" ".join(LEVELS))
    parser.add_argument("--budgets", default=" ".join(BUDGETS))
    parser.add_argument("--sample-19", action="store_true", help="zstd -19 on a sixteenth")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    milepost = args.milepost.resolve()
    run = Run(args.out, milepost)
    asked = args.workloads.split()
    for name in asked:
        run_workload(run, name, milepost, args)
    wrong = [
        f"{workload}: {name}"
        for workload, facts in run.report["workloads"].items()
        for name, figures in facts["methods"].items()
        if workload in asked and not figures.get("identical")
    ]
    if wrong:
        sys.exit("failed, or came back changed:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
