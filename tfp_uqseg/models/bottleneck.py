"""Reading A of the paper's Figure 2: the latent bottleneck behind a backbone.

f -> q(w|x) -> w^ -> Bayesian encoder -> r(z|w) -> z^ -> Bayesian decoder
-> p(w|z), which sees z^ alone, and the predictive logits.

Encoder and decoder work at half the resolution and below: w^ itself carries the
outlines, ten numbers could not, and two kernels at full resolution would cost as much
as the backbone. What the heads say is enlarged linearly.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import layers
from tfp_uqseg.layers import latent, noise
from tfp_uqseg.layers import logits as logits_module
from tfp_uqseg.models import blocks

_PACKAGE = "tfp_uqseg"
_LEVELS = 3
_LOG_2PI = math.log(2.0 * math.pi)
# Where the three distributions start. The maps start sharp, so that the backbone learns
# as it would alone while the bound is still being phased in.
MAP_STDDEV, CODE_STDDEV, PRIOR_STDDEV = 0.1, 1.0, 1.0
# An untrained decoder that is sure of the wrong map would drown every other term.
MIN_PRIOR_STDDEV = 0.1


def _gaussian_log_density(value, loc, stddev):
    """Return log N(value; loc, stddev^2) summed over all but the first axis, nats."""
    terms = tf.square((value - loc) / stddev) + 2.0 * tf.math.log(stddev) + _LOG_2PI
    return -0.5 * tf.reduce_sum(terms, axis=list(range(1, terms.shape.rank)))


def _gaussian_entropy(stddev):
    """Return the entropy of a factorised normal, over all but the first axis, nats."""
    terms = tf.math.log(stddev) + 0.5 * (1.0 + _LOG_2PI)
    return tf.reduce_sum(terms, axis=list(range(1, terms.shape.rank)))


def latent_bound(maps, map_moments, code_moments, prior_moments):
    """Return one-sample estimates of the bound on KL(q(w|x) || p(w)), Eq. 13 mended.

    In expectation over w^ ~ q(w|x) and z^ ~ r(z|w^) the value

        - H[q(w|x)] + KL(r(z|w^) || N(0, 1)) - log p(w^|z^)

    is at least KL(q(w|x) || p(w)), p(w) the integral of p(w|z) N(z; 0, 1) dz. Entropy
    and the latent's KL are closed forms; the last term is evaluated at the sample.

    Args:
        maps: The sample w^, (B, ..., K).
        map_moments: Mean and standard deviation of q(w|x), two (B, ..., K).
        code_moments: Those of r(z|w^), two (B, L).
        prior_moments: Those of p(w|z^), two (B, ..., K).

    Returns:
        Two float32 (B,), nats per example: the bound, and its term KL(r || N(0, 1)).
    """
    code_loc, code_stddev = code_moments
    variance = tf.square(code_stddev)
    code_kl = 0.5 * tf.reduce_sum(
        variance + tf.square(code_loc) - 1.0 - tf.math.log(variance), axis=-1
    )
    log_prior = _gaussian_log_density(tf.cast(maps, tf.float32), *prior_moments)
    return code_kl - _gaussian_entropy(map_moments[1]) - log_prior, code_kl


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class LatentBound(tf_keras.layers.Layer):
    """Passes its first input on and records `latent_bound` of the others.

    While `models.Segmenter` trains, the records ``latent_bound`` and ``code_kl`` (means
    over the batch, nats per example) and the maps' own answer, q(w|x) as a distribution
    over logits, reach its training step. Elsewhere nothing happens.

    Args:
        initial_logit: Mean of the maps, and of their prior, that a zero stands for.
        **kwargs: ``name`` and ``dtype``.
    """

    def __init__(self, initial_logit=0.0, **kwargs):
        super().__init__(**kwargs)
        self.initial_logit = float(initial_logit)

    def call(self, inputs):
        """Record the bound; return the first input."""
        passed, maps, map_parameters, code_parameters, prior_parameters = inputs
        scope = noise.current()
        if isinstance(scope, noise.TrainingScope):
            split = latent.split_parameters
            map_moments = latent.moments_of(
                map_parameters, MAP_STDDEV, self.initial_logit
            )
            bound, code_kl = latent_bound(
                maps,
                map_moments,
                split(code_parameters, CODE_STDDEV),
                split(
                    prior_parameters, PRIOR_STDDEV, self.initial_logit, MIN_PRIOR_STDDEV
                ),
            )
            scope.records["latent_bound"] = tf.reduce_mean(bound)
            scope.records["code_kl"] = tf.reduce_mean(code_kl)
            scope.early_logits = logits_module.gaussian(*map_moments)
        return passed

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        return {**super().get_config(), "initial_logit": self.initial_logit}


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class AsTensor(tf_keras.layers.Layer):
    """Turns a distribution into its tensor, in the compute dtype of the policy.

    Args:
        offset: Subtracted from the tensor.
        **kwargs: ``name`` and ``dtype``.
    """

    def __init__(self, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.offset = float(offset)

    def call(self, inputs):
        """Return the tensor that the distribution stands for, less the offset."""
        tensor = tf.cast(tf.convert_to_tensor(inputs), tf.float32) - self.offset
        return tf.cast(tensor, self.compute_dtype)

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        return {**super().get_config(), "offset": self.offset}


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class LinearUpsampling(tf_keras.layers.Layer):
    """Doubles every spatial extent by linear interpolation between voxel centres.

    In float32, at any number of spatial axes. The two halves of a voxel lie a quarter
    of its width from its centre, so each is three quarters of it and one of the
    neighbour; the edge is its own neighbour.
    """

    def call(self, inputs):
        """Return (B, 2 D, ..., C) for (B, D, ..., C)."""
        tensor = tf.cast(inputs, tf.float32)
        if inputs.shape.rank == 4:
            return tf.image.resize(tensor, 2 * tf.shape(tensor)[1:3])
        for axis in range(1, inputs.shape.rank - 1):
            tensor = self._double(tensor, axis)
        return tensor

    @staticmethod
    def _double(tensor, axis: int):
        shape, extent = tf.shape(tensor), tf.shape(tensor)[axis]
        places = tf.range(extent)
        before = tf.gather(tensor, tf.maximum(places - 1, 0), axis=axis)
        after = tf.gather(tensor, tf.minimum(places + 1, extent - 1), axis=axis)
        halves = [0.75 * tensor + 0.25 * neighbour for neighbour in (before, after)]
        doubled = tf.stack(halves, axis=axis + 1)
        grown = tf.concat([shape[:axis], [2 * extent], shape[axis + 1 :]], 0)
        return tf.reshape(doubled, grown)

    def compute_output_shape(self, input_shape):
        """Return the shape with every spatial extent doubled."""
        first, *spatial, last = tf.TensorShape(input_shape).as_list()
        doubled = [None if extent is None else 2 * extent for extent in spatial]
        return tf.TensorShape([first, *doubled, last])


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Spread(tf_keras.layers.Layer):
    """Spreads a code over a coarse grid and appends the grid's coordinates.

    Call Args:
        inputs: ``[code, like]``: code (B, L), and a tensor whose spatial extents the
            grid takes.

    Returns:
        (B, ..., L + rank); coordinates run from -1 to 1 along each axis.
    """

    def call(self, inputs):
        """Return the code at every grid point, with the point's coordinates."""
        code, like = inputs
        shape, rank = tf.shape(like), like.shape.rank - 2
        extents = [shape[axis + 1] for axis in range(rank)]
        axes = [tf.linspace(-1.0, 1.0, extent) for extent in extents]
        grid = tf.stack(tf.meshgrid(*axes, indexing="ij"), axis=-1)
        grid = tf.broadcast_to(
            tf.cast(grid, code.dtype)[tf.newaxis], [shape[0], *extents, rank]
        )
        code = tf.reshape(code, [shape[0], *[1] * rank, code.shape[-1]])  # (B, 1.., L)
        code = tf.broadcast_to(code, [shape[0], *extents, code.shape[-1]])
        return tf.concat([code, grid], axis=-1)


