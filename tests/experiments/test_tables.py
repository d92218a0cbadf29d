from __future__ import annotations

from tfp_uqseg.experiments import tables


def row(case, region="WT", **values):
    return {**dict.fromkeys(tables.COLUMNS), "case": case, "region": region, **values}


def test_means_leave_out_patients_without_a_value():
    rows = [row("a", dice=0.5), row("b", dice=0.7), row("c"), row("a", "ET", dice=1.0)]
    means = tables.means(rows, level=0.95, seed=0)
    assert list(means) == ["WT", "ET"]
    assert means["WT"]["patients"] == 3
    assert means["WT"]["metrics"]["dice"] == {
        "mean": 0.6,
        "low": 0.5,
        "high": 0.7,
        "patients": 2,
    }
    assert means["ET"]["metrics"]["dice"]["low"] is None
    assert means["WT"]["images"] is None


def test_differences_take_patients_that_both_have():
    rows = [row("a", dice=0.5), row("b", dice=0.7), row("c", dice=0.9)]
    others = [row("b", dice=0.5), row("a", dice=0.4), row("c")]
    found = tables.differences(rows, others, level=0.95, seed=0)
    assert found["WT"]["dice"]["patients"] == 2
    assert abs(found["WT"]["dice"]["mean"] - 0.15) < 1e-12


def test_csv_leaves_absent_values_empty_and_writes_flags_as_numbers():
    text = tables.as_csv([row("a", dice=0.25, both_empty=False, images=3)])
    header, line = text.splitlines()
    cells = dict(zip(header.split(","), line.split(","), strict=True))
    assert cells["dice"] == "0.25"
    assert cells["both_empty"] == "0"
    assert cells["images"] == "3"
    assert cells["nll"] == ""


def test_a_long_table_is_cut_in_the_terminal_alone():
    rows = [["case", "Dice"], *([f"case {k}", "0.5"] for k in range(100))]
    assert tables.plain(rows).endswith("... and 40 rows more")
    assert len(tables.markdown(rows).splitlines()) == 102


def test_cells_line_up():
    assert tables.plain([["case", "Dice"], ["a", "0.5"]]) == (
        "case  Dice\n----  ----\na      0.5"
    )
    assert tables.markdown([["case", "Dice"], ["a", "0.5"]]) == (
        "| case | Dice |\n| --- | ---: |\n| a | 0.5 |"
    )
    rows = [["size", "score", "change", "none"], ["5", "Dice", "+0.1", ""]]
    assert tables.hold_words(rows) == [True, True, False, False]
