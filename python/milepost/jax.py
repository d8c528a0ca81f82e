"""Loading into the shape of a JAX pytree, with its types, dtypes and shardings.

    store.save(step, {"params": params, "opt": opt_state})
    state = milepost.jax.load(store["latest"], like={"params": params, "opt": opt_state})

`CheckpointManager` does the same with the methods of Orbax's class of that name, for programs that
are written for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np

from milepost.checkpoint import Checkpoint
from milepost.errors import InvalidInputError, MismatchError, NotFoundError
from milepost.opening import File, opened
from milepost.reports import Summary
from milepost.store import Store
from milepost.upkeep import Keep


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


class CheckpointManager:
    """Saves pytrees of a run at steps, restores them, and keeps so many.

    A step is saved if it is a multiple of `save_interval_steps` and behind the newest. Of all, the
    last `max_to_keep` stay; with `best_metric` instead the best so many by that metric, `best_mode`
    being "min" or "max", and the newest. Multiples of `keep_period` stay for ever.

    Saves go on in the background, unless `wait` is set; their failures are raised by the next
    save, by `check_for_errors`, `wait_until_finished` or `close`.
    """

    def __init__(
        self,
        store: File | Store,
        *,
        run: str = "main",
        save_interval_steps: int = 1,
        max_to_keep: int | None = None,
        keep_period: int | None = None,
        best_metric: str | None = None,
        best_mode: str = "min",
        wait: bool = False,
    ) -> None:
        if best_mode not in ("min", "max"):
            raise InvalidInputError(f"{best_mode!r} is neither", code="mode", hint='"min" or "max"')
        if save_interval_steps < 1:
            raise InvalidInputError("an interval is 1 step or more", code="interval")
        self._owns = not isinstance(store, Store)
        self._store, self._run, self._wait = opened(store, run), run, wait
        self._interval, self._best = save_interval_steps, (best_metric, best_mode)
        self._newest_asked = -1
        best = None if best_metric is None else f"{best_metric}:{best_mode}:{max_to_keep}"
        self._keep: Keep | None = None
        if max_to_keep is not None:
            self._keep = Keep(
                last=max_to_keep if best is None else None, every=keep_period, best=best or ()
            )

    @property
    def directory(self) -> str:
        """The store's folder."""
        return self._store.path

    def all_steps(self) -> list[int]:
        """The steps that are saved, in the order of their saves."""
        return [summary.step for summary in self._log()]

    def latest_step(self) -> int | None:
        """The newest step that is saved, or None."""
        newest = self._store.native.newest(self._run)
        return None if newest is None else newest["step"]

    def best_step(self) -> int | None:
        """The best step by the metric, or None if no step has it. Of equals it is the newest.

        Raises InvalidInputError if the manager has no metric.
        """
        metric, mode = self._best
        if metric is None:
            raise InvalidInputError("there is no metric to be best by", code="best-metric")
        sign = 1.0 if mode == "min" else -1.0
        told = [(s.metrics[metric] * sign, s.step) for s in self._log() if metric in s.metrics]
        told = [(value, step) for value, step in told if value == value]
        if not told:
            return None
        best = min(value for value, _ in told)
        return [step for value, step in told if value == best][-1]

    def should_save(self, step: int) -> bool:
        """Whether `save` would save this step."""
        newest = self.latest_step()
        behind = step > max(self._newest_asked, -1 if newest is None else newest)
        return behind and step % self._interval == 0

    def save(
        self,
        step: int,
        state: Any,
        *,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, str] | None = None,
        force: bool = False,
    ) -> bool:
        """Saves a pytree if it is time to, or in any case with `force`; says whether it did.

        The state may be donated or changed as soon as this returns. Raises what Store.save raises,
        and the failure of an earlier save.
        """
        self.check_for_errors()
        if not force and not self.should_save(step):
            return False
        self._store.save(
            step,
            state,
            run=self._run,
            metrics=metrics,
            metadata=metadata,
            keep=self._keep,
            wait=self._wait,
        )
        self._newest_asked = max(self._newest_asked, step)
        return True

    def restore(self, step: int | None = None, like: Any = None) -> Any:
        """The pytree of a step, by default of the newest; of the structure of `like`, if given.

        Raises NotFoundError if there is no such step, MismatchError if it is not like that.
        """
        found = self._checkpoint(step)
        return found.load() if like is None else load(found, like)

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics of a step. Raises NotFoundError if there is no such step."""
        return self._checkpoint(step).metrics

    def delete(self, step: int) -> None:
        """Forgets a step. Raises NotFoundError if there is no such step."""
        self._store.forget(f"{self._run}@step:{self._checkpoint(step).step}")

    def wait_until_finished(self) -> None:
        """Waits for saves in the background, and raises the failure of one."""
        self._store.wait()

    def check_for_errors(self) -> None:
        """Raises the failure of a save in the background that nobody was told of yet."""
        self._store.raise_failure()

    def close(self) -> None:
        """As `wait_until_finished`; a store that was given as a path is closed."""
        if self._owns:
            self._store.close()
        else:
            self._store.wait()

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._owns:
            self._store.__exit__(kind, error, trace)
        elif error is None:
            self._store.wait()

    def _checkpoint(self, step: int | None) -> Checkpoint:
        self._store.wait()
        named = "latest" if step is None else f"step:{step}"
        return self._store[f"{self._run}@{named}"]

    def _log(self) -> list[Summary]:
        try:
            return self._store.log(self._run)
        except NotFoundError:
            return []
