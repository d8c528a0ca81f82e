"""Opening a store, which is made if there is none."""

from __future__ import annotations

import os

from milepost import _engine
from milepost.errors import ConflictError, InvalidInputError, NotFoundError
from milepost.store import Store
from milepost.upkeep import Keep

File = str | os.PathLike[str]

_BUDGET_MIN, _BUDGET_MAX = 1.0, 1000.0


def open(
    path: str | os.PathLike[str],
    *,
    mode: str = "a",
    run: str = "main",
    threads: int = 0,
    cache_bytes: int = 512 << 20,
    reader: str = "auto",
    lock_timeout: float | None = None,
    restore_budget: float = 2.0,
    max_depth: int = 64,
    full_every: int = 0,
    level: str = "fast",
    chunk_bytes: int = 256 << 10,
    quota: int | None = None,
    keep: Keep | None = None,
) -> Store:
    """Opens the store in a folder; with mode "a" it is made if there is none, with "r" it is not.

    `run` is the run that is saved to and loaded from where none is named. `threads` encode and
    decode, 0 is one for each core; `cache_bytes` of the last state are kept in memory, so that
    the next save need not read it; `reader` is "auto", "mmap" or "pread"; `lock_timeout` is how
    many seconds to wait for another process, None as long as it takes.

    The rest counts only where the store is made: restoring any checkpoint costs at most
    `restore_budget` times one full checkpoint, along chains of at most `max_depth`; every
    `full_every`-th checkpoint is full, 0 is by budget; `quota` limits the store's bytes on disk
    and `keep` says what may go then.

    Raises NotFoundError in mode "r" if there is no store, FormatVersionError if it was made by a
    newer version, CorruptionError if it cannot be read.
    """
    if mode not in ("a", "r"):
        raise InvalidInputError(f"{mode!r} is no mode", code="mode", hint='"a" or "r"')
    folder = os.fspath(path)
    if not isinstance(folder, str):
        raise InvalidInputError("the path must be text", code="path")
    options: _engine.OpenRequest = {
        "threads": threads,
        "cache_bytes": cache_bytes,
        "reader": reader,
        "lock_timeout": lock_timeout,
        "quota": None,
    }

    def reopen() -> _engine.NativeStore:
        return _engine.NativeStore.open(folder, options)

    try:
        return Store(folder, reopen(), run, reopen)
    except NotFoundError as error:
        if mode == "r" or error.code != "no-store":
            raise
    if not _BUDGET_MIN <= restore_budget <= _BUDGET_MAX:
        raise InvalidInputError("the restore budget is a number from 1 to 1000", code="setting")
    settings: _engine.SettingsRequest = {
        "restore_budget_milli": round(restore_budget * 1000),
        "depth_max": max_depth,
        "full_every": full_every,
        "level": level,
        "chunk_len": chunk_bytes,
        "quota": quota,
        "keep": (keep or Keep()).request(),
    }
    try:
        native = _engine.NativeStore.create(folder, settings, options)
    except ConflictError as error:
        if error.code != "store-exists":
            raise
        # Another process made it at the same moment.
        native = reopen()
    return Store(folder, native, run, reopen)


def opened(store: File | Store, run: str) -> Store:
    """A store that is open already, or the one at a path."""
    return store if isinstance(store, Store) else open(store, run=run)
