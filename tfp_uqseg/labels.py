"""Label ids, the regions they make up, and the schemes that tie the two.

A file says 4 and means enhancing tumour (BraTS up to 2021) or a resection cavity
(BraTS 2024): ids mean nothing without their scheme. A scheme is therefore given, or
follows from how the files are named, or is detected when every scheme that admits
the ids agrees on the masks; anything else is an error that says what to pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfp_uqseg import _checks

#: The nested regions of BraTS: whole tumour, tumour core, enhancing tumour.
BRATS_REGIONS = ("WT", "TC", "ET")

#: The one region of a binary mask.
BINARY_REGION = "tumour"

_LARGEST_ID = 255


@dataclass(frozen=True)
class LabelScheme:
    """What the ids of a label file mean.

    Attributes:
        name: Key in `SCHEMES`.
        ids: For each region, the ids that belong to it.
        known: Every id that may occur, 0 (background) included; None admits any.
    """

    name: str
    ids: Mapping[str, frozenset[int]]
    known: frozenset[int] | None

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions this scheme can tell apart, largest first."""
        return tuple(self.ids)

    def admits(self, ids: Iterable[int]) -> bool:
        """Whether every one of `ids` has a meaning here."""
        return self.known is None or set(ids) <= self.known

    def regions_of(self, label: int) -> frozenset[str]:
        """The regions a voxel with this id belongs to."""
        if self.known is None:
            return frozenset(self.ids) if label > 0 else frozenset()
        return frozenset(name for name, ids in self.ids.items() if label in ids)


def _scheme(name, whole, core, enhancing, known):
    ids = {"WT": frozenset(whole), "TC": frozenset(core), "ET": frozenset(enhancing)}
    return LabelScheme(name, ids, frozenset(known))


#: Every scheme by name. "binary" has one region, "tumour": every id above 0.
SCHEMES: dict[str, LabelScheme] = {
    "brats2018": _scheme("brats2018", {1, 2, 4}, {1, 4}, {4}, {0, 1, 2, 4}),
    "brats2023": _scheme("brats2023", {1, 2, 3}, {1, 3}, {3}, {0, 1, 2, 3}),
    "brats2024": _scheme("brats2024", {1, 2, 3}, {1, 3}, {3}, {0, 1, 2, 3, 4}),
    "decathlon": _scheme("decathlon", {1, 2, 3}, {2, 3}, {3}, {0, 1, 2, 3}),
    "binary": LabelScheme("binary", {BINARY_REGION: frozenset({1})}, None),
}


def get(label_scheme: str | LabelScheme) -> LabelScheme:
    """The scheme of this name; a scheme is returned as it is.

    Raises:
        ValueError: When no scheme has this name.

    >>> sorted(get("brats2023").ids["TC"])
    [1, 3]
    """
    if isinstance(label_scheme, LabelScheme):
        return label_scheme
    _checks.one_of("label_scheme", label_scheme, SCHEMES)
    return SCHEMES[label_scheme]


def check_regions(
    regions: Sequence[str], label_scheme: str | LabelScheme
) -> tuple[str, ...]:
    """Return `regions` as a tuple, or raise unless the scheme has each of them once.

    Raises:
        ValueError: When `regions` is empty, repeats a region, or names one that the
            scheme does not have; a binary region asked of a BraTS scheme, or the
            reverse, says what to pass.
    """
    scheme = get(label_scheme)
    if isinstance(regions, str):
        raise ValueError(f"`regions` must be a tuple of names; got {regions!r}.")
    regions = tuple(regions)
    if not regions or len(set(regions)) != len(regions):
        raise ValueError(
            "`regions` must name at least one region and none twice; got "
            f"{regions}. Scheme {scheme.name!r} has {scheme.regions}."
        )
    missing = [region for region in regions if region not in scheme.ids]
    if not missing:
        return regions
    if scheme.name == "binary":
        advice = (
            f'A binary mask has one region: pass `regions=("{BINARY_REGION}",)`, or '
            "the `label_scheme` of the files if their ids tell more than tumour and "
            "background."
        )
    elif BINARY_REGION in missing:
        advice = (
            'The whole tumour of this scheme is "WT": pass `regions=("WT",)`, or '
            '`label_scheme="binary"` to take every id above 0 as tumour.'
        )
    else:
        advice = "Pass some of these."
    raise ValueError(
        f"`regions` must be among {scheme.regions} for label scheme "
        f"{scheme.name!r}; got {regions}. {advice}"
    )


