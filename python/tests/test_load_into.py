"""Loading into what is there, and the report of what does not fit."""

from __future__ import annotations

import collections
import random

import numpy as np
import pytest
import torch

import milepost
from same import same


def net(seed: int, tied: bool = False) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 8)
    )
    if tied:
        model[2].weight = model[0].weight
    return model


def trained(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["AdamW", "SGD", "Adagrad", "LBFGS"])
def test_models_and_optimizers(store: milepost.Store, kind: str) -> None:
    def make(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = net(seed)
        return model, getattr(torch.optim, kind)(model.parameters(), lr=0.01)

    model, optimizer = make(1)
    if kind != "LBFGS":
        trained(model, optimizer)
    store.save(1, {"model": model, "optim": optimizer})
    other, its = make(2)
    places = {name: p.data_ptr() for name, p in other.named_parameters()}
    report = store.load_into({"model": other, "optim": its})
    assert report is not None and report.strict and report.nbytes > 0
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert same(its.state_dict(), optimizer.state_dict())
    assert places == {name: p.data_ptr() for name, p in other.named_parameters()}


def test_tied_parameters_stay_tied(store: milepost.Store) -> None:
    store.save(1, net(1, tied=True))
    assert len(store[1]) == len(net(1).state_dict()) - 1
    other = net(2, tied=True)
    store.load_into(other)
    assert other[0].weight is other[2].weight
    assert torch.equal(other[0].weight, net(1, tied=True)[0].weight)
    # Into a model that is not tied, both get the values.
    loose = net(3)
    store.load_into(loose)
    assert torch.equal(loose[0].weight, loose[2].weight)
    assert loose[0].weight.data_ptr() != loose[2].weight.data_ptr()


def test_arrays_that_cannot_be_decoded_into_are_copied_to(store: milepost.Store) -> None:
    values = {"t": torch.arange(12.0).reshape(3, 4), "n": np.arange(12.0).reshape(3, 4)}
    store.save(1, values)
    target = {"t": torch.zeros(4, 3).t(), "n": np.zeros((4, 3)).T}
    store.load_into(target)
    assert torch.equal(target["t"], values["t"]) and np.array_equal(target["n"], values["n"])


def test_values_in_dicts_and_lists_are_replaced(store: milepost.Store) -> None:
    saved = {
        "epoch": 3,
        "list": [1, "b"],
        "pair": (1, 2),
        "rng": random.getstate(),
        "counter": collections.Counter("aab"),
        "none": None,
    }
    store.save(1, saved)
    target = {
        "epoch": 0,
        "list": [0, ""],
        "pair": (0, 0),
        "rng": None,
        "counter": collections.Counter("abb"),
        "none": 5,
    }
    store.load_into(target)
    assert same(target, saved)


def test_random_generators_get_their_state(store: milepost.Store) -> None:
    def make() -> dict[str, object]:
        return {
            "r": random.Random(1),
            "g": np.random.default_rng(1),
            "s": np.random.RandomState(1),
            "t": torch.Generator().manual_seed(1),
        }

    def draw(state: dict) -> list[object]:  # type: ignore[type-arg]
        drawn = torch.rand(3, generator=state["t"]).tolist()
        return [state["r"].random(), state["g"].random(), state["s"].normal(), drawn]

    one, other = make(), make()
    draw(one)
    store.save(1, one)
    expected = draw(one)
    store.load_into(other)
    assert draw(other) == expected


def test_what_does_not_fit_is_reported_and_nothing_is_changed(store: milepost.Store) -> None:
    store.save(1, {"a": torch.ones(3), "b": torch.ones(2), "gone": {"x": 1}, "c": torch.ones(4)})
    target = {
        "a": torch.zeros(3),
        "b": torch.zeros(5),
        "new": torch.zeros(1),
        "c": torch.zeros(4, dtype=torch.float64),
    }
    with pytest.raises(milepost.MismatchError) as caught:
        store.load_into(target)
    report = caught.value.report
    assert report.missing == ["new"] and report.unexpected == ["gone.x"]
    assert [path for path, _ in report.mismatched] == ["b", "c"]
    assert "F32[2] is saved, F32[5] is here" in str(caught.value)
    assert not target["a"].any()
    report = store.load_into(target, strict=False)
    assert report is not None and report.loaded == ["a"] and target["a"].all()
    assert not target["b"].any()


@pytest.mark.parametrize(
    ("saved", "target"),
    [
        ({"a": [1, 2]}, {"a": [1, 2, 3]}),
        ({"m": 5}, {"m": net(1)}),
        ({"t": 5}, {"t": torch.zeros(1)}),
        ({"t": (torch.ones(2), 7)}, {"t": (torch.ones(2), 8)}),
    ],
)
def test_shapes_of_trees_that_differ_are_mismatches(
    store: milepost.Store, saved: object, target: object
) -> None:
    store.save(1, saved)
    with pytest.raises(milepost.MismatchError):
        store.load_into(target)


def test_a_module_with_more_than_tensors_loads_it_itself(store: milepost.Store) -> None:
    class Extra(torch.nn.Linear):
        def get_extra_state(self) -> object:
            return {"calls": self.calls}

        def set_extra_state(self, state: object) -> None:
            self.calls = state["calls"]  # type: ignore[index]

    one, other = Extra(2, 2), Extra(2, 2)
    one.calls, other.calls = 5, 0
    store.save(1, one)
    store.load_into(other)
    assert other.calls == 5 and torch.equal(one.weight, other.weight)


def test_a_run_without_checkpoints(store: milepost.Store) -> None:
    assert store.load_into({}, missing_ok=True) is None
    with pytest.raises(milepost.NotFoundError):
        store.load_into({})
    with pytest.raises(milepost.NotFoundError):
        store.load_into({}, "tagged")
    assert store.load_into({}, "tagged", missing_ok=True) is None


def test_loading_waits_for_what_is_being_saved(store: milepost.Store) -> None:
    store.save(1, {"a": np.arange(500_000)}, wait=False)
    target = {"a": np.zeros(500_000, dtype=np.int64)}
    report = store.load_into(target)
    assert report is not None and report.step == 1 and target["a"][-1] == 499_999


def test_a_read_only_array_gets_an_error_not_a_crash(store: milepost.Store) -> None:
    store.save(1, {"a": np.arange(5)})
    target = np.zeros(5, dtype=np.int64)
    target.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        store.load_into({"a": target})
    with pytest.raises(milepost.InvalidInputError):
        store[1]["a"].read_into(memoryview(bytes(40)))


def test_an_optimizer_of_other_groups_is_a_mismatch_and_nothing_is_changed(
    store: milepost.Store,
) -> None:
    """It was found out by the optimizer itself, when the model had been overwritten."""
    model = net(1)
    store.save(1, {"model": model, "optim": torch.optim.AdamW(model.parameters())})
    other = net(2)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    halves = [{"params": part.parameters()} for part in (other[0], other[2])]
    with pytest.raises(milepost.MismatchError) as caught:
        store.load_into({"model": other, "optim": torch.optim.AdamW(halves)})
    assert "groups of" in str(caught.value.report.mismatched)
    assert same(dict(other.state_dict()), before)
