"""A loop of TensorFlow with milepost: run it again with more steps, and it goes on."""

import sys

import milepost.tensorflow
import tensorflow as tf


def main(folder: str, steps: int) -> None:
    """Fit a small network to batches of a shuffled pipeline and save all of it now and then."""
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [tf.keras.Input((16,)), tf.keras.layers.Dense(64, "relu"), tf.keras.layers.Dense(1)]
    )
    optimizer = tf.keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    rows = tf.random.stateless_normal((256, 16), seed=(0, 1))
    batches = iter(tf.data.Dataset.from_tensor_slices(rows).shuffle(256, 1).repeat().batch(32))
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, batches=batches, step=step)
    manager = milepost.tensorflow.CheckpointManager(checkpoint, folder, max_to_keep=2)
    print("goes on" if manager.restore_or_initialize() else "begins")
    while int(step) < steps:
        inputs = next(batches)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs) - tf.reduce_sum(inputs, 1, keepdims=True)) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        if int(step.assign_add(1)) % 4 == 0:
            manager.save()
    manager.close()
    print(f"loss {float(loss):.9f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
