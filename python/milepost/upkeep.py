"""Upkeep of a store: tags, forks, forgetting, space, verification."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from milepost import _engine
from milepost.errors import Error, LockedError
from milepost.progress import Progress, Shown
from milepost.reports import Collected, Compacted, ForgetReport, SaveReport, Verified

_log = logging.getLogger("milepost")


@dataclass(frozen=True)
class Keep:
    """Which checkpoints of a run stay: those that any of these rules keeps, and the newest.

    `within` is a span before the run's newest checkpoint, as `12h` or `7d`. Tagged checkpoints
    always stay, unless `tags` names some: then only those. `best` holds rules `METRIC:min:K` or
    `METRIC:max:K`.
    """

    last: int | None = None
    every: int | None = None
    within: str | None = None
    tags: Sequence[str] = ()
    best: str | Sequence[str] = ()

    def request(self) -> _engine.RulesRequest:
        """For the engine."""
        return {
            "last": self.last,
            "every": self.every,
            "within": self.within,
            "tags": {self.tags} if isinstance(self.tags, str) else set(self.tags),
            "best": [self.best] if isinstance(self.best, str) else list(self.best),
        }


def keep_only(native: _engine.NativeStore, report: SaveReport, keep: Keep) -> None:
    """Forgets what a rule does not keep of the run that was just saved to.

    Another process that saves or collects right now is no failure: the next save tries again.
    """
    request: _engine.ForgetRequest = {
        "revisions": [],
        "rules": keep.request(),
        "runs": [report.run],
        "drop": [],
        "collect": True,
        "wait": False,
        "dry_run": False,
    }
    try:
        _engine.forget(native, request)
    except LockedError as error:
        _log.info("nothing is collected this time: %s", error)
    except Error as error:
        error.add_note(f"step {report.step} is saved; forgetting older ones failed")
        raise


class Upkeep(ABC):
    """What can be done with a store beside saving and loading."""

    #: The folder.
    path: str

    @property
    @abstractmethod
    def native(self) -> _engine.NativeStore:
        """The engine's own."""

    @abstractmethod
    def wait(self) -> None:
        """Waits for saves in the background."""

    def make_room(self, needed: int) -> int:
        """Makes room for so many bytes if quota or disk may not have it.

        Nobody knows yet how little of them will be new. What the store's own keep rules do not
        keep is let go, never the newest verified checkpoint of a run. Returns how many
        checkpoints went.
        """
        native = self.native
        left, free = native.quota_left(), os.statvfs(self.path)
        if min(free.f_bavail * free.f_frsize, needed if left is None else left) >= needed:
            return 0
        _log.info("room is made for %d bytes", needed)
        return native.make_room()

    @property
    def runs(self) -> list[str]:
        """The runs that have a checkpoint, sorted."""
        return list(self.native.runs())

    @property
    def tags(self) -> dict[str, str]:
        """Every tag and the id of the checkpoint it names."""
        return self.native.tags()

    def tag(self, name: str, revision: int | str) -> str:
        """Names a checkpoint, or moves the tag of that name; returns the checkpoint's id.

        Raises NotFoundError if there is no such checkpoint.
        """
        return self.native.tag(name, _revision(revision))

    def untag(self, name: str) -> None:
        """Removes a tag.

        Raises NotFoundError if there is none of that name.
        """
        self.native.untag(name)

    def fork(self, revision: int | str, run: str) -> SaveReport:
        """Starts a run at a checkpoint of any run; what it holds is shared, not copied.

        Raises ConflictError if there is such a run, NotFoundError if there is no such checkpoint.
        """
        self.wait()
        return SaveReport.of(self.native.fork(_revision(revision), run))

    def forget(
        self,
        *revisions: int | str,
        keep: Keep | None = None,
        runs: Sequence[str] = (),
        drop: Sequence[str] = (),
        collect: bool = True,
        dry_run: bool = False,
    ) -> ForgetReport:
        """Forgets these checkpoints, or those that no rule keeps, and gives back the space.

        `drop` forgets only the tensors with names that match one of these patterns, such as
        `optim.*`. With `runs` the rules hold for these runs only. The newest durable checkpoint
        of a run always stays. With `dry_run` nothing is done but to say what would be.
        """
        self.wait()
        request: _engine.ForgetRequest = {
            "revisions": [_revision(r) for r in revisions],
            "rules": (keep or Keep()).request(),
            "runs": [runs] if isinstance(runs, str) else list(runs),
            "drop": [drop] if isinstance(drop, str) else list(drop),
            "collect": collect,
            "wait": True,
            "dry_run": dry_run,
        }
        return ForgetReport.of(_engine.forget(self.native, request))

    def gc(self, *, dry_run: bool = False, wait: bool = True) -> Collected:
        """Removes files that no checkpoint needs.

        Saves of other processes are waited for; without `wait`, LockedError is raised if there
        is one.

        Raises CorruptionError if a checkpoint cannot be read: nothing was removed then.
        """
        self.wait()
        return Collected(**_engine.gc(self.native, dry_run, wait))

    def compact(self, *, dry_run: bool = False, reencode: bool = False) -> Compacted:
        """Rewrites files that hold much that nothing needs; `reencode` codes everything anew."""
        self.wait()
        return Compacted(**_engine.compact(self.native, dry_run, reencode))

    def verify(
        self,
        revision: int | str | None = None,
        *,
        read_data: bool | int = False,
        progress: Progress = None,
    ) -> Verified:
        """Verifies one checkpoint and what it needs, or everything; changes nothing.

        With `read_data` the data is decoded and hashed, or about so many percent of it. The
        result is true if nothing is wrong; damage is no exception but a problem in it.
        """
        percent = 100 if read_data is True else int(read_data)
        named = None if revision is None else _revision(revision)
        with Shown(progress, "verify") as callback:
            return Verified.of(_engine.verify(self.native, named, percent, callback))

    def disk_usage(self) -> _engine.DiskView:
        """Bytes that the store's files take."""
        return self.native.disk_usage()


def _revision(revision: int | str) -> str:
    return f"step:{revision}" if isinstance(revision, int) else revision
