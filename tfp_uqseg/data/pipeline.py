"""Cases as a `tf.data` stream of slices to learn from, and volumes as slices."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfp_uqseg import _checks
from tfp_uqseg.data import augment as augment_module
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import cohort as cohort_module
from tfp_uqseg.data import gathering, preprocess

gather = gathering.gather

# What random numbers are for: the last word of their key.
_ORDER, _SEEDS, _RATERS = range(3)


def slices(
    cases: Sequence[case_module.Case] | cohort_module.Cohort,
    *,
    regions: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    preprocessing: preprocess.Preprocessing | None = None,
    label_scheme: str | None = None,
    batch_size: int = 8,
    size: tuple[int, int] | None = None,
    divisor: int = 16,
    shuffle: bool = False,
    seed: int = 0,
    augment: bool | str | Mapping | augment_module.Augmentation | None = False,
    raters: str = "label",
    keep_empty: float = 1.0,
    empty_share: Callable[[int], float] | None = None,
    cache: bool = True,
    drop_remainder: bool = False,
    repeat: bool = False,
    initial_epoch: int = 0,
) -> tf.data.Dataset:
    """Stream the axial slices of all cases, each a pair of image and mask.

    Slices without brain are left out. Whatever is random (order, augmentation, raters,
    the tumour-free slices kept) is new in every epoch and depends on `seed` and the
    number of the epoch alone: a stream opened with `initial_epoch=5` gives what the
    sixth pass of another gives. Each new iteration over the data set is an epoch.

    Args:
        cases: Cases with labels, those that `shards.open_shards` returns too, or a
            cohort that `gather` read with the arguments it shares with this function;
            they then have no effect here.
        regions: K region names; all of the label scheme by default.
        modalities: C channels; all of the cases by default.
        preprocessing: Choices of `preprocess.prepare`; None for its defaults, or for
            those of the shards.
        label_scheme: What the label ids mean, where the cases do not tell.
        batch_size: B slices in a batch.
        size: (H, W) of every slice, zero padded at the bottom and right; the largest
            box of the cases by default.
        divisor: H and W are multiples of this.
        shuffle: Whether each epoch has a new order.
        seed: Whole number, at least 0.
        augment: How to change slices: True or "flips" (flips and quarter turns),
            another name of `augment.PRESETS`, an `augment.Augmentation` or its settings
            as a dict; False, None or "none" leaves them as they are.
        raters: "label": the labels. "random": one rater drawn for each slice in each
            epoch. "mean": the share of raters that mark the voxel.
        keep_empty: Share of the slices without tumour in an epoch, 0..1.
        empty_share: Function of the number of the epoch: which share of its slices may
            be without tumour, at most the share they have. The epoch keeps its length;
            slices with tumour come more than once instead, each time moved otherwise.
            None: the share they have. A Dice loss is apt to settle on empty answers
            where most slices have no tumour from the start.
        cache: Whether to keep images in memory; see `gather`.
        drop_remainder: Whether to leave out a last batch that is not full.
        repeat: Whether to go on with the next epoch without end.
        initial_epoch: Number of the first epoch.

    Returns:
        Data set of (image, mask): (B, H, W, C) and (B, H, W, K) float32.

    Raises:
        DataError: When a case cannot be used.
        ValueError: When an argument is out of range.
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    seed = _whole("seed", seed)
    initial_epoch = _whole("initial_epoch", initial_epoch)
    augmentation = augment_module.resolve(augment)
    cohort = _as_cohort(
        cases,
        regions=regions,
        modalities=modalities,
        preprocessing=preprocessing,
        label_scheme=label_scheme,
        size=size,
        divisor=divisor,
        raters=raters,
        cache=cache,
    )
    count = _count(cohort, keep_empty, batch_size if drop_remainder else 0)

    def plan(epoch):
        share = None if empty_share is None else empty_share(int(epoch))
        return _plan(cohort, int(epoch), seed, shuffle, keep_empty, share)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        planned = tf.numpy_function(plan, [epoch], [tf.int64, tf.float64, tf.int32])
        for array, shape in zip(planned, ((None,), (None,), (None, 2)), strict=True):
            array.set_shape(shape)
        # Two slices are read and changed at a time, as the plan orders them.
        stream = tf.data.Dataset.from_tensor_slices(tuple(planned)).map(
            lambda number, rater, key: _example(
                _read(cohort, number, rater), key, augmentation
            ),
            num_parallel_calls=2,
            deterministic=True,
        )
        return stream.batch(batch_size, drop_remainder=drop_remainder)

    stream = _epochs(initial_epoch, repeat).flat_map(one_epoch)
    if not repeat:
        steps = count // batch_size if drop_remainder else -(-count // batch_size)
        stream = stream.apply(tf.data.experimental.assert_cardinality(steps))
    return stream.prefetch(4)


