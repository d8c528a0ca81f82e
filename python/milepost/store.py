"""A store of checkpoints: save to it, look into it, load from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from milepost import _engine, loading, tree
from milepost.background import Background, SaveHandle
from milepost.checkpoint import Checkpoint
from milepost.errors import ClosedError, InvalidInputError, NotFoundError
from milepost.notebook import store_html
from milepost.progress import Progress, Shown
from milepost.reports import LoadReport, SaveReport, Summary
from milepost.staging import Arenas
from milepost.upkeep import Keep, Upkeep, keep_only


class Store(Upkeep):
    """A store, open in this process; made by `milepost.open`.

    Use it in a `with` block, or call `close()`: both wait for saves in the background and raise
    what they failed with. A store can be used from several threads. A process that was forked
    from one that had it open can read from it and must open it itself to save.
    """

    def __init__(self, path: str, native: _engine.NativeStore, run: str, reopen: Any) -> None:
        #: The folder.
        self.path = path
        #: The run that is saved to and loaded from where none is named.
        self.run = run
        self._of_pid = (os.getpid(), native)
        self._owner = os.getpid()
        self._reopen = reopen
        self._abandoned: list[_engine.NativeStore] = []
        self._background = Background()
        self._arenas = Arenas()
        self._closed = False

    @property
    def native(self) -> _engine.NativeStore:
        """The engine's own, for this package's modules.

        Raises ClosedError once the store is closed.
        """
        if self._closed:
            raise ClosedError("the store is closed", hint="open it again with milepost.open")
        pid, native = self._of_pid
        if pid != os.getpid():
            # Its threads are the parent's; dropping it would wait for them.
            self._abandoned.append(native)
            native = self._reopen()
            self._of_pid = (os.getpid(), native)
        return native

    def save(
        self,
        step: int | None,
        state: Any,
        *,
        run: str | None = None,
        tags: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        wait: bool = True,
        metadata: Mapping[str, str] | None = None,
        parent: str | None = None,
        like: str | None = None,
        full: str = "auto",
        durability: str = "durable",
        level: str | None = None,
        keep: Keep | None = None,
        progress: Progress = None,
        parts: Sequence[bytes] = (),
    ) -> SaveHandle:
        """Saves a state as the checkpoint of a step; None is one more than the run's newest.

        `state` is a tree of dicts, lists and tuples; its leaves are arrays of NumPy, PyTorch or
        JAX, numbers, strings, bytes, None, and anything with `state_dict()`. Nothing is pickled.

        With `wait`, the checkpoint is durable when this returns; other threads must not change
        the state meanwhile. Without, the state is copied and saved in the background: it may be
        changed as soon as this returns, and a failure is raised by the handle's `result()`, by
        the next save, or by `close()`, whichever comes first. At most two saves are under way;
        a third waits for the first.

        `tags` are set once it is saved, `metrics` are kept for rules such as the best by loss.
        `parent` is a revision to continue instead of the run's newest checkpoint. `like` is one
        that tensors are coded against which the parent does not have, or "auto" for the nearest
        that some run ends with; tensors are matched by name, else by shape and content. `full` is
        "auto", "shared" (no deltas) or "self-contained" (shares nothing); `durability` "relaxed"
        (may be lost as a whole in a power cut), "durable" or "verified" (read back). `level` is
        "fast", "balanced" or "archive". `keep` says which checkpoints of the run stay once this
        one is saved. `progress` is called with bytes done and in all. `parts` are what other
        processes have saved of this checkpoint, as milepost.dcp does.

        Raises UnsupportedTypeError for a leaf that cannot be stored, with its path; ConflictError
        if the run has another checkpoint of this step; NoSpaceError; StorageError; and the
        failure of an earlier save in the background.
        """
        self._require_owner()
        self.raise_failure()
        encoded = tree.encode(state)
        handle = SaveHandle(step, self.run if run is None else run)
        request = self.request(encoded, handle.run, durability=durability, step=step)
        request["parent"], request["full"], request["level"] = parent, full, level
        request["like"] = like
        request["tags"] = [tags] if isinstance(tags, str) else list(tags)
        request["metadata"], request["parts"] = dict(metadata or {}), list(parts)
        request["metrics"] = {name: _metric(name, value) for name, value in (metrics or {}).items()}
        return self.submit(handle, encoded, request, wait, keep, progress)

    def request(
        self,
        encoded: tree.Encoded,
        run: str,
        *,
        step: int | None,
        durability: str,
        document: str = tree.BLOB,
    ) -> _engine.SaveRequest:
        """What the engine is asked for, without the tensors; for this package's modules."""
        return {
            "run": run,
            "step": None if step is None else _step(step),
            "parent": None,
            "like": None,
            "full": "auto",
            "durability": durability,
            "level": None,
            "tags": [],
            "tensors": [],
            "relations": encoded.relations,
            "blobs": [*encoded.blobs.items(), (document, encoded.document)],
            "metadata": {},
            "metrics": {},
            "parts": [],
            "progress": None,
        }

    def save_part(
        self,
        encoded: tree.Encoded,
        request: _engine.SaveRequest,
        index: int,
        count: int,
    ) -> _engine.NativePart:
        """Saves a part of a checkpoint; for this package's modules."""
        self._require_owner()
        self._background.wait()
        self.raise_failure()
        request["tensors"] = _tensors(encoded, {})
        return self.native.save_part(request, index, count)

    def submit(
        self,
        handle: SaveHandle,
        encoded: tree.Encoded,
        request: _engine.SaveRequest,
        wait: bool,
        keep: Keep | None = None,
        progress: Progress = None,
    ) -> SaveHandle:
        """Saves what was taken apart already; for this package's modules."""
        native, title = self.native, f"save step {handle.step}"

        def save() -> SaveReport:
            with Shown(progress, title) as callback:
                report = SaveReport.of(native.save({**request, "progress": callback}))
            if keep is not None:
                keep_only(native, report, keep)
            return report

        if wait:
            # In order: each save continues the one before it.
            self._background.wait()
            self.raise_failure()
            request["tensors"] = _tensors(encoded, {})
            handle.set_running_or_notify_cancel()
            report = save()
            handle.staged.set()
            handle.set_result(report)
            return handle
        arena = self._arenas.take()
        try:
            request["tensors"] = _tensors(encoded, arena.stage(encoded.leaves))
            handle.staged.set()
            self._background.submit(handle, save, lambda: self._arenas.give(arena))
        except BaseException:
            self._arenas.give(arena)
            raise
        return handle

    def load_into(
        self,
        target: Any,
        revision: int | str | None = None,
        *,
        strict: bool = True,
        missing_ok: bool = False,
        progress: Progress = None,
    ) -> LoadReport | None:
        """Loads a checkpoint into what is there, by default the newest of the store's run.

        `target` has the shape of what was saved. Arrays are decoded straight into their memory,
        modules keep their parameters, other objects get `load_state_dict()`, and plain values in
        dicts and lists are replaced. Everything is compared first.

        Returns a report, whose `step` is the checkpoint's; None if the run has no checkpoint and
        `missing_ok` is set. Saves in the background are waited for.

        Raises MismatchError, with the report, if the two do not fit and `strict` is set: nothing
        was changed then. Raises CorruptionError if the checkpoint is damaged: arrays may have
        been overwritten in part then.
        """
        self._background.wait()
        if revision is None:
            newest = self.native.newest(self.run)
            if newest is None and missing_ok:
                return None
            revision = f"{self.run}@latest"
        try:
            checkpoint = self[revision]
        except NotFoundError:
            if missing_ok:
                return None
            raise
        with Shown(progress, f"load step {checkpoint.step}") as callback:
            return loading.load_into(checkpoint, target, strict=strict, progress=callback)

    def __getitem__(self, revision: int | str) -> Checkpoint:
        """The checkpoint of a step of the store's run, or the one that a revision names.

        Revisions: `latest`, a run, `RUN@latest`, `step:12000`, `RUN@step:12000`, a tag, the first
        digits of an id; `~2` behind any of them goes back two parents.

        Raises NotFoundError, which is a KeyError, if there is none.
        """
        if isinstance(revision, int):
            revision = f"{self.run}@step:{_step(revision)}"
        return Checkpoint(self.native.checkpoint(revision))

    def __contains__(self, revision: object) -> bool:
        if not isinstance(revision, int | str):
            return False
        try:
            self[revision]
        except NotFoundError:
            return False
        return True

    def log(self, run: str | None = None) -> list[Summary]:
        """The checkpoints of a run, or of all, in the order of their saves.

        Raises NotFoundError if there is no such run.
        """
        named: dict[str, list[str]] = {}
        for tag, id_ in self.native.tags().items():
            named.setdefault(id_, []).append(tag)
        views = self.native.list(run)["checkpoints"]
        if run is not None and not views:
            hint = f"runs here: {', '.join(self.native.runs()) or 'none'}"
            raise NotFoundError(f"there is no run {run!r}", code="run", hint=hint)
        return [Summary.of(view, tuple(named.get(view["id"], ()))) for view in views]

    def wait(self) -> None:
        """Waits for saves in the background, and raises the failure of one."""
        self._background.wait()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raises the failure of a background save that nobody was told of yet."""
        failure = self._background.take_failure()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Waits for saves in the background, raises the failure of one, and ends the use."""
        if self._closed:
            return
        try:
            self.wait()
        finally:
            self._closed = not self._background.is_busy()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return self.close()
        # The user's own exception comes first; ours is a note on it.
        self._background.wait()
        while (failure := self._background.take_failure()) is not None:
            if failure is not error:
                error.add_note(f"milepost: a background save failed as well: {failure}")
        self._closed = True
        return None

    def __repr__(self) -> str:
        state = " (closed)" if self._closed else ""
        return f"<milepost.Store {self.path!r}, run {self.run!r}{state}>"

    def _repr_html_(self) -> str:
        return store_html(self.path, self.log())

    def _require_owner(self) -> None:
        if self._owner != os.getpid():
            raise ClosedError(
                "the store was opened by the process that this one was forked from",
                code="forked",
                hint="open it again in this process, with milepost.open",
            )
        if self._closed:
            raise ClosedError("the store is closed", hint="open it again with milepost.open")


def _metric(name: str, value: Any) -> float:
    try:
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"the metric {name!r} is {value!r}, which is no number", code="metric"
        ) from None


def _step(step: int) -> int:
    # NumPy's integers are steps too.
    try:
        number = int(step)
    except (TypeError, ValueError):
        number = -1
    if isinstance(step, bool) or number != step or not 0 <= number < 2**64:
        raise InvalidInputError(f"{step!r} is no training step", code="step", hint="0 or more")
    return number


def _tensors(
    encoded: tree.Encoded, staged: Mapping[str, memoryview]
) -> list[tuple[str, str, list[int], Any]]:
    return [
        (name, leaf.dtype, list(leaf.shape), staged[name] if name in staged else leaf.borrow())
        for name, leaf in encoded.leaves.items()
    ]
