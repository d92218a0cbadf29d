"""Starting a network from a trained deterministic one."""

from __future__ import annotations

import tensorflow as tf
import tf_keras


def warm_start(
    model: tf_keras.Model, source: tf_keras.Model, *, freeze: bool = False
) -> list[str]:
    """Take the weights of `source` wherever `model` has a layer of the same name.

    A kernel becomes the mean of a kernel's posterior; biases and normalisation are
    taken as they are. Where `model` was built with ``centred_prior=True``, the prior of
    such a kernel is centred there too. The maps of the method ``"latent"`` start as the
    source's answer, so that the network begins as the paper's, behind a pre-trained
    backbone.

    Args:
        model: A new network from `models.build`.
        source: A trained one with the same backbone, width, depth and modalities.
        freeze: Whether the layers that were taken stay as they are; only
            deterministic ones can (``"latent"``: the backbone).

    Returns:
        The names of the layers that were taken.

    Raises:
        ValueError: No layer has the name and shape of one of the source's, or a layer
            of the same name has another shape, or `freeze` meets a Bayesian layer.
    """
    targets = {layer.name: layer for layer in model.layers}
    pairs = [
        (targets[origin.name], origin)
        for origin in source.layers
        if origin.name in targets and origin.get_weights()
    ]
    # All is looked at before anything is changed.
    for target, origin in pairs:
        _check(target, origin, freeze=freeze)
    if not pairs:
        raise ValueError(
            "`source` must share layers with `model`: the same backbone, base_filters "
            "and depth. No layer has the name of one of the source's."
        )
    for target, origin in pairs:
        _take(target, origin)
        if freeze:
            target.trainable = False
    _take_answer(targets, source)
    return [origin.name for _, origin in pairs]


def _kernels(layer) -> dict[str, tf.Variable]:
    """Return the weights that two kinds of layer share, by a common name."""
    loc = getattr(layer, "kernel_loc", None)
    if loc is None:
        return {w.name.rpartition("/")[2]: w for w in layer.weights}
    return (
        {"kernel:0": loc}
        if layer.bias is None
        else {
            "kernel:0": loc,
            "bias:0": layer.bias,
        }
    )


def _check(target, origin, *, freeze: bool) -> None:
    """Raise unless `target` can take the weights of `origin` and, if asked, freeze."""
    wanted = _kernels(target)
    for name, weight in _kernels(origin).items():
        other = wanted.get(name)
        if other is None or tuple(other.shape) != tuple(weight.shape):
            found = None if other is None else tuple(other.shape)
            raise ValueError(
                f"Layer {target.name!r} must have the shape of the source's, "
                f"{tuple(weight.shape)}; got {found}. Build both with the same "
                "backbone, base_filters, depth, normalization and modalities."
            )
    if freeze and hasattr(target, "kl_divergence"):
        raise ValueError(
            f"`freeze` must be False where layers are Bayesian; {target.name!r} is. A "
            "frozen backbone is for the method 'latent'."
        )


def _take(target, origin) -> None:
    given, wanted = _kernels(origin), _kernels(target)
    for name, weight in given.items():
        wanted[name].assign(weight)
    if getattr(target, "kernel_prior_loc", None) is not None:
        target.kernel_prior_loc.assign(given["kernel:0"])


def _take_answer(targets: dict, source) -> None:
    """Let the maps' means start as the answer of the source's last layer."""
    maps = targets.get("map_parameters")
    heads = [layer for layer in source.layers if layer.name == "head"]
    if maps is None or not heads:
        return
    values = [weight.numpy() for weight in _kernels(heads[0]).values()]
    for weight, value in zip(maps.weights, values, strict=True):
        count = weight.shape[-1] // 2
        if value.shape[-1] < count or value.shape[:-1] != weight.shape[:-1]:
            return
        start = weight.numpy().copy()
        start[..., :count] = value[..., :count]
        weight.assign(start)
