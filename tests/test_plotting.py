from __future__ import annotations

import numpy as np
import pytest
from matplotlib import figure, text

from tfp_uqseg import plotting
from tfp_uqseg.evaluation import calibration, retention

RNG = np.random.default_rng(0)
SHAPE = (20, 24, 5)


@pytest.fixture
def volumes():
    """A box of brain with a tumour that is largest in image 3."""
    image = np.zeros(SHAPE, np.float32)
    image[3:17, 4:20] = RNG.normal(size=(14, 16, 5)) + 5.0
    mask = np.zeros((*SHAPE, 3), bool)
    mask[6:12, 8:14, 2:4, 0] = True
    mask[5, 8:14, 3, 0] = True
    mask[7:10, 9:12, 3, 1:] = True
    uncertainty = RNG.random(SHAPE) * (image != 0)
    return {
        "image": image,
        "mask": mask,
        "predicted_mask": np.roll(mask, 1, axis=0),
        "aleatoric": 0.6 * uncertainty,
        "epistemic": 0.05 * uncertainty,
    }


def row(volumes, **changes):
    volumes = {**volumes, **changes}
    return plotting.panel_row("case 1", volumes.pop("image"), **volumes)


def texts(plot):
    return " ".join(item.get_text() for item in plot.findobj(text.Text))


