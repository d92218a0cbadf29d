"""The arguments of ``uqseg`` and its commands, with help that teaches."""

from __future__ import annotations

import argparse

import tfp_uqseg
from tfp_uqseg.cli import networks, predicting, rates, studies, texts, values
from tfp_uqseg.experiments import config as config_module
from tfp_uqseg.experiments import reproduce_plan as plan_module

# Those of `data.phantom`, which loads TensorFlow.
SHIFTS = ("missing_modality", "bias_field", "unseen_contrast", "motion")


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``uqseg`` and its commands."""
    top = argparse.ArgumentParser(
        prog="uqseg",
        description=texts.ABOUT,
        epilog=texts.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--version", action="version", version=f"uqseg {tfp_uqseg.__version__}"
    )
    top.set_defaults(command=None, debug=False)
    _add_debug(top)
    commands = top.add_subparsers(metavar="COMMAND", title="commands")
    for name, (add, about, examples) in _COMMANDS.items():
        add(_command(commands, name, about, examples))
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
    command.add_argument(
        "data",
        metavar="DATA",
        help="folder of labelled studies, or one that `uqseg prepare` made",
    )
    command.add_argument("--out", metavar="RUN", required=True, help="the run folder")
    resume = {"action": "store_true", "help": "go on with the run in RUN"}
    command.add_argument("--resume", **resume)
    length = command.add_argument_group("length (30 epochs, unless one is given)")
    length.add_argument("--epochs", type=values.count, metavar="N", help="most epochs")
    _add_minutes(length, None)
    network = command.add_argument_group("network")
    networks.add(network, defaults)
    learning = command.add_argument_group("learning")
    _add_learning(learning, defaults)
    studies.add_training(command.add_argument_group("data"))


def _add_prepare(command) -> None:
    command.add_argument("data", metavar="DATA", help="folder of labelled studies")
    command.add_argument(
        "--out",
        metavar="SHARDS",
        required=True,
        help="new folder, or one to go on with",
    )
    command.add_argument(
        "--workers",
        type=values.count,
        default=2,
        metavar="N",
        help="studies at a time, 0.5 GB each (2)",
    )
    command.add_argument(
        "--check",
        action="store_true",
        help="compare finished files with their checksums; damaged ones are made anew",
    )
    studies.add_prepared(command.add_argument_group("data"))


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
    rates.add(group, defaults)
    _add_objective(group, defaults)
    group.add_argument(
        "--precision",
        choices=config_module.PRECISIONS,
        help="auto: bfloat16 where the machine is fast in it (auto)",
    )
    _add_augment(group)
    group.add_argument(
        "--keep",
        choices=config_module.KEEPS,
        help="keep the last epoch, or the best by validation Dice (last)",
    )
    group.add_argument("--seed", type=values.seed, help="of everything random (0)")


def _add_objective(group, defaults) -> None:
    group.add_argument(
        "--loss",
        choices=config_module.LOSSES,
        help="0.9 Dice + 0.1 cross-entropy, or cross-entropy alone, which makes the "
        f"exact evidence lower bound ({defaults.loss})",
    )
    group.add_argument(
        "--kl-weight",
        type=values.not_below_zero,
        metavar="W",
        help="factor of the kernels' KL; above 1 the networks drawn differ more, which "
        f"costs Dice ({defaults.kl_weight:g})",
    )
    group.add_argument(
        "--beta",
        type=values.not_below_zero,
        metavar="B",
        help="weight of the latent bound; the exact one of latent has 1, and "
        "--map-share 0 (0.01)",
    )
    group.add_argument(
        "--map-share",
        type=values.share,
        metavar="S",
        help="share of the data loss that latent learns from its maps alone (0.5)",
    )


def _add_augment(group) -> None:
    group.add_argument(
        "--augment",
        choices=config_module.AUGMENTATIONS,
        help="how slices are changed while learning. flips: flips and quarter turns; "
        "paper: any rotation, shift, shear, brightness; mri: moderate motion, bias "
        "field, gamma, ghosts, noise; none: as they are (flips)",
    )
    group.add_argument(
        "--no-augment",
        dest="augment",
        action="store_const",
        const="none",
        help="the same as --augment none",
    )


def _add_evaluate(command) -> None:
    command.add_argument("maps", metavar="MAPS", help="folder that `predict` made")
    command.add_argument("data", metavar="DATA", help="folder of the labelled studies")
    command.add_argument("--out", metavar="REPORT", required=True, help="folder")
    command.add_argument(
        "--against", nargs="+", metavar="MAPS2", help="maps to compare with, or several"
    )
    _add_scored(command)


def _add_report(command) -> None:
    command.add_argument("maps", metavar="MAPS", help="folder that `predict` made")
    command.add_argument("data", metavar="DATA", help="folder of the studies")
    command.add_argument(
        "--out", metavar="PAGE", default="report.html", help="file (report.html)"
    )
    command.add_argument(
        "--shown", metavar="NAME", help="modality in the pictures (the first)"
    )
    command.add_argument(
        "--slices",
        type=values.count,
        default=32,
        metavar="N",
        help="slices of each case, about 15 kB each for a study of BraTS (32)",
    )
    _add_scored(command)


def _add_scored(command) -> None:
    studies.add_regions(command, "regions to score (all that were predicted)")
    command.add_argument(
        "--seed", type=values.seed, default=0, help="of the bootstrap (0)"
    )
    predicting.add_choice(command)
    data = command.add_argument_group("data")
    studies.add_readers(data)
    studies.add_modalities(data)


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
    networks.add_kind(command, config_module.TrainConfig())
    command.set_defaults(method="latent", backbone="unet")
    _add_minutes(command, 2.5)
    predicting.add_draws(command)
    command.add_argument("--seed", type=values.seed, default=0, help="(0)")


def _add_reproduce(command) -> None:
    command.add_argument(
        "data", metavar="DATA", nargs="?", help="folder of labelled studies (a phantom)"
    )
    command.add_argument("--out", metavar="OUT", required=True, help="folder of all")
    command.add_argument(
        "--scale", choices=tuple(plan_module.BUDGETS), default="small", help="(small)"
    )
    command.add_argument(
        "--seed", type=values.seed, default=0, help="of the sets of patients (0)"
    )
    data = command.add_argument_group("data")
    data.add_argument(
        "--shifted-group",
        metavar="NAME",
        help="institution to hold out as the shifted test set (none)",
    )
    studies.add_regions(
        data, "regions to learn; the tables are about the first (all of the labels)"
    )
    studies.add_modalities(data)
    studies.add_readers(data)


def _add_minutes(command, default: float | None) -> None:
    command.add_argument(
        "--max-minutes",
        type=values.above_zero,
        default=default,
        metavar="M",
        help="longest training time, validation included"
        + ("" if default is None else f" ({default})"),
    )


#: What adds a command's arguments, what it does, and its examples.
_COMMANDS = {
    "demo": (_add_demo, "see it work on a phantom", texts.DEMO),
    "train": (_add_train, "learn from labelled studies", texts.TRAIN),
    "prepare": (_add_prepare, "write studies as slices to train on", texts.PREPARE),
    "calibrate": (
        predicting.add_calibrate,
        "mend a network's probabilities",
        texts.CALIBRATE,
    ),
    "predict": (predicting.add_predict, "write maps of studies", texts.PREDICT),
    "evaluate": (_add_evaluate, "score maps", texts.EVALUATE),
    "report": (_add_report, "one page about a cohort", texts.REPORT),
    "phantom": (_add_phantom, "make synthetic studies", texts.PHANTOM),
    "reproduce": (_add_reproduce, "make the paper's tables", texts.REPRODUCE),
}
