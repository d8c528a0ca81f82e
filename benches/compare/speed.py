"""Times milepost beside what people save with today: the same state, disk and durability, in turn.

    python benches/compare/speed.py --states DIR --work DIR [--repeats 7] [--out figures.json]

DIR of states holds safetensors files of one run, such as a workload's; the first two are used.
Every saver gets the state in memory and returns when it is durable: file and folder synced. Each
repeat runs all of them in turn, and figures are medians with the least and the most, because
machines are shared. milepost is the installed Python package; a store is new in every repeat.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open

import milepost

State = dict[str, torch.Tensor]
GB = 1e9
#: The share of a state's rows that a sparse step changes.
SPARSE_SHARE = 0.01


class Clock:
    """Seconds of everything that was timed, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        os.sync()
        started = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)


def load_state(path: Path) -> State:
    """The tensors of a file, in memory of their own."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}


def nbytes(state: State) -> int:
    return sum(t.numel() * t.element_size() for t in state.values())


def sparse_step(state: State, rows_in_a_row: bool) -> State:
    """The state with one value in a hundred changed: in whole rows, or anywhere."""
    generator = torch.Generator().manual_seed(7)
    changed = {}
    for name, tensor in state.items():
        changed[name] = tensor = tensor.clone()
        if not tensor.is_floating_point() or tensor.numel() < 1000:
            continue
        flat = tensor.view(-1)
        count = max(1, int(flat.numel() * SPARSE_SHARE))
        if rows_in_a_row:
            flat[:count] *= 1.001
        else:
            places = torch.randperm(flat.numel(), generator=generator)[:count]
            flat[places] *= 1.001
    return changed


def sync(path: Path) -> None:
    """Makes a file or folder durable."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def durable(save: Callable[[Path], None], target: Path) -> None:
    save(target)
    sync(target)
    sync(target.parent)


def rivals(clock: Clock, state: State, work: Path) -> None:
    """One save by each of the others, in an order by chance."""
    file, folder = work / "full", work / "dcp"

    def by_safetensors() -> None:
        durable(lambda path: safetensors.torch.save_file(state, path), file)

    def by_torch() -> None:
        durable(lambda path: torch.save(state, path), file)

    def by_dcp() -> None:
        dcp.save(dict(state), checkpoint_id=folder, no_dist=True)

    savers = [
        ("safetensors + fsync", by_safetensors),
        ("torch.save + fsync", by_torch),
        ("torch DCP", by_dcp),
    ]
    random.shuffle(savers)
    for name, save in savers:
        with clock.timing(f"save: {name}"):
            save()
        file.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def dcp_async(clock: Clock, state: State, work: Path) -> None:
    """DCP's save in the background, which needs a process group."""
    folder = work / "dcp-async"
    with clock.timing("durable in the background: torch DCP async_save"):
        with clock.timing("blocked: torch DCP async_save"):
            future = dcp.async_save(dict(state), checkpoint_id=folder)
        future.result()
    shutil.rmtree(folder)


def milepost_saves(clock: Clock, states: dict[str, State], work: Path, threads: int) -> Path:
    """A first save, then one after each kind of step; the store's folder."""
    folder = work / f"store-{threads}"
    shutil.rmtree(folder, ignore_errors=True)
    suffix = " (1 thread)" if threads == 1 else ""
    with milepost.open(folder, threads=threads) as store:
        for step, (name, state) in enumerate(states.items()):
            with clock.timing(f"save: milepost, {name}{suffix}"):
                store.save(step, state)
    return folder


def milepost_async(clock: Clock, states: dict[str, State], work: Path) -> None:
    """Saves in the background; the second reuses the memory of the first."""
    folder = work / "store-async"
    shutil.rmtree(folder, ignore_errors=True)
    with milepost.open(folder) as store:
        for step, state in enumerate(list(states.values())[:2]):
            name = "milepost" if step else "milepost, the first time"
            with clock.timing(f"durable in the background: {name}"):
                with clock.timing(f"blocked: {name}"):
                    handle = store.save(step, state, wait=False)
                handle.result()
    shutil.rmtree(folder)
    source = list(states.values())[0]
    target = {name: torch.empty_like(t) for name, t in source.items()}
    for name, tensor in source.items():
        target[name].copy_(tensor)
    with clock.timing("blocked: a copy of the state (torch)"):
        for name, tensor in source.items():
            target[name].copy_(tensor)


