"""A CheckpointEngine for DeepSpeed: what its ranks save, as one checkpoint of a store.

    engine, *_ = deepspeed.initialize(...)
    engine.checkpoint_engine = milepost.deepspeed.CheckpointEngine("runs/gpt2")
    engine.save_checkpoint("checkpoints")
    engine.load_checkpoint("checkpoints")

Set it in every process. Each rank saves its files as a part of one checkpoint, which the first
commits when all are there. At the paths that DeepSpeed asks for lie small files that name the
checkpoint, so that what looks for files finds them. Nothing is pickled: the few objects of
DeepSpeed's own that are among its states are stored by their values.
"""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from deepspeed.runtime.checkpoint_engine.checkpoint_engine import (
    CheckpointCommitInfo,
)
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import (
    CheckpointEngine as DeepSpeedCheckpointEngine,
)
from deepspeed.runtime.fp16 import loss_scaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from milepost import pointers, tree
from milepost.checkpoint import Checkpoint
from milepost.errors import CorruptionError, InvalidInputError, NotFoundError
from milepost.opening import File, opened
from milepost.ranks import Ranks, save_together
from milepost.store import Store
from milepost.upkeep import Keep

#: What the small files say they are.
_FORMAT = "milepost-deepspeed"
#: A number in a tag that is greater tells no step.
_STEP_MAX = 2**63
_MAPPINGS = (dict, collections.OrderedDict)
_SCALERS = {kind.__name__: kind for kind in (loss_scaler.LossScaler, loss_scaler.DynamicLossScaler)}


class DeepSpeedObject(NamedTuple):
    """An object of DeepSpeed's as it is stored: its type's name and its values."""

    type: str
    values: dict[str, Any]


class CheckpointEngine(DeepSpeedCheckpointEngine):  # type: ignore[misc]
    """Saves DeepSpeed's checkpoints to a store, which is made if there is none.

    `run` is the run that they are saved to; steps are those of DeepSpeed's tags (`global_step100`),
    or one more than the newest where a tag tells none or the step is taken. A tag that is saved
    again forgets what it named before. `keep` says which checkpoints of the run stay; `durability`
    is as for Store.save.
    """

    def __init__(
        self,
        store: File | Store,
        *,
        run: str = "main",
        durability: str = "durable",
        keep: Keep | None = None,
    ) -> None:
        super().__init__()
        self.name = "milepost"
        self._store = opened(store, run)
        self._run, self._durability, self._keep = run, durability, keep
        self._held: dict[str, Any] = {}

    def create(self, info: CheckpointCommitInfo) -> None:
        """Begins a checkpoint; what was not committed before is let go."""
        del info
        self._held = {}

    def save(self, state_dict: Any, path: File) -> None:
        """Takes what is to be saved at a path; it must not change before `commit`."""
        self._held[os.path.abspath(path)] = state_dict

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """Saves what all ranks took as one checkpoint; it is durable when this returns.

        Raises what Store.save raises, in every rank; there is no checkpoint then.
        """
        ranks, held, self._held = Ranks.here(), self._held, {}
        files = {os.path.relpath(path, info.save_dir): state for path, state in held.items()}
        placed = ranks.all(lambda: list(files))
        if not any(placed):
            return True
        _require_training(placed, info.tag)
        before = ranks.first(lambda: pointers.read(next(iter(held), ""), _FORMAT))
        id_ = save_together(
            ranks,
            self._store,
            ranks.first(lambda: self._step(info.tag)),
            own=lambda: {name: _plain(state) for name, state in files.items()},
            shared=lambda: {
                "deepspeed": {
                    "tag": info.tag,
                    "files": {name: rank for rank, names in enumerate(placed) for name in names},
                }
            },
            run=self._run,
            durability=self._durability,
            keep=self._keep,
            metadata={"tag": info.tag, "folder": os.fspath(info.save_dir)},
        )

        def place() -> None:
            for path, name in zip(held, files, strict=True):
                self._place(path, id_, name, ranks.index)

        # DeepSpeed says which checkpoint is the latest only when this returned in all.
        ranks.all(place)
        if before is not None and before["id"] != id_:
            ranks.first(lambda: self._forget(before["id"]))
        return True

    def load(self, path: File, map_location: Any = None) -> Any:
        """What was saved at a path, by whichever rank.

        Raises NotFoundError if nothing was.
        """
        told = pointers.read(path, _FORMAT)
        if told is None:
            raise NotFoundError(
                f"no checkpoint of milepost was saved under {os.fspath(path)!r}",
                code="path",
                hint="milepost.deepspeed.restore makes a folder for a checkpoint of a store",
            )
        part = self._store[told["id"]].part(tree.of_part(told["rank"]))
        state = part.value(told["name"])
        return _revived(state, _mover(map_location))

    def preserves_storage_sharing(self) -> bool:
        """No: of a view what it shows is stored, so DeepSpeed need not clone it first."""
        return False

    def _step(self, tag: str) -> int:
        named = re.search(r"(\d+)\D*$", tag)
        newest = self._store.native.newest(self._run)
        number = -1 if named is None else int(named[1])
        if (-1 if newest is None else newest["step"]) < number < _STEP_MAX:
            return number
        taken = self._store.log(self._run) if newest is not None else []
        return max((summary.step for summary in taken), default=-1) + 1

    def _place(self, path: str, id_: str, name: str, rank: int) -> None:
        pointers.write(path, _FORMAT, store=self._store.path, id=id_, name=name, rank=rank)

    def _forget(self, id_: str) -> None:
        try:
            self._store.forget(id_)
        except NotFoundError:
            # A rule of `keep`, or somebody else, was first.
            return


