"""When to save: every so many steps, epochs or seconds, on improvement, on a signal."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from milepost.errors import InvalidInputError

Clock = Callable[[], float]


@dataclass(frozen=True)
class Goal:
    """Which end of a metric is good: "min" as of a loss, "max" as of an accuracy."""

    metric: str
    mode: str = "min"
    #: An improvement by less does not count.
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise InvalidInputError(f"{self.mode!r} is no mode", hint='"min" or "max"')

    @classmethod
    def of(cls, goal: Goal | str | tuple[str, str]) -> Goal:
        """Of a goal, `"loss:min"`, or `("loss", "min")`."""
        if isinstance(goal, Goal):
            return goal
        if isinstance(goal, str):
            metric, _, mode = goal.rpartition(":")
            return cls(metric, mode) if metric else cls(goal)
        return cls(*goal)

    def improves(self, value: float, best: float | None) -> bool:
        """Whether a value is better than the best so far; NaN never is."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        gain = best - value if self.mode == "min" else value - best
        return gain > self.min_delta


def young_daly(save_s: float, mtbf_s: float) -> float:
    """Seconds from the end of one save to the next that lose the least time, after Daly.

    `save_s` is how long a save keeps the training, `mtbf_s` the mean time between failures.
    J. T. Daly, A higher order estimate of the optimum checkpoint interval (2006), equation 37.
    """
    if save_s >= 2 * mtbf_s:
        return mtbf_s
    root = math.sqrt(2 * save_s * mtbf_s)
    part = save_s / (2 * mtbf_s)
    return max(root * (1 + math.sqrt(part) / 3 + part / 9) - save_s, 0.0)


@dataclass(frozen=True)
class Due:
    """That a step should be saved."""

    why: str
    #: Whether it is the best so far.
    best: bool = False
    #: Whether the process is about to be ended.
    last: bool = False


@dataclass
class SavePolicy:
    """Says at every step whether to save, and why. Whichever rule is due first makes it save.

    `every_steps`, `every_epochs` and `every_seconds` count from the last save; `on_improvement`
    is a metric's goal, as `"loss:min"`; `on_signals` are signals after which the next step is
    saved, such as the SIGTERM of a machine that is about to be taken away.
    """

    every_steps: int | None = None
    every_epochs: int | None = None
    every_seconds: float | None = None
    on_improvement: Goal | str | tuple[str, str] | None = None
    on_signals: tuple[signal.Signals, ...] = ()
    clock: Clock = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        for name in ("every_steps", "every_epochs", "every_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InvalidInputError(f"{name} must be more than 0", code="policy")
        self.goal = None if self.on_improvement is None else Goal.of(self.on_improvement)
        #: The best value of the goal's metric so far.
        self.best: float | None = None
        #: Whether a signal came.
        self.signalled = threading.Event()
        self._saved_at: tuple[int, int | None, float] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @classmethod
    def auto(cls, mtbf: float, **rules: Any) -> AutoPolicy:
        """Picks the interval from what saves cost; `mtbf` is in seconds. See AutoPolicy."""
        return AutoPolicy(mtbf=mtbf, **rules)

    def due(
        self, step: int, *, epoch: int | None = None, metrics: Mapping[str, float] | None = None
    ) -> Due | None:
        """Why the state behind this step should be saved, or None if it need not be."""
        now = self.clock()
        if self._saved_at is None:
            self._saved_at = (step - 1, None if epoch is None else epoch - 1, now)
        last_step, last_epoch, last_time = self._saved_at
        if self.signalled.is_set():
            return Due("a signal came", last=True)
        improved = self._improvement(metrics or {})
        if improved is not None:
            return improved
        if self.every_steps is not None and step - last_step >= self.every_steps:
            return Due(f"{step - last_step} steps since the last save")
        if self.every_epochs is not None and epoch is not None and last_epoch is not None:
            done = epoch - last_epoch
            if done >= self.every_epochs:
                return Due(f"{done} epochs since the last save")
        waited = now - last_time
        if self.every_seconds is not None and waited >= self.every_seconds:
            return Due(f"{waited:.0f} s since the last save")
        return None

    def _improvement(self, metrics: Mapping[str, float]) -> Due | None:
        if self.goal is None or self.goal.metric not in metrics:
            return None
        value = float(metrics[self.goal.metric])
        if not self.goal.improves(value, self.best):
            return None
        before, self.best = self.best, value
        after = "" if before is None else f", after {before:g}"
        return Due(f"{self.goal.metric} {value:g} is the best{after}", best=True)

    def saved(self, step: int, *, epoch: int | None = None, blocked_s: float = 0.0) -> None:
        """Tells that a step was saved, and for how many seconds that kept the training."""
        del blocked_s
        self._saved_at = (step, epoch, self.clock())

    def restored(self, seconds: float) -> None:
        """Tells how long a restore took."""

    def state_dict(self) -> dict[str, Any]:
        """What it must know after a resume."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        self.best = state["best"]

    def __enter__(self) -> Self:
        """Starts to watch for signals; only the main thread can."""
        for number in self.on_signals:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, _number: int, _frame: object) -> None:
        # No more than this: the training may be anywhere, also in the middle of a save.
        self.signalled.set()


@dataclass
class AutoPolicy(SavePolicy):
    """Saves as often as loses the least time, by what saves cost and how often machines fail.

    Too many saves cost time, too few lose work. Young's and Daly's optimum weighs the two; it is
    computed anew from the mean cost of the last saves. Until one was measured, `first_seconds`
    pass. `explain()` says what was measured and chosen.
    """

    #: Mean time between failures, in seconds: of all machines together that one failure stops.
    mtbf: float = 24 * 3600.0
    #: Seconds to the first save.
    first_seconds: float = 60.0
    #: Saves that the mean is taken of.
    window: int = 8

    def __post_init__(self) -> None:
        if self.mtbf <= 0:
            raise InvalidInputError("mtbf must be more than 0 seconds", code="policy")
        super().__post_init__()
        self._costs: list[float] = []
        self._restores: list[float] = []
        if self.every_seconds is None:
            self.every_seconds = self.first_seconds

    def saved(self, step: int, *, epoch: int | None = None, blocked_s: float = 0.0) -> None:
        """As SavePolicy.saved; chooses the next interval."""
        super().saved(step, epoch=epoch)
        self._costs = [*self._costs, blocked_s][-self.window :]
        self.every_seconds = young_daly(self.cost, self.mtbf)

    def restored(self, seconds: float) -> None:
        """Tells how long a restore took: it is part of what a failure costs."""
        self._restores = [*self._restores, seconds][-self.window :]

    @property
    def cost(self) -> float:
        """Seconds that a save keeps the training, on the mean."""
        return sum(self._costs) / len(self._costs) if self._costs else 0.0

    def explain(self) -> str:
        """What was measured, what was chosen, and what it costs."""
        if not self._costs or self.every_seconds is None:
            return f"no save was measured yet: the first is due after {self.first_seconds:g} s"
        interval = max(self.every_seconds, 1e-9)
        saving = self.cost / (interval + self.cost)
        restore = sum(self._restores) / len(self._restores) if self._restores else 0.0
        failing = ((interval + self.cost) / 2 + restore) / self.mtbf
        return (
            f"every {interval:.3g} s: a save keeps the training {self.cost:.3g} s (mean of "
            f"{len(self._costs)}) and a failure comes every {self.mtbf:.3g} s, of which Daly's "
            f"optimum is this; saving then takes {saving:.2%} of the time, and what failures "
            f"repeat or spend on restores of {restore:.3g} s about {failing:.2%}"
        )