def _encode(factory: blocks.Factory, maps, filters: int) -> list:
    """Return the encoder's features from half resolution down, the finest first."""
    features = []
    for level in range(_LEVELS):
        conv = factory.convolution(
            filters * min(2**level, 2), strides=2, name=f"encoder{level}_conv"
        )
        features.append(conv(features[-1] if features else maps))
    return features


def _decode(factory: blocks.Factory, code, coarse, filters: int) -> list:
    """Return the decoder's features of the code alone, the finest first."""
    tensor = Spread(name="code_grid")([code, coarse])
    features = []
    for level in reversed(range(_LEVELS)):
        if features:
            tensor = factory.upsample(f"decoder{level}_up")(tensor)
        width = filters * min(2**level, 2)
        tensor = factory.convolution(width, name=f"decoder{level}_conv")(tensor)
        features.insert(0, tensor)
    return features


def _predict(factory, decoded, encoded, backbone_features, filters):
    """Return the features, at half resolution, from which the logits are predicted."""
    concatenate = tf_keras.layers.Concatenate
    tensor = decoded[0]
    if encoded is not None:
        tensor = concatenate(name="predict1_skip")([decoded[1], encoded[1]])
        tensor = factory.convolution(filters * 2, name="predict1_conv")(tensor)
        tensor = factory.upsample("predict1_up")(tensor)
        tensor = concatenate(name="predict0_skip")([tensor, decoded[0], encoded[0]])
    if backbone_features is not None:
        halved = factory.pool("backbone_pool")(backbone_features)
        tensor = concatenate(name="backbone_skip")([tensor, halved])
    return factory.convolution(filters, name="predict0_conv")(tensor)


