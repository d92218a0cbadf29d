"""Overlap metrics for `compile`, equal to `tfp_uqseg.evaluation.overlap`.

Both read a distribution over logits (or a tensor of logits): a voxel is predicted when
its probability exceeds one half, which for normal logits means a positive mean.
"""

from __future__ import annotations

import abc

import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks, _rulings

_PACKAGE = "tfp_uqseg"


class _Overlap(tf_keras.metrics.Metric):
    """Mean over images or patients of an overlap score, then over regions.

    Args:
        name: Name in the logs.
        per: ``"image"`` scores each image of a batch alone (the paper's reading);
            ``"patient"`` sums the counts of all images of a patient first.
        num_patients: Number of patients, with ``per="patient"``.
        region: Index of the one region to score; None averages over regions.
        **kwargs: ``dtype``.
    """

    def __init__(self, name, per="image", num_patients=None, region=None, **kwargs):
        super().__init__(name=name, **kwargs)
        _checks.one_of("per", per, ("image", "patient"))
        if per == "patient":
            num_patients = _checks.positive_integer("num_patients", num_patients)
        self.per, self.num_patients, self.region = per, num_patients, region
        self._counts = None
        if per == "image":
            self.total = self.add_weight("total", initializer="zeros")
            self.count = self.add_weight("count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None, *, patient=None):
        """Add a batch.

        Args:
            y_true: Masks (B, ..., K).
            y_pred: Distribution over, or tensor of, logits (B, ..., K).
            sample_weight: Weight of each image, (B,), with ``per="image"``.
            patient: Number of the patient of each image, int (B,), with
                ``per="patient"``.
        """
        counts = self._count(y_true, y_pred)
        if self.per == "image":
            scores = tf.reduce_mean(self._score(*counts), axis=-1)
            weights = tf.ones_like(scores)
            if sample_weight is not None:
                weights = tf.reshape(tf.cast(sample_weight, scores.dtype), [-1])
            self.total.assign_add(tf.reduce_sum(scores * weights))
            self.count.assign_add(tf.reduce_sum(weights))
            return
        if patient is None:
            raise ValueError(
                "`patient` must give the number of each image's patient where "
                '`per="patient"`; got None.'
            )
        self._add_patients(tf.reshape(tf.cast(patient, tf.int32), [-1]), counts)

    def _count(self, y_true, y_pred):
        """Return true positives, mask sizes and prediction sizes, each (B, K)."""
        mask = tf.cast(y_true, tf.float32) > 0.5
        predicted = tf.convert_to_tensor(y_pred) > 0.0
        if self.region is not None:
            mask = mask[..., self.region : self.region + 1]
            predicted = predicted[..., self.region : self.region + 1]
        space = list(range(1, mask.shape.rank - 1))
        return [
            tf.reduce_sum(tf.cast(voxels, self.dtype), axis=space)
            for voxels in (mask & predicted, mask, predicted)
        ]

    def _add_patients(self, patient, counts):
        if self._counts is None:
            shape = (3, self.num_patients, counts[0].shape[-1])
            with tf.init_scope():
                self._counts = self.add_weight("counts", shape, initializer="zeros")
        rows = [
            tf.math.unsorted_segment_sum(count, patient, self.num_patients)
            for count in counts
        ]
        self._counts.assign_add(tf.stack(rows))

    def result(self):
        """Return the mean score."""
        if self.per == "image":
            return tf.math.divide_no_nan(self.total, self.count)
        if self._counts is None:
            return tf.constant(0.0, self.dtype)
        return tf.reduce_mean(self._score(*tf.unstack(self._counts)))

    @abc.abstractmethod
    def _score(self, overlap, mask_size, predicted_size):
        """Return the score of every image or patient and region from its counts."""

    def get_config(self):
        """Return plain values from which the metric can be built again."""
        config = {
            "per": self.per,
            "num_patients": self.num_patients,
            "region": self.region,
        }
        return {**super().get_config(), **config}


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Dice(_Overlap):
    """Eq. 19, 2 TP / (2 TP + FN + FP); one where mask and prediction are empty."""

    def __init__(self, name="dice", per="image", num_patients=None, region=None, **kw):
        super().__init__(name, per, num_patients, region, **kw)

    def _score(self, overlap, mask_size, predicted_size):
        total = mask_size + predicted_size
        score = tf.math.divide_no_nan(2.0 * overlap, total)
        return tf.where(total > 0.0, score, _rulings.DICE_BOTH_EMPTY)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class IoU(_Overlap):
    """Eq. 20, TP / (TP + FN + FP); one where mask and prediction are empty."""

    def __init__(self, name="iou", per="image", num_patients=None, region=None, **kw):
        super().__init__(name, per, num_patients, region, **kw)

    def _score(self, overlap, mask_size, predicted_size):
        union = mask_size + predicted_size - overlap
        score = tf.math.divide_no_nan(overlap, union)
        return tf.where(union > 0.0, score, _rulings.DICE_BOTH_EMPTY)
