"""NIfTI files in and out, always in closest-to-RAS+ axes; the one nibabel import."""

from __future__ import annotations

import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip, isal_zlib
from nibabel import affines, orientations

from tfp_uqseg import _checks, _files

_RAS = np.array([[0, 1], [1, 1], [2, 1]])
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}

#: Grids are one when no corner of the volume moves by more than this part of a voxel.
_CORNER_TOLERANCE = 0.05

#: On maps as small as zlib's level 6, in a twentieth of the time.
_GZIP_LEVEL = 1
_UNREADABLE = (EOFError, OSError, zlib.error, isal_zlib.error)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a file are, and how the file stores them.

    Attributes:
        shape: (X, Y, Z) as stored.
        affine: (4, 4) of the file: stored voxel index to world.
        orientation: (3, 2) nibabel orientation, stored axes to RAS+.
        header: The file's header, for writing on the same grid.
        path: The file it came from.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    orientation: np.ndarray
    header: nibabel.Nifti1Header
    path: Path

    @classmethod
    def from_affine(cls, shape: tuple[int, int, int], affine: np.ndarray) -> Grid:
        """The grid of a volume that comes from no file.

        Args:
            shape: (X, Y, Z) as it is to be stored.
            affine: (4, 4), stored voxel index to world, mm.

        Returns:
            A grid whose header has qform and sform code 1 (scanner).

        Raises:
            DataError: When the affine has no three axes.
        """
        image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        return _grid(image, Path("new.nii"), "new", channels=False)

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) in RAS+ axes."""
        shape = np.empty(3, int)
        shape[self.orientation[:, 0].astype(int)] = self.shape
        return tuple(shape.tolist())

    @property
    def canonical_affine(self) -> np.ndarray:
        """(4, 4): RAS+ voxel index to world."""
        return self.affine @ orientations.inv_ornt_aff(self.orientation, self.shape)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the RAS+ axes, mm."""
        unit = _MILLIMETRES.get(self.header.get_xyzt_units()[0], 1.0)
        sizes = affines.voxel_sizes(self.canonical_affine) * unit
        return tuple(sizes.tolist())

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, ml (1 ml = 1000 mm^3)."""
        unit = _MILLIMETRES.get(self.header.get_xyzt_units()[0], 1.0)
        return float(abs(np.linalg.det(self.affine[:3, :3])) * unit**3 / 1000.0)


def read(
    path: str | os.PathLike, case_id: str, *, channels: bool = False
) -> tuple[np.ndarray, Grid]:
    """Read one volume in RAS+ axes.

    Args:
        path: `.nii` or `.nii.gz`; the content, not the name, says which.
        case_id: Named in errors.
        channels: Read a 4-D file, (X, Y, Z, V), instead of a 3-D one.

    Returns:
        The array, (X, Y, Z) or (X, Y, Z, V), in its stored type (float32 where the
        header scales it), and its grid.

    Raises:
        DataError: When the file is missing, cut short, damaged, no NIfTI, of the wrong
            number of dimensions, without a usable grid, or holds NaN or infinity.
    """
    path = Path(path)
    image = _open(path, case_id)
    grid = _grid(image, path, case_id, channels)
    array = _array(image, path, case_id)
    wanted = 4 if channels else 3
    array = array.reshape(array.shape[:wanted], order="F")
    _check_finite(array, path, case_id)
    return orientations.apply_orientation(array, grid.orientation), grid


def read_grid(path: str | os.PathLike, case_id: str) -> Grid:
    """The grid of a file, from its header alone.

    Raises:
        DataError: As `read`, as far as the header tells.
    """
    path = Path(path)
    image = _open(path, case_id, header_only=True)
    return _grid(image, path, case_id, channels=len(image.shape) == 4)


def as_labels(array: np.ndarray, path: str | os.PathLike, case_id: str) -> np.ndarray:
    """Label ids as int16, rounded where a slope or a float type left 0.9999999.

    Raises:
        DataError: When a value is further than 0.001 from a whole number, or outside
            0..32767.
    """
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        off = np.abs(array - rounded) > 1e-3
        if off.any():
            raise _checks.DataError(
                f"Case {case_id}, file {path}: labels must be whole numbers; got "
                f"{float(array[off][0])!r} (and {int(off.sum()) - 1} voxels more). "
                "Probabilities or resampled masks are no label file."
            )
        array = rounded
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if low < 0 or high > np.iinfo(np.int16).max:
        raise _checks.DataError(
            f"Case {case_id}, file {path}: labels must lie in 0..32767; got "
            f"{low:g}..{high:g}. Check that this is the label file."
        )
    return array.astype(np.int16, order="F")


def check_same_grid(grid: Grid, reference: Grid, case_id: str) -> None:
    """Raise unless both files put every voxel in the same place.

    Raises:
        DataError: When shape or affine (a corner moves by more than a twentieth of a
            voxel) differ in RAS+ axes.
    """
    if grid.canonical_shape != reference.canonical_shape:
        raise _checks.DataError(
            f"Case {case_id}, file {grid.path}: shape {grid.canonical_shape} (RAS "
            f"axes) must equal {reference.canonical_shape} of {reference.path}. "
            "Resample the study to one grid first."
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.canonical_shape]))
    corners = np.vstack([corners.reshape(3, -1), np.ones(8)])
    moved = (grid.canonical_affine - reference.canonical_affine) @ corners
    distance = np.linalg.norm(moved[:3], axis=0).max()
    voxel = min(affines.voxel_sizes(reference.affine))
    if distance > _CORNER_TOLERANCE * voxel:
        raise _checks.DataError(
            f"Case {case_id}, file {grid.path}: its affine must agree with that of "
            f"{reference.path}; a corner lies {distance:.3g} mm away. Register or "
            "resample the study to one grid first."
        )


def write(
    path: str | os.PathLike, array: np.ndarray, grid: Grid, dtype: np.dtype | type | str
) -> None:
    """Write a RAS+ array on the grid it was read from, whole or not at all.

    The file gets the stored axes, affine, qform and sform codes, voxel sizes and units
    of `grid`. It appears under its name only once it is complete.

    Args:
        path: `.nii` or `.nii.gz`; the folder must exist.
        array: (X, Y, Z) in RAS+ axes.
        grid: Grid of the study.
        dtype: Type to store.

    Raises:
        ValueError: When the shape is not that of the grid, or the name not NIfTI's.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.shape != grid.canonical_shape:
        raise ValueError(
            f"`array` must have the shape of the grid, {grid.canonical_shape}; got "
            f"{array.shape}."
        )
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"`path` must end in .nii or .nii.gz; got {str(path)!r}.")
    back = orientations.ornt_transform(_RAS, grid.orientation)
    stored = orientations.apply_orientation(array, back).astype(dtype, order="F")
    content = _content(stored, grid)
    if path.name.lower().endswith(".gz"):
        content = igzip.compress(content, _GZIP_LEVEL, mtime=0)
    with _files.whole_file(path) as temporary:
        temporary.write_bytes(content)