def detect(
    ids: Iterable[int], candidates: Iterable[str | LabelScheme] | None = None
) -> LabelScheme:
    """The scheme of these ids, if they leave no choice that matters.

    Args:
        ids: The ids that occur in a file or a cohort.
        candidates: Schemes to choose among; all of `SCHEMES` by default. "binary"
            counts only for a mask of 0 and 1, or of 0 and one id no other scheme has.

    Returns:
        The first candidate that admits the ids, when all that do give equal masks.

    Raises:
        ValueError: When no candidate admits the ids, or two of them disagree.

    >>> detect({0, 1, 2, 3}, ["brats2018", "brats2023", "brats2024"]).name
    'brats2023'
    """
    found = sorted(set(_as_ids(ids)))
    schemes = [get(item) for item in (SCHEMES if candidates is None else candidates)]
    fitting = [scheme for scheme in schemes if _may_be(scheme, found)]
    if not fitting:
        raise ValueError(_no_scheme(found, schemes))
    meanings = {
        tuple(scheme.regions_of(label) for label in found) for scheme in fitting
    }
    if len(meanings) == 1:
        return fitting[0]
    names = " or ".join(f'`label_scheme="{scheme.name}"`' for scheme in fitting)
    advice = ""
    if any(scheme.name == "binary" for scheme in fitting):
        advice = f' For a binary mask `regions=("{BINARY_REGION}",)` says it too.'
    raise ValueError(
        f"`label_scheme` must be given: the labels {found} mean different regions in "
        f"{len(fitting)} schemes. Pass {names}.{advice}"
    )


def resolve(
    ids: Iterable[int],
    *,
    regions: Sequence[str] | None = None,
    label_scheme: str | LabelScheme | None = None,
    named: str | None = None,
    candidates: Iterable[str] | None = None,
) -> LabelScheme:
    """The scheme to read these ids by, from everything that is known of it.

    The rule, first match wins: a scheme that is given; a binary mask when
    `regions=("tumour",)` and nothing but one id above 0 occurs; the scheme the files'
    names tell; the scheme the ids leave (`detect`). Modern BraTS names are those of
    2023 until ids 3 and 4 occur together (2024, where 4 is a resection cavity).

    Args:
        ids: The ids that occur.
        regions: The regions asked for; None asks for none in particular.
        label_scheme: The scheme given by the user.
        named: The scheme that follows from file names or a data set's description.
        candidates: What `detect` may choose from when there is no name to go by; none
            where nothing but a given scheme will do.

    Returns:
        A scheme that admits `ids` and has `regions`.

    Raises:
        ValueError: When an id has no meaning, the choice is not clear, or the scheme
            does not have the regions.
    """
    found = set(_as_ids(ids))
    if label_scheme is not None:
        scheme = get(label_scheme)
    elif regions is not None and tuple(regions) == (BINARY_REGION,):
        scheme = _binary_or(found, named)
    elif named is not None:
        scheme = _by_name(found, get(named))
    else:
        candidates = tuple(SCHEMES if candidates is None else candidates)
        if not candidates:
            raise ValueError(
                "`label_scheme` must be given: the ids of studies named like this one "
                "have meant different regions from year to year; got the labels "
                f"{sorted(found)}. Pass one of "
                + ", ".join(f'`label_scheme="{name}"`' for name in SCHEMES)
                + "."
            )
        scheme = detect(found, candidates)
    if not scheme.admits(found):
        raise ValueError(_no_scheme(sorted(found), [scheme]))
    if regions is not None:
        check_regions(regions, scheme)
    return scheme


def region_masks(
    labels: np.ndarray,
    label_scheme: str | LabelScheme,
    regions: Sequence[str] = BRATS_REGIONS,
) -> np.ndarray:
    """One binary mask per region.

    Args:
        labels: (...) integer label ids, 0 is background.
        label_scheme: What the ids mean.
        regions: K region names of the scheme.

    Returns:
        (..., K) uint8, 1 inside the region.

    Raises:
        ValueError: When an id has no meaning in the scheme, or a region is not its.

    >>> region_masks(np.array([0, 1, 2, 4]), "brats2018").tolist()
    [[0, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 1]]
    """
    scheme = get(label_scheme)
    regions = check_regions(regions, scheme)
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise ValueError(f"`labels` must hold whole numbers; got {labels.dtype}.")
    if scheme.known is None:
        return np.repeat((labels > 0).astype(np.uint8)[..., None], len(regions), -1)
    if labels.size and (labels.min() < 0 or labels.max() > _LARGEST_ID):
        raise ValueError(_no_scheme(np.unique(labels).tolist(), [scheme]))
    table = lookup_table(scheme, regions)
    counts = np.bincount(labels.astype(np.uint8).ravel(order="K"), minlength=len(table))
    unknown = set(np.flatnonzero(counts).tolist()) - scheme.known
    if unknown:
        raise ValueError(_no_scheme(sorted(unknown), [scheme]))
    # The same as `table[labels]` in a third of its time.
    return table.take(labels, axis=0)


def lookup_table(label_scheme: str | LabelScheme, regions: Sequence[str]) -> np.ndarray:
    """(256, K) uint8 table: row `id` says which regions that id belongs to."""
    scheme = get(label_scheme)
    regions = check_regions(regions, scheme)
    table = np.zeros((_LARGEST_ID + 1, len(regions)), np.uint8)
    for label in range(len(table)):
        table[label] = [region in scheme.regions_of(label) for region in regions]
    return table


