"""The demonstration, from its first file to its last word."""

from __future__ import annotations

import functools

import pytest

from tfp_uqseg import models
from tfp_uqseg.experiments import demo


@pytest.mark.slow
def test_the_demonstration_leaves_maps_tables_and_a_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "NUM_CASES", 3)
    monkeypatch.setattr(demo, "NUM_TEST", 1)
    monkeypatch.setattr(demo, "SHAPE", (32, 32, 4))
    monkeypatch.setattr(models, "build", functools.partial(models.build, depth=2))
    out = tmp_path / "demo"
    text = demo.demo(out, max_minutes=0.1, num_draws=2, verbose=False)
    assert "At most 0.1 minutes of training on 2 small patients" in text
    assert f"{out}/figure.png" in text
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    for name in ("maps", "maps_shifted"):
        (place,) = (out / name).iterdir()
        assert len(list(place.glob("*.nii.gz"))) == 16
    for name in ("report", "report_shifted"):
        assert (out / name / "patients.csv").read_text().count("\n") == 4
    assert (out / "run" / "latent.json").is_file()
    # Once more into the same folder; not into one with other files.
    demo.demo(out, max_minutes=0.1, num_draws=2, verbose=False)
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="must be new, or hold an earlier"):
        demo.demo(tmp_path, verbose=False)
