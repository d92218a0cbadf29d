"""A small network, and callbacks that write the logs and read the rates."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import models


class Script(tf_keras.callbacks.Callback):
    """Puts given values into the logs of the epochs, before anyone reads them."""

    remembers = True  # so that it stays first

    def __init__(self, values, name="val_data_loss"):
        super().__init__()
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


class Rates(tf_keras.callbacks.Callback):
    """Keeps the rate of every step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


class Interrupt(tf_keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def light_step(self, data):
    """Count a step and learn nothing: rates need no more, and take no time."""
    self.optimizer.iterations.assign_add(1)
    return {"loss": tf.constant(1.0)}


class Plain(tf_keras.Sequential):
    """A model that is no Segmenter."""

    train_step = light_step


class Kit:
    """What the tests of callbacks share."""

    Script, Rates, Interrupt = Script, Rates, Interrupt
    STEPS = 2

    def __init__(self):
        rng = np.random.default_rng(0)
        images = rng.normal(size=(4, 4, 4, 1)).astype(np.float32)
        masks = (images > 0.5).astype(np.float32)
        self.images, self.masks = images, masks
        self.data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(2)

    def segmenter(self, method="deterministic", optimizer=None):
        model = models.build(
            method,
            input_shape=(4, 4, 1),
            num_regions=1,
            num_train_examples=4,
            base_filters=1,
            depth=1,
        )
        # Eagerly: a few steps take less time than the graph of one.
        model.compile(optimizer or tf_keras.optimizers.SGD(1e-3), run_eagerly=True)
        model.optimizer.build(model.trainable_variables)
        return model

    def plain(self, rate=1.0):
        model = Plain([tf_keras.layers.Conv2D(1, 1)])
        model.build((None, 4, 4, 1))
        model.compile(tf_keras.optimizers.SGD(rate), loss="mse", run_eagerly=True)
        return model

    def fit(self, model, callbacks, epochs, **arguments):
        """Train and return the rate of each step."""
        rates = Rates()
        model.fit(
            self.data,
            epochs=epochs,
            callbacks=[*callbacks, rates],
            verbose=0,
            **arguments,
        )
        return rates.seen


@pytest.fixture
def light_steps(monkeypatch):
    """Let the steps of a Segmenter do nothing but count."""
    monkeypatch.setattr(models.Segmenter, "train_step", light_step)


@pytest.fixture(scope="session")
def kit():
    return Kit()
