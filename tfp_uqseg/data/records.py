"""The slices of one case as a TFRecord file, from which any one of them is read.

A record is a `tf.train.Example` of one slice:

========  =======  =========================================================
feature   type     what
========  =======  =========================================================
case      bytes    id of the case
slice     int64    number of the slice, from 0
shape     int64    h, w, C
image     bytes    (h, w, C) float16, little-endian
labels    bytes    (h, w) label ids, uint8 (int16 where some exceed 255)
raters    bytes    (R, h, w) label ids, where the case has raters
========  =======  =========================================================
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from isal import isal_zlib

from tfp_uqseg import _checks, _files
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import preprocess, slicing

#: Bytes around the content of a record: length and its checksum, the content's.
_HEAD, _FOOT = 12, 4


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """The file of one case, and what it takes to read one slice of it.

    Attributes:
        case_id: Id of the case.
        path: The file.
        modalities: C names.
        shape: (Z, h, w, C).
        num_bytes: Size of the file.
        sha256: Checksum of the file, 64 hexadecimal digits.
        lengths: (Z,) int64, bytes of each record's content.
        crc32: (Z,) uint32, checksum of each record's content.
        id_types: NumPy type of the ids of each annotation, by its kind.
        present: Ids that occur in the study, by the kind of annotation.
        by_slice: For each slice the ids that occur in it, by the kind of annotation.
    """

    case_id: str
    path: Path
    modalities: tuple[str, ...]
    shape: tuple[int, int, int, int]
    num_bytes: int
    sha256: str
    lengths: np.ndarray
    crc32: np.ndarray
    id_types: Mapping[str, str]
    present: Mapping[str, list[int]]
    by_slice: Mapping[str, list[list[int]]]

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """Where the content of each record begins."""
        whole = np.asarray(self.lengths, np.int64) + _HEAD + _FOOT
        return np.cumsum(whole) - whole + _HEAD

    def read(self, index: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Read one slice from the file, and nothing else of it.

        Args:
            index: Number of the slice, below Z.
            kind: Which annotation.

        Returns:
            (h, w, C) float16 image and (R, h, w) label ids.

        Raises:
            DataError: When the file is missing, cut short or damaged.
        """
        content = self._content(index)
        features = tf.train.Example.FromString(content).features.feature
        image = np.frombuffer(features["image"].bytes_list.value[0], "<f2")
        ids = features[kind].bytes_list.value[0]
        ids = np.frombuffer(ids, self.id_types[kind])
        return image.reshape(self.shape[1:]), ids.reshape(-1, *self.shape[1:3])

    def check_size(self) -> None:
        """Raise unless the file is there and has its size.

        Raises:
            DataError: When it is not.
        """
        try:
            found = os.path.getsize(self.path)
        except OSError as error:
            raise self._unusable(str(error.strerror)) from error
        if found != self.num_bytes:
            raise self._unusable(f"{self.num_bytes} bytes expected, {found} found")

    def is_whole(self) -> bool:
        """Return whether every byte of the file is as it was written."""
        try:
            self.check_size()
        except _checks.DataError:
            return False
        return _files.sha256(self.path) == self.sha256

    def _content(self, index: int) -> bytes:
        # Opened for each slice: a cohort has more files than a process may hold open.
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self._starts[index])
                content = file.read(self.lengths[index])
        except OSError as error:
            raise self._unusable(str(error.strerror)) from error
        if isal_zlib.crc32(content) != self.crc32[index]:
            raise self._unusable(f"the checksum of slice {index} is another")
        return content

    def _unusable(self, reason: str) -> _checks.DataError:
        return _checks.DataError(
            f"Case {self.case_id}, file {self.path}: the prepared study must be whole; "
            f"it is not ({reason}). Delete the file, and run `uqseg prepare` again: it "
            "makes this one anew."
        )


@dataclasses.dataclass(frozen=True, eq=False)
class StoredCase(case_module.Case):
    """A case whose slices stand ready in a file.

    The paths are those of the study it was prepared from. They need not exist any
    longer, unless the study itself is to be loaded.

    Attributes:
        shard: The file.
        preprocessing: How the study was prepared.
        regions: Regions to learn unless others are named, or None.
    """

    shard: Shard = dataclasses.field(kw_only=True)
    preprocessing: preprocess.Preprocessing = preprocess.DEFAULT
    regions: tuple[str, ...] | None = None

    def check_settings(
        self,
        modalities: tuple[str, ...] | None,
        preprocessing: preprocess.Preprocessing | None,
    ) -> None:
        """Raise unless the case was prepared as it is asked for.

        Args:
            modalities: Canonical names; None for any.
            preprocessing: Choices; None for any.

        Raises:
            ValueError: When it was prepared otherwise.
        """
        if modalities is not None and modalities != self.shard.modalities:
            raise self._other("modalities", self.shard.modalities, modalities)
        if preprocessing is None:
            return
        for field in dataclasses.fields(preprocessing):
            has = getattr(self.preprocessing, field.name)
            asked = getattr(preprocessing, field.name)
            if asked != has:
                raise self._other(field.name, has, asked)

    def _other(self, name: str, has: object, asked: object) -> ValueError:
        return ValueError(
            f"`{name}` must be that of the prepared studies in "
            f"{self.shard.path.parent}, {has!r}; got {asked!r}. Leave it out, or "
            "prepare the studies in another folder with it."
        )


def write(path: str | os.PathLike, slices: slicing.CaseSlices) -> Shard:
    """Write the slices of a case, whole or not at all.

    Args:
        path: The file.
        slices: The slices.

    Returns:
        What it takes to read them.

    Raises:
        OSError: When the file cannot be written.
    """
    path = Path(path)
    contents = (_example(slices, index) for index in range(len(slices.image)))
    lengths, checksums = [], []
    with _files.whole_file(path) as temporary:
        try:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for content in contents:
                    writer.write(content)
                    lengths.append(len(content))
                    checksums.append(isal_zlib.crc32(content))
        except tf.errors.OpError as error:
            reason = error.message or type(error).__name__
            raise OSError(f"{path} cannot be written: {reason}.") from error
        size, sha256 = os.path.getsize(temporary), _files.sha256(temporary)
    annotations = slices.annotations.items()
    return Shard(
        case_id=slices.case_id,
        path=path,
        modalities=slices.modalities,
        shape=slices.image.shape,
        num_bytes=size,
        sha256=sha256,
        lengths=np.array(lengths, np.int64),
        crc32=np.array(checksums, np.uint32),
        id_types={kind: one.ids.dtype.str for kind, one in annotations},
        present={kind: one.present for kind, one in annotations},
        by_slice={kind: one.by_slice for kind, one in annotations},
    )


def _example(slices: slicing.CaseSlices, index: int) -> bytes:
    image = slices.image[index]
    feature = {
        "case": _bytes(slices.case_id.encode()),
        "slice": _integers([index]),
        "shape": _integers(image.shape),
        "image": _bytes(image.astype("<f2", copy=False).tobytes()),
    }
    for kind, annotation in slices.annotations.items():
        feature[kind] = _bytes(annotation.ids[:, index].tobytes())
    features = tf.train.Features(feature=feature)
    return tf.train.Example(features=features).SerializeToString(deterministic=True)


def _bytes(content: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))


def _integers(values) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
