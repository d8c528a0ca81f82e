"""The manager of JAX checkpoints: what it saves, keeps and gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import milepost
from milepost.jax import CheckpointManager


def begin() -> Any:
    params = {"w": jnp.zeros((40, 8)), "b": jnp.zeros(8)}
    return {
        "params": params,
        "mu": jax.tree.map(jnp.zeros_like, params),
        "key": jax.random.key_data(jax.random.key(7)),
    }


@jax.jit
def descend(state: Any) -> Any:
    """A step with momentum on a fresh batch; the key is part of the state."""
    key, now = jax.random.split(jax.random.wrap_key_data(state["key"]))
    inputs = jax.random.normal(now, (16, 40))

    def loss(p: Any) -> jax.Array:
        return jnp.mean((inputs @ p["w"] + p["b"] - inputs[:, :8]) ** 2)

    gradient = jax.grad(loss)(state["params"])
    mu = jax.tree.map(lambda m, g: 0.9 * m + g, state["mu"], gradient)
    params = jax.tree.map(lambda p, m: p - 0.05 * m, state["params"], mu)
    return {"params": params, "mu": mu, "key": jax.random.key_data(key)}


def train(manager: CheckpointManager, until: int) -> Any:
    """From the newest step on, as a program would go on that was stopped."""
    state, start = begin(), 0
    newest = manager.latest_step()
    if newest is not None:
        state, start = manager.restore(like=state), newest + 1
    for step in range(start, until):
        state = descend(state)
        manager.save(step, state, metrics={"loss": 1.0 / (step + 1)})
    return state


def alike(one: Any, other: Any) -> bool:
    return bool(jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, other)))


def test_a_training_that_is_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path / "whole", save_interval_steps=3) as manager:
        whole = train(manager, 20)
    for until in (8, 11, 20):
        with CheckpointManager(tmp_path / "parts", save_interval_steps=3) as manager:
            found = train(manager, until)
    assert alike(found, whole)
    with CheckpointManager(tmp_path / "parts") as manager:
        assert manager.all_steps() == [0, 3, 6, 9, 12, 15, 18]
        assert alike(manager.restore(18), milepost.open(tmp_path / "whole")[18].load())
        assert manager.metrics(9) == {"loss": 0.1}
        with pytest.raises(milepost.NotFoundError):
            manager.restore(17)


def test_which_steps_are_saved(store: milepost.Store) -> None:
    manager = CheckpointManager(store, save_interval_steps=4)
    assert manager.latest_step() is None and manager.all_steps() == []
    saved = [step for step in range(10) if manager.save(step, {"a": jnp.ones(3) * step})]
    assert saved == [0, 4, 8]
    # Also before the save behind it has ended, a step is saved once.
    assert not manager.should_save(8) and not manager.save(8, {"a": jnp.zeros(3)})
    assert not manager.should_save(4) and manager.should_save(12)
    assert manager.save(9, {"a": jnp.ones(3) * 9}, force=True)
    manager.wait_until_finished()
    assert manager.all_steps() == [0, 4, 8, 9] and manager.latest_step() == 9
    manager.delete(4)
    assert manager.all_steps() == [0, 8, 9]
    manager.close()
    assert store["latest"].step == 9, "a store that was lent is not closed"


def test_the_last_and_every_so_often_stay(store: milepost.Store) -> None:
    manager = CheckpointManager(store, max_to_keep=2, keep_period=5)
    for step in range(12):
        manager.save(step, {"a": jnp.ones(3) * step})
    manager.wait_until_finished()
    assert manager.all_steps() == [0, 5, 10, 11]


def test_the_best_and_the_newest_stay(store: milepost.Store) -> None:
    losses = [5.0, 2.0, 4.0, 1.0, 3.0, float("nan"), 2.0]
    manager = CheckpointManager(store, max_to_keep=2, best_metric="loss", wait=True)
    assert manager.best_step() is None
    for step, loss in enumerate(losses):
        manager.save(step, {"a": jnp.ones(3) * step}, metrics={"loss": loss})
    assert manager.best_step() == 3
    assert {3, 6} <= set(manager.all_steps()) and len(manager.all_steps()) <= 3
    highest = CheckpointManager(store, best_metric="loss", best_mode="max")
    kept = {step: losses[step] for step in manager.all_steps()}
    assert highest.best_step() == max(kept, key=lambda step: (kept[step], step))
    with pytest.raises(milepost.InvalidInputError, match="no metric"):
        CheckpointManager(store).best_step()


def test_a_failure_in_the_background_is_raised_once(store: milepost.Store) -> None:
    store.save(2, {"a": np.ones(3)})
    manager = CheckpointManager(store)
    assert manager.save(2, {"a": jnp.zeros(3)}, force=True)
    with pytest.raises(milepost.ConflictError):
        manager.wait_until_finished()
    manager.check_for_errors()
    with pytest.raises(milepost.InvalidInputError, match="interval"):
        CheckpointManager(store, save_interval_steps=0)
    with pytest.raises(milepost.InvalidInputError, match="neither"):
        CheckpointManager(store, best_mode="most")
