"""The arguments of ``uqseg`` that use a trained network."""

from __future__ import annotations

from tfp_uqseg.cli import studies, values

# Those of `data.splits`, which loads TensorFlow.
PARTS = ("train", "validation", "test")


def add_calibrate(command) -> None:
    """Add the arguments of `uqseg calibrate`."""
    command.add_argument("run", metavar="RUN", help="folder that `uqseg train` made")
    command.add_argument("data", metavar="DATA", help="folder of labelled studies")
    command.add_argument(
        "--kind",
        choices=["temperature", "platt"],
        default="temperature",
        help="temperature: logits by one factor; platt: by a factor and a shift, which "
        "may move outlines (temperature)",
    )
    add_draws(command)
    command.add_argument("--seed", type=values.seed, default=0, help="of the draws (0)")
    _add_precision(command)
    add_choice(command)
    studies.add_readers(command.add_argument_group("data"))


def add_predict(command) -> None:
    """Add the arguments of `uqseg predict`."""
    command.add_argument("run", metavar="RUN", help="folder that `uqseg train` made")
    command.add_argument("data", metavar="DATA", help="folder of studies")
    command.add_argument("--out", metavar="MAPS", required=True, help="folder of maps")
    add_draws(command)
    command.add_argument(
        "--latent-draws",
        type=values.count,
        metavar="N",
        help="inner draws of the latents in each network draw (4)",
    )
    command.add_argument(
        "--keep-draws",
        action="store_true",
        help="keep the masks of every draw too, for scores between draws and raters",
    )
    command.add_argument("--seed", type=values.seed, default=0, help="of the draws (0)")
    command.add_argument(
        "--batch-size",
        type=values.count,
        default=8,
        metavar="N",
        help="slices at a time; does not change the result (8)",
    )
    _add_precision(command)
    command.add_argument(
        "--overwrite", action="store_true", help="replace maps of other settings"
    )
    command.add_argument(
        "--uncalibrated",
        dest="calibrated",
        action="store_false",
        help="leave out what `uqseg calibrate` found",
    )
    add_choice(command)
    studies.add_readers(command.add_argument_group("data"))


def add_draws(command) -> None:
    """Add the number of draws."""
    command.add_argument(
        "--draws",
        type=values.count,
        default=20,
        metavar="S",
        help="networks drawn from the posterior (20)",
    )


def add_choice(command) -> None:
    """Add which of the studies are meant."""
    group = command.add_argument_group("which cases")
    group.add_argument("--cases", nargs="+", metavar="ID", help="these")
    group.add_argument("--split", metavar="FILE", help="those of a split file")
    group.add_argument(
        "--part",
        choices=PARTS,
        help="part of the split (test); without --split the run's",
    )


def _add_precision(command) -> None:
    command.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="of the draws; auto: bfloat16 where the machine is fast in it. What is "
        "computed once per image stays in float32 (auto)",
    )
