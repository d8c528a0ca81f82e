"""JAX: a pytree with the key of its random numbers, saved in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import milepost.jax
from common import digest, tell


@jax.jit
def moved(state: Any) -> Any:
    """One step of descent with momentum on random inputs."""
    key, now = jax.random.split(jax.random.wrap_key_data(state["key"]))
    inputs = jax.random.normal(now, (8, 64))

    def loss(params: Any) -> Any:
        return jnp.mean((jnp.tanh(inputs @ params["w"]) @ params["v"] - inputs) ** 2)

    gradient = jax.grad(loss)(state["params"])
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, state["momentum"], gradient)
    params = jax.tree.map(lambda p, m: p - 0.1 * m, state["params"], momentum)
    return {"params": params, "momentum": momentum, "key": jax.random.key_data(key)}


def train(folder: Path, steps: int) -> str:
    """Saves every second step."""
    first, second, rest = jax.random.split(jax.random.key(0), 3)
    params = {
        "w": jax.random.normal(first, (64, 512)) / 8,
        "v": jax.random.normal(second, (512, 64)) / 24,
    }
    state = {
        "params": params,
        "momentum": jax.tree.map(jnp.zeros_like, params),
        "key": jax.random.key_data(rest),
    }
    start = 0
    with milepost.open(folder / "store") as store:
        if "latest" in store:
            start = store["latest"].step + 1
            state = milepost.jax.load(store["latest"], like=state)
        tell(start - 1 if start else None)
        for step in range(start, steps):
            state = moved(state)
            if step % 2 == 1:
                store.save(step, state, wait=False)
    return digest(state)
