"""What a prediction was asked for, and what its maps depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import tfp_uqseg
from tfp_uqseg import _checks, _files, _rulings, labels
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import preprocess
from tfp_uqseg.models import precision, scaling


@dataclasses.dataclass(frozen=True)
class Request:
    """What `predict_case` was asked for, with every default filled in.

    Attributes:
        num_draws: Network draws.
        seed: Of the draws.
        num_latent_draws: Inner draws of each network draw; None for the default.
        regions: Names of the network's K regions.
        modalities: Names of the network's input channels.
        label_scheme: Whose ids the label map uses.
        preprocessing: As in training.
        keep_draws: Whether the masks of every draw are kept.
    """

    num_draws: int
    seed: int
    num_latent_draws: int | None
    regions: tuple[str, ...]
    modalities: tuple[str, ...]
    label_scheme: str
    preprocessing: preprocess.Preprocessing
    keep_draws: bool = False


def make_request(
    model: tf_keras.Model,
    case: case_module.Case,
    num_draws: int = 20,
    *,
    seed: int = 0,
    regions: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    preprocessing: preprocess.Preprocessing | None = None,
    label_scheme: str | None = None,
    num_latent_draws: int | None = None,
    keep_draws: bool = False,
) -> Request:
    """Return what `predict_case` will do; see there for the arguments.

    Raises:
        ValueError: If an argument does not fit the network.
    """
    num_draws = _checks.positive_integer("num_draws", num_draws)
    if num_latent_draws is not None:
        _checks.positive_integer("num_latent_draws", num_latent_draws)
    regions = _region_names(model, regions)
    channels = model.input_shape[-1]
    modalities = case.modalities if modalities is None else modalities
    modalities = tuple(case_module.canonical_modality(name) for name in modalities)
    if len(modalities) != channels:
        raise ValueError(
            f"`modalities` must name the {channels} input channels of the network; got "
            f"{list(modalities)} for case {case.id}. Pass the names of the training."
        )
    scheme = _scheme(case, regions, label_scheme)
    return Request(
        num_draws=1 if method_of(model) == "deterministic" else num_draws,
        seed=seed,
        num_latent_draws=num_latent_draws,
        regions=regions,
        modalities=modalities,
        label_scheme=scheme,
        preprocessing=preprocessing or preprocess.Preprocessing(),
        keep_draws=bool(keep_draws),
    )


def settings(
    model: tf_keras.Model, case: case_module.Case, request: Request
) -> dict[str, object]:
    """Return what the maps depend on, as plain values; equal means equal maps.

    Beside the request: fingerprints of the weights and of every image file.

    Raises:
        DataError: If an image file cannot be read.
    """
    files = {
        name: [case.image_paths[name].name, _fingerprint_of(case, name)]
        for name in request.modalities
        if name in case.image_paths
    }
    values = dataclasses.asdict(request)
    values["threshold"] = _rulings.PROBABILITY_THRESHOLD
    values["model"] = fingerprint(model)
    values["precision"] = precision.of(model)
    values["scaling"] = scaling.of(model)
    values["files"] = files
    return json.loads(json.dumps(values))


def _fingerprint_of(case: case_module.Case, modality: str) -> str:
    path = case.image_paths[modality]
    try:
        return _files.fingerprint(path)
    except OSError as error:
        raise _checks.DataError(
            f"Case {case.id}, file {path}: must be readable; {error}. Check the "
            "folder, and that links and downloads are complete."
        ) from error


def fingerprint(model: tf_keras.Model) -> str:
    """Return 16 hexadecimal digits that change with any weight of the network."""
    digest = hashlib.sha256()
    for weight in model.weights:
        if weight.shape.rank:  # scalars are annealing factors, not the network
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions that produced a result."""
    return {
        "tfp_uqseg": tfp_uqseg.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": tf_keras.__version__,
        "tensorflow_probability": tfp.__version__,
        "numpy": np.__version__,
    }


def method_of(model: tf_keras.Model) -> str:
    """Return the name of the method that a network was built with."""
    return getattr(model, "method", type(model).__name__)


def _region_names(model, regions: Sequence[str] | None) -> tuple[str, ...]:
    count = model.num_regions
    if regions is None:
        known = {1: (labels.BINARY_REGION,), 3: labels.BRATS_REGIONS}
        if count not in known:
            raise ValueError(
                f"`regions` must name the {count} regions of the network; got None."
            )
        return known[count]
    if len(regions) != count:
        raise ValueError(
            f"`regions` must name the {count} regions of the network; got "
            f"{list(regions)}."
        )
    return tuple(regions)


def _scheme(case, regions: tuple[str, ...], label_scheme: str | None) -> str:
    """Return the name of the scheme whose ids the label map uses."""
    if label_scheme is None and regions == (labels.BINARY_REGION,):
        label_scheme = "binary"
    if label_scheme is None:
        label_scheme = case.label_scheme or _only_candidate(case, regions)
    labels.check_regions(regions, label_scheme)
    return labels.get(label_scheme).name


def _only_candidate(case, regions: tuple[str, ...]) -> str:
    """Return the one scheme that the case's names allow and that has the regions."""
    names = [
        name
        for name in case.label_candidates
        if set(regions) <= set(labels.get(name).regions)
    ]
    if not names and case.label_candidates:
        return case.label_candidates[0]  # which says what its regions are
    if len(names) != 1:
        raise ValueError(
            f"`label_scheme` must be given: the names of case {case.id} do not tell "
            "whose ids its label map should use. Pass one of "
            f"{', '.join(names or labels.SCHEMES)}."
        )
    return names[0]
