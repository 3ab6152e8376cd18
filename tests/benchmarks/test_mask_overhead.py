import json

from benchmarks import mask_overhead


def test_it_runs_on_a_tiny_model(tmp_path, capsys):
    out = tmp_path / "out.json"
    mask_overhead.main(["--models", "tiny", "--turns", "2", "--steps", "3", "--out", str(out)])
    (row,) = json.loads(out.read_text())["rows"]
    ratio = row["masked / dense"]
    assert row["weights"] == 48 and ratio["min"] <= ratio["median"] <= ratio["max"]
    assert "tiny" in capsys.readouterr().out
