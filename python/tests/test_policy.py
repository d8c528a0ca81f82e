"""When to save, what to keep, when to stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import milepost
from milepost import Autosave, EarlyStop, Goal, Keep, SavePolicy
from milepost.policy import young_daly


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def saved_steps(policy: SavePolicy, steps: int, **by_step: object) -> list[int]:
    saved = []
    for step in range(steps):
        told = {name: of(step) for name, of in by_step.items()}  # type: ignore[operator]
        if policy.due(step, **told) is not None:
            saved.append(step)
            policy.saved(step, epoch=told.get("epoch"))
    return saved


def test_every_so_many_steps_epochs_or_seconds() -> None:
    assert saved_steps(SavePolicy(every_steps=3), 10) == [2, 5, 8]
    by_epoch = saved_steps(SavePolicy(every_epochs=2), 12, epoch=lambda step: step // 2)
    assert by_epoch == [2, 6, 10]
    clock = Clock()
    policy = SavePolicy(every_seconds=10, clock=clock)
    assert policy.due(0) is None
    clock.now += 9
    assert policy.due(1) is None
    clock.now += 1
    due = policy.due(2)
    assert due is not None and due.why == "10 s since the last save"
    policy.saved(2)
    assert policy.due(3) is None


def test_on_improvement_nan_never_counts() -> None:
    losses = [3.0, 2.0, float("nan"), 2.5, 1.999, 1.0]
    policy = SavePolicy(on_improvement=Goal("loss", min_delta=0.1))
    found = saved_steps(policy, 6, metrics=lambda step: {"loss": losses[step]})
    assert found == [0, 1, 5] and policy.best == 1.0
    first = SavePolicy(on_improvement="loss")
    assert first.due(0, metrics={"loss": float("nan")}) is None and first.best is None
    accuracy = SavePolicy(on_improvement="acc:max")
    assert saved_steps(accuracy, 3, metrics=lambda step: {"acc": [1, 3, 2][step]}) == [0, 1]
    assert saved_steps(accuracy, 3) == []


@pytest.mark.parametrize("bad", [{"every_steps": 0}, {"every_seconds": -1}])
def test_rules_that_are_none_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(milepost.InvalidInputError):
        SavePolicy(**bad)  # type: ignore[arg-type]
    with pytest.raises(milepost.InvalidInputError):
        SavePolicy.auto(0)
    with pytest.raises(milepost.InvalidInputError):
        Goal("loss", "low")


def test_the_interval_of_young_and_daly() -> None:
    # Near Young's root for cheap saves, and what Daly's series gives for dear ones.
    assert young_daly(1.0, 1e6) == pytest.approx((2e6) ** 0.5, rel=1e-3)
    assert young_daly(60.0, 3600.0) == pytest.approx(617.876, abs=0.001)
    assert young_daly(100.0, 50.0) == 50.0


def test_the_interval_follows_what_saves_cost_and_says_why() -> None:
    clock = Clock()
    policy = SavePolicy.auto(3600.0, first_seconds=5.0, clock=clock)
    assert policy.due(0) is None and "no save was measured" in policy.explain()
    clock.now += 5
    assert policy.due(1) is not None
    policy.saved(1, blocked_s=2.0)
    policy.restored(3.0)
    assert policy.every_seconds == pytest.approx(young_daly(2.0, 3600.0))
    assert policy.every_seconds > 100
    for word in ("every 119 s", "keeps the training 2 s", "Daly", "restores of 3 s"):
        assert word in policy.explain(), policy.explain()
    for step in range(2, 30):
        policy.saved(step, blocked_s=0.02)
    assert policy.cost == pytest.approx(0.02) and policy.every_seconds < 15


def train(store: milepost.Store, policy: SavePolicy, losses: list[float], **options: object) -> int:
    state = {"w": np.zeros(1000)}
    with Autosave(store, state, policy, **options) as autosave:  # type: ignore[arg-type]
        for step in range(autosave.start, len(losses)):
            state["w"] += step
            if autosave(step, metrics={"loss": losses[step]}).stop:
                return step
    return len(losses) - 1


def test_the_best_stay_and_the_rest_goes(store: milepost.Store) -> None:
    losses = [9, 5, 7, 1, 8, 2, 6, 9, 9, 9.5]
    train(store, SavePolicy(every_steps=1), losses, keep=Keep(last=2, best="loss:min:3"))
    store.wait()
    assert [s.step for s in store.log()] == [1, 3, 5, 8, 9]
    assert store.verify()


def test_improvements_are_tagged_best(store: milepost.Store) -> None:
    train(store, SavePolicy(every_steps=4, on_improvement="loss:min"), [3, 4, 2, 5, 5, 5, 5, 9])
    assert store["best"].step == 2 and store["latest"].step == 6


def test_early_stopping_leaves_the_best_tagged(store: milepost.Store) -> None:
    losses = [5.0, 3.0, 4.0, 3.5, 3.2, 0.1]
    stop = EarlyStop("loss:min", patience=3)
    assert train(store, SavePolicy(every_steps=100), losses, early_stop=stop) == 4
    assert store["best"].step == 1 and stop.best_step == 1
    assert store["best"].load()["state"]["w"][0] == 0 + 1


def test_a_resume_remembers_the_best_and_the_patience(tmp_path: Path) -> None:
    losses = [5.0, 3.0, 4.0, 4.0, 4.0]
    with milepost.open(tmp_path / "s") as store:
        first = EarlyStop("loss:min", patience=3)
        train(store, SavePolicy(every_steps=1), losses[:4], early_stop=first)
    with milepost.open(tmp_path / "s") as store:
        again = EarlyStop("loss:min", patience=3)
        assert train(store, SavePolicy(every_steps=1), losses, early_stop=again) == 4
        assert again.best == 3.0 and store["best"].step == 1


def test_a_signal_saves_waits_and_stops(store: milepost.Store) -> None:
    before = signal.getsignal(signal.SIGTERM)
    policy = SavePolicy(every_steps=1000, on_signals=(signal.SIGTERM,))
    with Autosave(store, {"w": np.ones(5)}, policy) as autosave:
        assert not autosave(0).stop
        os.kill(os.getpid(), signal.SIGTERM)
        decision = autosave(1)
        assert decision.stop and decision.why == "a signal came"
        assert decision.handle is not None and decision.handle.done()
    assert signal.getsignal(signal.SIGTERM) == before and store["latest"].step == 1