def written(plot, tmp_path):
    plotting.save(plot, tmp_path / "figure.png", dpi=50)
    return (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_panel_row_takes_the_image_with_the_largest_tumour(volumes):
    cut = row(volumes)
    np.testing.assert_array_equal(cut.image, volumes["image"][:, :, 3])
    np.testing.assert_array_equal(cut.mask, volumes["mask"][:, :, 3])
    other = row(volumes, index=2)
    np.testing.assert_array_equal(other.aleatoric, volumes["aleatoric"][:, :, 2])


def test_panel_row_without_labels_goes_by_the_prediction_then_by_the_brain(volumes):
    volumes["predicted_mask"] = np.roll(volumes["mask"], -2, axis=2)
    cut = row(volumes, mask=None)
    np.testing.assert_array_equal(cut.image, volumes["image"][:, :, 1])
    volumes["image"][..., 0] = 0
    nothing = np.zeros_like(volumes["mask"])
    cut = row(volumes, mask=nothing, predicted_mask=nothing)
    np.testing.assert_array_equal(cut.image, volumes["image"][:, :, 1])


def test_panel_has_five_columns_titles_and_units(volumes, tmp_path):
    plot = plotting.uncertainty_panel([row(volumes), row(volumes, mask=None)])
    assert isinstance(plot, figure.Figure)
    assert len(plot.axes) == 2 * 5 + 2
    shown = texts(plot)
    for words in (
        "Input",
        "Ground truth",
        "Prediction",
        "Aleatoric",
        "Epistemic",
        "WT: expected entropy (nats)",
        "WT: mutual information (nats)",
        "no labels",
        "enhancing tumour",
        "case 1",
    ):
        assert words in shown
    assert written(plot, tmp_path)


def test_panel_rows_share_the_scale_of_each_map(volumes):
    pale = row(volumes, aleatoric=0.1 * volumes["aleatoric"])
    plot = plotting.uncertainty_panel([row(volumes), pale])
    tops = [axis.get_images()[0].get_clim() for axis in plot.axes if axis.get_images()]
    assert tops[3] == tops[8]
    assert tops[3][0] == 0.0
    assert 0.5 < tops[3][1] <= 0.6
    assert tops[4][1] < 0.06


def test_panel_shows_the_front_up_and_the_right_on_the_left(volumes):
    volumes["image"][volumes["image"] != 0] = 1.0
    volumes["image"][16, 19] = 9.0  # the right and front corner in RAS+ order
    plot = plotting.uncertainty_panel([row(volumes)])
    shown = np.asarray(plot.axes[0].get_images()[0].get_array())
    bright = np.argwhere(shown == shown.max())
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    assert bright.tolist() == [[3, 3]]
    assert (rows[0], columns[0]) == (0, 0)


@pytest.mark.parametrize("empty", ["mask", "predicted_mask", "aleatoric", "image"])
def test_panel_draws_empty_arrays_without_a_warning(volumes, empty, tmp_path):
    volumes[empty] = np.zeros_like(volumes[empty])
    plot = plotting.uncertainty_panel([row(volumes)], region="ET")
    assert written(plot, tmp_path)


def test_panel_draws_one_binary_region(volumes, tmp_path):
    binary = {name: volumes[name][..., :1] for name in ("mask", "predicted_mask")}
    plot = plotting.uncertainty_panel([row(volumes, **binary)], regions=("tumour",))
    assert "tumour: expected entropy (nats)" in texts(plot)
    assert written(plot, tmp_path)


def test_panel_says_what_does_not_fit(volumes):
    with pytest.raises(ValueError, match=r"`rows` must hold at least one patient"):
        plotting.uncertainty_panel([])
    with pytest.raises(ValueError, match=r"`region` must be one of 'WT'"):
        plotting.uncertainty_panel([row(volumes)], region="tumour")
    with pytest.raises(ValueError, match=r"`regions` must name each mask of 'case 1'"):
        plotting.uncertainty_panel([row(volumes)], regions=("WT",))
    with pytest.raises(ValueError, match=r"`aleatoric` must have the shape of `image`"):
        row(volumes, aleatoric=np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"`mask\[..., 0\]` must have the shape of"):
        row(volumes, mask=np.zeros((2, 2, 2, 3)))


def test_loss_curves_from_rows_of_text_and_from_columns(tmp_path):
    columns = {
        "epoch": [1, 2, 3],
        "data_loss": [0.9, 0.5, 0.4],
        "val_data_loss": [0.95, float("nan"), 0.5],
        "loss": [1.9, 1.5, 1.4],
        "kl": [2e5, 1.9e5, 1.8e5],
        "latent_bound": [0.0, 0.0, 0.0],
        "dice": [0.1, 0.5, 0.6],
    }
    rows = [
        {name: str(values[k]) for name, values in columns.items()} for k in range(3)
    ]
    rows[1]["val_data_loss"] = ""
    for history in (columns, rows):
        plot = plotting.loss_curves(history)
        titles = [axis.get_title() for axis in plot.axes]
        assert titles == [
            "Data loss",
            "Objective with KL terms",
            "KL of the weights",
            "Dice",
        ]
        lines = plot.axes[0].get_lines()
        np.testing.assert_allclose(lines[0].get_ydata(), columns["data_loss"])
        np.testing.assert_allclose(lines[0].get_xdata(), [1, 2, 3])
        assert np.isnan(lines[1].get_ydata()[1])
        assert plot.axes[2].get_ylabel() == "nats"
        assert written(plot, tmp_path)


def test_loss_curves_leave_out_an_objective_that_is_the_data_loss():
    plot = plotting.loss_curves({"loss": [0.9, 0.5], "data_loss": [0.9, 0.5]})
    assert [axis.get_title() for axis in plot.axes] == ["Data loss"]


def test_loss_curves_of_one_epoch_show_a_point(tmp_path):
    plot = plotting.loss_curves([{"loss": 0.4}])
    assert plot.axes[0].get_lines()[0].get_marker() == "o"
    assert written(plot, tmp_path)


@pytest.mark.parametrize(
    "history", [[], {}, [{"epoch": 1, "lr": 0.1}], {"loss": ["x"]}]
)
def test_loss_curves_without_a_number_are_an_error(history):
    with pytest.raises(ValueError, match=r"`history` must hold numbers other than"):
        plotting.loss_curves(history)


def test_phantom_overview_has_units_and_names(tmp_path):
    head = np.zeros((*SHAPE, 4), np.float32)
    head[3:17, 4:20] = RNG.normal(size=(14, 16, 5, 4)) + 5.0
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:12, 8:14, 3], labels[8:10, 9:12, 3], labels[8, 9, 3] = 2, 4, 1
    raters = np.stack([labels, np.roll(labels, 1, 0), np.zeros_like(labels)], -1)
    plot = plotting.phantom_overview(
        head,
        modalities=("flair", "t1", "t1ce", "t2"),
        labels=labels,
        raters=raters,
        true_probability=(labels > 0) * 0.7,
    )
    shown = texts(plot)
    for words in (
        "FLAIR",
        "T1 contrast",
        "3 raters",
        "oedema",
        "0 to 1",
        "probability",
    ):
        assert words in shown
    assert written(plot, tmp_path)


