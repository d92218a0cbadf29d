"""Bayesian layers for `tf_keras`, and the keyed noise they draw from."""

from tfp_uqseg.layers import flipout, latent, local, logits, noise, priors
from tfp_uqseg.layers.flipout import (
    Convolution2DFlipout,
    Convolution2DTransposeFlipout,
    Convolution3DFlipout,
    Convolution3DTransposeFlipout,
    DenseFlipout,
)
from tfp_uqseg.layers.latent import GaussianLatent
from tfp_uqseg.layers.local import (
    Convolution2DLocalReparameterization,
    Convolution3DLocalReparameterization,
    DenseLocalReparameterization,
)
from tfp_uqseg.layers.logits import GaussianLogits, PointLogits

__all__ = [
    "Convolution2DFlipout",
    "Convolution2DLocalReparameterization",
    "Convolution2DTransposeFlipout",
    "Convolution3DFlipout",
    "Convolution3DLocalReparameterization",
    "Convolution3DTransposeFlipout",
    "DenseFlipout",
    "DenseLocalReparameterization",
    "GaussianLatent",
    "GaussianLogits",
    "PointLogits",
    "flipout",
    "latent",
    "local",
    "logits",
    "noise",
    "priors",
]
