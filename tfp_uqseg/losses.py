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


def _space(tensor: tf.Tensor) -> list[int]:
    return list(range(1, tensor.shape.rank - 1))


def _read(masks, logits):
    """Return the masks in float32, p, log p and log(1 - p), checked to fit."""
    parts = logits_module.probabilities_and_logs(logits)
    masks = tf.cast(masks, parts[0].dtype)
    _check_shapes(masks, parts[0])
    return masks, *parts


def _mean_cross_entropy(masks, log_p, log_not_p) -> tf.Tensor:
    voxels = -(masks * log_p + (1.0 - masks) * log_not_p)
    return tf.reduce_mean(voxels, axis=[*_space(voxels), -1])


def _soft_dice(masks, p) -> tf.Tensor:
    overlap = tf.reduce_sum(masks * p, axis=_space(p))
    total = tf.reduce_sum(masks + p, axis=_space(p))
    smoothing = _rulings.SOFT_DICE_SMOOTHING
    return (2.0 * overlap + smoothing) / (total + smoothing)


def cross_entropy(masks, logits) -> tf.Tensor:
    """Return the mean cross-entropy over voxels and regions, Eq. 16 as a mean.

    Args:
        masks: (B, ..., K), 0 or 1, or the fraction of raters.
        logits: Distribution over, or tensor of, logits (B, ..., K).

    Returns:
        (B,), nats per voxel and region.
    """
    masks, _, log_p, log_not_p = _read(masks, logits)
    return _mean_cross_entropy(masks, log_p, log_not_p)


def soft_dice(masks, logits) -> tf.Tensor:
    """Return (2 TP + 1) / (2 TP + FP + FN + 1) with probabilities, per region.

    One minus it is a term of Eq. 17, smoothed.

    Args:
        masks: (B, ..., K), 0 or 1, or the fraction of raters.
        logits: Distribution over, or tensor of, logits (B, ..., K).

    Returns:
        (B, K), 0 to 1; an empty mask answered by zeros scores one.
    """
    masks, p, _, _ = _read(masks, logits)
    return _soft_dice(masks, p)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class CrossEntropy(tf_keras.losses.Loss):
    """Mean cross-entropy: with it the training loss is the exact negative ELBO.

    By Eq. 7 it is least where q is nearest to the posterior. For the method ``latent``
    that needs ``beta=1`` and ``map_share=0`` besides. Unit: nats per voxel and region.
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
        masks, p, log_p, log_not_p = _read(y_true, y_pred)
        dice_loss = 1.0 - tf.reduce_mean(_soft_dice(masks, p), axis=-1)
        entropy_loss = _mean_cross_entropy(masks, log_p, log_not_p)
        return self.dice_weight * dice_loss + self.cross_entropy_weight * entropy_loss

    def get_config(self):
        """Return plain values from which the loss can be built again."""
        return {
            **super().get_config(),
            "dice_weight": self.dice_weight,
            "cross_entropy_weight": self.cross_entropy_weight,
        }
