"""Optimizers and modules tell the store which tensors foretell each other."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import milepost
from milepost.tree import encode


def trained(optimizer: str) -> tuple[Any, Any, list[Any]]:
    """A model, its optimizer, and the states after each of four steps."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 64))
    made = {
        "adamw": lambda: torch.optim.AdamW(model.parameters(), lr=1e-3),
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9),
        "adagrad": lambda: torch.optim.Adagrad(model.parameters(), lr=1e-2),
    }[optimizer]()
    return model, made, []


def step(model: Any, optimizer: Any) -> None:
    loss = model(torch.randn(16, 64)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize(("optimizer", "share"), [("adamw", 0.45), ("sgd", 0.65), ("adagrad", 0.5)])
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


class Tables(torch.nn.Module):
    """Two tables of which a batch touches few rows, moved by lazy Adam and by Adagrad."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(4000, 16, sparse=True)
        self.pairs = torch.nn.Embedding(4000, 16, sparse=True)

    def forward(self, rows: Any) -> Any:
        return self.words(rows) * self.pairs(rows)


def test_rows_that_were_touched_cost_little_more_than_their_gradients(tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = Tables()
    lazy = torch.optim.SparseAdam(model.words.parameters(), lr=1e-3)
    adagrad = torch.optim.Adagrad(model.pairs.parameters(), lr=1e-2, initial_accumulator_value=0.1)
    added = {}
    for told in (True, False):
        with milepost.open(tmp_path / f"store-{told}", restore_budget=16) as store:
            for number in range(6):
                for _ in range(8 if number == 0 else 1):
                    loss = model(torch.randint(4000, (400,))).square().mean()
                    loss.backward()
                    lazy.step()
                    adagrad.step()
                    model.zero_grad()
                state = {"model": model, "lazy": lazy, "adagrad": adagrad}
                if not told:  # Names that say nothing.
                    state = {
                        "a": model.state_dict(),
                        "b": [lazy.state_dict(), adagrad.state_dict()],
                    }
                report = store.save(number, state).result()
            added[told] = report.added_bytes
    assert added[True] < 0.75 * added[False]


def test_an_optimizer_without_its_model_relates_the_moments(tmp_path: Path) -> None:
    model, optim, _ = trained("adamw")
    with milepost.open(tmp_path / "store", restore_budget=16) as store:
        for number in range(4):
            step(model, optim)
            report = store.save(number, optim).result()
        # The second moments cost next to nothing, the first moments nearly all.
        assert report.added_bytes < 0.6 * report.logical_bytes


def related(state: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Averages and copies that are found in a state."""
    found = encode(state).relations
    return {(name, kind, of[0]) for name, kind, of in found if kind in ("average", "copy")}


def test_averages_and_copies_are_found_whatever_they_are_called() -> None:
    model, optim, _ = trained("adamw")
    averaged = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    names = [name for name, _ in model.named_parameters()]
    averages = {(f"zz.module.{n}", "average", f"net.{n}") for n in names}
    assert related({"optim": optim, "net": model, "zz": averaged}) == averages
    kept, half = copy.deepcopy(model), copy.deepcopy(model).half()
    copies = {(f"served.{n}", "copy", f"net.{n}") for n in names}
    copies |= {(f"served.{n}", "copy", f"kept.{n}") for n in names}
    kept_averages = {(f"kept.{n}", "average", f"net.{n}") for n in names}
    state = {"kept": kept, "served": half, "net": model, "optim": optim}
    assert related(state) == copies | kept_averages
    # Nobody says which of the two averages the other.
    assert related({"net": model, "kept": kept}) == set()
    assert related({"net": model, "other": torch.nn.Linear(3, 3), "optim": optim}) == set()


def test_masters_that_an_optimizer_moves_are_found() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)).bfloat16()
    masters = [p.detach().float().requires_grad_() for p in model.parameters()]
    optim = torch.optim.AdamW(masters)
    names = [name for name, _ in model.named_parameters()]
    expected = {(f"model.{n}", "copy", f"masters.{i}") for i, n in enumerate(names)}
    assert related({"model": model, "masters": masters, "optim": optim}) == expected


def test_an_average_and_a_copy_cost_little(tmp_path: Path) -> None:
    model, optim, _ = trained("sgd")
    decay = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=decay)
    served = copy.deepcopy(model).bfloat16()
    with milepost.open(tmp_path / "store", restore_budget=16) as store:
        for number in range(6):
            step(model, optim)
            averaged.update_parameters(model)
            served.load_state_dict(model.state_dict())
            alone = store.save(number, {"net": model, "o": optim}, run="alone").result()
            state = {"net": model, "o": optim, "z": averaged, "s": served}
            both = store.save(number, state, run="both").result()
        extra = both.logical_bytes - alone.logical_bytes
        assert both.added_bytes < 0.1 * extra, "all but the averages is in the other run"
        checkpoint = store["both@latest"]
        assert torch.equal(checkpoint["s.0.weight"].torch(), served[0].weight)
        assert torch.equal(checkpoint["z.module.0.weight"].torch(), averaged.module[0].weight)


def test_what_is_not_saved_stops_no_save(tmp_path: Path) -> None:
    """A buffer that is not part of a module's state could not be stored, and none was asked to."""

    class Graph(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 3)
            self.register_buffer("edges", torch.eye(3).to_sparse(), persistent=False)

    model = Graph()
    state = {"m": model, "e": copy.deepcopy(model), "o": torch.optim.SGD(model.parameters())}
    with milepost.open(tmp_path / "s") as store:
        assert len(store.save(1, state).result().id) == 64
