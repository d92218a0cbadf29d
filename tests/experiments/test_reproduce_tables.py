"""The arithmetic of the tables, by hand."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import pytest

from tfp_uqseg.evaluation import retention
from tfp_uqseg.experiments import (
    paper,
    reproduce_page,
    reproduce_plan,
    reproduce_results,
    reproduce_tables,
    reproduce_unit,
)

BUDGET = dataclasses.replace(
    reproduce_plan.SMALL,
    train_sizes=(5, 20),
    seeds=(0, 1),
    prior_sizes=(5,),
    prior_seeds=(0, 1),
)
Unit = reproduce_plan.Unit


def rows(values, part="test", **others):
    """Rows of patients a, b, ... with these Dice, as in a record."""
    return [
        {
            "part": part,
            "case": case,
            "region": region,
            **{"dice": value, "iou": value / 2, "image_dice": value, "image_iou": 0.0},
            **{"nll": 1 - value, "ece": 0.1, "voxel_pearson": 0.5},
            **{"voxel_spearman": None, "expected_entropy": value / 10},
            **{"predictive_entropy": value / 5, "mutual_information": value / 10},
            **others,
        }
        for region in ("WT", "TC")
        for case, value in zip("abcdef", values, strict=False)
    ]


def record(*patients, **others):
    patients = [row for part in patients for row in part]
    return {
        **{"patients": patients, "images": [], "num_draws": 10},
        **{"seconds_per_case": 1.5, **others},
    }


def results(records):
    return reproduce_results.Results(records, BUDGET, "WT")


def test_the_paper_is_quoted_in_its_own_numbers():
    assert paper.TABLE_2["ensemble_mc_dropout"] == {
        "validation": 0.2235,
        "test": 0.1213,
    }
    assert set(paper.TABLE_3) == set(paper.TABLE_4) == {5, 10, 15, 20}
    assert set(paper.TABLE_2_MEASURES) == set(paper.TABLE_2)


def test_a_mean_over_seeds_has_the_spread_of_the_seeds_means():
    units = [Unit("latent", "unet", 5, seed) for seed in (0, 1, 2)]
    found = results(
        {units[0]: record(rows([0.2, 0.6])), units[1]: record(rows([0.4, 0.8]))}
    ).over_seeds(units, "dice")
    assert found.value == pytest.approx(0.5)
    assert found.spread == pytest.approx(np.std([0.4, 0.6], ddof=1))
    # The patients' means over seeds are .3 and .7.
    assert (found.low, found.high) == pytest.approx((0.3, 0.7))


def test_table_3_has_a_row_per_size_and_is_empty_where_nothing_was_trained():
    units = {
        Unit("latent", "unet", 5, 0): record(rows([0.5, 0.7])),
        Unit("latent", "vnet", 20, 0): record(rows([0.9, 0.9])),
    }
    table = reproduce_tables.by_train_size(results(units), "dice")
    assert table.rows[0][:3] == ["train size", "paper", "unet: Dice"]
    cells = [[str(cell) for cell in row] for row in table.rows[1:]]
    assert cells[0] == ["5", "0.531", "0.600 [0.500, 0.700]", "", "", cells[0][2]]
    assert cells[1] == ["20", "0.643", "", "0.900 [0.900, 0.900]", "", ""]


def test_table_2_gives_both_kinds_and_says_which_the_paper_prints():
    split = {
        method: Unit(method, "unet", 20, 0)
        for method in ("mc_dropout", "deep_ensemble")
    }
    one = record(rows([0.5, 0.5], "validation"), rows([1.0, 1.0]))
    table = reproduce_tables.uncertainty(results(dict.fromkeys(split.values(), one)))
    by_row = {(row[0], row[1]): row for row in table.rows[1:]}
    dropout, ensemble = (
        by_row[name, "test"] for name in ("MC dropout", "deep ensembles")
    )
    assert dropout[2].value == 0.1217
    assert [cell.value for cell in dropout[4:]] == pytest.approx([0.1, 0.1, 0.2])
    assert [cell.value for cell in ensemble[4:]] == pytest.approx([0.2, 0.1, 0.2])
    assert by_row["MC dropout", "validation"][4].value == pytest.approx(0.05)
    assert by_row["ensemble MC dropout", "test"][4] == reproduce_results.NOTHING


def test_priors_are_compared_seed_by_seed_and_patient_by_patient():
    scores = {
        ("flipout", 0): [0.5, 0.7],
        ("flipout", 1): [0.6, 0.6],
        ("deep_weight", 0): [0.6, 0.9],
    }
    units = {
        Unit(method, "unet", 5, seed): record(rows(values))
        for (method, seed), values in scores.items()
    }
    table = reproduce_tables.priors(results(units))
    size, score, normal, deep, difference = table.rows[1]
    assert (size, score) == ("5", "Dice")
    assert normal.value == pytest.approx(0.6)
    assert deep.value == pytest.approx(0.75)
    # Seed 1 has no partner: only the pairs of seed 0 count.
    assert difference.value == pytest.approx(0.15)
    assert str(difference) == "+0.150 [+0.100, +0.200]"


def test_methods_are_compared_with_the_deterministic_network():
    units = {
        Unit("deterministic", "unet", 20, 0): record(rows([0.5, 0.5])),
        Unit("flipout", "unet", 20, 0): record(rows([0.6, 0.7])),
    }
    table = reproduce_tables.methods(results(units))
    names = [row[0] for row in table.rows[1:]]
    assert names == ["deterministic", "Flipout"]
    assert str(table.rows[1][2]) == ""
    assert str(table.rows[2][2]) == "+0.150 [+0.100, +0.200]"
    assert table.rows[2][-1].value == 1.5


def test_the_shifted_group_is_set_against_the_test_patients():
    unit = Unit("flipout", "unet", 20, 0)
    one = record(rows([0.2, 0.2]), rows([0.6, 0.6], "shifted"))
    table = reproduce_tables.shifted(results({unit: one}))
    assert str(table.rows[1][3]) == "+0.04000 [+0.04000, +0.04000]"
    without = reproduce_tables.shifted(results({unit: record(rows([0.2, 0.2]))}))
    assert len(without.rows) == 1


def test_a_method_without_epistemic_uncertainty_has_no_correlation():
    units = {
        Unit("deterministic", "unet", 20, 0): record(
            rows([0.1, 0.2, 0.3], mutual_information=0.0)
        ),
        Unit("latent", "unet", 20, 0): record(rows([0.1, 0.2, 0.3])),
    }
    table = reproduce_tables.together(results(units))
    assert [row[0] for row in table.rows[1:]] == ["latent (the paper's)"]
    assert table.rows[1][4].value == pytest.approx(1.0)
    assert str(table.rows[1][2]) == "0.50 [0.50, 0.50]"
    assert str(table.rows[1][3]) == ""


def test_figure_3_in_numbers_takes_at_least_the_share_that_is_named():
    found = retention.curve([0.1, 0.2, 0.3, 0.4], [1.0, 0.8, 0.6, 0.0])
    assert reproduce_tables.at_fraction(found, 1.0).value == pytest.approx(0.6)
    assert reproduce_tables.at_fraction(found, 0.75).value == pytest.approx(0.8)
    assert reproduce_tables.at_fraction(found, 0.7).value == pytest.approx(0.8)
    assert reproduce_tables.at_fraction(found, 0.5).value == pytest.approx(0.9)


def test_figure_3_orders_slices_and_leaves_empty_ones_out_of_dice():
    images = [
        {"part": "test", "uncertainty": u, "accuracy": a, "dice": d, "tumour": t}
        for u, a, d, t in [(0.1, 1.0, 1.0, False), (0.3, 0.8, 0.4, True)]
    ]
    unit = Unit("latent", "unet", 20, 0)
    curves = reproduce_tables.retention_of(
        results({unit: record(images=images)}), ["latent"]
    )
    assert list(curves) == ["test"]
    accuracy, dice = (curves["test"][name] for name in curves["test"])
    name = reproduce_tables.NAMES["latent"]
    assert accuracy[name].score.tolist() == pytest.approx([1.0, 0.9])
    assert dice[name].score.tolist() == [0.4]


def test_csv_keeps_ends_and_spreads_in_columns_of_their_own():
    number = reproduce_results.Number(0.5, 3, 0.25, 0.75)
    table = reproduce_tables.Table("t", "T", [["a", "b"], ["x, y", number], ["z", ""]])
    assert list(csv.reader(io.StringIO(table.csv()))) == [
        ["a", "b", "b low", "b high"],
        ["x, y", "0.5", "0.25", "0.75"],
        ["z", "", "", ""],
    ]
    assert "| x, y | 0.500 [0.250, 0.750] |" in table.markdown()


@pytest.mark.parametrize("scale", reproduce_plan.BUDGETS)
def test_the_settings_table_names_every_setting_of_the_paper(scale):
    table = reproduce_tables.settings(reproduce_plan.BUDGETS[scale])
    names = [row[0] for row in table.rows[1:]]
    assert names == [*paper.TABLE_1, *paper.OTHER_SETTINGS]


def test_the_scale_paper_keeps_table_1():
    table = reproduce_tables.settings(reproduce_plan.PAPER)
    for name, printed, used in table.rows[1 : 1 + len(paper.TABLE_1)]:
        assert used.removesuffix(" epochs") == printed, name


def test_voxels_that_do_not_vary_have_no_correlation():
    flat, rising = np.zeros(4), np.array([0.0, 0.1, 0.2, 0.3])
    assert reproduce_unit.correlations(rising, flat)["voxel_pearson"] is None
    both = reproduce_unit.correlations(rising, rising**2)
    assert both["voxel_spearman"] == pytest.approx(1.0)


def test_the_html_page_escapes_text_and_holds_its_figures(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "f.png").write_bytes(b"png")
    table = reproduce_tables.Table("t", "<T>", [["a", "b"], ["1 < 2", "3 [1, 5]"]])
    section = reproduce_page.Section("S & s", ["`code` <b>"], table, "f", ["- x\n- y"])
    page = reproduce_page.write(tmp_path, "Title", ["lead"], [section])
    text = page.with_suffix(".html").read_text("utf-8")
    assert '<td class="words">1 &lt; 2</td>' in text
    assert "<td>3 [1,&nbsp;5]</td>" in text
    assert "<h2>S &amp; s</h2>" in text
    assert "<code>code</code> &lt;b&gt;" in text
    assert "<li>y</li>" in text
    assert "data:image/png;base64,cG5n" in text
    assert "![S & s](figures/f.png)" in page.read_text("utf-8")
    assert (tmp_path / "tables" / "t.csv").read_text("utf-8") == (
        'a,b\n1 < 2,"3 [1, 5]"\n'
    )
