"""The folder of a training run: what it holds and how it is opened."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import pathlib

from tfp_uqseg import _files
from tfp_uqseg.data import splits
from tfp_uqseg.experiments import config as config_module

#: Settings that a resumed run may change: they extend it.
EXTENDABLE = ("epochs", "max_minutes", "early_stopping")


@dataclasses.dataclass(frozen=True)
class Run:
    """The paths of a run folder.

    Attributes:
        folder: Where the run lives.
    """

    folder: pathlib.Path

    @property
    def model(self) -> pathlib.Path:
        """The trained network, for `tf_keras.models.load_model`."""
        return self.folder / "model.keras"

    def member(self, index: int) -> Run:
        """The run of one member of an ensemble."""
        return Run(self.folder / "members" / f"member_{index}")

    @property
    def config(self) -> pathlib.Path:
        """The settings, as `TrainConfig.save` wrote them."""
        return self.folder / "config.json"

    @property
    def split(self) -> pathlib.Path:
        """The patients of training, validation and test."""
        return self.folder / "split.json"

    @property
    def history(self) -> pathlib.Path:
        """One row per epoch: losses, metrics, rates, minutes."""
        return self.folder / "history.csv"

    @property
    def losses(self) -> pathlib.Path:
        """The figure of `history`."""
        return self.folder / "losses.png"

    @property
    def latent(self) -> pathlib.Path:
        """What the latent code carries, with the method ``latent``."""
        return self.folder / "latent.json"

    @property
    def calibration(self) -> pathlib.Path:
        """How the network's logits are scaled, once `calibrate` has found it."""
        return self.folder / "calibration.json"

    @property
    def logs(self) -> pathlib.Path:
        """TensorBoard event files."""
        return self.folder / "logs"

    @property
    def backup(self) -> pathlib.Path:
        """Checkpoints from which a stopped run resumes."""
        return self.folder / "backup"


def create(folder: str | os.PathLike) -> Run:
    """Return the run of a new or empty folder.

    Raises:
        FileExistsError: If `folder` holds something already.
    """
    run = Run(pathlib.Path(folder))
    if run.folder.exists() and not run.folder.is_dir():
        raise FileExistsError(f"{run.folder} must be a folder; it is a file.")
    if run.config.exists():
        raise FileExistsError(
            f"{run.folder} already holds a training run. Continue it with `--resume` "
            "(`resume=True`), or choose another folder."
        )
    if run.folder.exists() and any(run.folder.iterdir()):
        raise FileExistsError(
            f"{run.folder} must be a new or empty folder; it holds other files."
        )
    return run


def open_run(folder: str | os.PathLike) -> Run:
    """Return the run in `folder`.

    Raises:
        FileNotFoundError: If no run was started there.
    """
    run = Run(pathlib.Path(folder))
    if not run.config.is_file() or not run.split.is_file():
        raise FileNotFoundError(
            f"{run.folder} holds no training run (`config.json` and `split.json` are "
            "expected there). Start one with `uqseg train DATA --out "
            f"{run.folder}`."
        )
    return run


def write_start(
    run: Run, settings: config_module.TrainConfig, split: splits.Split
) -> None:
    """Write what a run needs before its first epoch, the settings last."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with _files.whole_file(run.split) as temporary:
        split.save(temporary)
    settings.save(run.config)


def extended(
    stored: config_module.TrainConfig, asked: config_module.TrainConfig | None
) -> config_module.TrainConfig:
    """Return the settings of a resumed run.

    Args:
        stored: As the run was started.
        asked: Settings of which a value that is not None must equal the stored one,
            unless it is `EXTENDABLE`; None keeps all.

    Raises:
        ValueError: If `asked` changes more.
    """
    if asked is None:
        return stored
    changes = {}
    for name, value in dataclasses.asdict(asked).items():
        found = getattr(stored, name)
        if value is None or value == found or name == "label_scheme_given":
            continue
        if name not in EXTENDABLE:
            raise ValueError(
                f"`{name}` must stay {found!r} in a resumed run; got {value!r}. Leave "
                "it out, or start a new run in another folder."
            )
        changes[name] = value
    return dataclasses.replace(stored, **changes)


def read_history(run: Run) -> list[dict]:
    """Return the rows of the run's history, numbers as floats, epochs as ints."""
    if not run.history.exists():
        return []
    with open(run.history, newline="", encoding="utf-8") as file:
        return [
            {
                name: int(value) if name == "epoch" else float(value)
                for name, value in row.items()
                if value
            }
            for row in csv.DictReader(file)
        ]


def write_history(run: Run, rows: list[dict]) -> None:
    """Write one row per epoch, whole or not at all; absent values stay empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _files.write_text(run.history, text.getvalue())
