"""The arguments of ``uqseg`` about studies: where they are and how they are read."""

from __future__ import annotations

from tfp_uqseg import labels
from tfp_uqseg.cli import values
from tfp_uqseg.experiments import config as config_module


def add_training(group) -> None:
    """Add what `uqseg train` can say about its studies to a group of a parser."""
    _add_labelled(group)
    group.add_argument("--split", metavar="FILE", help="JSON of who is trained on")
    group.add_argument(
        "--raters",
        choices=config_module.RATERS,
        help="masks to learn from: the labels, one rater at random, or their mean",
    )
    _add_intensity(group)
    group.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        default=None,
        help="keep slices in temporary files, for cohorts larger than memory; "
        "`uqseg prepare` makes such files once for all trainings",
    )


def add_prepared(group) -> None:
    """Add what `uqseg prepare` can say about its studies."""
    _add_labelled(group)
    _add_intensity(group)


def add_readers(group) -> None:
    """Add how files are found and labels are read."""
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


def add_modalities(group) -> None:
    """Add the choice of modalities."""
    group.add_argument(
        "--modalities",
        nargs="+",
        action=values.Names,
        metavar="NAME",
        help="such as flair t1 t1ce t2 (those that every case has)",
    )


def add_regions(group, text: str) -> None:
    """Add the choice of regions, explained by `text`."""
    group.add_argument(
        "--regions",
        type=values.region,
        nargs="+",
        action=values.Names,
        metavar="REGION",
        help=text,
    )


def _add_labelled(group) -> None:
    add_readers(group)
    add_regions(
        group, "among WT TC ET, or tumour for a binary mask (all of the labels)"
    )
    add_modalities(group)


def _add_intensity(group) -> None:
    group.add_argument(
        "--intensity",
        choices=config_module.INTENSITIES,
        help="z-scores in the brain, or the paper's rescaling to 0..1 (zscore)",
    )
