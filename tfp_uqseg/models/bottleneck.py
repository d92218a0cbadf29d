"""Reading A of the paper's Figure 2: the latent bottleneck behind a backbone.

f -> q(w|x) -> w^ -> Bayesian encoder -> r(z|w) -> z^ -> Bayesian decoder
-> p(w|z), which sees z^ alone, and the predictive logits.
"""

from __future__ import annotations

import math

import tensorflow as tf
import tf_keras

from tfp_uqseg import layers
from tfp_uqseg.layers import latent, noise
from tfp_uqseg.models import blocks

_PACKAGE = "tfp_uqseg"
_LEVELS = 3
_LOG_2PI = math.log(2.0 * math.pi)
# Where the three distributions start. The maps start sharp, so that the backbone learns
# as it would alone while the bound is still being phased in.
MAP_STDDEV, CODE_STDDEV, PRIOR_STDDEV = 0.1, 1.0, 1.0

# Gain of the decoder's correction of the maps, see `ShiftMean`.
CORRECTION = 0.1


def _gaussian_log_density(value, loc, stddev):
    """Return log N(value; loc, stddev^2) summed over all but the first axis, nats."""
    terms = tf.square((value - loc) / stddev) + 2.0 * tf.math.log(stddev) + _LOG_2PI
    return -0.5 * tf.reduce_sum(terms, axis=list(range(1, terms.shape.rank)))


def _gaussian_entropy(stddev):
    """Return the entropy of a factorised normal, over all but the first axis, nats."""
    terms = tf.math.log(stddev) + 0.5 * (1.0 + _LOG_2PI)
    return tf.reduce_sum(terms, axis=list(range(1, terms.shape.rank)))


def latent_bound(maps, map_parameters, code_parameters, prior_parameters):
    """Return one-sample estimates of the bound on KL(q(w|x) || p(w)), Eq. 13 mended.

    In expectation over w^ ~ q(w|x) and z^ ~ r(z|w^) the value

        - H[q(w|x)] + KL(r(z|w^) || N(0, 1)) - log p(w^|z^)

    is at least KL(q(w|x) || p(w)), p(w) the integral of p(w|z) N(z; 0, 1) dz. Entropy
    and the latent's KL are closed forms; the last term is evaluated at the sample.

    Args:
        maps: The sample w^, (B, ..., K).
        map_parameters: Parameters of q(w|x), (B, ..., 2 K).
        code_parameters: Parameters of r(z|w^), (B, 2 L).
        prior_parameters: Parameters of p(w|z^), (B, ..., 2 K).

    Returns:
        Two float32 (B,), nats per example: the bound, and its term KL(r || N(0, 1)).
    """
    _, map_stddev = latent.split_parameters(map_parameters, MAP_STDDEV)
    code_loc, code_stddev = latent.split_parameters(code_parameters, CODE_STDDEV)
    prior_loc, prior_stddev = latent.split_parameters(prior_parameters, PRIOR_STDDEV)
    variance = tf.square(code_stddev)
    code_kl = 0.5 * tf.reduce_sum(
        variance + tf.square(code_loc) - 1.0 - tf.math.log(variance), axis=-1
    )
    log_prior = _gaussian_log_density(
        tf.cast(maps, tf.float32), prior_loc, prior_stddev
    )
    return code_kl - _gaussian_entropy(map_stddev) - log_prior, code_kl


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class LatentBound(tf_keras.layers.Layer):
    """Passes its first input on and records `latent_bound` of the others.

    While `models.Segmenter` trains, the records ``latent_bound`` and ``code_kl`` (means
    over the batch, nats per example) reach its training step. Elsewhere nothing
    happens.
    """

    def call(self, inputs):
        """Record the bound; return the first input."""
        passed, *distributions = inputs
        scope = noise.current()
        if isinstance(scope, noise.TrainingScope):
            bound, code_kl = latent_bound(*distributions)
            scope.records["latent_bound"] = tf.reduce_mean(bound)
            scope.records["code_kl"] = tf.reduce_mean(code_kl)
        return passed


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class AsTensor(tf_keras.layers.Layer):
    """Turns a distribution into its tensor, in the compute dtype of the policy."""

    def call(self, inputs):
        """Return the tensor that the distribution stands for."""
        return tf.cast(tf.convert_to_tensor(inputs), self.compute_dtype)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class AnnealGradient(tf_keras.layers.Layer):
    """Passes its input on, and while training ``annealing`` of the gradient back.

    Encoder, decoder and prior head learn from the full bound from the first step. What
    the bound asks of q(w|x) reaches the backbone only as annealing rises: before p(w|z)
    has learned to describe the maps, its cheapest wish is that they be constant.
    """

    def call(self, inputs):
        """Return the input."""
        scope = noise.current()
        if not isinstance(scope, noise.TrainingScope):
            return tf.convert_to_tensor(inputs)
        inputs = tf.convert_to_tensor(inputs)
        share = tf.cast(scope.annealing, inputs.dtype)
        return share * inputs + tf.stop_gradient((1 - share) * inputs)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class ShiftMean(tf_keras.layers.Layer):
    """Centres parameters (..., 2 K) on maps (..., K).

    The mean becomes the maps plus a tenth of the first half: a correction that starts
    small and moves slowly. At full size it drives all logits down before the backbone
    has learned to find a tumour, and an empty answer is hard to leave again.
    """

    def call(self, inputs):
        """Return the parameters of the shifted distribution."""
        parameters, maps = inputs
        loc, raw = tf.split(parameters, 2, axis=-1)
        return tf.concat([maps + CORRECTION * loc, raw], axis=-1)


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


