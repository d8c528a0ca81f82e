"""Reinforcement learning: bf16 weights alone, lr 1e-6, every step.

Models the weights that a trainer sends to its samplers. The fp32 master weights and AdamW's
moments stay with the trainer and are not in the files. The update is REINFORCE with advantages
standardised over the batch; windows of real text stand in for samples, and the share of letters
in a window for its reward. Names: `model.*`, all bf16.

    python benches/workloads/rl.py --out DIR
"""

from __future__ import annotations

import argparse

import torch
from gpt import Gpt
from torch.nn import functional
from training import (
    BATCH,
    draw_windows,
    load_model,
    load_other_text,
    make_unless_complete,
    save,
    start,
)

RATE = 1e-6


def policy_loss(model: Gpt, windows: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each window, weighted by its standardised reward."""
    targets = windows[:, 1:]
    logits = model(windows[:, :-1])
    surprise = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)
    reward = ((targets >= ord("a")) & (targets <= ord("z"))).float().mean(1)
    advantage = (reward - reward.mean()) / (reward.std() + 1e-6)
    return (advantage * surprise).mean()


def run(args: argparse.Namespace) -> None:
    """Trains past the optimizer's first steps, then saves the weights after each step."""
    generator = start()
    text = load_other_text()
    model = load_model(args.start, args.preset)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.999), weight_decay=0)
    context = model.shape.context
    for step in range(1, args.skipped + args.states + 1):
        windows = draw_windows(text, generator, BATCH[args.preset], context)
        loss = policy_loss(model, windows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step > args.skipped:
            weights = {f"model.{n}": p.bfloat16() for n, p in model.named_parameters()}
            save(args.out, step, float(loss.detach()), weights)


if __name__ == "__main__":
    make_unless_complete(
        __doc__,
        run,
        {"preset": "small", "states": 8, "skipped": 12},
        {"rate": RATE},
        needs="pretrain",
    )