def count_slices(
    cases: Sequence[case_module.Case] | cohort_module.Cohort,
    *,
    keep_empty: float = 1.0,
    **settings,
) -> int:
    """Number of training slices in an epoch.

    Args:
        cases: Cases (each is read), or a cohort that `gather` read.
        keep_empty: As in `slices`.
        **settings: Those of `gather`.

    Returns:
        The number, N of the evidence lower bound.
    """
    return _as_cohort(cases, **settings).num_examples(keep_empty)


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    """Raise an error about a case's file as it is, not in TensorFlow's wrapping.

    A file that cannot be read while a data set runs ends it with an error of
    TensorFlow, which names case and file among much else.

    Raises:
        DataError: In place of an error of TensorFlow that tells of one.
    """
    try:
        yield
    except tf.errors.OpError as error:
        told = re.search(r"\bDataError: (.+)", error.message)
        if told is None:
            raise
        raise _checks.DataError(told[1]) from error


def volume_slices(prepared: preprocess.Prepared) -> np.ndarray:
    """(z, x, y, C) float32: the axial slices of a prepared study, as images."""
    return np.ascontiguousarray(np.moveaxis(prepared.image, 2, 0), np.float32)


def from_slices(array: np.ndarray, prepared: preprocess.Prepared) -> np.ndarray:
    """Stack slices into a volume: the inverse of `volume_slices`.

    Args:
        array: (z, H, W, ...), one map per slice; H and W may hold padding at the end,
            which is cut off.
        prepared: The study they were predicted from.

    Returns:
        (x, y, z, ...) in the box of the prepared study.

    Raises:
        ValueError: When there are more or fewer slices, or they are too small.
    """
    width, height, depth = prepared.brain.shape
    array = np.asarray(array)
    shape = array.shape
    if array.ndim < 3 or shape[0] != depth or shape[1] < width or shape[2] < height:
        raise ValueError(
            f"`array` must hold {depth} slices of at least {(width, height)} voxels; "
            f"got shape {shape}."
        )
    return np.moveaxis(array[:, :width, :height], 0, 2)


def on_scan_grid(
    array: np.ndarray, prepared: preprocess.Prepared, fill: float = 0
) -> np.ndarray:
    """Put maps of slices back onto the full grid of the scan they come from.

    Args:
        array: (z, H, W, ...), one map per slice, such as an attribute of a
            `Prediction`; H and W may hold padding at the end, which is cut off.
        prepared: The study they were predicted from.
        fill: Value outside the box that was predicted.

    Returns:
        (X, Y, Z, ...) in RAS+ order, as `Case.load` returns its images.

    Raises:
        ValueError: When there are more or fewer slices, or they are too small.
    """
    return preprocess.restore(from_slices(array, prepared), prepared, fill)


def _as_cohort(cases, **settings) -> cohort_module.Cohort:
    if not isinstance(cases, cohort_module.Cohort):
        return gather(cases, **settings)
    for name in ("regions", "modalities", "size"):
        asked, has = settings.get(name), getattr(cases, name)
        if asked is not None and tuple(asked) != has:
            raise ValueError(
                f"`{name}` must be left out or be that of the cohort, {has}; got "
                f"{asked}. Give it to `gather` instead."
            )
    return cases


