"""tf.train.Checkpoint in a store: what it tracks, restored by TensorFlow's own matching.

    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, iterator=iterator)
    manager = milepost.tensorflow.CheckpointManager(checkpoint, "runs/mnist", max_to_keep=3)
    manager.restore_or_initialize()
    ...
    manager.save()

TensorFlow hands over what it would write to files, and gets it back, in memory: variables,
iterators of tf.data, random generators, strings. What was restored before its variables are made
is set when they are, as with files. Tensors have the names that tf.train.list_variables shows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from milepost.background import SaveHandle
from milepost.checkpoint import Checkpoint
from milepost.errors import InvalidInputError, NotFoundError, UnsupportedTypeError
from milepost.opening import File, opened
from milepost.reports import Summary
from milepost.store import Store
from milepost.upkeep import Keep

#: Where the tree has what is no number: strings, the state of iterators, the graph of objects.
_OTHERS = "milepost.tensorflow"


def save(
    checkpoint: tf.train.Checkpoint, store: Store, step: int | None, **options: Any
) -> SaveHandle:
    """Saves what a tf.train.Checkpoint tracks as the checkpoint of a step.

    It is copied first. `options` are those of Store.save, which see for what is
    raised.
    """
    place = _Place()
    try:
        checkpoint.write(place.prefix)
        tree = _read(place.prefix)
    finally:
        place.remove()
    return store.save(step, tree, **options)


def restore(checkpoint: tf.train.Checkpoint, found: Checkpoint) -> Any:
    """Restores what was saved with `save` into the objects that a tf.train.Checkpoint tracks.

    Returns TensorFlow's status of the load: `assert_consumed()` of it raises if anything does not
    match, `expect_partial()` says that this is well.

    Raises InvalidInputError if the checkpoint holds something else.
    """
    state = found.load(framework="numpy")
    if not isinstance(state, dict) or not isinstance(state.get(_OTHERS), dict):
        raise InvalidInputError(
            f"step {found.step} of run {found.run!r} was not saved from a tf.train.Checkpoint",
            code="tensorflow",
        )
    place = _Place()
    _write(place.prefix, state)
    status = checkpoint.read(place.prefix)
    try:
        status.assert_consumed()
    except AssertionError:
        # What is made later is set later, from what is in memory until then: as long as anything
        # holds the restore itself, as what waits for it does.
        weakref.finalize(getattr(status, "_checkpoint", checkpoint), place.remove)
    else:
        place.remove()
    return status


class _Place:
    """A place for the files of one checkpoint in TensorFlow's file system in memory."""

    def __init__(self) -> None:
        self._folder = f"ram://milepost-{uuid.uuid4().hex}"
        self.prefix = f"{self._folder}/checkpoint"

    def remove(self) -> None:
        """Removes them."""
        with contextlib.suppress(tf.errors.NotFoundError):
            for path in tf.io.gfile.glob(f"{self._folder}/*"):
                tf.io.gfile.remove(path)


def _read(prefix: str) -> dict[str, Any]:
    """All tensors of TensorFlow's files by name; those that are no numbers apart, as bytes."""
    types = tf.compat.v1.train.NewCheckpointReader(prefix).get_variable_to_dtype_map()
    tree: dict[str, Any] = {}
    strings: dict[str, Any] = {}
    variants: dict[str, bytes] = {}
    for name in sorted(types):
        [value] = tf.raw_ops.RestoreV2(
            prefix=prefix, tensor_names=[name], shape_and_slices=[""], dtypes=[types[name]]
        )
        if types[name].is_quantized:
            raise UnsupportedTypeError(
                f"{name!r} is of TensorFlow's dtype {types[name].name}, which cannot be stored",
                code="tensor",
                hint="leave it out of the tf.train.Checkpoint",
            )
        if types[name] == tf.variant:
            variants[name] = tf.io.serialize_tensor(value).numpy()
        elif types[name] == tf.string:
            held = value.numpy()
            # NumPy would cut a scalar's zeros off.
            flat = [held] if isinstance(held, bytes) else list(np.reshape(held, -1))
            strings[name] = [list(value.shape), flat]
        else:
            tree[name] = value.numpy()
    tree[_OTHERS] = {"strings": strings, "variants": variants}
    return tree


def _write(prefix: str, tree: Mapping[str, Any]) -> None:
    """Makes TensorFlow's files of what `_read` told."""
    others = tree[_OTHERS]
    tensors = {name: tf.constant(value) for name, value in tree.items() if name != _OTHERS}
    for name, (shape, values) in others["strings"].items():
        tensors[name] = tf.reshape(tf.constant(values, tf.string), shape)
    for name, value in others["variants"].items():
        tensors[name] = tf.io.parse_tensor(value, tf.variant)
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tensors[name] for name in names],
    )


