"""Progress of long work: a bar of tqdm, or any callable of bytes done and bytes in all."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

#: Called with bytes done and bytes in all; what it raises stops the work.
Callback = Callable[[int, int], object]
#: What `progress=` takes: a callback, True for a bar, or a class like `tqdm.tqdm`.
Progress = Callback | bool | type | None

_PLAIN_EVERY_S = 10.0


class Shown:
    """Shows the progress of one operation while it is entered."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._bar: Any = None
        self.callback: Callback | None = None
        if progress is True:
            progress = _tqdm() or _Plain(title)
        if isinstance(progress, type):
            self._bar = progress(desc=title, unit="B", unit_scale=True, unit_divisor=1024)
            self.callback = self._advance
        elif callable(progress):
            self.callback = progress

    def _advance(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Callback | None:
        return self.callback

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _tqdm() -> type | None:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    found: type = tqdm
    return found


class _Plain:
    """A line on standard error now and then, where there is no tqdm."""

    def __init__(self, title: str) -> None:
        self._title, self._last = title, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        import sys

        now = time.monotonic()
        if now - self._last < _PLAIN_EVERY_S and done < total:
            return
        self._last = now
        percent = 100 * done // max(total, 1)
        print(f"milepost: {self._title}: {percent}% of {total / 2**20:.1f} MiB", file=sys.stderr)
