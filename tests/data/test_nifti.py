from __future__ import annotations

import gzip
import itertools
import os

import nibabel
import numpy as np
import pytest
from nibabel import orientations

from tfp_uqseg._checks import DataError
from tfp_uqseg.data import nifti

AXES = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]


def affine_of(codes: str, shape, spacing=(1.0, 2.0, 3.0)) -> np.ndarray:
    """An affine with these axis codes and some offset."""
    world = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1)}
    world["I"] = (2, -1)
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for axis, code in enumerate(codes):
        row, sign = world[code]
        affine[row, axis] = sign * spacing[axis]
    affine[:3, 3] = (3.25, -40.5, 17.0)
    return affine


def raw_header(path) -> bytes:
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    return content[:348]


@pytest.mark.parametrize("codes", AXES)
def test_every_orientation_is_read_as_ras_and_written_back_exactly(codes, tmp_path):
    shape = (3, 4, 5)
    stored = np.arange(60, dtype=np.int16).reshape(shape)
    affine = affine_of(codes, shape)
    nibabel.Nifti1Image(stored, affine).to_filename(tmp_path / "in.nii.gz")
    array, grid = nifti.read(tmp_path / "in.nii.gz", "X")
    # Independent: nibabel's own canonical image.
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(stored, affine))
    assert np.array_equal(array, np.asarray(expected.dataobj))
    assert np.allclose(grid.canonical_affine, expected.affine)
    assert grid.canonical_shape == expected.shape
    assert np.allclose(grid.spacing, expected.header.get_zooms())
    nifti.write(tmp_path / "out.nii.gz", array, grid, np.int16)
    again = nibabel.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(again.dataobj), stored)
    assert (
        again.affine.tobytes() == nibabel.load(tmp_path / "in.nii.gz").affine.tobytes()
    )
    assert raw_header(tmp_path / "out.nii.gz") == raw_header(tmp_path / "in.nii.gz")


def test_an_oblique_grid_comes_back_exactly(tmp_path):
    angle = 0.3
    turn = np.array(
        [
            [np.cos(angle), -np.sin(angle), 0],
            [np.sin(angle), np.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    affine = affine_of("PSR", (3, 4, 5))
    affine[:3, :3] = turn @ affine[:3, :3]
    stored = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    nibabel.Nifti1Image(stored, affine).to_filename(tmp_path / "in.nii")
    array, grid = nifti.read(tmp_path / "in.nii", "X")
    nifti.write(tmp_path / "out.nii", array, grid, np.float32)
    assert (tmp_path / "out.nii").read_bytes() == (tmp_path / "in.nii").read_bytes()


@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (2, 1), (1, 0), (0, 2), (0, 0)])
def test_form_codes_zooms_and_units_are_kept(qform, sform, tmp_path):
    affine = affine_of("LPS", (3, 4, 5))
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.set_qform(affine, code=qform)
    image.set_sform(affine, code=sform)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(tmp_path / "in.nii.gz")
    array, grid = nifti.read(tmp_path / "in.nii.gz", "X")
    nifti.write(tmp_path / "out.nii.gz", array, grid, np.float32)
    before = nibabel.load(tmp_path / "in.nii.gz")
    after = nibabel.load(tmp_path / "out.nii.gz")
    fields = ["qform_code", "sform_code", "pixdim", "xyzt_units", "dim"]
    fields += ["srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x"]
    for name in fields:
        assert before.header[name].tobytes() == after.header[name].tobytes()
    assert after.get_data_dtype() == np.float32
    assert np.array_equal(before.affine, after.affine)


def test_a_map_does_not_inherit_display_window_or_slope(make, tmp_path):
    image = nibabel.Nifti1Image(make.image(0), make.affine)
    image.header["cal_max"] = 900
    image.header.set_slope_inter(2.0, 1.0)
    image.to_filename(tmp_path / "in.nii.gz")
    _, grid = nifti.read(tmp_path / "in.nii.gz", "X")
    values = np.random.default_rng(0).random(make.shape, np.float32)
    nifti.write(tmp_path / "out.nii.gz", values, grid, np.float32)
    after = nibabel.load(tmp_path / "out.nii.gz")
    assert after.header["cal_max"] == 0
    again, _ = nifti.read(tmp_path / "out.nii.gz", "X")
    assert np.array_equal(again, values)


def test_header_extensions_and_big_endian_files_survive(make, tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    image = nibabel.Nifti1Image(make.image(0), make.affine, header)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"hello"))
    image.to_filename(tmp_path / "in.nii.gz")
    array, grid = nifti.read(tmp_path / "in.nii.gz", "X")
    assert array.dtype.isnative
    nifti.write(tmp_path / "out.nii.gz", array, grid, np.int16)
    after = nibabel.load(tmp_path / "out.nii.gz")
    assert after.header.endianness == ">"
    assert after.header.extensions[0].get_content() == b"hello"
    assert np.array_equal(np.asarray(after.dataobj), make.image(0))


