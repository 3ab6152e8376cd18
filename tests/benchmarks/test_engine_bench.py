"""The benchmark of the engine runs; how long it takes is not asserted."""

import importlib.util
import json
from pathlib import Path


def test_engine_benchmark_runs_on_a_tiny_model(tmp_path, capsys):
    path = Path(__file__).parents[2] / "benchmarks" / "engine.py"
    spec = importlib.util.spec_from_file_location("engine_benchmark", path)
    engine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(engine)
    out = tmp_path / "engine.json"
    arguments = ["--models", "tiny", "--repeats", "2", "--layers", "0", "--out", str(out)]
    engine.main(arguments)
    results = json.loads(out.read_text())
    (row,) = results["models"]
    assert row["groups"] == 1
    assert row["ours / forward"]["min"] <= row["ours / forward"]["max"]
    assert results["versions"]["torch"]
    assert "tiny" in capsys.readouterr().out
