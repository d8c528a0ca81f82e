"""Keras, as it is before it uses milepost."""

import sys

import keras
import numpy as np


def main(folder: str, epochs: int) -> None:
    """Train a small network."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((16,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
    )
    model.compile("adam", loss="mse")
    inputs = np.random.default_rng(0).normal(size=(128, 16)).astype("float32")
    history = model.fit(
        inputs,
        inputs.sum(1),
        epochs=epochs,
        verbose=0,
    )
    print("goes on" if history.epoch[0] else "begins")
    print(f"loss {history.history['loss'][-1]:.9f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
