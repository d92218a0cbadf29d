"""Every likely mistake has an error that says what to do."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tf_keras

from tfp_uqseg import layers, models
from tfp_uqseg.uncertainty import draws

IMAGES = np.random.default_rng(0).normal(size=(4, 32, 32, 2)).astype(np.float32)
MASKS = np.random.default_rng(1).random((4, 32, 32, 1)) < 0.5


def build(method="deterministic"):
    model = models.build(
        method,
        input_shape=(None, None, 2),
        num_regions=1,
        num_train_examples=4,
        base_filters=2,
        depth=2,
    )
    model.compile()
    return model


@pytest.mark.parametrize(
    ("images", "masks", "match"),
    [
        (
            IMAGES,
            MASKS.astype(int) * 4,
            r"`masks` must lie in 0..1; got .* 0 to 4\. Label ids become",
        ),
        (
            IMAGES,
            MASKS - 0.5,
            r"`masks` must lie in 0..1; got values from -0.5 to 0.5\.",
        ),
        (
            IMAGES * 2000,
            MASKS,
            r"`images` must be finite and scaled.*Prepare them with",
        ),
        (IMAGES * np.nan, MASKS, r"`images` must be finite and scaled.*is nan"),
        (IMAGES, np.repeat(MASKS, 3, -1), r"`masks` must have 1 regions.*32, 3\)"),
        (IMAGES[:, :31], MASKS[:, :31], r"multiples of 2; got \(31, 32\)"),
    ],
)
@pytest.mark.parametrize("action", ["fit", "evaluate"])
def test_images_and_masks_that_cannot_be_right(action, images, masks, match):
    with pytest.raises(ValueError, match=match) as raised:
        getattr(build(), action)(images, masks, verbose=0)
    assert "{{node" not in str(raised.value)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.int64])
def test_masks_of_any_type_are_fine(dtype):
    assert build("deterministic").fit(IMAGES, MASKS.astype(dtype), verbose=0)


def test_calling_the_network_names_extents_that_do_not_divide():
    with pytest.raises(ValueError, match=r"multiples of 2; got \(32, 31\)"):
        build()(IMAGES[:, :, :31])


@pytest.mark.parametrize("name", ["optimizer", "loss", "metrics"])
def test_keras_3_is_refused_by_compile(name):
    given = {
        "optimizer": keras.optimizers.Adam(),
        "loss": keras.losses.BinaryCrossentropy(),
        "metrics": [keras.metrics.MeanSquaredError()],
    }[name]
    with pytest.raises(ValueError, match=rf"`{name}` must be of Keras 2.*`tf_keras`"):
        build().compile(**{name: given})


def test_keras_3_is_refused_by_fit_and_by_draws():
    stopping = keras.callbacks.EarlyStopping()
    with pytest.raises(ValueError, match=r"`callbacks` must be of Keras 2"):
        build().fit(IMAGES, MASKS, verbose=0, callbacks=[stopping])
    other = keras.Sequential([keras.Input((32, 32, 2)), keras.layers.Conv2D(1, 3)])
    with pytest.raises(ValueError, match=r"`model` must be of Keras 2"):
        draws.predict(other, IMAGES, 2)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Convolution2DFlipout(2, 3),
        layers.Convolution2DTransposeReparameterization(2, 3),
        layers.DenseLocalReparameterization(2),
        layers.GaussianLatent(),
        layers.ChannelDropout(0.3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_tensor_of_keras_3_is_refused_by_layers(layer):
    with pytest.raises(ValueError, match=r"`inputs` must be of Keras 2.*`tf_keras`"):
        layer(keras.Input((8, 8, 2)))


def test_unscaled_images_are_not_predicted():
    with pytest.raises(ValueError, match=r"scaled as in training.*preprocess.prepare"):
        draws.predict(build(), IMAGES * 2000, 2)
    layer = tf_keras.layers.Conv2D(1, 3, padding="same", input_shape=(32, 32, 2))
    plain = tf_keras.Sequential([layer])
    assert draws.predict(plain, IMAGES * 2000, 2).num_draws == 2
