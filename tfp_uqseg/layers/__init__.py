"""Bayesian layers for `tf_keras`, and the keyed noise they draw from."""

from tfp_uqseg.layers import flipout, latent, logits, noise, priors
from tfp_uqseg.layers.flipout import (
    Convolution2DFlipout,
    Convolution2DTransposeFlipout,
    Convolution3DFlipout,
    Convolution3DTransposeFlipout,
    DenseFlipout,
)
from tfp_uqseg.layers.latent import GaussianLatent
from tfp_uqseg.layers.logits import GaussianLogits, PointLogits

__all__ = [
    "Convolution2DFlipout",
    "Convolution2DTransposeFlipout",
    "Convolution3DFlipout",
    "Convolution3DTransposeFlipout",
    "DenseFlipout",
    "GaussianLatent",
    "GaussianLogits",
    "PointLogits",
    "flipout",
    "latent",
    "logits",
    "noise",
    "priors",
]
