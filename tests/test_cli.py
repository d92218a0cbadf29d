"""The command `uqseg`, from its arguments to its exit code."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys

import pytest

import tfp_uqseg
from tfp_uqseg import cli
from tfp_uqseg.cli import arguments, predicting, texts
from tfp_uqseg.cli import command as command_module
from tfp_uqseg.data import phantom, splits
from tfp_uqseg.experiments import commands, config, runs

COMMANDS = (
    *("demo", "train", "prepare", "predict", "evaluate", "report"),
    *("calibrate", "phantom", "reproduce"),
)


def leaves(code, *arguments):
    """Run `uqseg` where argparse ends the process; check how."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert ended.value.code == code


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A small phantom made by the command."""
    out = tmp_path_factory.mktemp("story") / "phantom"
    options = ["--patients", 3, "--test-patients", 1, "--shape", 32, 32, 4]
    assert run("phantom", out, *options, "--raters", 2, "--shifts", "motion") == 0
    return out


@pytest.fixture(scope="module")
def trained(cohort):
    """A run made by the command."""
    out = cohort.parent / "run"
    options = ["--epochs", 1, "--base-filters", 2, "--method", "deterministic"]
    options += ["--precision", "float32", "--raters", "random", "--regions", "wt,TC"]
    assert run("train", cohort / "train", "--out", out, *options) == 0
    return out


@pytest.fixture(scope="module")
def maps(cohort, trained):
    """Maps made by the command."""
    out = cohort.parent / "maps"
    assert run("predict", trained, cohort / "test", "--out", out, "--draws", 2) == 0
    return out


def test_help_teaches_every_command(capsys):
    leaves(0, "--help")
    shown = capsys.readouterr().out
    assert all(f"uqseg {name}" in shown for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    leaves(0, command, "--help")
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert f"  uqseg {command}" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_every_example_can_be_parsed():
    for text in (
        texts.TRAIN,
        texts.PREPARE,
        texts.PREDICT,
        texts.EVALUATE,
        texts.PHANTOM,
        texts.DEMO,
        texts.REPRODUCE,
    ):
        joined = text.replace("\\\n", " ")
        for line in joined.splitlines():
            if line.startswith("  uqseg "):
                words = [word.strip('"') for word in line.split()[1:]]
                assert cli.parser().parse_args(words).command == words[0]


def test_version_is_shown(capsys):
    leaves(0, "--version")
    assert capsys.readouterr().out == f"uqseg {tfp_uqseg.__version__}\n"


def test_no_command_shows_the_help_and_is_wrong(capsys):
    assert run() == 2
    assert "uqseg demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "the following arguments are required: DATA, --out"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "d", "--out", "r", "--epochs", "0"], "a whole number above 0"),
        (["train", "d", "--out", "r", "--epochs", "x"], "got 'x'"),
        (["train", "d", "--out", "r", "--max-minutes", "-1"], "a number above 0"),
        (["train", "d", "--out", "r", "--learning-rate", "nan"], "a number above 0"),
        (["train", "d", "--out", "r", "--seed", "-1"], "0 to 2147483647"),
        (["train", "d", "--out", "r", "--method", "magic"], "invalid choice: 'magic'"),
        (["train", "d", "--out", "r", "--regions", "XX"], "'XX' is no region"),
        (["train", "d", "--out", "r", "--label-scheme", "x"], "invalid choice: 'x'"),
        (["train", "d", "--out", "r", "--augment", "x"], "invalid choice: 'x'"),
        (["train", "d", "--out", "r", "--schedule", "x"], "invalid choice: 'x'"),
        (["train", "d", "--out", "r", "--weight-decay", "-1"], "a number, 0 or more"),
        (["train", "d", "--out", "r", "--early-stopping", "0"], "number above 0"),
        (["prepare", "d"], "the following arguments are required: --out"),
        (["prepare", "d", "--out", "s", "--workers", "0"], "a whole number above 0"),
        (["prepare", "d", "--out", "s", "--raters", "mean"], "unrecognized arguments"),
        (["predict", "r", "d", "--out", "m", "--draws", "0"], "a whole number above 0"),
        (["predict", "r", "d", "--out", "m", "--part", "x"], "invalid choice: 'x'"),
        (["phantom", "p", "--shape", "32"], "expected 3 arguments"),
        (["phantom", "p", "--shifts", "earthquake"], "invalid choice: 'earthquake'"),
    ],
)
def test_wrong_arguments_end_with_two(words, message, capsys):
    leaves(2, *words)
    assert message in capsys.readouterr().err


def test_names_may_be_apart_or_together():
    words = ["train", "d", "--out", "r", "--regions", "wt,tc", "ET"]
    words += ["--modalities", "flair,t1", "t2"]
    options = cli.parser().parse_args(words)
    assert options.regions == ["WT", "TC", "ET"]
    assert options.modalities == ["flair", "t1", "t2"]


def test_options_of_train_that_are_left_out_stay_open():
    options = vars(cli.parser().parse_args(["train", "d", "--out", "r"]))
    assert not [name for name in commands._SETTINGS if options.get(name) is not None]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--augment", "mri"], "mri"),
        (["--augment", "none"], "none"),
        (["--no-augment"], "none"),
    ],
)
def test_an_augmentation_may_be_named_or_left_out(words, expected):
    options = cli.parser().parse_args(["train", "d", "--out", "r", *words])
    assert options.augment == expected


def test_options_of_the_learning_rate_are_settings():
    words = ["train", "d", "--out", "r", "--optimizer", "sgd", "--weight-decay", "0.1"]
    words += ["--schedule", "cyclical-plateau", "--cycle-epochs", "4"]
    words += ["--plateau-patience", "3", "--early-stopping", "9"]
    options = vars(cli.parser().parse_args(words))
    given = {name: options[name] for name in commands._SETTINGS if name in options}
    found = config.TrainConfig(**{k: v for k, v in given.items() if v is not None})
    assert (found.optimizer, found.weight_decay) == ("sgd", 0.1)
    assert (found.schedule, found.cycle_epochs) == ("cyclical-plateau", 4)
    assert (found.plateau_patience, found.early_stopping) == (3, 9)


def test_lists_that_the_parser_holds_are_those_of_the_package():
    assert predicting.PARTS == splits.PARTS
    assert arguments.SHIFTS == phantom.SHIFTS
    assert set(commands.COMMANDS) == set(COMMANDS)


@pytest.fixture(scope="module")
def prepared(cohort):
    """Shards made by the command."""
    out = cohort.parent / "shards"
    options = ["--regions", "wt,TC", "--modalities", "t1ce", "flair", "--workers", 1]
    assert run("prepare", cohort / "train", "--out", out, *options) == 0
    return out


def test_prepare_says_what_comes_next_and_goes_on(prepared, cohort, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in prepared.iterdir()}
    options = ["--regions", "WT", "TC", "--modalities", "t1ce,flair", "--check"]
    assert run("prepare", cohort / "train", "--out", prepared, *options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert f"3 prepared studies, 0.0 GB, are in {prepared}. Next:" in captured.out
    assert f"  uqseg train {prepared} --out RUN" in captured.out
    after = {path.name: path.stat().st_mtime_ns for path in prepared.iterdir()}
    assert {n: t for n, t in before.items() if n != "index.json"} == {
        n: t for n, t in after.items() if n != "index.json"
    }


def test_train_learns_the_same_from_shards(prepared, cohort, tmp_path, capsys):
    options = ["--epochs", 1, "--base-filters", 2, "--method", "deterministic"]
    options += ["--precision", "float32", "--raters", "random"]
    assert run("train", prepared, "--out", tmp_path / "one", *options) == 0
    next_command = f"uqseg predict {tmp_path / 'one'} {prepared} --out MAPS"
    assert next_command in capsys.readouterr().out
    options += ["--modalities", "t1ce", "flair", "--regions", "WT", "TC"]
    assert run("train", cohort / "train", "--out", tmp_path / "other", *options) == 0
    one, other = (tmp_path / name for name in ("one", "other"))
    assert config.load(one / "config.json") == config.load(other / "config.json")
    assert (one / "split.json").read_text() == (other / "split.json").read_text()
    rows = [runs.read_history(runs.open_run(place))[0] for place in (one, other)]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-4)
    # The studies that the shards were made from are still there to be predicted.
    maps = tmp_path / "maps"
    assert run("predict", one, prepared, "--out", maps, "--draws", 2) == 0
    assert run("train", prepared, "--out", one, "--resume", "--epochs", 1) == 0


def test_train_takes_the_intensity_of_the_shards(cohort, tmp_path, capsys):
    out = tmp_path / "shards"
    words = ["prepare", cohort / "train", "--out", out, "--intensity", "rescale"]
    assert run(*words) == 0
    assert run("prepare", cohort / "train", "--out", out) == 1
    assert "`--intensity` must be that of" in capsys.readouterr().err
    words = ["train", out, "--out", tmp_path / "run", "--epochs", 1]
    words += ["--base-filters", 2, "--method", "deterministic"]
    assert run(*words, "--intensity", "zscore") == 1
    assert "`--intensity` must be that of" in capsys.readouterr().err
    assert run(*words) == 0
    assert config.load(tmp_path / "run" / "config.json").intensity == "rescale"


def test_damaged_shards_end_a_training_with_one_line(cohort, tmp_path, capsys):
    out = tmp_path / "shards"
    assert run("prepare", cohort / "train", "--out", out) == 0
    path = out / "phantom_train_001.tfrecord"
    content = bytearray(path.read_bytes())
    content[1000::1000] = bytes(len(content[1000::1000]))
    path.write_bytes(content)
    options = ["--epochs", 1, "--base-filters", 2, "--method", "deterministic"]
    assert run("train", out, "--out", tmp_path / "run", *options) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"uqseg: error: Case phantom_train_001, file {path}: ")
    assert last.endswith(
        "Delete the file, and run `uqseg prepare` again: it makes this one anew."
    )


def test_prepare_leaves_cases_without_labels_out(cohort, tmp_path, capsys):
    place = shutil.copytree(cohort / "train", tmp_path / "train")
    for path in (place / "phantom_train_000").iterdir():
        if "seg" in path.name or "rater" in path.name:
            path.unlink()
    assert run("prepare", place, "--out", tmp_path / "shards") == 0
    captured = capsys.readouterr()
    assert "1 of 3 cases have no labels; left out" in captured.err
    assert "2 prepared studies" in captured.out


def test_the_phantom_has_its_parts(cohort):
    names = sorted(path.name for path in cohort.iterdir())
    assert names == ["motion", "phantom.json", "test", "train"]


def test_train_keeps_what_it_was_told(trained):
    found = config.load(trained / "config.json")
    assert found.method == "deterministic"
    assert found.regions == ("WT", "TC")
    assert found.raters == "random"
    assert found.epochs == 1


def test_train_says_what_comes_next(trained, cohort, capsys):
    options = ["--resume", "--epochs", 1, "--regions", "WT", "TC"]
    assert run("train", cohort / "train", "--out", trained, *options) == 0
    captured = capsys.readouterr()
    assert f"uqseg predict {trained} {cohort / 'train'} --out MAPS" in captured.out
    assert "is complete: 1 epochs" in captured.err


def test_predict_writes_maps_and_leaves_them_on_a_second_run(
    maps, trained, cohort, capsys
):
    case = next(maps.iterdir())
    assert (case / f"{case.name}_unc_whole.nii.gz").is_file()
    assert run("predict", trained, cohort / "test", "--out", maps, "--draws", 2) == 0
    captured = capsys.readouterr()
    assert "1 of 1 cases are in" in captured.err
    assert f"uqseg evaluate {maps} {cohort / 'test'} --out REPORT" in captured.out


def test_evaluate_prints_and_writes_the_table(maps, cohort, tmp_path, capsys):
    words = ["evaluate", maps, cohort / "test", "--out", tmp_path / "report"]
    shutil.copytree(maps, tmp_path / "others")
    assert run(*words, "--against", tmp_path / "others") == 0
    shown = capsys.readouterr().out
    assert "Dice" in shown
    assert "Paired differences" in shown
    with open(tmp_path / "report" / "patients.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["region"] for row in rows] == ["WT", "TC"]


def test_evaluate_scores_the_cases_it_was_told(maps, cohort, tmp_path, capsys):
    words = ["evaluate", maps, cohort / "train", "--out", tmp_path / "report"]
    assert run(*words) == 1
    assert "must hold predictions of the cases" in capsys.readouterr().err
    assert run(*words, "--cases", "nobody") == 1
    assert "got 'nobody'" in capsys.readouterr().err
    assert run(*words, "--part", "test") == 1
    assert "`--part` needs `--split FILE`" in capsys.readouterr().err
    split = tmp_path / "split.json"
    splits.Split((), (), ("phantom_train_000",)).save(split)
    assert run(*words, "--split", split) == 1
    assert "phantom_train_000: it must have been predicted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "{empty}", "--out", "{new}"], "holds nothing"),
        (["train", "{absent}", "--out", "{new}"], "is missing"),
        (["train", "{data}", "--out", "{run}"], "already holds a training run"),
        (["train", "{data}", "--out", "{new}", "--resume"], "holds no training run"),
        (
            ["train", "{data}", "--out", "{run}", "--resume", "--seed", "5"],
            "`--seed` must stay 0 in a resumed run; got 5",
        ),
        (["train", "{data}", "--out", "{new}", "--split", "{absent}"], "not exist"),
        (
            ["train", "{data}", "--out", "{new}", "--modalities", "pet"],
            "'pet' is missing",
        ),
        (
            ["train", "{data}", "--out", "{new}", "--regions", "tumour"],
            "`--regions WT` for the whole tumour",
        ),
        (["prepare", "{empty}", "--out", "{new}"], "holds nothing"),
        (["prepare", "{absent}", "--out", "{new}"], "is missing"),
        (["prepare", "{data}", "--out", "{data}"], "`--out` must be a new or empty"),
        (["prepare", "{shards}", "--out", "{new}"], "is prepared already"),
        (["prepare", "{data}", "--out", "{shards}"], "`--modalities` must be that of"),
        (
            ["prepare", "{data}", "--out", "{new}", "--modalities", "x"],
            "'x' is missing",
        ),
        (
            ["train", "{shards}", "--out", "{new}", "--modalities", "t2"],
            "`--modalities` must be that of the prepared studies",
        ),
        (
            ["train", "{shards}", "--out", "{new}", "--pattern", "{{case}}.nii"],
            "`--pattern` is for a folder of studies",
        ),
        (
            ["train", "{shards}", "--out", "{new}", "--regions", "tumour"],
            "`--regions WT` for the whole tumour",
        ),
        (["predict", "{empty}", "{data}", "--out", "{new}"], "holds no training run"),
        (["predict", "{run}", "{empty}", "--out", "{new}"], "holds nothing"),
        (["predict", "{run}", "{data}", "--out", "{new}", "--cases", "x"], "got 'x'"),
        (["evaluate", "{absent}", "{data}", "--out", "{new}"], "is missing"),
        (["phantom", "{data}"], "must be new or empty"),
        (["phantom", "{new}", "--shape", "8", "8", "8"], "at least 32 x 32"),
        (["demo", "--out", "{data}"], "must be new, or hold an earlier"),
    ],
)
def test_what_cannot_be_used_ends_with_one_and_a_line(
    words, message, cohort, trained, prepared, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    places = {
        "empty": tmp_path / "empty",
        "absent": tmp_path / "absent",
        "new": tmp_path / "new",
        "data": cohort / "train",
        "run": trained,
        "shards": prepared,
    }
    assert run(*[word.format(**places) for word in words]) == 1
    error = capsys.readouterr().err
    last = error.splitlines()[-1]
    assert last.startswith("uqseg: error: ")
    assert message in last
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()


@pytest.fixture
def command(monkeypatch):
    """A function that makes `uqseg demo` raise an error."""

    def put(error):
        def fail(options):
            raise error

        monkeypatch.setitem(commands.COMMANDS, "demo", fail)
        monkeypatch.setitem(commands.COMMANDS, "train", fail)
        monkeypatch.setitem(commands.COMMANDS, "prepare", fail)

    return put


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("`x` must be 1; got 2."), "`x` must be 1; got 2."),
        (KeyError("lost"), "KeyError: 'lost' (`--debug` shows where)"),
        (
            ValueError('pass `label_scheme="binary"` or `regions=("WT", "TC")`.'),
            "pass `--label-scheme binary` or `--regions WT TC`.",
        ),
        (ValueError("`modalities` must be; `x` is"), "`--modalities` must be; `x` is"),
        (RuntimeError("in user code:\n\n  File x\n\n  the cause"), "RuntimeError: the"),
        (MemoryError(), "MemoryError: MemoryError"),
        (PermissionError(13, "Permission denied", "maps"), "maps: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_any_error_is_one_line(command, error, line, capsys):
    command(error)
    assert run("train", "d", "--out", "r") == 1
    shown = capsys.readouterr().err
    assert shown.startswith("uqseg: error: ")
    assert line in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize("words", [["--debug", "demo"], ["demo", "--debug"]])
def test_debug_shows_where_an_error_comes_from(command, words):
    command(KeyError("lost"))
    with pytest.raises(KeyError, match="lost"):
        run(*words)


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(command, capsys):
    command(KeyboardInterrupt())
    assert run("train", "brats", "--out", "run") == 130
    assert "`uqseg train brats --out run --resume` goes on" in capsys.readouterr().err


def test_ctrl_c_repeats_where_the_files_are(command, capsys):
    command(KeyboardInterrupt())
    pattern = "{case}/{modality} a.nii.gz"
    run("train", "brats", "--out", "run", "--pattern", pattern)
    told = (
        "`uqseg train brats --out run --resume --pattern '{case}/{modality} a.nii.gz'`"
    )
    assert told in capsys.readouterr().err


def test_ctrl_c_while_preparing_says_how_to_go_on(command, capsys):
    command(KeyboardInterrupt())
    assert run("prepare", "brats", "--out", "shards") == 130
    assert "goes on with the studies that are left" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error(command, capfd):
    command(BrokenPipeError())
    assert run("demo") == 0
    assert capfd.readouterr().err == ""


def uqseg(*words):
    code = "import sys; from tfp_uqseg import cli; sys.exit(cli.main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_a_process_says_nothing_but_what_we_say(cohort, trained, tmp_path):
    options = ["--epochs", 1, "--base-filters", 2, "--method", "deterministic"]
    result = uqseg("train", cohort / "train", "--out", tmp_path / "run", *options)
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("epoch 1/1: loss")
    result = uqseg("predict", trained, cohort / "test", "--out", tmp_path / "maps")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stderr.splitlines()] == [
        "predicting",
        "case",
    ]


@pytest.mark.slow
def test_a_process_with_bad_data_ends_with_one(tmp_path):
    result = uqseg("train", tmp_path, "--out", tmp_path / "run")
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("uqseg: error: ")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Case TCGA:UserWarning")  # air is not 0 there
def test_binary_studies_named_as_in_brats_go_the_whole_way(real_data, tmp_path, capsys):
    data = real_data / "lgg128"
    ids = sorted(path.name for path in data.iterdir() if path.is_dir())[:3]
    split = tmp_path / "split.json"
    split.write_text(
        json.dumps({"train": ids[:1], "validation": ids[1:2], "test": ids[2:]})
    )
    words = ["train", data, "--out", tmp_path / "run", "--split", split]
    words += ["--base-filters", 2, "--epochs", 1, "--method", "deterministic"]
    assert run(*words) == 1
    assert "`--label-scheme brats2018`" in capsys.readouterr().err
    assert run(*words, "--regions", "tumour") == 0
    maps, report = tmp_path / "maps", tmp_path / "report"
    words = ("predict", tmp_path / "run", data, "--out", maps, "--part", "test")
    assert run(*words) == 0
    assert [path.name for path in maps.iterdir()] == ids[2:]
    assert run("evaluate", maps, data, "--out", report, "--regions", "tumour") == 0
    assert ids[2] in capsys.readouterr().out


def test_the_next_command_can_be_pasted(capsys):
    options = argparse.Namespace(pattern="{case}/{modality}.nii", label_pattern=None)
    commands._say_next("predict", options, "my run", "data", "--out", "MAPS")
    assert capsys.readouterr().out == (
        "  uqseg predict 'my run' data --out MAPS --pattern '{case}/{modality}.nii'\n"
    )


def test_an_error_inside_a_traced_function_is_told_in_one_line():
    text = """in user code:

    File "x.py", line 3, in train_step
        logits = self(images)

    ValueError: Exception encountered when calling layer 'x'.

    ValueError: `images` must have extents that are multiples of 32; got (48, 48).

    Call arguments received by layer 'x':
      \u2022 mask=None
"""
    line = command_module._one_line(ValueError(text))
    assert line.startswith("`images` must have extents")
