"""What the Python layer costs over the engine, and how long a save in the background blocks.

    python benches/python_layer.py --work DIR [--gigabytes 1] [--repeats 7] [--out figures.json]

The state is a transformer's with its AdamW moments, made up: normal values, of which every step
changes all. A save's time is parted in two: what Store.save spends inside the engine's own call,
and the rest, which is the layer's. What blocks the training of a save with `wait=False` is held
against a copy of the same tensors to memory that is there already. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import milepost

GB = 1e9
#: Rows and columns of a block's matrices, in units of the width, and of its vectors.
MATRICES, VECTORS = ((3, 1), (1, 1), (4, 1), (1, 4)), (3, 1, 4, 1, 1, 1, 1, 1)


class Timed:
    """The engine's store, with the seconds that its saves take."""

    def __init__(self, native: Any) -> None:
        self.native, self.seconds = native, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.native, name)

    def save(self, request: Any) -> Any:
        started = time.perf_counter()
        try:
            return self.native.save(request)
        finally:
            self.seconds += time.perf_counter() - started


def training(gigabytes: float) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model of blocks like GPT's, and AdamW with moments, of about so many bytes in all."""
    width, floats = 768, int(gigabytes * GB / 12)
    blocks = max(1, floats // (sum(r * c for r, c in MATRICES) * width * width))
    parameters = torch.nn.ParameterDict()
    for block in range(blocks):
        for index, (rows, columns) in enumerate(MATRICES):
            shape = (rows * width, columns * width)
            parameters[f"{block}_m{index}"] = torch.nn.Parameter(torch.randn(shape) * 0.02)
        for index, times in enumerate(VECTORS):
            parameters[f"{block}_v{index}"] = torch.nn.Parameter(torch.randn(times * width))
    optimizer = torch.optim.AdamW(parameters.parameters(), lr=1e-3)
    step(parameters, optimizer)
    return parameters, optimizer


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    moments = [v for state in optimizer.state.values() for v in state.values()]
    return [*(p.detach() for p in model.parameters()), *moments]


def measure(work: Path, gigabytes: float, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model, optimizer = training(gigabytes)
    state = {"model": model, "optimizer": optimizer}
    copies = [torch.empty_like(t) for t in tensors(model, optimizer)]
    nbytes = sum(t.numel() * t.element_size() for t in copies)
    told: dict[str, list[float]] = {"engine": [], "layer": [], "blocked": [], "copy": []}
    shutil.rmtree(work, ignore_errors=True)
    with milepost.open(work) as store:
        timed = Timed(store.native)
        for repeat in range(repeats + 1):
            step(model, optimizer)
            store._of_pid = (os.getpid(), timed)  # type: ignore[assignment]
            timed.seconds, started = 0.0, time.perf_counter()
            store.save(repeat, state)
            whole = time.perf_counter() - started
            store._of_pid = (os.getpid(), timed.native)
            told["engine"].append(timed.seconds)
            told["layer"].append(whole - timed.seconds)
            store.forget(keep=milepost.Keep(last=1))
        # Two copies are kept for saves under way; both are fresh once.
        for repeat in range(repeats + 2):
            step(model, optimizer)
            started = time.perf_counter()
            store.save(repeats + 1 + repeat, state, wait=False)
            told["blocked"].append(time.perf_counter() - started)
            store.forget(keep=milepost.Keep(last=1))
            started = time.perf_counter()
            for mine, theirs in zip(copies, tensors(model, optimizer), strict=True):
                mine.copy_(theirs)
            told["copy"].append(time.perf_counter() - started)
    shutil.rmtree(work)
    # The first have no parent, and fresh memory.
    seconds = {name: values[-repeats:] for name, values in told.items()}
    return {"bytes": nbytes, "tensors": len(copies), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    figures = measure(given.work / "python-layer", given.gigabytes, given.repeats)
    figures |= {"torch": torch.__version__, "milepost": milepost.__version__}
    figures["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    if given.out is not None:
        given.out.write_text(json.dumps(figures))
    print(f"{figures['bytes'] / GB:.2f} GB in {figures['tensors']} tensors, {figures['machine']}")
    print("| what | seconds, median (least to most) |\n| --- | --- |")
    median = {}
    for name, values in figures["seconds"].items():
        median[name] = statistics.median(values)
        print(f"| {name} | {median[name]:.4f} ({min(values):.4f} to {max(values):.4f}) |")
    print(f"the layer over the engine: {median['layer'] / median['engine']:.2%}")
    print(f"blocked over a copy: {median['blocked'] / median['copy']:.2f}x")


if __name__ == "__main__":
    main()
