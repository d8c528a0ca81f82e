"""Keras 3 on the back end of JAX, saved in the background at the end of epochs."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

import milepost.keras
from common import digest, tell


def train(folder: Path, steps: int) -> str:
    """Trains so many epochs of two steps."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(512, "relu", name="one"),
            keras.layers.Dropout(0.3, name="dropped"),
            keras.layers.Dense(64, name="other"),
        ],
        name="net",
    )
    model.compile("adam", loss="mse")
    inputs = np.random.default_rng(0).normal(size=(16, 64)).astype("float32")
    checkpoints = milepost.keras.Checkpoints(folder / "store", monitor="loss:min")
    epoch = checkpoints.resume(model)
    tell(epoch or None)
    model.fit(
        inputs,
        inputs,
        batch_size=8,
        epochs=steps,
        initial_epoch=epoch,
        verbose=0,
        callbacks=[checkpoints],
    )
    return digest(milepost.keras.variables(model))
