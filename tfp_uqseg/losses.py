"""Data losses on distributions over logits (Eq. 16-18 of :cite:t:`sagar2020`).

A loss takes masks and the distribution that a model returns, and gives one value per
example. The probability of a voxel is E[sigmoid(logit)] under the distribution, so that
the cross-entropy is the exact negative log likelihood per voxel.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks, _rulings
from tfp_uqseg.layers import logits as logits_module

_PACKAGE = "tfp_uqseg"


def _check_shapes(masks: tf.Tensor, logits: tf.Tensor) -> None:
    if not masks.shape.is_compatible_with(logits.shape):
        raise ValueError(
            "`masks` must hold one value per voxel and region, shape "
            f"{tuple(logits.shape)} like the logits; got {tuple(masks.shape)}. Integer "
            "labels become masks with `tfp_uqseg.labels.region_masks`."
        )


def cross_entropy(masks, logits) -> tf.Tensor:
    """Return the mean cross-entropy over voxels and regions, Eq. 16 as a mean.

    Args:
        masks: (B, ..., K), 0 or 1, or the fraction of raters.
        logits: Distribution over, or tensor of, logits (B, ..., K).

    Returns:
        (B,), nats per voxel and region.
    """
    loc, stddev = logits_module.moments(logits)
    masks = tf.cast(masks, loc.dtype)
    _check_shapes(masks, loc)
    log_p, log_not_p = logits_module.log_mean_probabilities(loc, stddev)
    voxels = -(masks * log_p + (1.0 - masks) * log_not_p)
    return tf.reduce_mean(voxels, axis=list(range(1, voxels.shape.rank)))


def soft_dice(masks, logits) -> tf.Tensor:
    """Return (2 TP + 1) / (2 TP + FP + FN + 1) with probabilities, per region.

    Args:
        masks: (B, ..., K), 0 or 1, or the fraction of raters.
        logits: Distribution over, or tensor of, logits (B, ..., K).

    Returns:
        (B, K), 0 to 1; an empty mask answered by zeros scores one.
    """
    probabilities = logits_module.mean_probabilities(logits)
    masks = tf.cast(masks, probabilities.dtype)
    _check_shapes(masks, probabilities)
    space = list(range(1, masks.shape.rank - 1))
    overlap = tf.reduce_sum(masks * probabilities, axis=space)
    total = tf.reduce_sum(masks, axis=space) + tf.reduce_sum(probabilities, axis=space)
    smoothing = _rulings.SOFT_DICE_SMOOTHING
    return (2.0 * overlap + smoothing) / (total + smoothing)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class CrossEntropy(tf_keras.losses.Loss):
    """Mean cross-entropy: with it the training loss is the exact negative ELBO.

    Unit: nats per voxel and region.
    """

    def call(self, y_true, y_pred):
        """Return the loss of every example, (B,)."""
        return cross_entropy(y_true, y_pred)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class DiceCrossEntropy(tf_keras.losses.Loss):
    """Eq. 18: ``dice_weight`` (1 - soft Dice) + ``cross_entropy_weight`` CE.

    Dice is no likelihood: with it in the loss the posterior is a generalised one.

    Args:
        dice_weight: Factor of the Dice loss, Eq. 17 per image, then averaged.
        cross_entropy_weight: Factor of the cross-entropy, Eq. 16 averaged over voxels.
        **kwargs: ``name`` and ``reduction`` of `tf_keras.losses.Loss`.
    """

    def __init__(self, dice_weight=0.9, cross_entropy_weight=0.1, **kwargs):
        super().__init__(**kwargs)
        self.dice_weight = _checks.non_negative("dice_weight", dice_weight)
        self.cross_entropy_weight = _checks.non_negative(
            "cross_entropy_weight", cross_entropy_weight
        )

    def call(self, y_true, y_pred):
        """Return the loss of every example, (B,)."""
        dice_loss = 1.0 - tf.reduce_mean(soft_dice(y_true, y_pred), axis=-1)
        return self.dice_weight * dice_loss + self.cross_entropy_weight * (
            cross_entropy(y_true, y_pred)
        )

    def get_config(self):
        """Return plain values from which the loss can be built again."""
        return {
            **super().get_config(),
            "dice_weight": self.dice_weight,
            "cross_entropy_weight": self.cross_entropy_weight,
        }
