"""The same network, computing in another precision."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.models import ensemble
from tfp_uqseg.uncertainty import network

#: Policies of Keras by the precision they compute in; variables are float32 in all.
POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}

#: Layers of `models.build` that compute in float32 in every network.
HELD = frozenset(
    {"centred_mean", "code", "exact_maps", "latent_bound", "logits", "map_moments"}
    | {"maps", "predictive_moments", "predictive_up", "prior_up"}
)


def of(model: tf_keras.Model | ensemble.Ensemble) -> str:
    """Return the precision in which a network computes, a key of POLICIES.

    It is that of the layers that are not held at float32.
    """
    model = getattr(model, "members", [model])[0]
    found = {layer.compute_dtype for layer in getattr(model, "layers", [])}
    return next((name for name in ("bfloat16", "float16") if name in found), "float32")


def fast(cpuinfo: str | os.PathLike = "/proc/cpuinfo") -> str:
    """Return ``"bfloat16"`` where the processor or a GPU computes in it, else float32.

    Args:
        cpuinfo: File in which Linux lists what the processor can do.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        if details.get("compute_capability", (0, 0)) >= (8, 0):
            return "bfloat16"
    with contextlib.suppress(OSError):
        flags = pathlib.Path(cpuinfo).read_text(encoding="utf-8").split()
        if "avx512_bf16" in flags or "amx_bf16" in flags:
            return "bfloat16"
    return "float32"


def in_precision(model: tf_keras.Model | ensemble.Ensemble, precision: str):
    """Return an uncompiled network with the same weights that computes in `precision`.

    Its draws have the same noise; the answers differ by rounding. What a network holds
    at float32 (logits, latents, the bound) stays there.

    Args:
        model: Network of `build`, or an ensemble of them.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Returns:
        The model itself if it computes in `precision` already, else a new one.

    Raises:
        ValueError: `precision` is another.
    """
    _checks.one_of("precision", precision, POLICIES)
    if of(model) == precision:
        return model
    return _rebuilt(model, precision, lambda _: frozenset())


def for_draws(model: tf_keras.Model | ensemble.Ensemble, precision: str):
    """Return an uncompiled network with the same weights to predict with.

    Its draws compute in `precision`. What is computed once per image, ahead of the
    first drawn layer, computes in float32, and so does a network that draws nothing:
    rounding there is the same in every draw and no average removes it. With many draws
    that costs little time; a network that draws nothing takes about twice as long.

    Args:
        model: Network of `build`, or an ensemble of them.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Raises:
        ValueError: `precision` is another.
    """
    _checks.one_of("precision", precision, POLICIES)
    if precision == "float32":
        return in_precision(model, precision)
    return _rebuilt(model, precision, _computed_once)


def _computed_once(model: tf_keras.Model) -> frozenset[str]:
    """Return the names of the layers that no draw repeats."""
    if not network.stochastic_layers(model):
        return frozenset(layer.name for layer in model.layers)
    prefix, _ = network.split(model)
    return frozenset() if prefix is None else frozenset(x.name for x in prefix.layers)


def _rebuilt(model, precision: str, exact: Callable):
    """Return the network with other policies; float32 for the names `exact` gives."""
    if hasattr(model, "members"):
        members = [_rebuilt(member, precision, exact) for member in model.members]
        return ensemble.Ensemble(members, method=model.method, seed=model.seed)
    config, names = model.get_config(), exact(model)
    described = {
        kind: tf_keras.saving.serialize_keras_object(
            tf_keras.mixed_precision.Policy(POLICIES[kind])
        )
        for kind in ("float32", precision)
    }
    for layer in config["layers"]:
        if layer["class_name"] != "InputLayer" and layer["name"] not in HELD:
            kind = "float32" if layer["name"] in names else precision
            layer["config"]["dtype"] = described[kind]
    other = type(model).from_config(config)
    other.set_weights(model.get_weights())
    return other