def _predicted_moments(factory, num_regions: int, features, maps) -> list:
    """Return mean and standard deviation of the logits, centred on the maps if given.

    In float32, since a logit of 8 has steps of 0.06 in bfloat16. Both are made at half
    resolution and enlarged linearly.
    """
    head = factory.convolution(
        2 * num_regions, 1, activation=None, name="predictive_head"
    )
    start = logits_module.INITIAL_STDDEV
    moments = latent.Moments(start, name="predictive_moments")(head(features))
    up = LinearUpsampling(name="predictive_up", dtype="float32")
    loc, stddev = (up(moment) for moment in moments)
    if maps is not None:
        exact = AsTensor(name="exact_maps", dtype="float32")(maps)
        add = tf_keras.layers.Add(name="centred_mean", dtype="float32")
        loc = add([exact, loc])
    return [loc, stddev]


def attach(
    factory: blocks.Factory,
    backbone_features,
    *,
    num_regions: int,
    latent_size: int = 10,
    latent_filters: int = 16,
    decoder_skips: bool = True,
    backbone_skip: bool = False,
    initial_logit: float = 0.0,
):
    """Return the moments of the predictive logits behind `backbone_features`.

    Args:
        factory: Makes the layers.
        backbone_features: Keras tensor (B, ..., F), extents multiples of eight.
        num_regions: Number K of regions.
        latent_size: Length of the code z.
        latent_filters: Channels of encoder and decoder at half resolution.
        decoder_skips: Whether the predictive head also sees w^ and the encoder's
            features of it. Ten numbers alone cannot carry an outline.
        backbone_skip: Whether it also sees the backbone's features; the output can then
            walk past w^ and z^.
        initial_logit: Mean of maps and logits before training.

    Returns:
        Two Keras tensors (B, ..., K): mean and standard deviation of the logits.
    """
    plain = factory.bare(estimator=None)
    bayes = factory.bare(estimator="flipout")
    map_parameters = plain.convolution(
        2 * num_regions, 1, activation=None, name="map_parameters"
    )(backbone_features)
    map_moments = latent.Moments(MAP_STDDEV, initial_logit, name="map_moments")(
        map_parameters
    )
    maps = layers.GaussianLatent(
        MAP_STDDEV, initial_logit, seed=factory.next_seed(), name="maps"
    )(map_moments)
    # Around zero, as convolutions want their input.
    sampled_maps = AsTensor(initial_logit, name="sampled_maps")(maps)
    encoded = _encode(bayes, sampled_maps, latent_filters)
    pooled = factory.global_mean("encoder_pool")(encoded[-1])
    code_parameters = bayes.dense(2 * latent_size, name="code_parameters")(pooled)
    code = layers.GaussianLatent(CODE_STDDEV, seed=factory.next_seed(), name="code")(
        code_parameters
    )
    decoded = _decode(bayes, code, encoded[-1], latent_filters)
    prior_head = bayes.convolution(
        2 * num_regions, 1, activation=None, name="prior_head"
    )
    prior_parameters = LinearUpsampling(name="prior_up", dtype="float32")(
        prior_head(decoded[0])
    )
    features = _predict(
        bayes,
        decoded,
        encoded if decoder_skips else None,
        backbone_features if backbone_skip else None,
        latent_filters,
    )
    predicted = _predicted_moments(
        bayes, num_regions, features, maps if decoder_skips else None
    )
    return LatentBound(initial_logit, name="latent_bound", dtype="float32")(
        [predicted, maps, map_moments, code_parameters, prior_parameters]
    )


