"""Callbacks for Keras 3, on any of its back ends: the training's state in a store.

    checkpoints = milepost.keras.Checkpoints("runs/mnist", monitor="val_loss:min")
    epoch = checkpoints.resume(model)
    model.fit(..., initial_epoch=epoch, callbacks=[checkpoints])

The state is the model's variables, those of its optimizer and of its random seeds among them, by
their paths in the model, and the generators of Python, NumPy and PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from milepost.checkpoint import Checkpoint
from milepost.errors import InvalidInputError, MismatchError, NotFoundError
from milepost.opening import File, opened
from milepost.policy import Goal
from milepost.store import Store
from milepost.training import RandomState
from milepost.upkeep import Keep

#: Variables of a model that its training goes on from; metrics begin anew with every epoch.
_GROUPS = ("trainable_variables", "non_trainable_variables", "optimizer_variables")


class Checkpoints(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves a model at the end of every `every_epochs`-th epoch; steps are epochs, counted from 1.

    The logs of the epoch become metrics. `monitor`, such as "val_loss:min", tags the best
    checkpoint so far `best`. `keep` says which checkpoints of the run stay. Without `wait` the
    state is copied and saved in the background; a failure is raised at the next save or when the
    training ends.
    """

    def __init__(
        self,
        store: File | Store,
        *,
        run: str = "main",
        every_epochs: int = 1,
        monitor: Goal | str | None = None,
        keep: Keep | None = None,
        wait: bool = False,
    ) -> None:
        if every_epochs < 1:
            raise InvalidInputError("every_epochs is at least 1", code="every-epochs")
        super().__init__()
        self.store = opened(store, run)
        self._run, self._every, self._keep, self._wait = run, every_epochs, keep, wait
        self._goal = None if monitor is None else Goal.of(monitor)
        self._best: float | None = None
        #: What the random generators are to be set to once `fit` has made its own draws.
        self._random: dict[str, Any] | None = None

    def resume(self, model: Any, revision: int | str | None = None) -> int:
        """Loads the run's newest checkpoint into a model, or that of a revision.

        Returns the epochs that it had behind it, which is what `fit(initial_epoch=)` takes: 0 if
        the run has no checkpoint yet. The model must be compiled and built as it was.

        Raises MismatchError if its variables are others; nothing was changed then.
        """
        if revision is None and self._run not in self.store.runs:
            return 0
        try:
            found = self.store[f"{self._run}@latest" if revision is None else revision]
        except NotFoundError:
            if revision is None:
                return 0
            raise
        state = restore(found, model)
        self._best, self._random = state["best"], state["random"]
        return int(state["epoch"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the random generators, if this is the first epoch after a resume."""
        del epoch, logs
        if self._random is not None:
            RandomState().load_state_dict(self._random)
            self._random = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves, if it is time.

        Raises what Store.save raises.
        """
        if (epoch + 1) % self._every:
            return
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        goal = self._goal
        value = None if goal is None else metrics.get(goal.metric)
        is_best = goal is not None and value is not None and goal.improves(value, self._best)
        if is_best:
            self._best = value
        self.store.save(
            epoch + 1,
            {
                "model": variables(self.model),
                "random": RandomState(),
                "epoch": epoch + 1,
                "best": self._best,
            },
            run=self._run,
            tags=["best"] if is_best else [],
            metrics=metrics,
            keep=self._keep,
            wait=self._wait,
        )

    def on_train_end(self, logs: Any = None) -> None:
        """Waits for what is under way, and raises its failure."""
        del logs
        self.store.wait()


def variables(model: Any) -> dict[str, Any]:
    """A model's variables as a tree of NumPy arrays: those it trains, the others, the optimizer's.

    With the JAX back end they are brought up to date first, also in the middle of an epoch.
    """
    bring_up_to_date = getattr(model, "jax_state_sync", None)
    if bring_up_to_date is not None:
        bring_up_to_date()
    tree = model.get_state_tree(value_format="numpy_array")
    return {group: tree[group] for group in _GROUPS}


def restore(checkpoint: Checkpoint, model: Any) -> dict[str, Any]:
    """Loads a checkpoint of `Checkpoints` into a model; what else it holds is returned.

    Among that is `random`: the state of the generators of random numbers, which are left alone.

    Raises MismatchError if the model has other variables; nothing was changed then.
    """
    state = checkpoint.load()
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise InvalidInputError(
            f"step {checkpoint.step} of run {checkpoint.run!r} was not saved from Keras",
            code="keras",
        )
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    _require_alike(dict(_flat(state["model"])), dict(_flat(variables(model))))
    model.set_state_tree(state["model"])
    return state


def _require_alike(saved: dict[str, Any], there: dict[str, Any]) -> None:
    def form(value: Any) -> str:
        return f"{np.asarray(value).dtype}{np.shape(value)}"

    wrong = [f"{path} is not in the checkpoint" for path in there.keys() - saved.keys()]
    wrong += [f"{path} is not in the model" for path in saved.keys() - there.keys()]
    wrong += [
        f"{path} is saved as {form(saved[path])}, the model's is {form(there[path])}"
        for path in saved.keys() & there.keys()
        if form(saved[path]) != form(there[path])
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise MismatchError(
            f"the model differs from the checkpoint: {'; '.join(sorted(wrong)[:3])}{more}",
            code="load",
            hint="build and compile it as it was; names that Keras makes up count on within a "
            "process: call keras.backend.clear_session() before you build a model again",
        )


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value
