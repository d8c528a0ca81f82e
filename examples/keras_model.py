"""Keras with milepost: run it again with more epochs, and it goes on."""

import sys

import keras
import milepost.keras
import numpy as np


def main(folder: str, epochs: int) -> None:
    """Train a small network; every epoch is saved, the best one is tagged."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((16,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
    )
    model.compile("adam", loss="mse")
    inputs = np.random.default_rng(0).normal(size=(128, 16)).astype("float32")
    checkpoints = milepost.keras.Checkpoints(folder, monitor="loss:min")
    history = model.fit(
        inputs,
        inputs.sum(1),
        epochs=epochs,
        verbose=0,
        initial_epoch=checkpoints.resume(model),
        callbacks=[checkpoints],
    )
    print("goes on" if history.epoch[0] else "begins")
    print(f"loss {history.history['loss'][-1]:.9f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
