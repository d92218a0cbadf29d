"""Networks: `build` gives one by the name of its method."""

from tfp_uqseg.models import (
    blocks,
    bottleneck,
    deep_weight,
    fcn,
    precision,
    scaling,
    unet,
    vnet,
)
from tfp_uqseg.models.builder import (
    BACKBONES,
    ENSEMBLES,
    METHODS,
    build,
    size_divisor,
)
from tfp_uqseg.models.ensemble import Ensemble, load
from tfp_uqseg.models.export import export
from tfp_uqseg.models.precision import in_precision
from tfp_uqseg.models.segmenter import Segmenter
from tfp_uqseg.models.transfer import warm_start

__all__ = [
    "BACKBONES",
    "ENSEMBLES",
    "METHODS",
    "Ensemble",
    "Segmenter",
    "blocks",
    "bottleneck",
    "build",
    "deep_weight",
    "export",
    "fcn",
    "in_precision",
    "load",
    "precision",
    "scaling",
    "size_divisor",
    "unet",
    "vnet",
    "warm_start",
]
