"""Distributions over logits, and the probabilities they stand for."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.layers import latent

tfd = tfp.distributions

_PACKAGE = "tfp_uqseg"
#: Standard deviation of the logits that a zero of the last layer stands for.
INITIAL_STDDEV = 0.5
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(8)
_FAR_LOGIT = 12.0
#: Above this the quadrature's eight nodes lie too far apart.
MAX_QUADRATURE_STDDEV = 2.0


class _Logits(latent.PlainDistributionLambda):
    """What the two kinds of output share: they turn into the mean of the logits."""

    def __init__(self, initial_probability=0.5, scaling=None, **kwargs):
        super().__init__(**kwargs)
        self.initial_probability = _checks.probability(
            "initial_probability", initial_probability
        )
        self.scaling = scaling

    @property
    def scaling(self) -> list[list[float]] | None:
        """Slope and shift of every region's logits, K pairs; None changes nothing."""
        return self._scaling

    @scaling.setter
    def scaling(self, pairs) -> None:
        self._scaling = None
        if pairs is not None:
            self._scaling = [[float(value) for value in pair] for pair in pairs]

    def _scaled(self, loc, stddev=None):
        """Return the moments of slope * logit + shift."""
        if self.scaling is None:
            return loc, stddev
        slopes, shifts = tf.unstack(tf.constant(self.scaling, tf.float32), axis=1)
        return slopes * loc + shifts, None if stddev is None else slopes * stddev

    @property
    def _shift(self) -> float:
        """The logit that a zero of the last layer stands for."""
        return math.log(self.initial_probability / (1.0 - self.initial_probability))

    def _concretise(self, distribution):
        return distribution.mean()

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        config = {"initial_probability": self.initial_probability}
        if self.scaling is not None:
            config["scaling"] = self.scaling
        return {**super().get_config(), **config}


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class GaussianLogits(_Logits):
    """The network's output: a normal distribution over every logit.

    The last layer gives mean and variance of the logits :cite:p:`kendall2017`. The
    distribution turns into its mean. No standard deviation exceeds 2, but by `scaling`:
    beyond it `probabilities_and_logs` has an approximation whose tails a network in
    training would learn to exploit.

    Args:
        initial_probability: Probability whose logit a zero of the input stands for.
        scaling: Slope and shift of every region's logits, K pairs, after training
            (`models.scaling`); None changes nothing.
        **kwargs: ``name``.

    Call Args:
        inputs: (..., 2 K): K means, then K untransformed standard deviations; or the
            pair of moments that `latent.Moments` returns.
    """

    def _distribution(self, inputs):
        loc, stddev = latent.moments_of(inputs, INITIAL_STDDEV)
        stddev = MAX_QUADRATURE_STDDEV * tf.tanh(stddev / MAX_QUADRATURE_STDDEV)
        moments = self._scaled(loc + self._shift, stddev)
        return tfd.Independent(tfd.Normal(*moments), loc.shape.rank - 1)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class PointLogits(_Logits):
    """The network's output without spread: a point mass at the logits (..., K).

    Args:
        initial_probability: Probability whose logit a zero of the input stands for.
        scaling: See `GaussianLogits`.
        **kwargs: ``name``.
    """

    def _distribution(self, inputs):
        loc, _ = self._scaled(tf.cast(inputs, tf.float32) + self._shift)
        return tfd.Independent(tfd.Deterministic(loc), loc.shape.rank - 1)

    def compute_output_shape(self, input_shape):
        """Return the shape of the logits."""
        return tf.TensorShape(input_shape)


def gaussian(loc: tf.Tensor, stddev: tf.Tensor) -> tfd.Distribution:
    """Return normal logits (..., K) that turn into their mean, as a network's do."""
    layer = tfp.layers.DistributionLambda(
        lambda given: tfd.Independent(tfd.Normal(*given), loc.shape.rank - 1),
        convert_to_tensor_fn=lambda distribution: distribution.mean(),
        dtype="float32",
    )
    return layer([loc, stddev])


