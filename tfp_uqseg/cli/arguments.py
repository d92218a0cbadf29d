"""The arguments of ``uqseg`` and its commands, with help that teaches."""

from __future__ import annotations

import argparse

import tfp_uqseg
from tfp_uqseg import labels
from tfp_uqseg.cli import values
from tfp_uqseg.experiments import config as config_module

# Those of `data.splits` and `data.phantom`, which load TensorFlow.
PARTS = ("train", "validation", "test")
SHIFTS = ("missing_modality", "bias_field", "unseen_contrast", "motion")

_ABOUT = """\
Bayesian segmentation of brain tumours: masks, volumes, and how sure to be of them.

  uqseg demo                               see it work on a phantom, in six minutes
  uqseg train DATA --out RUN               learn from a folder of labelled studies
  uqseg predict RUN DATA --out MAPS        label and uncertainty maps of studies
  uqseg evaluate MAPS DATA --out REPORT    scores of the maps, a row per patient
  uqseg phantom OUT                        synthetic studies whose truth is known
"""
_EPILOG = "`uqseg COMMAND --help` explains a command and shows examples."

_TRAIN = """\
examples:
  uqseg train brats --out run --max-minutes 60
  uqseg train brats --out run --resume --max-minutes 120
  uqseg train brats --out run_flair --modalities flair t1ce --regions WT
  uqseg train lesions --out run --regions tumour --method flipout \\
      --pattern "{case}/{case}_{modality}.nii.gz"

The run folder gets model.keras, config.json, split.json (who was trained on),
history.csv, losses.png, latent.json (what the latent code carries), logs/ (TensorBoard)
and backup/ (for --resume). Patients are split 7 : 1 : 2 into training, validation and
test by --seed; --split FILE decides otherwise:
{"train": ["case_1"], "validation": ["case_2"], "test": ["case_3"]}.
Learning rate and KL weight follow the progress of the run, so give --max-minutes or
--epochs as you mean to use them.
"""
_PREDICT = """\
examples:
  uqseg predict run brats --out maps
  uqseg predict run new_studies --out maps --draws 100
  uqseg predict run brats --out maps --cases Brats18_2013_3_1 Brats18_2013_11_1
  uqseg predict run brats --out maps_validation --part validation

Without --cases, --split or --part: the test patients of the run's split that are in
DATA, or all of DATA where none of them is. Labels are not needed. Each case gets a
folder with a label map, mean probability, total, aleatoric and epistemic maps for every
region on the study's own grid, and a summary with volumes in ml. Cases that were
predicted before with the same network and settings are left as they are.
"""
_EVALUATE = """\
examples:
  uqseg evaluate maps brats --out report
  uqseg evaluate maps brats --out report --against maps_deterministic

Scores the cases of DATA that MAPS holds. REPORT gets patients.csv (a row per patient
and region), summary.json and summary.md; the table is printed too. With --against, mean
differences with intervals over patients, MAPS minus the other maps.
"""
_PHANTOM = """\
examples:
  uqseg phantom phantom
  uqseg phantom phantom --patients 40 --test-patients 8 --shifts motion bias_field

OUT gets a folder per part: train, test, and shifted test sets whose appearance no
training case has. Beside the four modalities and the labels each case has the masks of
several raters and the true probability that a rater marks a voxel. Then:
  uqseg train phantom/train --out run --raters random
"""
_DEMO = """\
examples:
  uqseg demo
  uqseg demo --method flipout --out demo_flipout

Makes a phantom cohort, trains, predicts held-out patients and patients of an unseen
contrast, and compares the maps with the known truth. Leaves a figure, NIfTI maps and
a table, and says what to do with your own data.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``uqseg`` and its commands."""
    top = argparse.ArgumentParser(
        prog="uqseg",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--version", action="version", version=f"uqseg {tfp_uqseg.__version__}"
    )
    top.set_defaults(command=None, debug=False)
    _add_debug(top)
    commands = top.add_subparsers(metavar="COMMAND", title="commands")
    _add_demo(_command(commands, "demo", "see it work on a phantom", _DEMO))
    _add_train(_command(commands, "train", "learn from labelled studies", _TRAIN))
    _add_predict(_command(commands, "predict", "write maps of studies", _PREDICT))
    _add_evaluate(_command(commands, "evaluate", "score maps", _EVALUATE))
    _add_phantom(_command(commands, "phantom", "make synthetic studies", _PHANTOM))
    return top