def restore(
    store: File | Store, folder: File, revision: int | str | None = None, *, run: str = "main"
) -> str | None:
    """Makes a folder that DeepSpeed loads a checkpoint of a store from, by default the newest.

    For a machine that has the store and not the folder. Call it in one process. Returns the
    checkpoint's tag, or None if the run has no checkpoint and no revision was named.

    Raises InvalidInputError if the checkpoint was not saved by DeepSpeed.
    """
    there = opened(store, run)
    try:
        found: Checkpoint = there[f"{run}@latest" if revision is None else revision]
    except NotFoundError:
        if revision is None:
            return None
        raise
    told = found.tree()
    if not isinstance(told, dict) or not isinstance(told.get("deepspeed"), dict):
        raise InvalidInputError(
            f"step {found.step} of run {found.run!r} was not saved by DeepSpeed", code="deepspeed"
        )
    tag, files = str(told["deepspeed"]["tag"]), told["deepspeed"]["files"]
    base = os.path.abspath(folder)
    # DeepSpeed will look for files in the folder that `latest` names.
    _below(base, tag)
    for name, rank in files.items():
        path = _below(base, name)
        pointers.write(path, _FORMAT, store=there.path, id=found.id, name=name, rank=rank)
    with open(os.path.join(base, "latest"), "w", encoding="utf-8") as latest:
        latest.write(tag)
    return tag


def _below(base: str, name: str) -> str:
    """The path of what a checkpoint names in a folder; it must not lead out of it."""
    path = os.path.normpath(os.path.join(base, name))
    if path == base or os.path.commonpath([base, path]) != base or not name.isprintable():
        raise CorruptionError(f"the checkpoint names a file outside: {name!r}", code="path")
    return path


def _require_training(placed: list[list[str]], tag: str) -> None:
    """Refuses in every rank what is no checkpoint, such as the file of `save_16bit_model`."""
    beside = [n for names in placed for n in names if not n.startswith(f"{tag}{os.sep}")]
    if beside:
        raise InvalidInputError(
            f"{beside[0]!r} is an export, not a part of the checkpoint {tag!r}",
            code="deepspeed-export",
            hint="write it with milepost.safetensors.save_file, or by another checkpoint engine",
        )


def _plain(value: Any) -> Any:
    """A state with DeepSpeed's own objects as their values."""
    if type(value) in _MAPPINGS:
        return type(value)((key, _plain(held)) for key, held in value.items())
    if type(value) in (list, tuple):
        return type(value)(_plain(held) for held in value)
    if type(value).__name__ in _SCALERS and type(value) is _SCALERS[type(value).__name__]:
        return DeepSpeedObject(type(value).__name__, dict(vars(value)))
    if isinstance(value, ZeroStageEnum):
        return DeepSpeedObject("ZeroStageEnum", {"stage": int(value)})
    if type(value) is fragment_address:
        return DeepSpeedObject("fragment_address", {"numel": value.numel, "start": value.start})
    return value


def _revived(value: Any, move: Callable[[Any], Any]) -> Any:
    """A state with DeepSpeed's own objects again, and its tensors where they belong."""
    if type(value) in _MAPPINGS:
        return type(value)((key, _revived(held, move)) for key, held in value.items())
    if type(value) in (list, tuple):
        return type(value)(_revived(held, move) for held in value)
    if type(value).__name__ == DeepSpeedObject.__name__ and hasattr(value, "_fields"):
        return _object(value.type, value.values)
    return move(value)


def _object(kind: str, values: dict[str, Any]) -> Any:
    if kind in _SCALERS:
        scaler = _SCALERS[kind].__new__(_SCALERS[kind])
        vars(scaler).update(values)
        return scaler
    if kind == "ZeroStageEnum":
        return ZeroStageEnum(values["stage"])
    if kind == "fragment_address":
        return fragment_address(**values)
    raise CorruptionError(f"the checkpoint holds an unknown object of DeepSpeed: {kind!r}")


def _mover(location: Any) -> Callable[[Any], Any]:
    """Puts tensors where `torch.load` would: they come from "cpu"; what was tied stays so."""
    if isinstance(location, dict):
        location = location.get("cpu")
    if location is None or callable(location):
        # They are in main memory, which is what DeepSpeed's functions ask for.
        return lambda value: value
    moved: dict[int, tuple[Any, Any]] = {}

    def move(value: Any) -> Any:
        if not hasattr(value, "untyped_storage"):
            return value
        if id(value) not in moved:
            moved[id(value)] = value, value.to(location)
        return moved[id(value)][1]

    return move


__all__ = ["CheckpointEngine", "restore"]
