"""Pre-training: a GPT of about 10 M parameters, fp32, AdamW, complete states some steps apart.

Models the dense case, in which every weight and moment changes at every step. The seed is
fixed, so a machine makes the same files each time. Each file is one safetensors checkpoint:
`model.*`, `optim.exp_avg.*`, `optim.exp_avg_sq.*`, `optim.step.*` and the generator's state.

    python benches/workloads/pretrain.py --out DIR
"""

from __future__ import annotations

import argparse

import torch
from gpt import SHAPES, Gpt
from training import (
    BATCH,
    PEAK_RATE,
    Tensors,
    load_text,
    make_optimizer,
    make_unless_complete,
    save,
    start,
    train_step,
)


def state_of(model: Gpt, optimizer: torch.optim.AdamW, generator: torch.Generator) -> Tensors:
    """Everything a resumed run needs, by name."""
    tensors = {"rng.torch": generator.get_state()}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optim.{key}.{name}"] = value
    return tensors


def run(args: argparse.Namespace) -> None:
    """Trains and saves states, some steps apart, after a warm-up."""
    generator = start()
    text = load_text()
    model = Gpt(SHAPES[args.preset])
    optimizer = make_optimizer(model)
    last = args.warmup_steps + args.every * (args.states - 1)
    for step in range(1, last + 1):
        loss = train_step(model, optimizer, text, generator, BATCH[args.preset], step)
        if step >= args.warmup_steps and (step - args.warmup_steps) % args.every == 0:
            save(args.out, step, loss, state_of(model, optimizer, generator))


if __name__ == "__main__":
    make_unless_complete(
        __doc__,
        run,
        {"preset": "small", "states": 8, "every": 20, "warmup-steps": 200},
        {"peak_rate": PEAK_RATE},
    )