def _content(stored: np.ndarray, grid: Grid) -> bytes:
    header = grid.header.copy()
    header.set_data_dtype(stored.dtype)
    # The display window, intent and offset are the source file's, not the map's.
    for field in ("cal_min", "cal_max", "vox_offset", "intent_code"):
        header[field] = 0
    header["intent_name"] = b""
    two = isinstance(header, nibabel.Nifti2Header)
    # affine=None keeps both forms of the header, bit for bit.
    image = (nibabel.Nifti2Image if two else nibabel.Nifti1Image)(stored, None, header)
    return image.to_bytes()


def _open(path: Path, case_id: str, header_only: bool = False):
    """The nibabel image of a file whose checksum, if any, was verified."""
    if not path.is_file():
        raise _checks.DataError(
            f"Case {case_id}: file {path} must exist; it does not. Check the folder, "
            "and that links and downloads are complete."
        )
    try:
        content = _bytes(path, header_only)
    except _UNREADABLE as error:  # type: ignore[misc]  # isal has hints for no error
        raise _damaged(path, case_id, error) from error
    two = content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    try:
        image = kind.from_bytes(content)
        raw = kind.header_class(content[: 540 if two else 348], check=False)
    except Exception as error:  # nibabel has a dozen kinds for bytes without sense
        raise _checks.DataError(
            f"Case {case_id}, file {path}: must be a NIfTI file (.nii or .nii.gz); its "
            f"header cannot be read ({error})."
        ) from error
    _check_zooms(raw, path, case_id)
    if not header_only:
        _check_length(image, len(content), path, case_id)
    return image


