"""A policy at work: saves when it is due, keeps the best, stops early."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from milepost.background import SaveHandle
from milepost.policy import Due, Goal, SavePolicy
from milepost.reports import LoadReport
from milepost.store import Store
from milepost.upkeep import Keep


@dataclass
class EarlyStop:
    """Stops a training whose metric did not improve for `patience` measurements."""

    goal: Goal | str | tuple[str, str]
    patience: int

    def __post_init__(self) -> None:
        self._goal = Goal.of(self.goal)
        self.best: float | None = None
        self.best_step: int | None = None
        self.waited = 0

    def measured(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Takes a measurement, if the metric is among these; whether it is the best so far."""
        if self._goal.metric not in metrics:
            return False
        value = float(metrics[self._goal.metric])
        if self._goal.improves(value, self.best):
            self.best, self.best_step, self.waited = value, step, 0
            return True
        self.waited += 1
        return False

    @property
    def is_over(self) -> bool:
        """Whether it is time to stop."""
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What it must know after a resume."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        self.best, self.best_step = state["best"], state["best_step"]
        self.waited = state["waited"]


class Autosave:
    """Saves a training by a policy; call it after every step.

        with milepost.Autosave(store, state, SavePolicy(every_steps=500)) as autosave:
            for step in range(autosave.start, steps):
                ...
                if autosave(step, metrics={"loss": loss}).stop:
                    break

    Entering it resumes: `start` is the step to begin with. `keep` says which checkpoints stay,
    such as `Keep(last=2, best="loss:min:3")`; the others go once a newer one is durable. With
    `early_stop` the best checkpoint is tagged `best`, and the training told when to stop. After a
    signal of the policy the state is saved, waited for, and the training told to stop.
    """

    def __init__(
        self,
        store: Store,
        state: Any,
        policy: SavePolicy,
        *,
        keep: Keep | None = None,
        early_stop: EarlyStop | None = None,
        best_tag: str = "best",
        wait: bool = False,
        resume: bool = True,
    ) -> None:
        self._store, self._state, self._policy = store, state, policy
        self._keep, self._early_stop, self._best_tag = keep, early_stop, best_tag
        self._wait, self._resume = wait, resume
        #: The step to begin with: 0, or the one behind the checkpoint that was resumed.
        self.start = 0
        #: What the resume loaded, or None.
        self.resumed: LoadReport | None = None

    def __enter__(self) -> Autosave:
        self._policy.__enter__()
        if self._resume:
            started = time.monotonic()
            self.resumed = self._store.load_into(self._tree(), missing_ok=True)
            if self.resumed is not None:
                self.start = self.resumed.step + 1
                self._policy.restored(time.monotonic() - started)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._policy.__exit__()
        if kind is None:
            self._store.wait()

    def _tree(self) -> dict[str, Any]:
        tree = {"state": self._state, "policy": self._policy}
        if self._early_stop is not None:
            tree["early_stop"] = self._early_stop
        return tree

    def __call__(
        self, step: int, *, epoch: int | None = None, metrics: Mapping[str, float] | None = None
    ) -> Decision:
        """Saves the state behind a step if it is due.

        Raises what Store.save raises, the failure of an earlier save included.
        """
        told = dict(metrics or {})
        is_best = self._early_stop is not None and self._early_stop.measured(step, told)
        is_over = self._early_stop is not None and self._early_stop.is_over
        due = self._policy.due(step, epoch=epoch, metrics=told)
        if due is None and is_best:
            due = Due("the best so far, as early stopping sees it", best=True)
        if due is None:
            return Decision(step, None, None, is_over)
        # Where early stopping measures, it says which one is the best.
        tagged = is_best if self._early_stop is not None else due.best
        started = time.monotonic()
        handle = self._store.save(
            step,
            self._tree(),
            tags=[self._best_tag] if tagged else [],
            metrics=told,
            wait=self._wait or due.last,
            keep=self._keep,
        )
        self._policy.saved(step, epoch=epoch, blocked_s=time.monotonic() - started)
        return Decision(step, due.why, handle, is_over or due.last)


@dataclass(frozen=True)
class Decision:
    """What was decided behind a step."""

    step: int
    #: Why it was saved, or None if it was not.
    why: str | None
    handle: SaveHandle | None
    #: Whether the training should end: it stopped improving, or a signal came.
    stop: bool
