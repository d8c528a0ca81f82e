"""Loading into the shape of a JAX pytree, with its types, dtypes and shardings.

store.save(step, {"params": params, "opt": opt_state})
state = milepost.jax.load(store["latest"], like={"params": params, "opt": opt_state})
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from milepost.checkpoint import Checkpoint
from milepost.errors import MismatchError


def load(checkpoint: Checkpoint, like: Any) -> Any:
    """What a checkpoint holds, as a pytree of the very structure of `like`.

    Arrays get the sharding of those in `like`, which may also be jax.ShapeDtypeStruct; classes of
    named tuples and other nodes are those of `like`.

    Raises MismatchError if the structure, a shape or a dtype differs.
    """
    found, _ = jax.tree_util.tree_flatten(checkpoint.load(framework=None))
    wanted, structure = jax.tree_util.tree_flatten_with_path(like)
    if len(found) != len(wanted):
        raise MismatchError(
            f"the checkpoint holds {len(found)} leaves, the template {len(wanted)}",
            code="load",
            hint="pass a template of the structure that was saved",
        )
    leaves = [_placed(value, *of) for value, of in zip(found, wanted, strict=True)]
    return jax.tree_util.tree_unflatten(structure, leaves)


def _placed(value: Any, path: Any, like: Any) -> Any:
    if not isinstance(like, jax.Array | jax.ShapeDtypeStruct | np.ndarray):
        return value
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != like.shape or dtype != like.dtype:
        raise MismatchError(
            f"{jax.tree_util.keystr(path)}: {dtype}{shape} is saved, "
            f"{like.dtype}{like.shape} is asked for",
            code="load",
        )
    if isinstance(like, np.ndarray):
        return np.asarray(value)
    return jax.device_put(value, like.sharding)
