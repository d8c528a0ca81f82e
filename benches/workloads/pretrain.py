"""Pre-training: a GPT of about 10 M parameters, fp32, AdamW, complete states some steps apart.

Models the dense case, in which every weight and moment changes at every step. The seed is
fixed, so a machine makes the same files each time. Each file is one safetensors checkpoint:
`model.*`, `optim.exp_avg.*`, `optim.exp_avg_sq.*`, `optim.step.*` and the generator's state.

    python benches/workloads/pretrain.py --out DIR
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from gpt import SHAPES, Gpt
from corpus import load_bytes
from safetensors.torch import save_file
from torch.nn import functional

SEED = 20_240
PEAK_RATE = 6e-4
FINAL_SHARE = 0.1
WARM_UP_STEPS = 50
SCHEDULE_STEPS = 2_000
BATCH = {"tiny": 8, "small": 8}


def learning_rate(step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth of the peak."""
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


def train_step(
    model: Gpt,
    optimizer: torch.optim.AdamW,
    text: torch.Tensor,
    generator: torch.Generator,
    batch: int,
    step: int,
) -> float:
    """One step on random windows of the text; returns the loss in nats a byte."""
    context = model.shape.context
    starts = torch.randint(len(text) - context - 1, (batch,), generator=generator)
    windows = torch.stack([text[s : s + context + 1] for s in starts.tolist()]).long()
    logits = model(windows[:, :-1])
    loss = functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step)
    optimizer.step()
    return float(loss.detach())


def state_of(
    model: Gpt, optimizer: torch.optim.AdamW, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Everything a resumed run needs, by name."""
    tensors = {"rng.torch": generator.get_state()}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optim.{key}.{name}"] = value
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def save(out: Path, step: int, loss: float, tensors: dict[str, torch.Tensor]) -> None:
    """Writes one checkpoint under a temporary name, then renames it."""
    metadata = {"format": "pt", "step": str(step), "loss": f"{loss:.6f}"}
    path = out / f"step-{step:08}.safetensors"
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata)
    partial.rename(path)


def run(out: Path, preset: str, states: int, every: int, warm_up: int) -> None:
    """Trains and saves `states` checkpoints, `every` steps apart, after `warm_up` steps."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(SEED)
    text = torch.frombuffer(bytearray(load_bytes()), dtype=torch.uint8)
    model = Gpt(SHAPES[preset])
    optimizer = make_optimizer(model)
    last = warm_up + every * (states - 1)
    started = time.monotonic()
    for step in range(1, last + 1):
        loss = train_step(model, optimizer, text, generator, BATCH[preset], step)
        if step >= warm_up and (step - warm_up) % every == 0:
            save(out, step, loss, state_of(model, optimizer, generator))
            elapsed = time.monotonic() - started
            print(f"step {step}/{last}: loss {loss:.3f}, {elapsed:.0f} s", file=sys.stderr)


def main() -> None:
    """Makes the files unless the complete set is there already."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", choices=sorted(SHAPES), default="small")
    parser.add_argument("--states", type=int, default=8)
    parser.add_argument("--every", type=int, default=20, help="steps between two states")
    parser.add_argument("--warmup-steps", type=int, default=200, help="steps before the first")
    args = parser.parse_args()
    wanted = {k: v for k, v in vars(args).items() if k != "out"}
    wanted |= {"torch": torch.__version__, "peak_rate": PEAK_RATE, "seed": SEED}
    done = args.out / "done.json"
    if done.exists() and json.loads(done.read_text()) == wanted:
        print(f"{args.out}: complete already", file=sys.stderr)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    run(args.out, args.preset, args.states, args.every, args.warmup_steps)
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(wanted))
    partial.rename(done)


if __name__ == "__main__":
    main()
