"""The maps that `serving.predict_case` left on disk, read back and checked."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from tfp_uqseg import _checks, labels, plotting, serving
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import nifti

#: Float rounding that a map may show beyond its range.
_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """One case's prediction; maps are read when asked for, in RAS+ axes.

    Attributes:
        case_id: Id of the case.
        folder: Where its files lie.
        grid: The grid of the study, which every map must share.
        summary: What `{case}_summary.json` holds.
        regions: Names of the K regions, as in the summary.
        ids: The label map (X, Y, Z), int16.
        label_scheme: Meaning of its ids.
    """

    case_id: str
    folder: pathlib.Path
    grid: nifti.Grid
    summary: dict
    regions: tuple[str, ...]
    ids: np.ndarray
    label_scheme: labels.LabelScheme

    @property
    def masks(self) -> np.ndarray:
        """Predicted masks (X, Y, Z, K), bool, from the label map."""
        return np.stack([self.mask(region) for region in self.regions], axis=-1)

    def mask(self, region: str) -> np.ndarray:
        """Predicted mask (X, Y, Z) of one region, bool, from the label map."""
        return region_mask(self.ids, self.label_scheme, region)

    @property
    def method(self) -> str:
        """Name of the network's method; empty where the summary has none."""
        return str(self.summary.get("method") or "")

    def read(self, name: str, region: str) -> np.ndarray:
        """One map of one region.

        Args:
            name: One of `serving.MAPS`.
            region: One of `regions`.

        Returns:
            (X, Y, Z) float: a probability, or nats.

        Raises:
            DataError: If the file cannot be used, lies on another grid, or holds
                values that no such map can have.
            ValueError: If there is no map of that name or region.
        """
        _checks.one_of("name", name, serving.MAPS)
        _checks.one_of("region", region, self.regions)
        path = self.folder / f"{self.case_id}_{name}_{region}.nii.gz"
        array = _on_grid(path, self.case_id, self.grid)
        top = 1.0 if name == "mean_probabilities" else float(np.log(2.0))
        low, high = float(array.min()), float(array.max())
        if low < -_ROUNDING or high > top + _ROUNDING:
            raise _checks.DataError(
                f"Case {self.case_id}, file {path}: values must lie in 0..{top:.4g}; "
                f"got {low:.4g}..{high:.4g}. Predict the case again."
            )
        return array if low >= 0.0 and high <= top else np.clip(array, 0.0, top)

    def draw_masks(self, region: str) -> np.ndarray | None:
        """Masks of every draw, bool (draws, X, Y, Z); None where none were kept.

        Args:
            region: One of `regions`.

        Raises:
            DataError: If the file cannot be used or lies on another grid.
        """
        masks = serving.read_draws(self.folder.parent, self.case_id, region)
        if masks is not None and masks.shape[1:] != self.ids.shape:
            raise _checks.DataError(
                f"Case {self.case_id}, file {self.case_id}_draws.npz: must have the "
                f"shape of the study, {self.ids.shape}; got {masks.shape[1:]}. Predict "
                "the case again."
            )
        return masks


def open_case(
    maps: str | os.PathLike,
    case: case_module.Case,
    grid: nifti.Grid | None = None,
) -> Predicted:
    """Open a case's prediction and check that it is whole.

    Args:
        maps: The folder that was given to `serving.predict_case`.
        case: The study that was predicted.
        grid: The study's grid, where it is known; else it is read.

    Returns:
        The prediction, with its label map read.

    Raises:
        DataError: If the case was not predicted, a file is missing or damaged, or the
            label map lies on another grid than the study.
    """
    folder = pathlib.Path(maps) / case.id
    summary = _read_summary(maps, case.id)
    regions = _region_names(summary, folder, case.id)
    wanted = [f"{case.id}.nii.gz"]
    wanted += [f"{case.id}_{name}_{r}.nii.gz" for name in serving.MAPS for r in regions]
    for file in wanted:
        if not (folder / file).is_file():
            raise _checks.DataError(
                f"Case {case.id}: file {folder / file} must exist; it does not. "
                "Predict the case again."
            )
    if grid is None:
        grid = nifti.read_grid(next(iter(case.image_paths.values())), case.id)
    path = folder / wanted[0]
    ids = nifti.as_labels(_on_grid(path, case.id, grid), path, case.id)
    scheme = _settings(summary).get("label_scheme") or case.label_scheme
    if scheme is None:
        raise _checks.DataError(
            f"Case {case.id}, file {_summary_path(folder, case.id)}: `settings` must "
            "name the `label_scheme` of the label map; it does not. Predict the case "
            "again."
        )
    try:
        scheme = labels.resolve(
            nifti.present_ids(ids), regions=regions, label_scheme=scheme
        )
    except ValueError as error:
        raise _checks.DataError(f"Case {case.id}, file {path}: {error}") from error
    return Predicted(case.id, folder, grid, summary, regions, ids, scheme)