def code_effect(model: tf_keras.Model, images, *, seed: int = 0) -> float:
    """Return how much the answers change when z^ is drawn from its prior.

    One network draw answers twice, with the same weights and maps: once with the code
    r(z|w^) of the images, once with a code from N(0, 1). A network that ignores its
    latent answers alike.

    Args:
        model: A network of the method ``"latent"``.
        images: (N, H, W, C), preprocessed as in training; best with tumour.
        seed: Of the draw.

    Returns:
        Mean absolute difference of the probabilities, 0 to 1, over the voxels and
        regions to which either answer gives more than 0.01; 0 if there are none.
    """
    key = noise.draw_key(seed, 0)
    answers = []
    for from_prior in ((), ("code",)):
        with noise.use(noise.DrawScope(key, from_prior=from_prior)):
            logits = model(tf.convert_to_tensor(images, tf.float32), training=False)
        answers.append(logits_module.mean_probabilities(logits).numpy())
    band = np.maximum(*answers) > 0.01
    return float(np.abs(answers[0] - answers[1])[band].mean()) if band.any() else 0.0


def decode(
    model: tf_keras.Model, images, code, *, draw: int = 0, seed: int = 0
) -> np.ndarray:
    """Return what a network answers when its latent code z^ is given.

    Weights and maps are those of one network draw, whatever the code: answers to two
    codes differ by the code alone.

    Args:
        model: A network of the method ``"latent"``.
        images: (N, H, W, C), preprocessed as in training.
        code: (L,) for all images or (N, L), in units of the code's prior N(0, 1).
        draw: Number of the network draw, as in `uncertainty.draws`.
        seed: Of the draws.

    Returns:
        Probabilities, float32 (N, H, W, K).

    Raises:
        ValueError: The network has no code, or another number of entries.
    """
    if "code" not in [layer.name for layer in model.layers]:
        raise ValueError('`model` must have a latent code; build method "latent".')
    code, size = tf.convert_to_tensor(code, tf.float32), model.latent_size
    if code.shape[-1] != size:
        raise ValueError(f"`code` must have {size} entries; got {tuple(code.shape)}.")
    key = noise.draw_key(seed, draw)
    with noise.use(noise.DrawScope(key, given={"code": code})):
        logits = model(tf.convert_to_tensor(images, tf.float32), training=False)
    return logits_module.mean_probabilities(logits).numpy()
