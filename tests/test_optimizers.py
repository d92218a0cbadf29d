from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import models, optimizers


def build(optimizer):
    model = models.build(
        "flipout",
        input_shape=(None, None, 1),
        num_regions=1,
        num_train_examples=4,
        base_filters=2,
        depth=2,
    )
    for variable in model.trainable_variables:
        variable.assign_add(tf.fill(variable.shape, 0.5))
    model.compile(optimizer)
    return model


def decay_by(model):
    """Apply zero gradients; return (name, before, after) of each variable."""
    variables = model.trainable_variables
    before = [variable.numpy() for variable in variables]
    zeros = [tf.zeros(variable.shape) for variable in variables]
    model.optimizer.apply_gradients(zip(zeros, variables, strict=True))
    return [
        (variable.name, old, variable.numpy())
        for variable, old in zip(variables, before, strict=True)
    ]


def check_decay(model, factor):
    kinds = set()
    for name, before, after in decay_by(model):
        leaf = name.rpartition("/")[2].partition(":")[0]
        kinds.add(leaf)
        expected = before * factor if leaf == "kernel_posterior_loc" else before
        np.testing.assert_allclose(after, expected, rtol=1e-6, err_msg=name)
        if factor != 1.0 and leaf != "kernel_posterior_loc":
            np.testing.assert_array_equal(after, before)
    scale = "kernel_posterior_untransformed_scale"
    assert {"kernel_posterior_loc", scale, "bias", "gamma", "beta"} <= kinds


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_decay_touches_kernels_alone_by_the_exact_factor(name):
    model = build(optimizers.make(name, 0.1, weight_decay=0.2))
    check_decay(model, 1.0 - 0.1 * 0.2)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_the_exclusion_survives_saving(name, tmp_path):
    model = build(optimizers.make(name, 0.1, weight_decay=0.2))
    decay_by(model)
    model.save(tmp_path / "m.keras")
    loaded = tf_keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.optimizer) is optimizers.OPTIMIZERS[name]
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer.iterations == 1
    check_decay(loaded, 1.0 - 0.1 * 0.2)


def test_kernels_of_stock_layers_are_decayed():
    layers = [
        tf_keras.layers.Conv2D(2, 3, name="conv"),
        tf_keras.layers.BatchNormalization(),
        tf_keras.layers.PReLU(shared_axes=[1, 2]),
    ]
    model = tf_keras.Sequential(layers)
    model.build((None, 8, 8, 1))
    decayed = [v.name for v in model.trainable_variables if optimizers.is_decayed(v)]
    assert decayed == ["conv/kernel:0"]


def test_defaults_are_those_of_the_paper():
    sgd, adam = optimizers.make("sgd", 0.01), optimizers.make("adam", 1e-3)
    assert (sgd.momentum, sgd.weight_decay) == (0.9, 0.0005)
    assert adam.weight_decay is None
    check_decay(build(adam), 1.0)


def test_without_decay_the_steps_are_those_of_keras():
    pairs = [
        (optimizers.Adam(0.1), tf_keras.optimizers.Adam(0.1)),
        (
            optimizers.SGD(0.1, weight_decay=None),
            tf_keras.optimizers.SGD(0.1, momentum=0.9),
        ),
    ]
    for pair in pairs:
        ends = []
        for optimizer in pair:
            variable = tf.Variable([[1.0, -2.0]], name="kernel")
            for _ in range(3):
                optimizer.apply_gradients([(2.0 * variable, variable)])
            ends.append(variable.numpy())
        np.testing.assert_array_equal(*ends)


def test_users_may_exclude_more():
    optimizer = optimizers.SGD(0.1, weight_decay=0.2)
    optimizer.exclude_from_weight_decay(var_names=["head"])
    kept = tf.Variable([[1.0]], name="head/kernel")
    decayed = tf.Variable([[1.0]], name="body/kernel")
    zeros = tf.zeros((1, 1))
    optimizer.apply_gradients([(zeros, kept), (zeros, decayed)])
    assert kept.numpy() == 1.0
    assert decayed.numpy() == pytest.approx(0.98)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`name` must be one of 'adam', 'sgd'; got"):
        optimizers.make("lion", 0.1)
    for name in optimizers.OPTIMIZERS:
        with pytest.raises(ValueError, match="`weight_decay` must be finite and at"):
            optimizers.make(name, 0.1, weight_decay=-1.0)
