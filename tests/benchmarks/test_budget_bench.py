"""The benchmarks of budgets run and say what they measured, on the smallest case."""

import json

import pytest
import torch

from benchmarks import allocation


def test_allocations_are_compared(tmp_path, capsys):
    pytest.importorskip("sklearn")
    out = tmp_path / "allocation.json"
    arguments = ["--models", "tiny", "--seeds", "0", "--targets", "2", "--out", str(out)]
    found = allocation.main([*arguments, "--variants", "local", "sensitivity"])
    assert [r["allocation"] for r in found["rows"]] == ["local", "sensitivity"]
    assert all(r["reached"] <= 0.5 for r in found["rows"])
    assert "mean rank" in capsys.readouterr().out
    again = allocation.main([*arguments, "--variants", "local", "sensitivity"])
    assert again["rows"] == json.loads(out.read_text())["rows"]


def test_latency_of_pruned_networks(monkeypatch, tmp_path):
    pytest.importorskip("torch_pruning")
    from benchmarks import latency
    from sentei.allocation.table import LatencyTable
    from sentei.tasks.models import digits_resnet
    from tests.allocation.test_latency import Formula

    def build(name):
        torch.manual_seed(0)
        return digits_resnet(width=16, channels=3).eval()

    monkeypatch.setattr(latency, "build", build)
    monkeypatch.setattr(latency, "IMAGE", 8)
    table = LatencyTable(stopwatch=Formula(), folder=False, progress=False)
    row = latency.measure("digits", 0.5, 1, 0.0, table)
    assert row["trouble"] == {}
    arms = {"ours", "ours/depth", "ours/even", "ours/1", "peer", "peer/8", "ours=peer/8"}
    assert {*row["arms"]} == arms
    assert all(r["macs"] <= 0.5 for r in row["arms"].values())
    assert row["peer over ours"]["best"] > 0
    assert "median of 1" in latency.show([row])
