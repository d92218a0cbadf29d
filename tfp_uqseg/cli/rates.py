"""The arguments of ``uqseg train`` about optimiser, learning rate and stopping."""

from __future__ import annotations

from tfp_uqseg.cli import values
from tfp_uqseg.experiments import config as config_module


def add(group, defaults: config_module.TrainConfig) -> None:
    """Add the arguments to a group of a parser."""
    group.add_argument(
        "--optimizer",
        choices=config_module.OPTIMIZERS,
        help=f"sgd has momentum 0.9 ({defaults.optimizer})",
    )
    group.add_argument(
        "--weight-decay",
        type=values.not_below_zero,
        metavar="W",
        help="decay of kernels, never of posterior scales, biases and normalisations "
        "(0 for adam, 0.0005 for sgd)",
    )
    group.add_argument(
        "--schedule",
        choices=config_module.SCHEDULES,
        help="of the learning rate. cosine: over the run; cyclical: up and down; "
        "plateau: a tenth where the validation's data loss no longer falls; or both "
        f"({defaults.schedule})",
    )
    group.add_argument(
        "--cycle-epochs",
        type=values.count,
        metavar="N",
        help=f"length of a cycle ({defaults.cycle_epochs})",
    )
    group.add_argument(
        "--plateau-patience",
        type=values.count,
        metavar="N",
        help="epochs without improvement before the rate is lowered "
        f"({defaults.plateau_patience})",
    )
    group.add_argument(
        "--early-stopping",
        type=values.count,
        metavar="PATIENCE",
        help="epochs without improvement of the validation's data loss after which "
        "the run ends (never)",
    )