def moments(logits) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Return mean and standard deviation of logits; None where there is no spread.

    Args:
        logits: A distribution over logits, or a tensor of logits, (..., K).
    """
    if not isinstance(logits, tfd.Distribution):
        return tf.convert_to_tensor(logits), None
    inner = getattr(logits, "tensor_distribution", logits)
    inner = getattr(inner, "distribution", inner)
    if isinstance(inner, tfd.Deterministic):
        return logits.mean(), None
    if isinstance(inner, tfd.Normal) and inner.loc.shape == inner.scale.shape:
        # The same as below without two products of every voxel with one.
        return inner.loc, inner.scale
    return logits.mean(), logits.stddev()


def _probit_logit(loc, stddev) -> tf.Tensor:
    return loc / tf.sqrt(1.0 + (math.pi / 8.0) * tf.square(stddev))


def _quadrature(loc, stddev) -> tf.Tensor:
    """Return E[sigmoid(logit)] by Gauss and Hermite.

    Node by node: one array of all of them would be eight times the image, and slower.
    The nodes lie in pairs around the mean, with one weight.
    """
    half, weights = len(_NODES) // 2, _WEIGHTS / _WEIGHTS.sum()
    total = 0.0
    for node, weight in zip(_NODES[half:], weights[half:], strict=True):
        shift = node * stddev
        total += weight * (tf.sigmoid(loc + shift) + tf.sigmoid(loc - shift))
    return total


def _mean_sigmoid(loc, stddev) -> tf.Tensor:
    """Return E[sigmoid(logit)]: quadrature where it holds, else the probit."""
    holds = stddev <= MAX_QUADRATURE_STDDEV
    return tf.cond(
        tf.reduce_all(holds),
        lambda: _quadrature(loc, stddev),
        lambda: tf.where(
            holds, _quadrature(loc, stddev), tf.sigmoid(_probit_logit(loc, stddev))
        ),
    )


def probabilities_and_logs(logits) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return p = E[sigmoid(logit)], log p and log(1 - p), each (..., K).

    Gauss-Hermite quadrature with eight nodes up to a standard deviation of two (error
    below .001), beyond it the probit approximation sigmoid(loc / sqrt(1 + pi stddev^2 /
    8)) (error up to .015). Where p is within about 1e-5 of 0 or 1, the logarithms take
    the tail E[sigmoid(logit)] = exp(loc + stddev^2 / 2), which keeps their gradient.

    Args:
        logits: A distribution over logits, or a tensor of logits, (..., K).
    """
    loc, stddev = moments(logits)
    if stddev is None:
        return tf.sigmoid(loc), tf.math.log_sigmoid(loc), tf.math.log_sigmoid(-loc)
    far = tf.abs(loc) > _FAR_LOGIT
    p = _mean_sigmoid(tf.where(far, 0.0, loc), stddev)
    wide = stddev > MAX_QUADRATURE_STDDEV
    tail = tf.where(
        wide,
        tf.math.log_sigmoid(-tf.abs(_probit_logit(loc, stddev))),
        tf.math.log_sigmoid(-tf.abs(loc) + 0.5 * tf.square(tf.minimum(stddev, 2.0))),
    )
    other_tail = tf.where(
        wide, tf.math.log_sigmoid(tf.abs(_probit_logit(loc, stddev))), -tf.exp(tail)
    )
    log_p = tf.where(loc > 0.0, other_tail, tail)
    log_not_p = tf.where(loc > 0.0, tail, other_tail)
    return (
        tf.where(far, tf.exp(log_p), p),
        tf.where(far, log_p, tf.math.log(p)),
        tf.where(far, log_not_p, tf.math.log1p(-p)),
    )


def mean_probabilities(logits) -> tf.Tensor:
    """Return E[sigmoid(logit)], (..., K), for a distribution or a tensor of logits."""
    loc, stddev = moments(logits)
    return tf.sigmoid(loc) if stddev is None else _mean_sigmoid(loc, stddev)