def forget_pages(folder: Path) -> None:
    """Asks the kernel to drop files from the page cache."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def touch(state: Any) -> None:
    """Reads every byte once."""
    for tensor in state.values():
        tensor.view(-1).view(torch.uint8).sum()


def restores(clock: Clock, state: State, store: Path, files: Path) -> None:
    """The newest checkpoint, warm and cold, by each."""
    files.mkdir(exist_ok=True)
    safetensors.torch.save_file(state, files / "full.safetensors")
    torch.save(state, files / "full.pt")
    # As of a model that is there: memory that nobody has touched yet is made while it is filled.
    into = {name: torch.empty_like(t).zero_() for name, t in state.items()}

    def by_milepost() -> None:
        with milepost.open(store, mode="r") as opened:
            opened.load_into(into)

    def by_milepost_anew() -> None:
        with milepost.open(store, mode="r") as opened:
            opened["latest"].load()

    actions: dict[str, Callable[[], Any]] = {
        "safetensors, every byte touched": lambda: touch(
            safetensors.torch.load_file(files / "full.safetensors")
        ),
        "torch.load": lambda: torch.load(files / "full.pt", weights_only=True),
        "a file read whole": lambda: (files / "full.safetensors").read_bytes(),
        "milepost, into the tensors": by_milepost,
        "milepost, new tensors": by_milepost_anew,
    }
    for cache in ("warm", "cold"):
        for name, action in actions.items():
            if cache == "cold":
                forget_pages(store)
                forget_pages(files)
            with clock.timing(f"restore, {cache}: {name}"):
                action()

    def raw(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view(-1).view(torch.uint8)

    if not all(torch.equal(raw(into[name]), raw(tensor)) for name, tensor in state.items()):
        raise SystemExit("milepost did not restore the state")
    shutil.rmtree(files)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All repeats; seconds by name."""
    first, second = [
        load_state(path) for path in sorted(arguments.states.glob("*.safetensors"))[:2]
    ]
    states = {
        "first checkpoint": first,
        "delta": second,
        "1 % changed, in rows": sparse_step(second, rows_in_a_row=True),
        "1 % changed, anywhere": sparse_step(sparse_step(second, True), rows_in_a_row=False),
    }
    states["nothing changed"] = states["1 % changed, anywhere"]
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    clock, work = Clock(), arguments.work / "speed"
    work.mkdir(parents=True, exist_ok=True)
    everything = states["nothing changed"]

    def saves_and_restores() -> None:
        store = milepost_saves(clock, states, work, 0)
        restores(clock, everything, store, work / "files")

    groups: list[Callable[[], Any]] = [
        lambda: rivals(clock, second, work),
        lambda: dcp_async(clock, second, work),
        saves_and_restores,
        lambda: milepost_saves(clock, states, work, 1),
        lambda: milepost_async(clock, states, work),
    ]
    for repeat in range(arguments.repeats):
        # Nobody is always the first after a pause, or always after the same other.
        turn = repeat % len(groups)
        for group in groups[turn:] + groups[:turn]:
            group()
    shutil.rmtree(work)
    torch.distributed.destroy_process_group()
    return {
        "states": arguments.states.name,
        "bytes": nbytes(second),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "versions": {
            "milepost": milepost.__version__,
            "torch": torch.__version__,
            "safetensors": safetensors.__version__,
        },
        "seconds": clock.seconds,
    }


def table(figures: dict[str, Any]) -> str:
    """Markdown: medians with their spread, and the ratio to the first of each kind."""
    lines = [
        "| what | GB/s (least to most) | ms | against the first of its kind |",
        "| --- | --- | --- | --- |",
    ]
    size, base = figures["bytes"], {}
    seconds = figures["seconds"]
    order = ["save", "blocked", "durable in the background", "restore, warm", "restore, cold"]
    # The first of a kind is what the others are held against, whoever was timed first.
    against = ("safetensors", "a copy of the state", "torch DCP async_save")

    def place(name: str) -> tuple[int, bool]:
        kind, who = name.split(": ")
        return order.index(kind), not who.startswith(against[:2] if kind != order[2] else against)

    for name in sorted(seconds, key=place):
        values = seconds[name]
        median = statistics.median(values)
        first = base.setdefault(name.split(":")[0], median)
        speeds = f"{size / median / GB:.2f} ({size / max(values) / GB:.2f} to {size / min(values) / GB:.2f})"
        lines.append(f"| {name} | {speeds} | {median * 1000:.0f} | {first / median:.2f}x |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    figures = run(arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1))
    print(
        f"{figures['states']}, {figures['bytes'] / 1e6:.1f} MB; {figures['machine']};",
        ", ".join(f"{name} {version}" for name, version in figures["versions"].items()),
    )
    print(table(figures))


if __name__ == "__main__":
    main()
