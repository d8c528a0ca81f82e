"""A CheckpointIO for Lightning: its checkpoints as checkpoints of a store.

    trainer = L.Trainer(plugins=[milepost.lightning.CheckpointIO("runs/gpt2")])

The paths that Lightning asks for become names in the store; no file is written at them but a
small one that says where the checkpoint is, so that what looks for files finds them. Rotation by
ModelCheckpoint forgets checkpoints, and the space comes back.
"""

from __future__ import annotations

import os
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO as LightningCheckpointIO
from lightning.pytorch.callbacks import Callback

from milepost import pointers
from milepost.checkpoint import Checkpoint
from milepost.errors import NotFoundError
from milepost.opening import File, opened
from milepost.store import Store
from milepost.training import RandomState

#: What the small file says it is.
_FORMAT = "milepost-lightning"


class CheckpointIO(LightningCheckpointIO):
    """Saves Lightning's checkpoints to a store, which is made if there is none.

    `run` is the run that they are saved to. Saves wait until they are durable; under
    AsyncCheckpointIO they do so in the background.
    """

    def __init__(self, store: File | Store, run: str = "main") -> None:
        self._store = opened(store, run)
        self._run = run

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: File, storage_options: Any = None
    ) -> None:
        """Saves a checkpoint under a path; one that was there before is forgotten.

        Raises what Store.save raises.
        """
        del storage_options
        before = pointers.read(path, _FORMAT)
        report = self._store.save(
            None, checkpoint, run=self._run, metadata={"path": os.fspath(path)}
        ).result()
        pointers.write(path, _FORMAT, store=self._store.path, id=report.id)
        if before is not None and before["id"] != report.id:
            self._forget(before["id"])

    def load_checkpoint(
        self,
        path: File,
        map_location: Any = None,
        weights_only: bool | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """The checkpoint that was saved under a path.

        Raises NotFoundError if there is none.
        """
        del weights_only
        device = map_location if isinstance(map_location, str) else None
        if map_location is not None and not callable(map_location):
            device = str(map_location)
        loaded: dict[str, Any] = self._find(path).load(device=device)
        return loaded

    def remove_checkpoint(self, path: File) -> None:
        """Forgets the checkpoint that was saved under a path; what others need stays."""
        told = pointers.read(path, _FORMAT)
        if told is None:
            return
        os.unlink(path)
        self._forget(told["id"])

    def _find(self, path: File) -> Checkpoint:
        told = pointers.read(path, _FORMAT)
        if told is None:
            raise NotFoundError(
                f"no checkpoint of milepost was saved under {os.fspath(path)!r}",
                code="path",
                hint="look at `milepost log`",
            )
        return self._store[told["id"]]

    def _forget(self, id_: str) -> None:
        try:
            self._store.forget(id_)
        except NotFoundError:
            # Somebody else was first.
            return

    def teardown(self) -> None:
        """Waits for what is under way, and raises its failure."""
        self._store.wait()


class RandomGenerators(Callback):
    """Makes the generators of Python, NumPy and PyTorch part of Lightning's checkpoints.

        trainer = L.Trainer(callbacks=[milepost.lightning.RandomGenerators(), ...])

    Lightning saves none of them: a training with dropout goes on otherwise without this. For a
    resume in the middle of an epoch the loader must know its place, as milepost.ResumableLoader.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Their states."""
        return RandomState().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Sets them: a loader that begins an epoch draws from them before any batch."""
        RandomState().load_state_dict(state_dict)
        self._loaded = dict(state_dict)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sets them again if this is the first batch after a resume in the middle of an epoch."""
        del trainer, pl_module, batch
        if self._loaded is not None and batch_idx > 0:
            RandomState().load_state_dict(self._loaded)
        self._loaded = None