def _count(cohort: cohort_module.Cohort, keep_empty: float, at_least: int = 0) -> int:
    """Return the slices of an epoch, or raise if there are none or too few."""
    count = cohort.num_examples(keep_empty)
    if count == 0:
        raise ValueError(
            f"`keep_empty` must leave some slices; got {keep_empty!r}, and no slice of "
            "the cases has tumour."
        )
    if count < at_least:
        raise ValueError(
            f"`drop_remainder` would leave no batch: {count} slices are fewer than a "
            f"`batch_size` of {at_least}. Make it smaller, or keep the remainder."
        )
    return count


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
        raise ValueError(f"`{name}` must be a whole number, 0 or more; got {value!r}.")
    return value.__index__()


def _epochs(initial_epoch: int, repeat: bool) -> tf.data.Dataset:
    """Numbers of epochs: all that follow, or the next one at each iteration."""
    if repeat:
        return tf.data.Dataset.counter(start=initial_epoch)
    numbers = itertools.count(initial_epoch)

    def following():
        yield next(numbers)

    return tf.data.Dataset.from_generator(
        following, output_signature=tf.TensorSpec((), tf.int64)
    )


def _plan(
    cohort: cohort_module.Cohort,
    epoch: int,
    seed: int,
    shuffle: bool,
    keep_empty: float,
    empty_share: float | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The N slices of an epoch in their order.

    Returns:
        (N,) numbers of slices, (N,) in 0..1 that choose a rater, and (N, 2) keys.
    """
    order = np.random.default_rng((seed, epoch if shuffle else 0, _ORDER))
    tumour, empty = cohort.kept(keep_empty, order)
    index = np.sort(np.concatenate([tumour, empty]))
    if empty_share is not None and len(tumour):
        index = _with_share(tumour, empty, empty_share, order)
    if shuffle:
        order.shuffle(index)
    # Keyed by slice and how often it came before, not by place in the order.
    times = np.bincount(index).max(initial=1)
    keys = np.random.default_rng((seed, epoch, _SEEDS)).integers(
        2**31, size=(times, cohort.num_slices, 2), dtype=np.int32
    )
    rater = np.random.default_rng((seed, epoch, _RATERS)).random(
        (times, cohort.num_slices)
    )
    came = _came_before(index)
    return index, rater[came, index], keys[came, index]


def _came_before(index: np.ndarray) -> np.ndarray:
    """How often each number occurs further in front.

    >>> _came_before(np.array([5, 3, 5, 5, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(index, kind="stable")
    counts = np.bincount(index)
    firsts = np.cumsum(counts) - counts
    came = np.empty_like(index)
    came[order] = np.arange(len(index)) - firsts[index[order]]
    return came


def _with_share(
    tumour: np.ndarray, empty: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """As many slices as there are, of which the share `share` is without tumour."""
    count = len(tumour) + len(empty)
    number = min(len(empty), round(min(max(share, 0.0), 1.0) * count))
    whole, rest = divmod(count - number, len(tumour))
    return np.sort(
        np.concatenate(
            [
                np.tile(tumour, whole),
                rng.permutation(tumour)[:rest],
                rng.permutation(empty)[:number],
            ]
        )
    )


def _read(cohort: cohort_module.Cohort, number: tf.Tensor, rater: tf.Tensor):
    """Image and mask of a slice."""
    mask_type = tf.float32 if cohort.raters == "mean" else tf.uint8
    image, mask = tf.numpy_function(
        cohort.example, [number, rater], [tf.float32, mask_type]
    )
    image.set_shape((*cohort.size, len(cohort.modalities)))
    mask.set_shape((*cohort.size, len(cohort.regions)))
    return image, mask


def _example(pair, key, augmentation: augment_module.Augmentation | None):
    image, mask = pair[0], tf.cast(pair[1], tf.float32)
    return (image, mask) if augmentation is None else augmentation(image, mask, key)
