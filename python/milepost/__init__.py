"""milepost: an incremental, lossless store of training checkpoints.

    import milepost

    run = milepost.resume("runs/gpt2", model=model, optimizer=optimizer)
    for step in range(run.start, steps):
        loss = train_step()
        run.save(step, metrics={"loss": loss}, wait=False)

Every checkpoint restores bit for bit and on its own; it costs only what changed. Nothing is
pickled, and no framework is imported that the program does not use.
"""

from __future__ import annotations

from milepost import errors
from milepost._engine import VERSION as __version__
from milepost.autosave import Autosave, Decision, EarlyStop
from milepost.background import SaveHandle
from milepost.checkpoint import Checkpoint
from milepost.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    Error,
    FormatVersionError,
    InvalidInputError,
    LimitError,
    LockedError,
    MismatchError,
    NoSpaceError,
    NotFoundError,
    StoppedError,
    StorageError,
    UnsupportedTypeError,
)
from milepost.lazy import LazyTensor
from milepost.opening import open
from milepost.policy import AutoPolicy, Due, Goal, SavePolicy
from milepost.reports import (
    Collected,
    Compacted,
    ForgetReport,
    LoadReport,
    Problem,
    SaveReport,
    Summary,
    Verified,
)
from milepost.store import Store
from milepost.training import RandomState, ResumableLoader, Resumed, Training, resume
from milepost.upkeep import Keep

__all__ = [
    "AutoPolicy",
    "Autosave",
    "Checkpoint",
    "ClosedError",
    "Collected",
    "Compacted",
    "ConflictError",
    "CorruptionError",
    "Decision",
    "Due",
    "EarlyStop",
    "Error",
    "ForgetReport",
    "FormatVersionError",
    "Goal",
    "InvalidInputError",
    "Keep",
    "LazyTensor",
    "LimitError",
    "LoadReport",
    "LockedError",
    "MismatchError",
    "NoSpaceError",
    "NotFoundError",
    "Problem",
    "RandomState",
    "ResumableLoader",
    "Resumed",
    "SaveHandle",
    "SavePolicy",
    "SaveReport",
    "StoppedError",
    "StorageError",
    "Store",
    "Summary",
    "Training",
    "UnsupportedTypeError",
    "Verified",
    "__version__",
    "errors",
    "open",
    "resume",
]