def test_nifti_2_files_are_read_and_written(make, tmp_path):
    image = nibabel.Nifti2Image(make.image(0), make.affine)
    image.to_filename(tmp_path / "in.nii")
    array, grid = nifti.read(tmp_path / "in.nii", "X")
    nifti.write(tmp_path / "out.nii", array, grid, np.int16)
    after = nibabel.load(tmp_path / "out.nii")
    assert isinstance(after, nibabel.Nifti2Image)
    assert np.array_equal(np.asarray(after.dataobj), make.image(0))


def test_integers_keep_their_type_and_scaled_ones_become_float32(make, tmp_path):
    make.save(tmp_path / "a.nii.gz", make.image(0))
    assert nifti.read(tmp_path / "a.nii.gz", "X")[0].dtype == np.int16
    image = nibabel.Nifti1Image(make.image(0).astype(np.float32) / 2, make.affine)
    image.set_data_dtype(np.int16)
    image.header.set_slope_inter(0.5, 0)
    image.to_filename(tmp_path / "b.nii.gz")
    array, _ = nifti.read(tmp_path / "b.nii.gz", "X")
    assert array.dtype == np.float32
    stored = nibabel.load(tmp_path / "b.nii.gz")
    expected = nibabel.as_closest_canonical(stored).get_fdata()
    assert np.allclose(array, expected)


def test_a_fourth_axis_of_one_is_no_fourth_axis(make, tmp_path):
    make.save(tmp_path / "a.nii.gz", make.image(0)[..., None])
    array, grid = nifti.read(tmp_path / "a.nii.gz", "X")
    assert array.shape == grid.canonical_shape == make.shape
    nifti.write(tmp_path / "b.nii.gz", array, grid, np.int16)
    assert nibabel.load(tmp_path / "b.nii.gz").shape == make.shape


def test_the_content_not_the_ending_says_whether_a_file_is_packed(make, tmp_path):
    make.save(tmp_path / "a.nii", make.image(0))
    (tmp_path / "a.nii").rename(tmp_path / "b.nii.gz")
    array, _ = nifti.read(tmp_path / "b.nii.gz", "X")
    assert array.shape == make.shape


def test_the_header_alone_tells_the_grid(make, tmp_path):
    make.save(tmp_path / "a.nii.gz", make.image(0))
    grid = nifti.read_grid(tmp_path / "a.nii.gz", "X")
    assert grid.canonical_shape == make.shape
    assert grid.voxel_volume_ml == pytest.approx(0.001)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001)])
