"""Every step: the pre-training run goes on from its newest state, and each step is saved.

Models per-step checkpoints of a dense fp32 AdamW run: everything changes, little by little.
Names are those of `pretrain`: `model.*`, `optim.exp_avg.*`, `optim.exp_avg_sq.*`, `optim.step.*`
and the generator's state.

    python benches/workloads/step.py --out DIR
"""

from __future__ import annotations

import argparse

from pretrain import state_of
from safetensors.torch import load_file
from training import (
    BATCH,
    PEAK_RATE,
    load_model,
    load_text,
    make_optimizer,
    make_unless_complete,
    save,
    start,
    train_step,
)


def run(args: argparse.Namespace) -> None:
    """Resumes exactly: weights, moments, step and the generator of the batches."""
    generator = start()
    text = load_text()
    tensors = load_file(args.start)
    model = load_model(args.start, args.preset)
    optimizer = make_optimizer(model)
    for name, parameter in model.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][key] = tensors[f"optim.{key}.{name}"].clone()
    generator.set_state(tensors["rng.torch"])
    first = int(tensors["optim.step.tokens.weight"].item()) + 1
    for step in range(first, first + args.states):
        loss = train_step(model, optimizer, text, generator, BATCH[args.preset], step)
        save(args.out, step, loss, state_of(model, optimizer, generator))


if __name__ == "__main__":
    make_unless_complete(
        __doc__,
        run,
        {"preset": "small", "states": 8},
        {"peak_rate": PEAK_RATE},
        needs="pretrain",
    )
