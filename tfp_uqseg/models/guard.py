"""What a network is given, checked where mistakes are made: compile, fit, steps."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

#: Scaled images stay far below; unscaled ones of any scanner exceed it.
LARGEST_INTENSITY = 100.0
_MARK = "tfp_uqseg: "


def check_extents(images, divisor: int) -> None:
    """Raise if the known extents of images cannot be divided by the network.

    Args:
        images: (N, ..., C), a tensor; unknown extents are not looked at.
        divisor: What they must be multiples of.

    Raises:
        ValueError: If one is not.
    """
    extents = images.shape[1:-1].as_list() if images.shape.rank else []
    if any(extent is not None and extent % divisor for extent in extents):
        raise ValueError(
            f"`images` must have extents that are multiples of {divisor}; got "
            f"{tuple(extents)}. `pipeline.slices` pads them while training, "
            "`draws.predict` and `serving` while predicting; else pad them with zeros."
        )


def checked(images, masks, num_regions: int | None):
    """Return images and masks of a step, which raises when they cannot be right.

    Args:
        images: (N, ..., C).
        masks: (N, ..., K).
        num_regions: K; None where it is not known.

    Raises:
        ValueError: While tracing, if there are other regions. In the step TensorFlow's
            error, which `plain_errors` turns into a ValueError, for masks beyond 0..1
            and images that are not scaled or not finite.
    """
    same_rank = masks.shape.rank is not None and masks.shape.rank == images.shape.rank
    known = same_rank and None not in (masks.shape[-1], num_regions)
    if known and masks.shape[-1] != num_regions:
        raise ValueError(
            f"`masks` must have {num_regions} regions on their last axis, as the "
            f"network has; got shape {tuple(masks.shape)}. Choose them with `regions`, "
            "or build the network with another `num_regions`."
        )
    top = tf.reduce_max(tf.abs(tf.cast(images, tf.float32)))
    values = tf.cast(masks, tf.float32)
    ends = [tf.reduce_min(values), tf.reduce_max(values)]
    tests = [
        tf.debugging.Assert(
            top <= LARGEST_INTENSITY,
            [
                f"{_MARK}`images` must be finite and scaled, as z-scores or to 0..1; "
                "the largest absolute value is ",
                top,
                ". Prepare them with `pipeline.slices` or `preprocess.prepare`.",
            ],
        ),
        tf.debugging.Assert(
            tf.logical_and(ends[0] >= 0.0, ends[1] <= 1.0),
            [
                f"{_MARK}`masks` must lie in 0..1; got values from ",
                ends[0],
                " to ",
                ends[1],
                ". Label ids become masks with `tfp_uqseg.labels.region_masks`.",
            ],
        ),
    ]
    # Outside of a graph an assertion is no operation, and has been made already.
    with tf.control_dependencies([test for test in tests if test is not None]):
        return tf.identity(images), tf.identity(masks)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what a step complains of as a ValueError in our words alone.

    Raises:
        ValueError: In place of an error of TensorFlow that tells of `checked`.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        told = re.search(rf"{_MARK}(.+)", error.message, re.S)
        if told is None:
            raise
        words = re.split(r"\s*\[+\{\{", told[1])[0]
        raise ValueError(re.sub(r"\] ?\[", "", words).strip("[]\n\t ")) from None


def check_stock_layers(model) -> None:
    """Raise if a layer of `tfp.layers` itself is there: its KL would be left out."""
    for layer in model.layers:
        own = hasattr(layer, "kl_divergence")
        if hasattr(layer, "kernel_divergence_fn") and not own:
            kind = type(layer).__name__
            raise ValueError(
                f"Layer {layer.name!r} is `tfp.layers.{kind}`, whose KL a `Segmenter` "
                "does not know and would leave out. Take the layer of the same name "
                "from `tfp_uqseg.layers`."
            )


def check_kl_terms(model, *, expected: bool) -> None:
    """Raise unless every layer that draws a kernel has a KL term, and only those."""
    drawing = [layer for layer in model.layers if hasattr(layer, "kernel_stddev")]
    if len(drawing) != len(model.bayesian_layers) or bool(drawing) != expected:
        raise ValueError(
            f"`method` {model.settings['method']!r} gave {len(drawing)} layers that "
            f"draw a kernel and {len(model.bayesian_layers)} KL terms; they must be "
            "equal in number. Give every layer that draws a kernel the method "
            "`kl_divergence`, as `layers.kernel.BayesianKernel` has it."
        )