def test_phantom_overview_of_a_healthy_head_with_two_modalities(tmp_path):
    head = np.ones((*SHAPE, 2), np.float32)
    nothing = np.zeros(SHAPE)
    plot = plotting.phantom_overview(
        head,
        modalities=("flair", "other"),
        labels=nothing,
        raters=nothing[..., None],
        true_probability=nothing,
    )
    assert "1 rater" in texts(plot)
    assert written(plot, tmp_path)
    with pytest.raises(ValueError, match=r"`modalities` must name each of the 2"):
        plotting.phantom_overview(
            head,
            modalities=("flair",),
            labels=nothing,
            raters=nothing[..., None],
            true_probability=nothing,
        )
    with pytest.raises(ValueError, match=r"`true_probability` must have the shape of"):
        plotting.phantom_overview(
            head,
            modalities=("flair", "other"),
            labels=nothing,
            raters=nothing[..., None],
            true_probability=nothing[..., :1],
        )


def test_reliability_draws_the_filled_bins(tmp_path):
    probabilities = np.array([0.05, 0.06, 0.95])
    bins = calibration.reliability([0, 1, 1], probabilities, num_bins=10)
    plot = plotting.reliability({"latent": bins})
    line = plot.axes[0].get_lines()[1]
    np.testing.assert_allclose(line.get_xdata(), [0.055, 0.95])
    np.testing.assert_allclose(line.get_ydata(), [0.5, 1.0])
    assert written(plot, tmp_path)
    with pytest.raises(ValueError, match=r"`curves` must hold at least one curve"):
        plotting.reliability({})


def test_save_writes_other_formats_and_refuses_unknown_ones(tmp_path):
    plot = plotting.loss_curves({"loss": [1.0, 0.5]})
    plotting.save(plot, tmp_path / "figure.PDF")
    assert (tmp_path / "figure.PDF").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"`path` must end in one of .*png.*got"):
        plotting.save(plot, tmp_path / "figure.xyz")
    with pytest.raises(ValueError, match=r"`dpi` must be a whole number above 0"):
        plotting.save(plot, tmp_path / "figure.png", dpi=0)
    assert [path.name for path in tmp_path.iterdir()] == ["figure.PDF"]


def test_referral_curves_stand_between_the_best_order_and_none():
    curves = {
        "entropy": retention.curve([0.1, 0.5, 0.3], [0.9, 0.2, 0.6]),
        "volume": retention.curve([0.5, 0.1, 0.3], [0.9, 0.2, 0.6]),
    }
    plot = plotting.referral(curves, "WT")
    (axis,) = plot.axes
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    assert list(lines) == ["best order", "no referral", "entropy", "volume"]
    np.testing.assert_allclose(lines["entropy"], [0.9, 0.75, 1.7 / 3])
    np.testing.assert_allclose(lines["best order"], lines["entropy"])
    np.testing.assert_allclose(lines["no referral"], 1.7 / 3)
    with pytest.raises(ValueError, match="at least one curve"):
        plotting.referral({}, "WT")


def test_more_curves_than_colours_are_still_told_apart():
    dice = np.linspace(0.3, 0.9, 8)
    curves = {f"measure {i}": retention.curve(np.arange(8.0), dice) for i in range(8)}
    axis = plotting.referral(curves, "WT").axes[0]
    looks = {
        (line.get_color(), line.get_linestyle())
        for line in axis.lines
        if str(line.get_label()).startswith("measure")
    }
    assert len(looks) == 8
