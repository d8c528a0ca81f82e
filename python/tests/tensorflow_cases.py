"""TensorFlow: its tensors in state trees, and tf.train.Checkpoint with all that it tracks.

Run by test_tensorflow.py.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np
import pytest
import tensorflow as tf

import milepost
from milepost.tensorflow import CheckpointManager, restore, save


def test_tensors_and_variables_are_leaves(store: milepost.Store) -> None:
    variable = tf.Variable([[1.5, -0.0], [np.nan, 3.0]], name="v")
    state = {
        "variable": variable,
        "again": variable,
        "half": tf.constant([1, 2, 3], tf.bfloat16),
        "none": tf.zeros((0, 3), tf.int64),
        "one": tf.constant(7, tf.uint8),
        "bools": tf.constant([True, False]),
    }
    store.save(1, state)
    found = store[1].load()
    for name, value in state.items():
        assert isinstance(found[name], tf.Tensor), name
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].numpy().tobytes() == value.numpy().tobytes(), name
    assert len(store[1]) == len(state) - 1, "what is one variable is stored once"
    expected = variable.numpy().tobytes()
    variable.assign(tf.zeros_like(variable))
    store.load_into({"variable": variable}, 1, strict=False)
    assert variable.numpy().tobytes() == expected
    as_numpy = store[1].load(framework="numpy")
    assert isinstance(as_numpy["half"], np.ndarray)
    with pytest.raises(milepost.MismatchError):
        store.load_into({**state, "variable": tf.Variable([1.0])}, 1)


def test_what_has_no_numbers_is_refused_with_its_path(store: milepost.Store) -> None:
    small = tf.cast(tf.constant([1]), tf.qint8)
    for value, why in (
        (tf.constant("a"), "string"),
        (tf.ragged.constant([[1], []]), "Ragged"),
        (small, "qint8"),
    ):
        with pytest.raises(milepost.UnsupportedTypeError, match=why) as caught:
            store.save(1, {"in": [value]})
        assert "in[0]" in str(caught.value)

    @tf.function  # type: ignore[untyped-decorator]
    def symbolic(value: object) -> object:
        with pytest.raises(milepost.UnsupportedTypeError, match="graph"):
            store.save(1, {"x": value})
        return value

    symbolic(tf.constant(1.0))
    assert store.log() == []


def tracked() -> tuple[object, Callable[[], tuple[object, ...]]]:
    """A checkpoint of all kinds of things, and what shows where they are."""
    weights = tf.Variable(tf.ones((3, 4)), name="weights")
    iterator = iter(tf.data.Dataset.range(20).shuffle(20, seed=3).batch(2))
    draws = tf.random.Generator.from_seed(7)
    words = tf.Variable(["a", "b"])
    # NumPy cuts zeros off the end of bytes, if it is let.
    zeros, empty = tf.Variable(b"ab\0\0"), tf.Variable(b"")
    optimizer = tf.keras.optimizers.Adam(0.1)
    optimizer.build([weights])
    checkpoint = tf.train.Checkpoint(
        weights=weights,
        iterator=iterator,
        draws=draws,
        words=words,
        optimizer=optimizer,
        zeros=zeros,
        empty=empty,
    )

    def go_on() -> tuple[object, ...]:
        noise = draws.normal((3, 4))
        optimizer.apply_gradients([(weights + noise, weights)])
        words.assign(tf.strings.join([words, ["x", "y\u00e9"]]))
        told = words.numpy().tolist(), zeros.numpy(), empty.numpy()
        zeros.assign(b"c\0")
        return weights.numpy().tobytes(), next(iterator).numpy().tolist(), *told

    return checkpoint, go_on


def test_all_that_a_checkpoint_tracks_goes_on_where_it_was(tmp_path: Path) -> None:
    checkpoint, go_on = tracked()
    for _ in range(3):
        go_on()
    with milepost.open(tmp_path / "s") as store:
        save(checkpoint, store, 3, metrics={"loss": 1.0})
        expected = [go_on() for _ in range(3)]
        other, go_on_too = tracked()
        go_on_too()
        restore(other, store["latest"]).assert_consumed()
        assert [go_on_too() for _ in range(3)] == expected
        assert store["latest"]["weights/.ATTRIBUTES/VARIABLE_VALUE"].shape == (3, 4)
        with pytest.raises(milepost.InvalidInputError, match=r"tf\.train\.Checkpoint"):
            store.save(4, {"weights": 1})
            restore(other, store[4])
    assert not tf.io.gfile.glob("ram://milepost-*/*"), "what TensorFlow wrote in memory stays there"


def test_what_is_made_later_is_restored_later(tmp_path: Path) -> None:
    with milepost.open(tmp_path / "s") as store:
        save(tf.train.Checkpoint(a=tf.Variable(1.5), b=tf.Variable(2.5)), store, 1)
        late = tf.train.Checkpoint(a=tf.Variable(0.0))
        status = restore(late, store[1])
        with pytest.raises(AssertionError):
            status.assert_consumed()
        assert late.a.numpy() == 1.5
        late.b = tf.Variable(0.0)
        assert late.b.numpy() == 2.5
        del late, status
        gc.collect()
    assert not tf.io.gfile.glob("ram://milepost-*/*")


def test_a_module_is_restored_when_it_is_built_though_the_checkpoint_is_gone(
    tmp_path: Path,
) -> None:
    with milepost.open(tmp_path / "s") as store:
        save(tf.train.Checkpoint(m=tf.train.Checkpoint(w=tf.Variable([5.0]))), store, 1)
        module = tf.Module()
        restore(tf.train.Checkpoint(m=module), store[1])
        gc.collect()
        module.w = tf.Variable([0.0])
        assert module.w.numpy() == [5.0]
        # What nobody waits for any more is not kept.
        for _ in range(3):
            restore(tf.train.Checkpoint(), store[1]).expect_partial()
        gc.collect()
    assert not tf.io.gfile.glob("ram://milepost-*/*")


def test_the_manager_saves_restores_and_rotates(tmp_path: Path) -> None:
    step = tf.Variable(0, dtype=tf.int64)
    weights = tf.Variable([0.0, 0.0])
    begun: list[int] = []

    def manager() -> CheckpointManager:
        return CheckpointManager(
            tf.train.Checkpoint(step=step, weights=weights),
            tmp_path / "s",
            max_to_keep=2,
            step_counter=step,
            checkpoint_interval=2,
            init_fn=lambda: begun.append(1),
            keep=milepost.Keep(best="loss:min:1"),
        )

    first = manager()
    assert first.restore_or_initialize() is None and begun == [1]
    told = []
    for number in range(8):
        step.assign(number)
        weights.assign([float(number), -float(number)])
        told.append(first.save(metrics={"loss": abs(number - 2.0)}))
    assert [t is not None for t in told] == [True, False] * 4, told
    assert first.latest_checkpoint == told[6] == "main@step:4"
    # The last two, and the best: of step 2, the second that was saved.
    assert first.checkpoints == ["main@step:2", "main@step:3", "main@step:4"]
    first.close()
    step.assign(0)
    weights.assign([9.0, 9.0])
    second = manager()
    assert second.restore_or_initialize() == "main@step:4" and begun == [1]
    assert (int(step.numpy()), weights.numpy().tolist()) == (6, [6.0, -6.0])
    assert second.save() is None, "a resumed training saves at once what it has just loaded"
    step.assign(8)
    assert second.save() == "main@step:5" and second.save(77, check_interval=False)
    second.restore(2)
    assert weights.numpy().tolist() == [2.0, -2.0]
    # What goes on from an older one comes behind the newest.
    assert second.save(check_interval=False) == "main@step:78"
    assert second.save(check_interval=False) == "main@step:79"
    second.close()
    for wrong in ({"max_to_keep": 0}, {"checkpoint_interval": 3}):
        with pytest.raises(milepost.InvalidInputError):
            CheckpointManager(tf.train.Checkpoint(), tmp_path / "s", **wrong)
    with pytest.raises(milepost.NotFoundError):
        CheckpointManager(tf.train.Checkpoint(), tmp_path / "s").restore(1234)


def test_a_failure_in_the_background_is_told_by_the_next_call(tmp_path: Path) -> None:
    checkpoint = tf.train.Checkpoint(a=tf.Variable(1.0))
    manager = CheckpointManager(checkpoint, tmp_path / "s")
    manager.save(5)
    checkpoint.a.assign(2.0)
    manager.save(5)
    with pytest.raises(milepost.ConflictError):
        manager.sync()
    manager.close()
