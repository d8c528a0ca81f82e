"""Keras on three back ends: trained, stopped after half its epochs, resumed in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import milepost

PROGRAM = """
import sys, json, hashlib
import keras, numpy as np
import milepost, milepost.keras
folder, epochs = sys.argv[1], int(sys.argv[2])
keras.utils.set_random_seed(5)
model = keras.Sequential([
    keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.3),
    keras.layers.BatchNormalization(), keras.layers.Dense(1),
])
model.compile(keras.optimizers.Adam(0.01), loss="mse")
rows = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
checkpoints = milepost.keras.Checkpoints(
    folder, monitor="val_loss:min", keep=milepost.Keep(last=2, best="val_loss:min:1"))
start = checkpoints.resume(model)
model.fit(rows, rows.sum(1), batch_size=16, epochs=epochs, initial_epoch=start, verbose=0,
          validation_split=0.25, callbacks=[checkpoints])
digest = hashlib.sha256()
tree = milepost.keras.variables(model)
milepost.keras.keras.tree.map_structure(lambda a: digest.update(np.asarray(a).tobytes()), tree)
print(json.dumps([keras.backend.backend(), start, digest.hexdigest()]))
"""


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_it_resumes_bit_for_bit(tmp_path: Path, backend: str) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)

    def train(folder: str, epochs: int) -> list[object]:
        done = subprocess.run(
            [sys.executable, str(program), str(tmp_path / folder), str(epochs)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "KERAS_BACKEND": backend},
        )
        assert done.returncode == 0, done.stderr
        told: list[object] = json.loads(done.stdout.splitlines()[-1])
        return told

    whole = train("whole", 6)
    assert whole[:2] == [backend, 0]
    train("parts", 3)
    assert train("parts", 6) == [backend, 3, whole[2]]
    store = milepost.open(tmp_path / "parts")
    steps = [s.step for s in store.log()]
    assert steps[-2:] == [5, 6] and len(steps) <= 3
    assert "val_loss" in store["latest"].metrics and store["best"].step in steps
    assert any("kernel" in name for name in store["latest"]) and store.verify()


REFUSED = """
import sys
import keras
import milepost, milepost.keras
def made(units):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(units, name="only")], name="net")
    model.compile("adam", loss="mse")
    return model
with milepost.open(sys.argv[1]) as store:
    callback = milepost.keras.Checkpoints(store)
    assert callback.resume(made(3)) == 0
    model = made(3)
    model.optimizer.build(model.trainable_variables)
    callback.set_model(model)
    callback.on_epoch_end(0, {"loss": 1.0})
    callback.on_train_end()
    other = made(4)
    before = other.get_weights()[0].copy()
    try:
        callback.resume(other)
    except milepost.MismatchError as error:
        assert "net/only/kernel" in str(error) or "more" in str(error), error
    else:
        sys.exit("a model of another shape was taken")
    assert (other.get_weights()[0] == before).all()
    store.save(2, {"a": 1})
    try:
        callback.resume(model)
    except milepost.InvalidInputError as error:
        assert "Keras" in str(error)
    else:
        sys.exit("a state of something else was taken")
"""


def test_another_model_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    program = tmp_path / "refused.py"
    program.write_text(REFUSED)
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    assert done.returncode == 0, done.stderr + done.stdout