def _hold_back(tensor, name: str, **kwargs):
    return AnnealGradient(name=name, **kwargs)(tensor)


def _pass_on(tensor, name: str, **kwargs):
    del name, kwargs
    return tensor


def _encode(factory: blocks.Factory, maps, filters: int) -> list:
    """Return the encoder's features at every resolution, the finest first."""
    features = [factory.convolution(filters, name="encoder0_conv")(maps)]
    for level in range(1, _LEVELS + 1):
        width = filters * min(2**level, 4)
        conv = factory.convolution(width, strides=2, name=f"encoder{level}_conv")
        features.append(conv(features[-1]))
    return features


def _decode(factory: blocks.Factory, code, coarse, filters: int) -> list:
    """Return the decoder's features of the code alone, the finest first."""
    tensor = Spread(name="code_grid")([code, coarse])
    tensor = factory.convolution(filters * 4, name="decoder3_conv")(tensor)
    features = []
    for level in reversed(range(_LEVELS)):
        tensor = factory.upsample(f"decoder{level}_up")(tensor)
        width = filters * min(2**level, 4)
        tensor = factory.convolution(width, name=f"decoder{level}_conv")(tensor)
        features.insert(0, tensor)
    return features


def _predict(factory, maps, decoded, encoded, backbone_features, num_regions, filters):
    """Return the parameters of the predictive logits, (B, ..., 2 K)."""
    maps, held_maps = maps
    concatenate = tf_keras.layers.Concatenate
    tensor = decoded[0]
    if encoded is not None:
        tensor = concatenate(name="predict1_skip")([decoded[1], encoded[1]])
        tensor = factory.convolution(filters * 2, name="predict1_conv")(tensor)
        tensor = factory.upsample("predict1_up")(tensor)
        tensor = concatenate(name="predict0_skip")(
            [tensor, decoded[0], encoded[0], held_maps]
        )
    if backbone_features is not None:
        tensor = concatenate(name="backbone_skip")([tensor, backbone_features])
    tensor = factory.convolution(filters, name="predict0_conv")(tensor)
    parameters = factory.convolution(
        2 * num_regions, 1, activation=None, name="predictive_head"
    )(tensor)
    if encoded is None:
        return parameters
    return ShiftMean(name="predictive_parameters")([parameters, maps])


def attach(
    factory: blocks.Factory,
    backbone_features,
    *,
    num_regions: int,
    latent_size: int = 10,
    latent_filters: int = 8,
    decoder_skips: bool = True,
    backbone_skip: bool = False,
):
    """Return the parameters of the predictive logits behind `backbone_features`.

    Args:
        factory: Makes the layers.
        backbone_features: Keras tensor (B, ..., F), extents multiples of eight.
        num_regions: Number K of regions.
        latent_size: Length of the code z.
        latent_filters: Channels of encoder and decoder at full resolution.
        decoder_skips: Whether the predictive head also sees w^ and the encoder's
            features of it. Ten numbers alone cannot carry an outline.
        backbone_skip: Whether it also sees the backbone's features; the output can then
            walk past w^ and z^.

    Returns:
        Keras tensor (B, ..., 2 K).
    """
    plain = factory.bare(bayesian=False)
    bayes = factory.bare(bayesian=True)
    map_parameters = plain.convolution(
        2 * num_regions, 1, activation=None, name="map_parameters"
    )(backbone_features)
    maps = layers.GaussianLatent(MAP_STDDEV, seed=factory.next_seed(), name="maps")(
        map_parameters
    )
    sampled_maps = AsTensor(name="sampled_maps")(maps)
    # Without skips the code is the only way to the output: nothing is held back.
    hold = _hold_back if decoder_skips else _pass_on
    held_maps = hold(sampled_maps, "held_maps")
    encoded = _encode(bayes, held_maps, latent_filters)
    pooled = factory.global_mean("encoder_pool")(encoded[-1])
    code_parameters = bayes.dense(2 * latent_size, name="code_parameters")(pooled)
    code = layers.GaussianLatent(CODE_STDDEV, seed=factory.next_seed(), name="code")(
        code_parameters
    )
    decoded = _decode(bayes, code, encoded[-1], latent_filters)
    prior_parameters = bayes.convolution(
        2 * num_regions, 1, activation=None, name="prior_head"
    )(decoded[0])
    predicted = _predict(
        bayes,
        (sampled_maps, held_maps),
        decoded,
        encoded if decoder_skips else None,
        backbone_features if backbone_skip else None,
        num_regions,
        latent_filters,
    )
    bounded = [hold(maps, "held_sample", dtype="float32")]
    bounded += [hold(map_parameters, "held_parameters"), code_parameters]
    bounded.append(prior_parameters)
    return LatentBound(name="latent_bound", dtype="float32")([predicted, *bounded])
