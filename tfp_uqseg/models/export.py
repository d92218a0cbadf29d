"""Export to a SavedModel, for serving and for Keras 3."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile

import tensorflow as tf

from tfp_uqseg.layers import logits as logits_module
from tfp_uqseg.layers import noise
from tfp_uqseg.models import segmenter


class _Exported(tf.Module):
    """The two functions of an exported model."""

    def __init__(self, model: segmenter.Segmenter):
        super().__init__()
        self.model = model
        images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "images")
        key = tf.TensorSpec([2], tf.int32, "draw_key")
        self.serve = tf.function(self._serve, input_signature=[images])
        self.draw = tf.function(
            self._draw, input_signature=[{"images": images, "draw_key": key}]
        )

    def _serve(self, images):
        return self._outputs(images)

    def _draw(self, inputs):
        seed, draw = tf.unstack(inputs["draw_key"])
        with noise.use(noise.DrawScope(noise.draw_key(seed, draw))):
            return self._outputs(inputs["images"])

    def _outputs(self, images) -> dict[str, tf.Tensor]:
        padded = _pad(images, self.model.size_divisor)
        logits = self.model(padded, training=False)
        loc, stddev = logits_module.moments(logits)
        outputs = {
            "probabilities": logits_module.mean_probabilities(logits),
            "logits_mean": loc,
            "logits_stddev": tf.zeros_like(loc) if stddev is None else stddev,
        }
        return {name: _crop(value, images) for name, value in outputs.items()}


def export(model: segmenter.Segmenter, folder: str | os.PathLike) -> pathlib.Path:
    """Write `model` as a SavedModel with two endpoints.

    ``serve`` takes images (N, H, W, C) float32 and answers at the posterior mean.
    ``draw`` takes ``{"images": ..., "draw_key": [seed, draw]}`` (int32) and answers
    with one network draw, one inner draw of the latents. Both return a dictionary of
    ``probabilities``, ``logits_mean`` and ``logits_stddev``, each (N, H, W, K). With
    Keras 3: ``keras.layers.TFSMLayer(folder, call_endpoint="serve")``.

    Args:
        model: A network from `models.build`.
        folder: Must not exist yet; appears whole or not at all.

    Returns:
        The folder.

    Raises:
        FileExistsError: `folder` exists.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        raise FileExistsError(
            f"`folder` must not exist yet; {folder} does. Remove it or name another."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)
    try:
        module = _Exported(model)
        tf.saved_model.save(
            module, temporary, signatures={"serving_default": module.serve}
        )
        os.chmod(temporary, 0o755)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _pad(images: tf.Tensor, divisor: int) -> tf.Tensor:
    extents = tf.shape(images)[1:-1]
    missing = tf.math.floormod(-extents, divisor)
    missing = tf.concat([[0], missing, [0]], axis=0)
    return tf.pad(images, tf.stack([tf.zeros_like(missing), missing], axis=1))


def _crop(value: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    size = tf.concat([tf.shape(images)[:-1], tf.shape(value)[-1:]], axis=0)
    return tf.slice(value, tf.zeros_like(size), size)
