"""Fine-tuning in mixed precision: fp32 master, bf16 copy, AdamW, lr 1e-5, every 10 steps.

Starts from the newest pre-trained model, on text that it has not seen. Gradients are computed
with the bf16 weights, as large models do, and applied to the fp32 master. Names: `model.*` (bf16),
`master.*` (fp32), `optimizer.state.<parameter>.{exp_avg,exp_avg_sq,step}`.

    python benches/workloads/finetune.py --out DIR
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from training import (
    draw_windows,
    load_model,
    load_other_text,
    loss_of,
    make_unless_complete,
    optimizer_state_of,
    save,
    start,
)

RATE = 1e-5
BATCH = 4


def run(args: argparse.Namespace) -> None:
    """Trains and saves states, some steps apart, after a warm-up of the moments."""
    generator = start()
    text = load_other_text()
    model = load_model(args.start, args.preset)
    master = {n: nn.Parameter(p.detach().clone()) for n, p in model.named_parameters()}
    model.bfloat16()
    optimizer = torch.optim.AdamW(master.values(), lr=RATE, betas=(0.9, 0.999), weight_decay=0.01)
    last = args.skipped + args.every * (args.states - 1)
    for step in range(1, last + 1):
        windows = draw_windows(text, generator, BATCH, model.shape.context)
        loss = loss_of(model, windows)
        model.zero_grad(set_to_none=True)
        loss.backward()
        for name, parameter in model.named_parameters():
            master[name].grad = parameter.grad.float()
        nn.utils.clip_grad_norm_(master.values(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(master[name])
        if step >= args.skipped and (step - args.skipped) % args.every == 0:
            tensors = {f"model.{n}": p for n, p in model.named_parameters()}
            tensors |= {f"master.{n}": p for n, p in master.items()}
            tensors |= optimizer_state_of(master, optimizer)
            save(args.out, step, float(loss.detach()), tensors)


if __name__ == "__main__":
    make_unless_complete(
        __doc__,
        run,
        {"preset": "small", "states": 7, "every": 10, "skipped": 20},
        {"rate": RATE},
        needs="pretrain",
    )
