"""The arguments of ``uqseg`` that choose a network."""

from __future__ import annotations

from tfp_uqseg.cli import values
from tfp_uqseg.experiments import config as config_module

_METHODS = """\
latent: the paper's network; flipout, reparameterization, local_reparameterization:
every convolution Bayesian, by three estimators; deep_weight: flipout with a prior over
kernels; mc_dropout; deterministic; deep_ensemble, ensemble_mc_dropout: several
networks (%s)"""


def add_kind(group, defaults: config_module.TrainConfig) -> None:
    """Add method and backbone to a group of a parser."""
    group.add_argument(
        "--method",
        choices=config_module.METHODS,
        metavar="METHOD",
        help=_METHODS.replace("\n", " ") % defaults.method,
    )
    group.add_argument(
        "--backbone",
        choices=config_module.BACKBONES,
        help=f"({defaults.backbone})",
    )


def add(group, defaults: config_module.TrainConfig) -> None:
    """Add what `uqseg train` can say about its network."""
    add_kind(group, defaults)
    group.add_argument(
        "--base-filters",
        type=values.count,
        metavar="N",
        help=f"width of the first convolution ({defaults.base_filters})",
    )
    group.add_argument(
        "--members",
        dest="num_members",
        type=values.count,
        metavar="N",
        help=f"networks of an ensemble ({defaults.num_members})",
    )
    group.add_argument(
        "--dropout-rate",
        type=values.not_below_zero,
        metavar="P",
        help=f"share of dropped channels, of mc_dropout ({defaults.dropout_rate})",
    )
    group.add_argument(
        "--initial-stddev-ratio",
        type=values.above_zero,
        metavar="R",
        help="spread of the kernels' posterior at the start, in units of the He scale; "
        "less of it costs less Dice and says less of what the network does not know "
        f"({defaults.initial_stddev_ratio})",
    )
    _add_sources(group)


def _add_sources(group) -> None:
    """Add where first weights and priors come from."""
    group.add_argument(
        "--warm-start",
        metavar="RUN",
        help="start from the network of this run, a deterministic one of the same "
        "backbone and width",
    )
    group.add_argument(
        "--freeze-backbone",
        action="store_true",
        default=None,
        help="leave what --warm-start took as it is (latent alone)",
    )
    group.add_argument(
        "--centred-prior",
        action="store_true",
        default=None,
        help="centre the prior of the kernels on those of --warm-start",
    )
    group.add_argument(
        "--kernel-prior",
        metavar="FILE",
        help="the prior of deep_weight, written by `KernelPrior.save`",
    )