def test_spacing_is_in_millimetres_whatever_the_unit(unit, factor, make, tmp_path):
    image = nibabel.Nifti1Image(make.image(0), make.affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii.gz")
    grid = nifti.read_grid(tmp_path / "a.nii.gz", "X")
    assert grid.spacing == pytest.approx((factor,) * 3)
    assert grid.voxel_volume_ml == pytest.approx(factor**3 / 1000)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"Case X: file .*nothing.nii must exist"):
        nifti.read(tmp_path / "nothing.nii", "X")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_cut_short_is_an_error(keep, ending, make, tmp_path):
    path = make.save(tmp_path / f"a{ending}", make.image(0, (40, 40, 20)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(
        DataError, match=r"Case X, file .*a\.nii.* cut short or damaged"
    ):
        nifti.read(path, "X")


def test_a_flipped_byte_in_a_packed_file_is_an_error(make, tmp_path):
    path = make.save(tmp_path / "a.nii.gz", make.image(0, (40, 40, 20)))
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # in the checksum and nowhere else
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="cut short or damaged"):
        nifti.read(path, "X")


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\0" * 400]
)
def test_what_is_no_nifti_is_an_error(content, tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"Case X, file .*a\.nii\.gz"):
        nifti.read(tmp_path / "a.nii.gz", "X")


def test_a_dangling_link_is_an_error(tmp_path):
    os.symlink(tmp_path / "gone", tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match="must exist"):
        nifti.read(tmp_path / "a.nii.gz", "X")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_voxels_that_are_no_number_are_counted_and_placed(value, dtype, make, tmp_path):
    image = make.image(0).astype(dtype)
    image[3, 4, 2] = value
    make.save(tmp_path / "a.nii.gz", image)
    with pytest.raises(DataError, match="voxels must be finite; got 1 NaN or infinite"):
        nifti.read(tmp_path / "a.nii.gz", "X")


def test_header_bytes_without_sense_are_an_error_or_are_read(make, tmp_path):
    original = nibabel.Nifti1Image(make.image(0), make.affine).to_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "a.nii"
    for _ in range(200):
        content = bytearray(original)
        for position in rng.integers(0, 348, 4):
            content[position] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            array, grid = nifti.read(path, "X")
        except DataError as error:
            assert "a.nii" in str(error)  # noqa: PT017
        else:
            assert array.shape == grid.canonical_shape


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2), (4, 5, 6, 1, 3)])
def test_other_numbers_of_dimensions_are_an_error(shape, make, tmp_path):
    make.save(tmp_path / "a.nii.gz", np.ones(shape, np.int16))
    message = rf"must be 3-D; got {len(shape)}-D, shape"
    with pytest.raises(DataError, match=message):
        nifti.read(tmp_path / "a.nii.gz", "X")


def write_raw(path, image, **fields):
    """Write an image with header fields that nibabel would mend."""
    content = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "fields",
    [
        {"pixdim": [1, 0, 1, 1, 0, 0, 0, 0]},
        {"pixdim": [1, np.nan, 1, 1, 0, 0, 0, 0]},
        {"srow_x": [0, 0, 0, 0]},
        {"srow_x": [np.nan, 0, 0, 0]},
        {"srow_x": [0, 1, 0, 0]},
        {"srow_x": [np.inf, 0, 0, 0]},
    ],
)
def test_a_grid_without_three_axes_is_an_error(fields, make, tmp_path):
    image = nibabel.Nifti1Image(make.image(0), make.affine)
    image.set_sform(make.affine, code=1)
    write_raw(tmp_path / "a.nii", image, **fields)
    with pytest.raises(DataError, match=r"a\.nii: .*(voxel sizes|affine).*Repair"):
        nifti.read(tmp_path / "a.nii", "X")