def region_mask(
    ids: np.ndarray, label_scheme: labels.LabelScheme, region: str
) -> np.ndarray:
    """One region of a label map; `labels.region_masks` for one region, and faster.

    Args:
        ids: Label ids that the scheme admits, any shape.
        label_scheme: Their meaning.
        region: A region of the scheme.

    Returns:
        A bool array in the memory order of `ids`.
    """
    if label_scheme.known is None:
        return ids > 0
    return labels.lookup_table(label_scheme, (region,))[:, 0].astype(bool)[ids]


def modalities(
    maps: str | os.PathLike, case: case_module.Case
) -> tuple[str, ...] | None:
    """The modalities that a case was predicted from; None if its summary is silent."""
    named = _settings(serving.read_summary(maps, case.id) or {}).get("modalities")
    return tuple(named) if named else None


def is_predicted(maps: str | os.PathLike, case: case_module.Case) -> bool:
    """Whether `maps` holds a folder for the case, whole or not."""
    return (pathlib.Path(maps) / case.id).is_dir()


def panel_row(
    maps: str | os.PathLike,
    case: case_module.Case,
    *,
    region: str | None = None,
    modality: str | None = None,
    label_scheme: str | None = None,
    index: int | None = None,
) -> plotting.PanelRow:
    """Read a patient's row of `plotting.uncertainty_panel` from the disk.

    Args:
        maps: The folder that was given to `serving.predict_case`.
        case: The study that was predicted.
        region: The region whose maps are shown; None for the first.
        modality: Name of the modality shown; None for the first.
        label_scheme: Meaning of the reference's label ids; None for the case's own.
        index: Position along z; None takes the image with the largest tumour.

    Returns:
        The row; without a reference mask where the case has no labels.

    Raises:
        DataError: As `open_case`, or if the study cannot be used.
        ValueError: If there is no such region.
    """
    study = case.load(case.modalities[:1] if modality is None else (modality,))
    prediction = open_case(maps, case, study.grid)
    region = prediction.regions[0] if region is None else region
    mask = None
    if study.labels is not None:
        mask = study.masks(prediction.regions, label_scheme)
    return plotting.panel_row(
        case.id,
        study.image[..., 0],
        mask=mask,
        predicted_mask=prediction.masks,
        aleatoric=prediction.read("expected_entropy", region),
        epistemic=prediction.read("mutual_information", region),
        spacing=study.spacing,
        index=index,
    )


def check_folder(name: str, maps: str | os.PathLike) -> pathlib.Path:
    """Return `maps` as a path, or raise unless it is a folder.

    Raises:
        DataError: If it is not.
    """
    maps = pathlib.Path(maps)
    if not maps.is_dir():
        kind = "a file" if maps.exists() else "missing"
        raise _checks.DataError(
            f"`{name}` must be a folder that `uqseg predict` wrote; {maps} is {kind}."
        )
    return maps


def without_maps(maps: str | os.PathLike, cases: Iterable[case_module.Case]):
    """Ids of the cases for which `maps` holds no folder, in the order of `cases`."""
    return [case.id for case in cases if not is_predicted(maps, case)]


def _read_summary(maps, case_id: str) -> dict:
    path = _summary_path(pathlib.Path(maps) / case_id, case_id)
    summary = serving.read_summary(maps, case_id)
    if summary is None:
        raise _checks.DataError(
            f"Case {case_id}: it must have been predicted; there is no file {path}. "
            "Predict it into this folder first, or leave the case out."
        )
    if not isinstance(summary, dict):
        raise _checks.DataError(
            f"Case {case_id}, file {path}: must hold a JSON object; got "
            f"{type(summary).__name__}. Predict the case again."
        )
    return summary


def _region_names(summary: dict, folder: pathlib.Path, case_id: str):
    regions = summary.get("regions")
    whole = isinstance(regions, dict) and regions
    if not whole or not all(isinstance(each, dict) for each in whole.values()):
        raise _checks.DataError(
            f"Case {case_id}, file {_summary_path(folder, case_id)}: `regions` must "
            f"hold an object per region; got {regions!r}. Predict the case again."
        )
    return tuple(whole)


def _settings(summary: dict) -> dict:
    if not isinstance(summary, dict):
        return {}
    settings = summary.get("settings")
    return settings if isinstance(settings, dict) else {}


def _summary_path(folder: pathlib.Path, case_id: str) -> pathlib.Path:
    return folder / f"{case_id}_summary.json"


def _on_grid(path: pathlib.Path, case_id: str, grid: nifti.Grid) -> np.ndarray:
    array, own = nifti.read(path, case_id)
    nifti.check_same_grid(own, grid, case_id)
    return array