class CheckpointManager:
    """Saves a tf.train.Checkpoint to a run and restores it, with the methods of TensorFlow's own.

    Steps are the checkpoint's `save_counter`, which goes on behind the newest also after an older
    one was restored, or the numbers that `save` is given. Of all, the last
    `max_to_keep` stay, and what `keep` keeps beside; None keeps all. With `step_counter` and
    `checkpoint_interval`, `save` passes over a call that comes less than so many steps after the
    last. `init_fn` is called by `restore_or_initialize` if there is nothing to restore.

    Saves go on in the background, unless `wait` is set; their failures are raised by the next
    save, or by `sync` or `close`.
    """

    def __init__(
        self,
        checkpoint: tf.train.Checkpoint,
        store: File | Store,
        max_to_keep: int | None = None,
        *,
        run: str = "main",
        step_counter: tf.Variable | None = None,
        checkpoint_interval: int | None = None,
        init_fn: Callable[[], object] | None = None,
        keep: Keep | None = None,
        wait: bool = False,
    ) -> None:
        if max_to_keep is not None and max_to_keep < 1:
            raise InvalidInputError("max_to_keep is 1 or more", code="max-to-keep")
        if checkpoint_interval is not None and step_counter is None:
            raise InvalidInputError("an interval needs a step_counter", code="interval")
        self._owns = not isinstance(store, Store)
        self._checkpoint, self._store, self._run = checkpoint, opened(store, run), run
        self._counter, self._interval, self._init = step_counter, checkpoint_interval, init_fn
        self._wait, self._keep = wait, keep
        if max_to_keep is not None:
            self._keep = dataclasses.replace(keep or Keep(), last=max_to_keep)
        self._last_step: int | None = None
        newest = self._store.native.newest(run)
        self._newest = 0 if newest is None else newest["step"]

    @property
    def checkpoint(self) -> tf.train.Checkpoint:
        """The tf.train.Checkpoint."""
        return self._checkpoint

    @property
    def directory(self) -> str:
        """The store's folder."""
        return self._store.path

    @property
    def checkpoints(self) -> list[str]:
        """Revisions of the run's checkpoints, in the order of their saves."""
        return [self._revision(summary.step) for summary in self._log()]

    @property
    def latest_checkpoint(self) -> str | None:
        """The revision of the newest checkpoint, or None."""
        self._store.wait()
        newest = self._store.native.newest(self._run)
        return None if newest is None else self._revision(newest["step"])

    def save(
        self,
        checkpoint_number: int | None = None,
        check_interval: bool = True,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Sequence[str] = (),
    ) -> str | None:
        """Saves; returns the checkpoint's revision, or None if it is not time to.

        What is tracked may be changed as soon as this returns. Raises what Store.save raises, and
        the failure of an earlier save.
        """
        step = None if self._counter is None else int(self._counter.numpy())
        too_soon = (
            step is not None
            and self._interval is not None
            and self._last_step is not None
            and step < self._last_step + self._interval
        )
        if check_interval and too_soon:
            return None
        self._store.raise_failure()
        # It is made by being asked for, and is a part of what is saved.
        counter = self._checkpoint.save_counter
        # Behind the newest, also after an older one was restored: nothing is overwritten.
        counter.assign(max(int(counter.numpy()), self._newest) + 1)
        number = int(counter.numpy()) if checkpoint_number is None else checkpoint_number
        self._newest = max(self._newest, number)
        save(
            self._checkpoint,
            self._store,
            number,
            run=self._run,
            metrics=metrics,
            tags=tags,
            keep=self._keep,
            wait=self._wait,
        )
        self._last_step = step
        return self._revision(number)

    def restore(self, revision: int | str | None = None) -> Any:
        """Restores the newest checkpoint of the run, or another; returns TensorFlow's status.

        Raises NotFoundError if there is none.
        """
        self._store.wait()
        if revision is None:
            revision = f"{self._run}@latest"
        elif isinstance(revision, int):
            revision = self._revision(revision)
        return restore(self._checkpoint, self._store[revision])

    def restore_or_initialize(self) -> str | None:
        """Restores the newest checkpoint and returns its revision, or initializes.

        Raises AssertionError if an object that is tracked now was not saved, as TensorFlow does.
        """
        found = self.latest_checkpoint
        if found is None:
            if self._init is not None:
                self._init()
            return None
        self.restore(found).assert_existing_objects_matched()
        if self._counter is not None:
            self._last_step = int(self._counter.numpy())
        return found

    def sync(self) -> None:
        """Waits for saves in the background, and raises the failure of one."""
        self._store.wait()

    def close(self) -> None:
        """As `sync`; a store that was given as a path is closed."""
        if self._owns:
            self._store.close()
        else:
            self._store.wait()

    def _revision(self, step: int) -> str:
        return f"{self._run}@step:{step}"

    def _log(self) -> list[Summary]:
        self._store.wait()
        try:
            return self._store.log(self._run)
        except NotFoundError:
            return []


__all__ = ["CheckpointManager", "restore", "save"]
