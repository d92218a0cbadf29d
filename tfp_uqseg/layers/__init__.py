"""Bayesian layers for `tf_keras`, and the keyed noise they draw from."""

from tfp_uqseg.layers import (
    dropout,
    flipout,
    kernel,
    latent,
    linear,
    local,
    logits,
    noise,
    priors,
    reparameterization,
)
from tfp_uqseg.layers.dropout import ChannelDropout
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
    Convolution2DTransposeLocalReparameterization,
    Convolution3DLocalReparameterization,
    Convolution3DTransposeLocalReparameterization,
    DenseLocalReparameterization,
)
from tfp_uqseg.layers.logits import GaussianLogits, PointLogits
from tfp_uqseg.layers.reparameterization import (
    Convolution2DReparameterization,
    Convolution2DTransposeReparameterization,
    Convolution3DReparameterization,
    Convolution3DTransposeReparameterization,
    DenseReparameterization,
)

__all__ = [
    "ChannelDropout",
    "Convolution2DFlipout",
    "Convolution2DLocalReparameterization",
    "Convolution2DReparameterization",
    "Convolution2DTransposeFlipout",
    "Convolution2DTransposeLocalReparameterization",
    "Convolution2DTransposeReparameterization",
    "Convolution3DFlipout",
    "Convolution3DLocalReparameterization",
    "Convolution3DReparameterization",
    "Convolution3DTransposeFlipout",
    "Convolution3DTransposeLocalReparameterization",
    "Convolution3DTransposeReparameterization",
    "DenseFlipout",
    "DenseLocalReparameterization",
    "DenseReparameterization",
    "GaussianLatent",
    "GaussianLogits",
    "PointLogits",
    "dropout",
    "flipout",
    "kernel",
    "latent",
    "linear",
    "local",
    "logits",
    "noise",
    "priors",
    "reparameterization",
]