def _check_zooms(header, path: Path, case_id: str) -> None:
    """Refuse voxel sizes of 0, which nibabel reads as 1."""
    zooms = header["pixdim"][1:4]
    if not np.isfinite(zooms).all() or not zooms.all():
        raise _checks.DataError(
            f"Case {case_id}, file {path}: voxel sizes must be above 0 and finite; got "
            f"{zooms.tolist()} in pixdim. Repair the header first."
        )


def _check_length(image, found: int, path: Path, case_id: str) -> None:
    proxy = image.dataobj
    voxels = math.prod(int(n) for n in image.shape)
    needed = int(proxy.offset) + voxels * proxy.dtype.itemsize
    if found < needed:
        raise _damaged(path, case_id, f"{needed} bytes expected, {found} found")


def _damaged(path: Path, case_id: str, reason: object) -> _checks.DataError:
    return _checks.DataError(
        f"Case {case_id}, file {path}: must be a whole NIfTI file; it is cut short or "
        f"damaged ({reason}). Copy or download it again."
    )


def _bytes(path: Path, header_only: bool) -> bytes:
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not header_only:
            content = file.read()
            return igzip.decompress(content) if gzipped else content
        size = 1 << 20  # room for the header and its extensions
        return igzip.IGzipFile(fileobj=file).read(size) if gzipped else file.read(size)


def _grid(image, path: Path, case_id: str, channels: bool) -> Grid:
    where = f"Case {case_id}, file {path}:"
    shape = tuple(int(n) for n in image.shape)
    wanted = 4 if channels else 3
    if len(shape) == 4 and shape[3] == 1 and not channels:
        shape = shape[:3]
    if len(shape) != wanted:
        raise _checks.DataError(
            f"{where} must be {wanted}-D; got {len(shape)}-D, shape {shape}. Take the "
            "volume you need out of it first."
        )
    if 0 in shape:
        raise _checks.DataError(f"{where} must hold voxels; got shape {shape}.")
    affine = image.affine
    sizes = affines.voxel_sizes(affine)
    volume = abs(np.linalg.det(affine[:3, :3])) if np.isfinite(affine).all() else 0.0
    if not volume > 1e-6 * np.prod(sizes):
        raise _checks.DataError(
            f"{where} the affine must span three axes and be finite; got "
            f"{affine.tolist()}. Repair the header first."
        )
    orientation = orientations.io_orientation(affine)
    extent = (shape[0], shape[1], shape[2])
    return Grid(extent, affine, orientation, image.header.copy(), path)


def _array(image, path: Path, case_id: str) -> np.ndarray:
    """Voxels in their stored type where no scaling applies, else float32."""
    if image.get_data_dtype().kind not in "iuf":
        raise _checks.DataError(
            f"Case {case_id}, file {path}: must hold one real number per voxel; got "
            f"type {image.get_data_dtype()}."
        )
    proxy = image.dataobj
    try:
        if (proxy.slope, proxy.inter) == (1.0, 0.0):
            array = proxy.get_unscaled()
        else:
            with np.errstate(over="ignore"):
                array = np.asanyarray(proxy, dtype=np.float32)
    except (EOFError, OSError, ValueError) as error:
        raise _damaged(path, case_id, error) from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_finite(array: np.ndarray, path: Path, case_id: str) -> None:
    if array.dtype.kind != "f":
        return
    # The sum is finite unless a voxel is not (or it overflows): one pass, no mask.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise _checks.DataError(
            f"Case {case_id}, file {path}: voxels must be finite; got "
            f"{int((~finite).sum())} NaN or infinite ones, the first at {first}. Set "
            "them to a value, 0 for background, first."
        )


def present_ids(ids: np.ndarray) -> list[int]:
    """The label ids that occur, ascending.

    >>> present_ids(np.array([[0, 4], [4, 1]]))
    [0, 1, 4]
    """
    flat = ids.ravel(order="K")
    # Most voxels are background, and counting takes ten times as long as leaving out.
    above = flat[flat != 0]
    found = np.flatnonzero(np.bincount(above)).tolist()
    return [0, *found] if len(above) < len(flat) else found