def _command(commands, name: str, text: str, examples: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=name)
    _add_debug(command)
    return command


def _add_debug(command) -> None:
    command.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show where an error comes from",
    )


def _add_train(command) -> None:
    defaults = config_module.TrainConfig()
    command.add_argument("data", metavar="DATA", help="folder of labelled studies")
    command.add_argument("--out", metavar="RUN", required=True, help="the run folder")
    resume = {"action": "store_true", "help": "go on with the run in RUN"}
    command.add_argument("--resume", **resume)
    length = command.add_argument_group("length (30 epochs, unless one is given)")
    length.add_argument("--epochs", type=values.count, metavar="N", help="most epochs")
    _add_minutes(length, None)
    network = command.add_argument_group("network")
    _add_network(network, defaults)
    network.add_argument(
        "--base-filters",
        type=values.count,
        metavar="N",
        help=f"width of the first convolution ({defaults.base_filters})",
    )
    learning = command.add_argument_group("learning")
    _add_learning(learning, defaults)
    _add_training_data(command.add_argument_group("data"))


def _add_training_data(data) -> None:
    _add_readers(data)
    data.add_argument(
        "--regions",
        type=values.region,
        nargs="+",
        action=values.Names,
        metavar="REGION",
        help="among WT TC ET, or tumour for a binary mask (all of the labels)",
    )
    _add_modalities(data)
    data.add_argument("--split", metavar="FILE", help="JSON of who is trained on")
    data.add_argument(
        "--raters",
        choices=config_module.RATERS,
        help="masks to learn from: the labels, one rater at random, or their mean",
    )
    data.add_argument(
        "--intensity",
        choices=config_module.INTENSITIES,
        help="z-scores in the brain, or the paper's rescaling to 0..1 (zscore)",
    )
    data.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        default=None,
        help="keep slices in temporary files, for cohorts larger than memory",
    )


def _add_network(group, defaults) -> None:
    group.add_argument(
        "--method",
        choices=config_module.METHODS,
        help="latent: the paper's network; flipout: every convolution Bayesian; "
        f"deterministic ({defaults.method})",
    )
    group.add_argument(
        "--backbone",
        choices=config_module.BACKBONES,
        help=f"({defaults.backbone})",
    )


def _add_learning(group, defaults) -> None:
    group.add_argument(
        "--batch-size", type=values.count, metavar="N", help=f"({defaults.batch_size})"
    )
    group.add_argument(
        "--learning-rate",
        type=values.above_zero,
        metavar="R",
        help=f"peak of the schedule ({defaults.learning_rate})",
    )
    group.add_argument(
        "--loss",
        choices=config_module.LOSSES,
        help="0.9 Dice + 0.1 cross-entropy, or cross-entropy alone, which makes the "
        f"exact evidence lower bound ({defaults.loss})",
    )
    group.add_argument(
        "--beta", type=values.not_below_zero, help="weight of the latent bound (0.01)"
    )
    group.add_argument(
        "--precision",
        choices=config_module.PRECISIONS,
        help="auto: bfloat16 where the machine is fast in it (auto)",
    )
    group.add_argument(
        "--no-augment",
        dest="augment",
        action="store_false",
        default=None,
        help="learn from slices as they are, without flips and turns",
    )
    group.add_argument(
        "--keep",
        choices=config_module.KEEPS,
        help="keep the last epoch, or the best by validation Dice (last)",
    )
    group.add_argument("--seed", type=values.seed, help="of everything random (0)")


def _add_predict(command) -> None:
    command.add_argument("run", metavar="RUN", help="folder that `uqseg train` made")
    command.add_argument("data", metavar="DATA", help="folder of studies")
    command.add_argument("--out", metavar="MAPS", required=True, help="folder of maps")
    _add_draws(command)
    command.add_argument(
        "--latent-draws",
        type=values.count,
        metavar="N",
        help="inner draws of the latents in each network draw (4)",
    )
    command.add_argument("--seed", type=values.seed, default=0, help="of the draws (0)")
    command.add_argument(
        "--batch-size",
        type=values.count,
        default=8,
        metavar="N",
        help="slices at a time; does not change the result (8)",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace maps of other settings"
    )
    _add_choice(command)
    _add_readers(command.add_argument_group("data"))