def label_map(
    masks: np.ndarray,
    label_scheme: str | LabelScheme,
    regions: Sequence[str] = BRATS_REGIONS,
) -> np.ndarray:
    """One id per voxel from one mask per region; the inverse of `region_masks`.

    Regions are nested, and masks that are not are made so from the inside out: a
    voxel of ET counts as TC and WT even where those masks miss it.

    Args:
        masks: (..., K) bool or 0 and 1.
        label_scheme: The scheme whose ids to write.
        regions: K region names, in the order of the last axis.

    Returns:
        (...) uint8 ids: that of ET, of TC without ET, of WT without TC; 0 elsewhere.

    Raises:
        ValueError: When the last axis does not have one mask per region, or a mask
            holds anything but 0 and 1.

    >>> label_map(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]), "brats2018").tolist()
    [2, 1, 4]
    """
    scheme = get(label_scheme)
    regions = check_regions(regions, scheme)
    masks = np.asarray(masks)
    if masks.ndim < 1 or masks.shape[-1] != len(regions):
        raise ValueError(
            f"`masks` must have one mask per region on its last axis, {len(regions)} "
            f"for {regions}; got shape {masks.shape}."
        )
    if masks.dtype != bool:
        if not np.all((masks == 0) | (masks == 1)):
            raise ValueError(
                "`masks` must hold only 0 and 1; got other values. Threshold "
                "probabilities first."
            )
        masks = masks.astype(bool)
    out = np.zeros(masks.shape[:-1], np.uint8)
    for position, region in enumerate(scheme.regions):
        if region in regions:
            inner = scheme.regions[position + 1 : position + 2]
            own = scheme.ids[region] - (scheme.ids[inner[0]] if inner else set())
            out[masks[..., regions.index(region)]] = min(own)
    return out


def contained(label_scheme: str | LabelScheme, regions: Sequence[str]) -> np.ndarray:
    """(K, K) bool: row k marks the regions that lie within region k, itself too.

    >>> contained("brats2018", ("WT", "ET")).tolist()
    [[True, True], [False, True]]
    """
    scheme = get(label_scheme)
    regions = check_regions(regions, scheme)
    return np.array(
        [
            [scheme.ids[inner] <= scheme.ids[outer] for inner in regions]
            for outer in regions
        ]
    )


def _as_ids(ids: Iterable[int]) -> list[int]:
    return [int(label) for label in ids]


def _may_be(scheme: LabelScheme, ids: Sequence[int]) -> bool:
    if scheme.name != "binary":
        return scheme.admits(ids)
    above = [label for label in ids if label > 0]
    return not above or above == [1] or (len(above) == 1 and above[0] > 4)


def _is_one_mask(ids: set[int]) -> bool:
    return len({label for label in ids if label > 0}) <= 1


def _binary_or(ids: set[int], named: str | None) -> LabelScheme:
    """Scheme for `regions=("tumour",)` when none was given."""
    if _is_one_mask(ids):
        return SCHEMES["binary"]
    if named is not None:
        return get(named)
    raise ValueError(
        f'`regions=("{BINARY_REGION}",)` needs a binary mask; the labels are '
        f'{sorted(ids)}. Pass `label_scheme="binary"` to take every id above 0 as '
        'tumour, or `regions=("WT",)` for the whole tumour of a BraTS file.'
    )


def _by_name(ids: set[int], scheme: LabelScheme) -> LabelScheme:
    """BraTS 2023 files become those of 2024 once a cavity shows beside ET."""
    if scheme.name != "brats2023" or 4 not in ids:
        return scheme
    if 3 in ids and SCHEMES["brats2024"].admits(ids):
        return SCHEMES["brats2024"]
    raise ValueError(
        f"`label_scheme` must be given: the labels {sorted(ids)} hold 4 but not 3, in "
        'files named as in BraTS 2023. Pass `label_scheme="brats2018"` if 4 is '
        'enhancing tumour, `label_scheme="brats2024"` if it is a resection cavity.'
    )


def _no_scheme(ids: Sequence[int], schemes: Sequence[LabelScheme]) -> str:
    tried = "; ".join(
        f"{scheme.name!r} knows {sorted(scheme.known)}"
        for scheme in schemes
        if scheme.known is not None
    )
    fitting = [
        name
        for name, scheme in SCHEMES.items()
        if name != "binary" and scheme.admits(ids)
    ]
    advice = " or ".join(f'`label_scheme="{name}"`' for name in [*fitting, "binary"])
    return (
        f"The labels must be those of the label scheme; got {list(ids)}, where "
        f"{tried or 'a binary mask has 0 and one id more'}. If the files are of "
        f"another kind, pass {advice} (binary: every id above 0)."
    )
