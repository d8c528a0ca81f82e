"""Large embedding tables with row-sparse updates, as in recommenders and n-gram models.

Words, pairs and triples of words are hashed into tables; a small network on top foretells the
hash of the next word. A step touches only the rows of its batch. Pairs and words are trained by
SparseAdam, triples by Adagrad, the network by AdamW. Names: `model.<parameter>` and
`optimizer.state.<parameter>.<key>` (`exp_avg`, `exp_avg_sq`, `sum`, `step`).

    python benches/workloads/embed.py --out DIR
"""

from __future__ import annotations

import argparse
import zlib

import torch
from corpus import load_bytes
from torch import nn
from torch.nn import functional
from training import (
    TEXT_BYTES,
    Tensors,
    make_unless_complete,
    optimizer_state_of,
    save,
    start,
)

ROWS = {"words": 40_000, "pairs": 120_000, "triples": 160_000}
WIDTH = 32
CLASSES = 512


class Tables(nn.Module):
    """Three embedding tables and a two-layer network over their joined rows."""

    def __init__(self) -> None:
        super().__init__()
        for name, rows in ROWS.items():
            table = nn.Embedding(rows, WIDTH, sparse=True)
            nn.init.normal_(table.weight, std=0.05)
            setattr(self, name, table)
        self.hidden = nn.Linear(len(ROWS) * WIDTH, 256)
        self.out = nn.Linear(256, CLASSES)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Row numbers (batch, tables) to logits of the next word's class."""
        parts = [getattr(self, name)(rows[:, i]) for i, name in enumerate(ROWS)]
        return self.out(functional.relu(self.hidden(torch.cat(parts, 1))))


def load_examples() -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers in each table and the next word's class, for every word of the text."""
    words = load_bytes(2 * TEXT_BYTES).split()
    rows, classes = [], []
    for at in range(2, len(words) - 1):
        spans = [b" ".join(words[at - back : at + 1]) for back in range(len(ROWS))]
        rows.append([zlib.crc32(s) % n for s, n in zip(spans, ROWS.values(), strict=True)])
        classes.append(zlib.crc32(words[at + 1]) % CLASSES)
    return torch.tensor(rows), torch.tensor(classes)


def make_optimizers(model: Tables) -> list[torch.optim.Optimizer]:
    """One for each kind of parameter."""
    dense = [*model.hidden.parameters(), *model.out.parameters()]
    return [
        torch.optim.SparseAdam([model.words.weight, model.pairs.weight], lr=1e-3),
        torch.optim.Adagrad([model.triples.weight], lr=1e-2),
        torch.optim.AdamW(dense, lr=1e-3),
    ]


def state_of(model: Tables, optimizers: list[torch.optim.Optimizer]) -> Tensors:
    """Weights and the state of all optimizers, by name."""
    names = dict(model.named_parameters())
    tensors: Tensors = {f"model.{name}": parameter for name, parameter in names.items()}
    for optimizer in optimizers:
        tensors |= optimizer_state_of(names, optimizer)
    return tensors


def run(args: argparse.Namespace) -> None:
    """Trains and saves states, some steps apart."""
    generator = start()
    rows, classes = load_examples()
    model = Tables()
    optimizers = make_optimizers(model)
    last = args.skipped + args.every * (args.states - 1)
    for step in range(1, last + 1):
        drawn = torch.randint(len(rows), (args.batch,), generator=generator)
        loss = functional.cross_entropy(model(rows[drawn]), classes[drawn])
        model.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        if step >= args.skipped and (step - args.skipped) % args.every == 0:
            save(args.out, step, float(loss.detach()), state_of(model, optimizers))


if __name__ == "__main__":
    make_unless_complete(
        __doc__,
        run,
        {"states": 8, "every": 20, "skipped": 400, "batch": 512},
        {"rows": ROWS, "width": WIDTH},
    )