def test_colours_and_complex_numbers_are_an_error(make, tmp_path):
    rgb = np.zeros(make.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(rgb, make.affine).to_filename(tmp_path / "a.nii")
    with pytest.raises(DataError, match="one real number per voxel"):
        nifti.read(tmp_path / "a.nii", "X")
    make.save(tmp_path / "b.nii", np.zeros(make.shape, np.complex64))
    with pytest.raises(DataError, match="one real number per voxel"):
        nifti.read(tmp_path / "b.nii", "X")


def test_labels_are_rounded_only_when_nearly_whole(tmp_path):
    out = nifti.as_labels(np.array([0.9999999, 2.0004], np.float32), "f", "X")
    assert out.dtype == np.int16
    assert out.tolist() == [1, 2]
    with pytest.raises(
        DataError, match=r"file f: labels must be whole numbers; got 0.5"
    ):
        nifti.as_labels(np.array([0.0, 0.5], np.float32), "f", "X")


@pytest.mark.parametrize("value", [-1, 40000])
def test_labels_out_of_range_are_an_error(value):
    with pytest.raises(DataError, match=r"labels must lie in 0\.\.32767"):
        nifti.as_labels(np.array([0, value], np.int32), "f", "X")


def grid_of(shape=(10, 10, 10), moved=0.0, codes="LPS"):
    affine = affine_of(codes, shape, (1, 1, 1))
    affine[0, 3] += moved
    return nifti.Grid.from_affine(shape, affine)


def test_grids_are_one_within_a_twentieth_of_a_voxel():
    nifti.check_same_grid(grid_of(moved=0.01), grid_of(), "X")
    with pytest.raises(DataError, match=r"Case X.*a corner lies 0\.1 mm away"):
        nifti.check_same_grid(grid_of(moved=0.1), grid_of(), "X")


def test_grids_of_other_shape_differ():
    with pytest.raises(DataError, match=r"shape \(10, 10, 9\).*\(10, 10, 10\)"):
        nifti.check_same_grid(grid_of((10, 10, 9)), grid_of(), "X")


def test_one_grid_stored_in_two_orders_of_axes_is_one_grid():
    grid = grid_of((10, 10, 10))
    ras = nifti.Grid.from_affine((10, 10, 10), grid.canonical_affine)
    nifti.check_same_grid(ras, grid, "X")


def test_left_and_right_exchanged_is_another_grid():
    with pytest.raises(DataError, match="affine must agree"):
        nifti.check_same_grid(grid_of(codes="RPS"), grid_of(), "X")


def test_writing_needs_the_shape_of_the_grid_and_a_nifti_name(tmp_path):
    grid = grid_of((4, 5, 6))
    with pytest.raises(ValueError, match=r"`array` must have the shape .*\(4, 5, 6\)"):
        nifti.write(tmp_path / "a.nii", np.zeros((6, 5, 4)), grid, np.uint8)
    with pytest.raises(ValueError, match=r"`path` must end in \.nii or \.nii\.gz"):
        nifti.write(tmp_path / "a.npy", np.zeros((4, 5, 6)), grid, np.uint8)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    grid = grid_of((4, 5, 6))
    path = tmp_path / "a.nii.gz"
    nifti.write(path, np.zeros((4, 5, 6)), grid, np.uint8)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        nifti.write(path, np.ones((4, 5, 6)), grid, np.uint8)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_array_gives_the_same_bytes(tmp_path):
    grid = grid_of((4, 5, 6))
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write(tmp_path / name, np.ones((4, 5, 6)), grid, np.uint8)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.real
def test_a_real_study_comes_back_bit_for_bit(real_data, tmp_path):
    path = next((real_data / "brats").glob("*/*_t2.nii.gz"))
    array, grid = nifti.read(path, "X")
    nifti.write(tmp_path / "out.nii.gz", array, grid, np.int16)
    before, after = nibabel.load(path), nibabel.load(tmp_path / "out.nii.gz")
    assert before.affine.tobytes() == after.affine.tobytes()
    for name in ("qform_code", "sform_code", "pixdim", "xyzt_units", "qoffset_y"):
        assert before.header[name].tobytes() == after.header[name].tobytes()
    assert np.array_equal(np.asarray(before.dataobj), np.asarray(after.dataobj))
    assert orientations.aff2axcodes(after.affine) == ("L", "P", "S")


@pytest.mark.real
def test_the_hard_files_are_refused_or_mended(real_data):
    hard = real_data / "hard"
    with pytest.raises(DataError, match="must be 3-D; got 5-D"):
        nifti.read(hard / "five_dimensional_zero_zoom_t1.nii.gz", "X")
    path = hard / "brainmask_scaled_int32.nii.gz"
    array, _ = nifti.read(path, "X")
    assert array.dtype == np.float32
    assert np.unique(nifti.as_labels(array, path, "X")).tolist() == [0, 1]