def _add_evaluate(command) -> None:
    command.add_argument("maps", metavar="MAPS", help="folder that `predict` made")
    command.add_argument("data", metavar="DATA", help="folder of the labelled studies")
    command.add_argument("--out", metavar="REPORT", required=True, help="folder")
    command.add_argument("--against", metavar="MAPS2", help="maps to compare with")
    command.add_argument(
        "--regions",
        type=values.region,
        nargs="+",
        action=values.Names,
        metavar="REGION",
        help="regions to score (all that were predicted)",
    )
    command.add_argument(
        "--seed", type=values.seed, default=0, help="of the bootstrap (0)"
    )
    _add_choice(command)
    data = command.add_argument_group("data")
    _add_readers(data)
    _add_modalities(data)


def _add_phantom(command) -> None:
    command.add_argument("out", metavar="OUT", help="new folder")
    command.add_argument(
        "--patients",
        type=values.count,
        default=12,
        metavar="N",
        help="to train on (12)",
    )
    command.add_argument(
        "--test-patients",
        type=values.whole,
        default=4,
        metavar="N",
        help="of the test set and of each shifted set (4)",
    )
    command.add_argument(
        "--shape",
        type=values.count,
        nargs=3,
        default=(128, 128, 24),
        metavar=("X", "Y", "Z"),
        help="voxels (128 128 24)",
    )
    _add_appearance(command)
    command.add_argument("--seed", type=values.seed, default=0, help="(0)")
    overwrite = {"action": "store_true", "help": "replace a phantom in OUT"}
    command.add_argument("--overwrite", **overwrite)


def _add_appearance(command) -> None:
    command.add_argument(
        "--raters", type=values.whole, default=4, metavar="N", help="masks per case (4)"
    )
    command.add_argument(
        "--difficulty",
        type=values.not_below_zero,
        default=1.0,
        help="0 crisp and clean, above 1 fainter and noisier (1)",
    )
    command.add_argument(
        "--shifts",
        nargs="*",
        choices=SHIFTS,
        default=SHIFTS,
        metavar="SHIFT",
        help=f"shifted test sets among {', '.join(SHIFTS)} (all)",
    )


def _add_demo(command) -> None:
    command.add_argument(
        "--out", default="uqseg_demo", metavar="DIR", help="new folder (uqseg_demo)"
    )
    _add_network(command, config_module.TrainConfig())
    command.set_defaults(method="latent", backbone="unet")
    _add_minutes(command, 2.5)
    _add_draws(command)
    command.add_argument("--seed", type=values.seed, default=0, help="(0)")


def _add_draws(command) -> None:
    command.add_argument(
        "--draws",
        type=values.count,
        default=20,
        metavar="S",
        help="networks drawn from the posterior (20)",
    )


def _add_minutes(command, default: float | None) -> None:
    command.add_argument(
        "--max-minutes",
        type=values.above_zero,
        default=default,
        metavar="M",
        help="longest training time, validation included"
        + ("" if default is None else f" ({default})"),
    )


def _add_choice(command) -> None:
    group = command.add_argument_group("which cases")
    group.add_argument("--cases", nargs="+", metavar="ID", help="these")
    group.add_argument("--split", metavar="FILE", help="those of a split file")
    group.add_argument(
        "--part",
        choices=PARTS,
        help="part of the split (test); without --split the run's",
    )


def _add_readers(group) -> None:
    group.add_argument(
        "--pattern",
        help="path of the images below DATA, such as "
        '"{case}/{case}_{modality}.nii.gz"; BraTS and the Decathlon need none',
    )
    group.add_argument(
        "--label-pattern", metavar="PATTERN", help='such as "{case}/{case}_seg.nii.gz"'
    )
    group.add_argument(
        "--label-scheme",
        choices=tuple(labels.SCHEMES),
        help="what the label ids mean, where the files do not tell",
    )


def _add_modalities(group) -> None:
    group.add_argument(
        "--modalities",
        nargs="+",
        action=values.Names,
        metavar="NAME",
        help="such as flair t1 t1ce t2 (those that every case has)",
    )
