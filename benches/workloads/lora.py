"""LoRA: a frozen bf16 base, adapters of rank 16 and their AdamW state, all in each file.

Models adapter training that saves the complete state each time: most bytes never change. Names
are those of PEFT: `base_model.model.<layer>.base_layer.weight` (frozen, bf16),
`base_model.model.<layer>.lora_{A,B}.default.weight` (fp32) and
`optimizer.state.<parameter>.{exp_avg,exp_avg_sq,step}` of the adapters alone.

    python benches/workloads/lora.py --out DIR
"""

from __future__ import annotations

import argparse

import torch
from gpt import Gpt
from torch import nn
from torch.nn import functional
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

RATE = 2e-4
BATCH = 4
SCALE = 2.0


class Adapted(nn.Module):
    """A frozen linear layer with a trained low-rank update beside it."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        nn.init.kaiming_uniform_(self.lora_A["default"].weight, a=5**0.5)
        nn.init.zeros_(self.lora_B["default"].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The frozen layer's output plus the update's."""
        base = functional.linear(x, self.base_layer.weight, self.base_layer.bias)
        return base + SCALE * self.lora_B["default"](self.lora_A["default"](x))


@torch.no_grad()
def adapt(model: Gpt, rank: int) -> dict[str, nn.Parameter]:
    """Freezes the model, at bf16's precision, and gives every block's layers an adapter."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.copy_(parameter.bfloat16())
    for block in model.blocks:
        for name in ("qkv", "out", "up", "down"):
            setattr(block, name, Adapted(getattr(block, name), rank))
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def run(args: argparse.Namespace) -> None:
    """Trains the adapters and saves the complete state some steps apart."""
    generator = start()
    text = load_other_text()
    model = load_model(args.start, args.preset)
    adapters = adapt(model, args.rank)
    trained = {f"base_model.model.{n}": p for n, p in adapters.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=0.01)
    last = args.skipped + args.every * (args.states - 1)
    for step in range(1, last + 1):
        windows = draw_windows(text, generator, BATCH, model.shape.context)
        loss = loss_of(model, windows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        if step >= args.skipped and (step - args.skipped) % args.every == 0:
            tensors = {
                f"base_model.model.{n}": p if n in adapters else p.bfloat16()
                for n, p in model.named_parameters()
            }
            tensors |= optimizer_state_of(trained, optimizer)
            save(args.out, step, float(loss.detach()), tensors)


if __name__ == "__main__":
    make_unless_complete(
        __doc__,
        run,
        {"preset": "small", "states": 8, "every": 5, "skipped": 10, "rank": 16},
        {"rate": RATE},
        needs="pretrain",
    )
