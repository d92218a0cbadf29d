"""The Medical Segmentation Decathlon's folders: 4-D images, one volume a modality."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tfp_uqseg import _checks
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import naming

_DESCRIPTION = "dataset.json"
_TRAIN, _TEST, _LABELS = "imagesTr", "imagesTs", "labelsTr"

#: Task01_BrainTumour, where no dataset.json says otherwise.
_MODALITIES = ("flair", "t1", "t1ce", "t2")


def image_folder(folder: Path) -> Path | None:
    """The folder of images, if this is one of the Decathlon: its training images.

    The folder of test images has to be asked for by its own path.
    """
    if folder.name in (_TRAIN, _TEST):
        return folder
    inside = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
    ]
    for place in (folder, *(inside if len(inside) == 1 else ())):
        for name in (_TRAIN, _TEST):
            if (place / name).is_dir():
                return place / name
    return None


def find(images: Path) -> Iterator[case_module.Case]:
    """The cases of a folder of images; labels lie in labelsTr beside it.

    Raises:
        DataError: When dataset.json cannot be read.
    """
    description = _describe(images.parent / _DESCRIPTION)
    modalities = _modalities(description, images.parent / _DESCRIPTION)
    scheme = _scheme(description)
    labelled = {
        naming.stem(path).lower(): path
        for path in naming.nifti_files(images.parent / _LABELS)
    }
    for path in naming.nifti_files(images):
        case_id = naming.stem(path)
        label = labelled.get(case_id.lower()) if images.name == _TRAIN else None
        yield case_module.Case(
            id=case_id,
            image_paths=dict.fromkeys(modalities, path),
            label_path=label,
            label_scheme=scheme,
            volume_indices=(
                {name: index for index, name in enumerate(modalities)}
                if len(modalities) > 1
                else {}
            ),
        )


def _describe(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _checks.DataError(f"File {path}: must hold JSON ({error}).") from error
    if not isinstance(description, dict):
        raise _checks.DataError(f"File {path}: must hold a JSON object.")
    return description


def _modalities(description: dict, path: Path) -> tuple[str, ...]:
    listed = description.get("modality") or description.get("channel_names")
    if not listed:
        return _MODALITIES
    try:
        wanted = [str(number) for number in range(len(listed))]
        names = tuple(case_module.canonical_modality(listed[key]) for key in wanted)
    except (TypeError, KeyError, AttributeError):
        names = ()
    if not names or len(set(names)) != len(names):
        raise _checks.DataError(
            f'File {path}: "modality" must name each volume once, as in '
            f'{{"0": "FLAIR", "1": "T1w"}}; got {listed!r}.'
        )
    return names


def _scheme(description: dict) -> str | None:
    """The name of the scheme, unless dataset.json lists other labels."""
    listed = description.get("labels")
    if not isinstance(listed, dict):
        return "decathlon"
    words = ("", "edema", "non-enhancing", "enhancing")
    for label, word in enumerate(words):
        name = str(listed.get(str(label), "")).lower().replace("oedema", "edema")
        if not name.startswith(word):
            return None
    return "decathlon" if len(listed) == len(words) else None
