"""The settings of a training run, as plain values that JSON keeps."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib

from tfp_uqseg import _checks, _files

METHODS = (
    "latent",
    "flipout",
    "reparameterization",
    "local_reparameterization",
    "deep_weight",
    "mc_dropout",
    "deterministic",
    "deep_ensemble",
    "ensemble_mc_dropout",
)
BACKBONES = ("unet", "vnet", "fcn")
LOSSES = ("dice_cross_entropy", "cross_entropy")
PRECISIONS = ("auto", "float32", "bfloat16")
RATERS = ("label", "random", "mean")
INTENSITIES = ("zscore", "rescale")
KEEPS = ("last", "best")
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "cyclical", "plateau", "cyclical-plateau")
#: Names of `data.augment.PRESETS`, and none.
AUGMENTATIONS = ("flips", "paper", "mri", "none")

DEFAULT_EPOCHS = 30
#: With only a time budget the number of epochs is open; this bounds it.
MOST_EPOCHS = 100_000


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Every choice that a training run makes.

    Attributes:
        method: Among METHODS, see `models.build`.
        backbone: Among BACKBONES.
        regions: Names of the regions to learn, ``("WT", "TC", "ET")`` or
            ``("tumour",)``; None takes what the label scheme offers.
        modalities: Names of the input modalities in the order of the channels; None
            takes what all cases share.
        label_scheme: Meaning of the label ids; None lets the reader decide.
        label_scheme_given: Whether `label_scheme` overrules the files' names; filled in
            by `train`.
        base_filters: Filters of the first convolution; doubled at every level.
        num_members: Networks of an ensemble; `max_minutes` is shared by them.
        dropout_rate: Share of the channels that ``"mc_dropout"`` drops.
        initial_stddev_ratio: Spread of the kernels' posterior at the start, in units of
            the He scale.
        kl_weight: Factor of the kernels' KL (`models.build`).
        warm_start: Folder of a run whose network, ``"deterministic"`` and of the same
            backbone and width, gives the first weights (`models.warm_start`).
        freeze_backbone: Whether those weights stay (``"latent"`` alone).
        centred_prior: Whether the kernels' prior is centred on them.
        kernel_prior: File of a `models.deep_weight.KernelPrior`, for ``"deep_weight"``.
        epochs: Most passes over the training slices; None leaves them to
            `max_minutes`, or takes 30 without it.
        max_minutes: Longest training time in minutes, over all parts of a resumed
            run; None for no limit.
        batch_size: Slices per optimisation step.
        learning_rate: Peak of the schedule.
        optimizer: ``"adam"``, or ``"sgd"`` with momentum 0.9.
        weight_decay: Decoupled decay of kernels, at least 0; None takes none for Adam
            and 0.0005 for SGD.
        schedule: ``"cosine"`` over the run; ``"cyclical"``, from a quarter of
            `learning_rate` to all of it and back; ``"plateau"``, constant until the
            validation's data loss no longer falls, then a tenth, and so on; or
            ``"cyclical-plateau"``, both.
        cycle_epochs: Epochs of a cycle.
        plateau_patience: Epochs without improvement after which the rate is lowered.
        early_stopping: Epochs without improvement of the validation's data loss after
            which the run ends; None for never. A resumed run may be given more.
        warm_up: Fraction of the run in which the learning rate of ``"cosine"`` rises.
        kl_annealing: Fraction of the run in which the weight of the KL terms rises
            from 0 to 1.
        empty_share: Largest share of slices without tumour in an epoch, 0 to 1. Where
            they are the majority, the Dice loss is apt to settle on empty answers.
        curriculum: Fraction of the run in which they are phased in, from none.
        loss: ``"dice_cross_entropy"`` (Eq. 18) or ``"cross_entropy"`` (exact ELBO).
        beta: Weight of the bound on the latent KL.
        map_share: Share of the data loss of ``"latent"`` that stays with its maps.
        precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``.
        seed: Of split, initial weights, shuffling, augmentation and noise.
        raters: Mask to learn from: ``"label"``, ``"random"`` (one rater drawn per
            example and epoch) or ``"mean"``.
        intensity: ``"zscore"`` or the paper's ``"rescale"``.
        clip: Largest absolute z-score.
        augment: How the training slices are changed: ``"flips"`` (True says the same,
            and is what is kept), ``"paper"``, ``"mri"``, ``"none"`` (False), or the
            settings of a `data.augment.Augmentation`, as a dict or itself.
        cache: Whether to hold the slices in memory, 28 MB for a study of BraTS, or in
            temporary files.
        keep: Weights to keep: of the ``"last"`` epoch, or of the one with the
            ``"best"`` validation Dice once the KL has its full weight.
        size: Height and width of the training slices in voxels, filled in by `train`.
    """

    method: str = "latent"
    backbone: str = "unet"
    regions: tuple[str, ...] | None = None
    modalities: tuple[str, ...] | None = None
    label_scheme: str | None = None
    label_scheme_given: bool = False
    base_filters: int = 16
    num_members: int = 5
    dropout_rate: float = 0.3
    initial_stddev_ratio: float = 0.05
    kl_weight: float = 1.0
    warm_start: str | None = None
    freeze_backbone: bool = False
    centred_prior: bool = False
    kernel_prior: str | None = None
    epochs: int | None = None
    max_minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float | None = None
    schedule: str = "cosine"
    cycle_epochs: int = 10
    plateau_patience: int = 10
    early_stopping: int | None = None
    warm_up: float = 0.03
    kl_annealing: float = 0.3
    empty_share: float = 1 / 3
    curriculum: float = 0.3
    loss: str = "dice_cross_entropy"
    beta: float = 0.01
    map_share: float = 0.5
    precision: str = "auto"
    seed: int = 0
    raters: str = "label"
    intensity: str = "zscore"
    clip: float = 5.0
    augment: bool | str | dict = True
    cache: bool = True
    keep: str = "last"
    size: tuple[int, int] | None = None

    def __post_init__(self):
        """Check every value and turn lists into tuples.

        Raises:
            ValueError: If a value is not allowed; the message names it.
        """
        for name, allowed in _ALLOWED.items():
            _checks.one_of(name, getattr(self, name), allowed)
        for name in ("base_filters", "batch_size", "num_members"):
            _checks.positive_integer(name, getattr(self, name))
        for name in ("regions", "modalities"):
            self._set(name, _names(name, getattr(self, name)))
        for name in ("beta", "kl_weight"):
            _checks.non_negative(name, getattr(self, name))
        _rates(self)
        for name in (
            "warm_up",
            "kl_annealing",
            "curriculum",
            "empty_share",
            "map_share",
        ):
            _checks.fraction(name, getattr(self, name))
        for name in ("learning_rate", "clip", "initial_stddev_ratio"):
            _above_zero(name, getattr(self, name))
        if self.epochs is not None:
            _checks.positive_integer("epochs", self.epochs)
        if self.max_minutes is not None:
            _above_zero("max_minutes", self.max_minutes)
        _seed(self.seed)
        _network(self)
        _size(self)
        self._set("augment", _augment(self.augment))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def most_epochs(self) -> int:
        """Epochs after which training ends, whatever the time."""
        if self.epochs is not None:
            return self.epochs
        return DEFAULT_EPOCHS if self.max_minutes is None else MOST_EPOCHS

    def to_json(self) -> dict:
        """Return the settings as plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def save(self, path: str | os.PathLike) -> None:
        """Write the settings to a JSON file, whole or not at all."""
        _files.write_json(path, self.to_json())


def from_json(values: dict, *, source: str = "the settings") -> TrainConfig:
    """Return the settings that plain `values` describe.

    Args:
        values: As `TrainConfig.to_json` returned them; absent ones take their default.
        source: What to call them in an error.

    Raises:
        ValueError: If `values` is no dict, has a name that is no setting, or a value
            that is not allowed.
    """
    if not isinstance(values, dict):
        raise ValueError(
            f"{source} must be a JSON object; got {type(values).__name__}."
        )
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{source} has unknown settings {unknown}; known are {sorted(known)}. "
            "It may come from another version of tfp_uqseg."
        )
    try:
        return TrainConfig(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from error


def load(path: str | os.PathLike) -> TrainConfig:
    """Read the settings that `TrainConfig.save` wrote.

    Raises:
        ValueError: If the file is no JSON or holds other settings.
        FileNotFoundError: If there is no such file.
    """
    path = pathlib.Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must hold JSON: {error}.") from error
    return from_json(values, source=str(path))


_ALLOWED = {
    "method": METHODS,
    "backbone": BACKBONES,
    "loss": LOSSES,
    "precision": PRECISIONS,
    "raters": RATERS,
    "intensity": INTENSITIES,
    "label_scheme_given": (True, False),
    "freeze_backbone": (True, False),
    "centred_prior": (True, False),
    "cache": (True, False),
    "keep": KEEPS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}


def _names(name: str, value) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        raise ValueError(f"`{name}` must be a list of names; got the string {value!r}.")
    value = tuple(value)
    if not value or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f"`{name}` must be a list of names; got {list(value)!r}.")
    if len(set(value)) < len(value):
        raise ValueError(f"`{name}` names something twice: {list(value)!r}.")
    return value


def _above_zero(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`{name}` must be a number above 0; got {value!r}.")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be finite and above 0; got {value!r}.")


def _rates(config: TrainConfig) -> None:
    for name in ("cycle_epochs", "plateau_patience"):
        _checks.positive_integer(name, getattr(config, name))
    if config.early_stopping is not None:
        _checks.positive_integer("early_stopping", config.early_stopping)
    if config.weight_decay is not None:
        _checks.non_negative("weight_decay", config.weight_decay)


def _seed(value: object) -> None:
    whole = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if not 0 <= whole < 2**31:
        raise ValueError(
            f"`seed` must be a whole number from 0 to 2^31 - 1; got {value!r}."
        )


def _augment(value) -> bool | str | dict:
    """Return the augmentation as JSON keeps it, with one value for each meaning."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        # Its settings are checked by `data.augment`, which loads TensorFlow.
        try:
            return json.loads(json.dumps(value))
        except TypeError as error:
            raise ValueError(f"`augment` must hold plain values: {error}.") from error
    _checks.one_of("augment", value, (True, False, *AUGMENTATIONS))
    return {"flips": True, "none": False}.get(value, value)


def _network(config: TrainConfig) -> None:
    """Check what depends on the method and on where the weights come from."""
    if not 0.0 <= config.dropout_rate < 1.0:
        raise ValueError(
            f"`dropout_rate` must be from 0 to below 1; got {config.dropout_rate!r}."
        )
    for name in ("freeze_backbone", "centred_prior"):
        if getattr(config, name) and config.warm_start is None:
            raise ValueError(f"`{name}` needs `warm_start`, a run to start from.")
    if config.kernel_prior is not None and config.method != "deep_weight":
        raise ValueError(
            f"`kernel_prior` is for `method`='deep_weight'; got {config.method!r}."
        )


def _size(config: TrainConfig) -> None:
    if config.size is None:
        return
    size = tuple(config.size)
    if len(size) != 2:
        raise ValueError(f"`size` must be (height, width); got {config.size!r}.")
    config._set("size", tuple(_checks.positive_integer("size", s) for s in size))
