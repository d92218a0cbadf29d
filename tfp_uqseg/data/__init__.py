"""Cases from files, made ready for a network, as slices for training."""

from tfp_uqseg.data import (
    augment,
    brats,
    case,
    nifti,
    phantom,
    pipeline,
    preprocess,
    shards,
    splits,
)

__all__ = [
    "augment",
    "brats",
    "case",
    "nifti",
    "phantom",
    "pipeline",
    "preprocess",
    "shards",
    "splits",
]
