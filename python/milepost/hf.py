"""A callback for the Trainer of Hugging Face: its states as checkpoints of a store.

    milepost.hf.Checkpoints("runs/gpt2") in callbacks=[...]
    trainer.train(resume_from_checkpoint=milepost.hf.restore("runs/gpt2", args.output_dir))

The Trainer writes `checkpoint-N` folders and has no place to plug in a storage. The callback takes
each folder into the store once it is written, file by file; tensors of safetensors files become
tensors, every other file a blob. With `keep="store"` the folder is removed then. `restore` writes
the newest checkpoint of the store back as such a folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from milepost import safetensors_files
from milepost.background import SaveHandle
from milepost.errors import InvalidInputError, NotFoundError
from milepost.opening import File, opened
from milepost.store import Store
from milepost.upkeep import Keep


class Checkpoints(TrainerCallback):
    """Takes every checkpoint that the Trainer writes into a store.

    `keep` is "both", or "store" to remove the Trainer's folder once it is durable in the store.
    `rules` say which checkpoints of the store stay; by default as many of the last as the
    Trainer's `save_total_limit`. Without `wait` the folder is copied to memory and saved in the
    background; a failure is raised at the next save or when the training ends, and the folder
    stays then.
    """

    def __init__(
        self,
        store: File | Store,
        *,
        run: str = "main",
        keep: str = "both",
        rules: Keep | None = None,
        wait: bool = True,
    ) -> None:
        if keep not in ("both", "store"):
            raise InvalidInputError(f"{keep!r} is neither", code="keep", hint='"both" or "store"')
        self._store = opened(store, run)
        self._run, self._keep, self._rules, self._wait = run, keep, rules, wait
        self._under_way: list[tuple[SaveHandle, Path]] = []

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Takes in the folder that was just written.

        Raises what Store.save raises; the folder stays then.
        """
        del control
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        limit = args.save_total_limit
        rules = self._rules or (Keep(last=limit) if limit else None)
        metrics = {
            name: float(value)
            for name, value in (state.log_history or [{}])[-1].items()
            if isinstance(value, int | float)
        }
        handle = self._store.save(
            state.global_step,
            safetensors_files.read_folder(folder),
            run=self._run,
            metrics=metrics,
            keep=rules,
            wait=self._wait,
        )
        self._under_way.append((handle, folder))
        self._clear()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Waits for what is under way, and raises its failure."""
        del args, state, control
        self._store.wait()
        self._clear()

    def _clear(self) -> None:
        """Removes the folders that are durable in the store."""
        done = [one for one in self._under_way if one[0].done()]
        self._under_way = [one for one in self._under_way if one not in done]
        for handle, folder in done:
            # The Trainer's own rotation may have been first.
            if self._keep == "store" and handle.exception() is None and folder.exists():
                shutil.rmtree(folder)


def restore(
    store: File | Store, output_dir: File, revision: int | str | None = None, *, run: str = "main"
) -> str | None:
    """Writes a checkpoint back as a `checkpoint-N` folder and returns its path.

    It is the newest of the run, or the one of a revision. None if the run has none yet, which
    the Trainer takes for a beginning.
    """
    held = opened(store, run)
    if revision is None and run not in held.runs:
        return None
    try:
        found = held[f"{run}@latest" if revision is None else revision]
    except NotFoundError:
        if revision is None:
            return None
        raise
    target = Path(output_dir) / f"checkpoint-{found.step}"
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    safetensors_files.write_folder(found, temporary)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    return str(target)
