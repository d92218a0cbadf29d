"""The metrics of training and the scores of evaluation are one definition."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_uqseg import metrics
from tfp_uqseg.evaluation import overlap


@pytest.fixture(params=[0, 1, 2])
def example(request):
    """Masks and logits (B, H, W, K), with images empty in one or both."""
    rng = np.random.default_rng(request.param)
    mask = rng.random((6, 5, 4, 2)) < 0.4
    logits = rng.normal(size=mask.shape).astype(np.float32)
    mask[0], logits[0] = False, -1.0
    mask[1] = False
    logits[2] = -1.0
    mask[3], logits[3] = True, 1.0
    return mask, logits


@pytest.mark.parametrize(
    ("metric", "score"), [(metrics.Dice, overlap.dice), (metrics.IoU, overlap.iou)]
)
def test_metric_per_image_is_the_mean_of_evaluation(example, metric, score):
    mask, logits = example
    state = metric()
    for start in (0, 4):
        state.update_state(
            tf.cast(mask[start : start + 4], tf.float32), logits[start : start + 4]
        )
    expected = score(mask, logits > 0, axis=(1, 2)).mean()
    assert float(state.result()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "score"), [(metrics.Dice, overlap.dice), (metrics.IoU, overlap.iou)]
)
def test_metric_per_patient_is_the_score_of_the_volume(example, metric, score):
    mask, logits = example
    patient = np.array([0, 0, 1, 1, 1, 2])
    state = metric(per="patient", num_patients=3)
    state.update_state(tf.cast(mask, tf.float32), logits, patient=patient)
    volumes = [
        score(mask[patient == k], logits[patient == k] > 0, axis=(0, 1, 2))
        for k in range(3)
    ]
    assert float(state.result()) == pytest.approx(np.mean(volumes), abs=1e-6)


def test_metric_per_image_is_per_image_of_a_volume(example):
    mask, logits = example
    state = metrics.Dice(region=1)
    state.update_state(tf.cast(mask, tf.float32), logits)
    volume = np.moveaxis(mask[..., 1], 0, -1), np.moveaxis(logits[..., 1] > 0, 0, -1)
    expected = overlap.per_image(*volume)
    assert float(state.result()) == pytest.approx(expected.dice, abs=1e-6)
    assert expected.both_empty == 1
