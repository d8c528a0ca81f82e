"""Saves that run while training goes on: handles, their thread, and failures that surface."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

from milepost.reports import SaveReport

_log = logging.getLogger("milepost")


class SaveHandle(Future[SaveReport]):
    """A save that is under way, or done.

    `result()` waits until the checkpoint is durable and returns what the save did, or raises why
    there is none. `staged` is set once the state was copied and may be changed again.
    """

    def __init__(self, step: int | None, run: str) -> None:
        super().__init__()
        #: The training step that is saved; None for the next one of the run.
        self.step = step
        #: The run that is saved to.
        self.run = run
        #: Set once the state may be changed again; `save` returns only then.
        self.staged = threading.Event()
        self._told = False

    def result(self, timeout: float | None = None) -> SaveReport:
        """What the save did; waits for it, at most `timeout` seconds.

        Raises the save's failure, or TimeoutError if it is not done in time.
        """
        self.exception(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The save's failure, or None; waits for it as `result` does."""
        failure = super().exception(timeout)
        self._told = True
        return failure

    @property
    def failed_untold(self) -> bool:
        """Whether it failed and nobody has asked yet."""
        return (
            self.done() and not self.cancelled() and not self._told and self._failure() is not None
        )

    def _failure(self) -> BaseException | None:
        return super().exception(0) if self.done() and not self.cancelled() else None

    def tell(self) -> BaseException | None:
        """The failure that nobody has asked for yet, once."""
        if not self.failed_untold:
            return None
        self._told = True
        failure = self._failure()
        if failure is not None:
            where = "" if self.step is None else f" of step {self.step}"
            failure.add_note(f"this is the failure of the background save{where}")
        return failure


Job = tuple[SaveHandle, Callable[[], SaveReport], Callable[[], None]]


class Background:
    """Runs jobs one after the other, on a thread that lives only while there are some."""

    def __init__(self) -> None:
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._running = False
        self._failed: list[SaveHandle] = []
        self._pid = os.getpid()

    def submit(
        self, handle: SaveHandle, work: Callable[[], SaveReport], after: Callable[[], None]
    ) -> None:
        """Lets `work` fill the handle when its turn comes; `after` runs in any case."""
        with self._changed:
            self._jobs.append((handle, work, after))
            if self._running:
                return
            self._running = True
        try:
            # No daemon: the interpreter waits for it before it ends.
            threading.Thread(target=self._run, name="milepost-save").start()
        except BaseException:
            with self._changed:
                self._running = False
                self._jobs.pop()
            raise

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._running = False
                    self._changed.notify_all()
                    return
                handle, work, after = self._jobs.popleft()
            self._do(handle, work, after)
            del handle, work, after

    def _do(
        self, handle: SaveHandle, work: Callable[[], SaveReport], after: Callable[[], None]
    ) -> None:
        if not handle.set_running_or_notify_cancel():
            after()
            return
        try:
            report = work()
        except BaseException as failure:
            _UNTOLD[:] = [earlier for earlier in _UNTOLD if earlier.failed_untold]
            _log.error("the background save of step %s failed: %s", handle.step, failure)
            after()
            # Before the handle tells, so that whoever waits for it finds it here too.
            with self._changed:
                self._failed.append(handle)
            _UNTOLD.append(handle)
            handle.set_exception(failure)
        else:
            after()
            handle.set_result(report)

    def wait(self) -> None:
        """Returns once nothing is left to do. Ctrl-C interrupts the wait, not the work."""
        if self._pid != os.getpid():
            return
        with self._changed:
            while self._running:
                self._changed.wait()

    def take_failure(self) -> BaseException | None:
        """The first failure that nobody has been told of; it counts as told then."""
        while True:
            with self._changed:
                if not self._failed:
                    return None
                handle = self._failed.pop(0)
            failure = handle.tell()
            if failure is not None:
                return failure

    def is_busy(self) -> bool:
        """Whether a save runs or waits."""
        with self._changed:
            return self._running


_ALL: weakref.WeakSet[Background] = weakref.WeakSet()
#: Failed saves, also those of stores that the program has let go.
_UNTOLD: list[SaveHandle] = []


def _after_fork() -> None:
    # The thread and what it held are the parent's.
    for background in list(_ALL):
        background._reset()
    _UNTOLD.clear()


os.register_at_fork(after_in_child=_after_fork)


def _at_exit() -> None:
    """A save that failed without anybody asking makes the process fail."""
    for background in list(_ALL):
        background.wait()
    failures = [failure for handle in _UNTOLD if (failure := handle.tell()) is not None]
    if not failures:
        return
    for failure in failures:
        print("milepost: a background save failed, and nobody asked for it:", file=sys.stderr)
        traceback.print_exception(failure)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # There is no other way to change the exit status from here.
    os._exit(1)


atexit.register(_at_exit)

__all__ = ["Background", "CancelledError", "SaveHandle"]
