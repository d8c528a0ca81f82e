"""Optimizers tell the store which tensors foretell each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import milepost


def trained(optimizer: str) -> tuple[Any, Any, list[Any]]:
    """A model, its optimizer, and the states after each of four steps."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 64))
    made = {
        "adamw": lambda: torch.optim.AdamW(model.parameters(), lr=1e-3),
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9),
    }[optimizer]()
    return model, made, []


def step(model: Any, optimizer: Any) -> None:
    loss = model(torch.randn(16, 64)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize(("optimizer", "share"), [("adamw", 0.45), ("sgd", 0.65)])
def test_consecutive_steps_cost_what_is_new(tmp_path: Path, optimizer: str, share: float) -> None:
    model, optim, _ = trained(optimizer)
    with milepost.open(tmp_path / "store", restore_budget=16) as store:
        reports = []
        for number in range(6):
            step(model, optim)
            # The optimizer comes first: what it tells is looked up once all tensors have names.
            reports.append(store.save(number, {"optim": optim, "model": model}).result())
        assert reports[-1].added_bytes < share * reports[-1].logical_bytes
        expected = {name: value.clone() for name, value in model.state_dict().items()}
        step(model, optim)
        store.load_into({"optim": optim, "model": model})
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name])


def test_an_optimizer_without_its_model_relates_the_moments(tmp_path: Path) -> None:
    model, optim, _ = trained("adamw")
    with milepost.open(tmp_path / "store", restore_budget=16) as store:
        for number in range(4):
            step(model, optim)
            report = store.save(number, optim).result()
        # The second moments cost next to nothing, the first moments nearly all.
        assert report.added_bytes < 0.6 * report.logical_bytes
