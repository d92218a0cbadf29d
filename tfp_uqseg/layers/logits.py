"""Distributions over logits, and the probabilities they stand for."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg.layers import latent

tfd = tfp.distributions

_PACKAGE = "tfp_uqseg"
_MIN_STDDEV = 1e-4
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(8)
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
#: Above this the quadrature's eight nodes lie too far apart.
MAX_QUADRATURE_STDDEV = 2.0


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class GaussianLogits(latent.PlainDistributionLambda):
    """The network's output: a normal distribution over every logit.

    The last layer gives mean and variance of the logits :cite:p:`kendall2017`. The
    distribution turns into its mean.

    Call Args:
        inputs: (..., 2 K): K means, then K untransformed standard deviations.
    """

    def _distribution(self, inputs):
        loc, stddev = latent.split_parameters(inputs, _MIN_STDDEV)
        return tfd.Independent(tfd.Normal(loc, stddev), loc.shape.rank - 1)

    def _concretise(self, distribution):
        return distribution.mean()


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class PointLogits(latent.PlainDistributionLambda):
    """The network's output without spread: a point mass at the logits (..., K)."""

    def _distribution(self, inputs):
        loc = tf.cast(inputs, tf.float32)
        return tfd.Independent(tfd.Deterministic(loc), loc.shape.rank - 1)

    def _concretise(self, distribution):
        return distribution.mean()

    def compute_output_shape(self, input_shape):
        """Return the shape of the logits."""
        return tf.TensorShape(input_shape)


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
    return logits.mean(), logits.stddev()


def log_mean_probabilities(loc: tf.Tensor, stddev: tf.Tensor | None):
    """Return log p and log(1 - p) for p = E[sigmoid(logit)], normal logits.

    Gauss-Hermite quadrature with eight nodes up to a standard deviation of two (error
    below .001), beyond it the probit approximation sigmoid(loc / sqrt(1 + pi stddev^2 /
    8)) (error up to .015).

    Args:
        loc: Means of the logits, (..., K).
        stddev: Standard deviations of the same shape, or None for point logits.

    Returns:
        Two tensors (..., K), at most zero.
    """
    if stddev is None:
        return tf.math.log_sigmoid(loc), tf.math.log_sigmoid(-loc)
    nodes = loc[..., tf.newaxis] + stddev[..., tf.newaxis] * _NODES.astype(np.float32)
    weights = tf.constant(_LOG_WEIGHTS, loc.dtype)
    probit = loc / tf.sqrt(1.0 + (math.pi / 8.0) * tf.square(stddev))
    narrow = stddev <= MAX_QUADRATURE_STDDEV

    def log_mean(sign):
        terms = tf.math.log_sigmoid(sign * nodes) + weights
        quadrature = tf.reduce_logsumexp(terms, axis=-1)
        return tf.where(narrow, quadrature, tf.math.log_sigmoid(sign * probit))

    return log_mean(1.0), log_mean(-1.0)


def mean_probabilities(logits) -> tf.Tensor:
    """Return E[sigmoid(logit)], (..., K), for a distribution or a tensor of logits."""
    loc, stddev = moments(logits)
    if stddev is None:
        return tf.sigmoid(loc)
    nodes = loc[..., tf.newaxis] + stddev[..., tf.newaxis] * _NODES.astype(np.float32)
    weights = tf.constant(np.exp(_LOG_WEIGHTS), loc.dtype)
    quadrature = tf.linalg.matvec(tf.sigmoid(nodes), weights)
    probit = tf.sigmoid(loc / tf.sqrt(1.0 + (math.pi / 8.0) * tf.square(stddev)))
    return tf.where(stddev <= MAX_QUADRATURE_STDDEV, quadrature, probit)
