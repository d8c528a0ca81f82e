"""A loop of TensorFlow's own: tf.train.Checkpoint with its iterator and its generator."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

import milepost.tensorflow
from common import digest, tell


def train(folder: Path, steps: int) -> str:
    """Momentum on batches in a shuffled order, saved in the background every second step."""
    weights = tf.Variable(tf.random.stateless_normal((64, 512), seed=(0, 1)))
    buffer = tf.Variable(tf.zeros((64, 512)))
    step = tf.Variable(0, dtype=tf.int64)
    rows = tf.random.stateless_normal((96, 64), seed=(0, 2))
    draws = tf.random.Generator.from_seed(3)
    batches = iter(tf.data.Dataset.from_tensor_slices(rows).shuffle(96, seed=4).repeat().batch(8))
    checkpoint = tf.train.Checkpoint(
        weights=weights, buffer=buffer, step=step, draws=draws, batches=batches
    )
    manager = milepost.tensorflow.CheckpointManager(checkpoint, folder / "store")
    found = manager.restore_or_initialize()
    tell(None if found is None else int(step))
    while int(step) < steps:
        inputs = next(batches)
        noise = draws.normal((8, 512))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((inputs @ weights + noise) ** 2)
        buffer.assign(0.9 * buffer + tape.gradient(loss, weights))
        weights.assign_sub(0.1 * buffer)
        step.assign_add(1)
        if int(step) % 2 == 0:
            manager.save()
    manager.close()
    return digest([weights.numpy(), buffer.numpy(), draws.state.numpy(), next(batches).numpy()])
