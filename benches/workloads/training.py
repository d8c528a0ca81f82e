"""What every workload shares: text, optimizers, one training step, and writing checkpoints.

A workload is a module with a function that trains and calls `save`; `make_unless_complete`
gives it a command line and skips it where the complete set of files is there already.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from corpus import load_bytes
from gpt import SHAPES, Gpt
from safetensors.torch import load_file, save_file
from torch.nn import functional

SEED = 20_240
PEAK_RATE = 6e-4
FINAL_SHARE = 0.1
WARM_UP_STEPS = 50
SCHEDULE_STEPS = 2_000
BATCH = {"tiny": 8, "small": 8}
TEXT_BYTES = 4 << 20

Tensors = dict[str, torch.Tensor]


def start() -> torch.Generator:
    """Fixes seeds, algorithms and threads; the generator that draws the batches."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    return torch.Generator().manual_seed(SEED)


def load_text() -> torch.Tensor:
    """The text that models are pre-trained on, as bytes."""
    return torch.frombuffer(bytearray(load_bytes()), dtype=torch.uint8)


def load_other_text() -> torch.Tensor:
    """Text that pre-training has not seen, as bytes."""
    text = load_bytes(2 * TEXT_BYTES)[len(load_bytes()) :]
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def learning_rate(step: int) -> float:
    """Pre-training: linear warm-up, then a cosine down to a tenth of the peak."""
    if step < WARM_UP_STEPS:
        return PEAK_RATE * (step + 1) / WARM_UP_STEPS
    share = min(1.0, (step - WARM_UP_STEPS) / (SCHEDULE_STEPS - WARM_UP_STEPS))
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    return PEAK_RATE * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)


def make_optimizer(model: Gpt) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only, as is usual for GPTs."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95))


def draw_windows(
    text: torch.Tensor, generator: torch.Generator, batch: int, context: int
) -> torch.Tensor:
    """Random windows of the text, (batch, context + 1), as token numbers."""
    starts = torch.randint(len(text) - context - 1, (batch,), generator=generator)
    return torch.stack([text[s : s + context + 1] for s in starts.tolist()]).long()


def loss_of(model: torch.nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Mean loss of the next byte over all windows, in nats a byte."""
    logits = model(windows[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def train_step(
    model: Gpt,
    optimizer: torch.optim.AdamW,
    text: torch.Tensor,
    generator: torch.Generator,
    batch: int,
    step: int,
) -> float:
    """One pre-training step on random windows of the text; the loss in nats a byte."""
    loss = loss_of(model, draw_windows(text, generator, batch, model.shape.context))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step)
    optimizer.step()
    return float(loss.detach())


def optimizer_state_of(names: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's tensors as `optimizer.state.<parameter>.<key>`."""
    return {
        f"optimizer.state.{name}.{key}": value
        for name, parameter in names.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def newest_of(folder: Path) -> Path:
    """The newest checkpoint in a workload's folder."""
    files = sorted(folder.glob("step-*.safetensors"))
    if not files:
        sys.exit(f"{folder}: no checkpoint to start from; make that workload first")
    return files[-1]


def load_model(checkpoint: Path, preset: str) -> Gpt:
    """The model of a pre-training checkpoint."""
    prefix = "model."
    tensors = load_file(checkpoint)
    model = Gpt(SHAPES[preset])
    weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    model.load_state_dict(weights)
    return model


def save(out: Path, step: int, loss: float, tensors: Tensors) -> None:
    """Writes one checkpoint under a temporary name, then renames it."""
    metadata = {"format": "pt", "step": str(step), "loss": f"{loss:.6f}"}
    path = out / f"step-{step:08}.safetensors"
    partial = path.with_suffix(".partial")
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, partial, metadata)
    partial.rename(path)
    print(f"{path.name}: loss {loss:.3f}", file=sys.stderr)


def make_unless_complete(
    about: str,
    run: Callable[[argparse.Namespace], None],
    options: dict[str, int | str],
    facts: dict[str, object],
    needs: str | None = None,
) -> None:
    """Parses the command line and runs the workload unless its complete set is there.

    `options` are whole numbers and words with their defaults; `facts` are constants that
    decide what is in the files; `needs` is the workload whose newest checkpoint it starts from,
    looked for beside the folder that is written.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    if needs:
        parser.add_argument("--start", type=Path, help=f"folder of `{needs}`")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    wanted = {k: v for k, v in vars(args).items() if k not in ("out", "start")}
    wanted |= {"torch": torch.__version__, "seed": SEED, **facts}
    done = args.out / "done.json"
    if done.exists() and json.loads(done.read_text()) == wanted:
        print(f"{args.out}: complete already", file=sys.stderr)
        return
    if needs:
        args.start = newest_of(args.start or args.out.parent / needs)
    args.out.mkdir(parents=True, exist_ok=True)
    for stale in args.out.glob("*.safetensors"):
        stale.unlink()
    run(args)
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(wanted))
    partial.rename(done)
