"""JAX with milepost: run it again with more steps, and it goes on."""

import sys

import jax
import jax.numpy as jnp
import milepost.jax


def loss(params: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    """The mean square of what a linear layer is wrong by."""
    found = inputs @ params["w"] + params["b"]
    return jnp.mean((found - inputs.sum(1)) ** 2)


def main(folder: str, steps: int) -> None:
    """Descend with momentum; the key is part of the state."""
    params = {"w": jnp.zeros(16), "b": jnp.zeros(())}
    state = {
        "params": params,
        "momentum": jax.tree.map(jnp.zeros_like, params),
        "key": jax.random.key_data(jax.random.key(0)),
    }
    with milepost.open(folder) as store:
        start = 0
        if "latest" in store:
            start = store["latest"].step + 1
            state = milepost.jax.load(store["latest"], like=state)
        print("goes on" if start else "begins")
        for step in range(start, steps):
            key, now = jax.random.split(jax.random.wrap_key_data(state["key"]))
            gradient = jax.grad(loss)(state["params"], jax.random.normal(now, (32, 16)))
            momentum = jax.tree.map(lambda m, g: 0.9 * m + g, state["momentum"], gradient)
            params = jax.tree.map(lambda p, m: p - 0.01 * m, state["params"], momentum)
            state = {"params": params, "momentum": momentum, "key": jax.random.key_data(key)}
            if step % 4 == 3:
                store.save(step, state, wait=False)
    print(f"weights {state['params']['w'].sum():.9f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
