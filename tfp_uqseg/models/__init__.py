"""Networks: `build` gives one by the name of its method."""

from tfp_uqseg.models import blocks, bottleneck, unet
from tfp_uqseg.models.builder import BACKBONES, METHODS, build
from tfp_uqseg.models.export import export
from tfp_uqseg.models.segmenter import Segmenter

__all__ = [
    "BACKBONES",
    "METHODS",
    "Segmenter",
    "blocks",
    "bottleneck",
    "build",
    "export",
    "unet",
]
