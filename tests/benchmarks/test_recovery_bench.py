"""The comparison of recoveries with the peer: seed by seed, and nothing more than holds."""

import pytest

from benchmarks.recovery import OURS, RESULTS, against, cells


def record(seed: int, **rows: tuple[float, float]) -> dict:
    named = {k.replace("_", " ").replace("peer", "torch-pruning"): v for k, v in rows.items()}
    return {
        "task": "t", "seed": seed, "ratio": 0.5,
        "rows": {k: {"before": b, "after": a} for k, (b, a) in named.items()},
    }  # fmt: skip


def test_ours_is_compared_with_the_criterion_that_came_out_best():
    pytest.importorskip("scipy")
    records = [
        record(0, ours=(0.90, 0.80), peer_a=(0.50, 0.81), peer_b=(0.60, 0.70)),
        record(1, ours=(0.92, 0.82), peer_a=(0.52, 0.81), peer_b=(0.62, 0.70)),
        record(2, ours=(0.94, 0.84), peer_a=(0.54, 0.84), peer_b=(0.64, 0.70)),
    ]
    before, after = against(records, ("ours",))
    assert (before.peer, before.moment, before.words) == ("b", "before", "ahead")
    assert before.mean == pytest.approx(30) and before.half == pytest.approx(0, abs=1e-9)
    assert (after.peer, after.moment, after.words) == ("a", "after", "within noise")
    assert after.mean == pytest.approx(0)
    # Differences -1, 1, 0: standard error 1 / sqrt(3), Student's t of 2 degrees of freedom 4.303.
    assert after.half == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert (after.ahead, after.level, after.behind) == (1, 1, 1)
    assert cells(after)[7:] == ["+0.00 ± 2.48", "3", "1, 1, 1", "within noise"]


def test_of_several_of_ours_the_best_is_taken_as_of_theirs():
    pytest.importorskip("scipy")
    records = [
        record(s, one=(0.7, 0.9), two=(0.8, 0.8), peer_a=(0.5, 0.5), peer_b=(0.1, 0.1))
        for s in (0, 1)
    ]
    assert [(a.way, a.peer) for a in against(records, ("one", "two"))] == [
        ("two", "a"),
        ("one", "a"),
    ]


def test_a_criterion_that_failed_once_does_not_count_and_seeds_without_ours_neither():
    pytest.importorskip("scipy")
    records = [record(s, ours=(0.9, 0.8), peer_a=(0.99, 0.99), peer_b=(0.1, 0.1)) for s in (0, 1)]
    records[1]["rows"]["torch-pruning a"] = {"failed": "RuntimeError"}
    assert {a.peer for a in against(records, ("ours",))} == {"b"}
    del records[0]["rows"]["ours"]
    assert against(records, ("ours",)) == []


def test_what_is_kept_is_compared_wherever_two_seeds_have_it():
    pytest.importorskip("scipy")
    import json
    from collections import Counter

    records = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))]
    have = Counter((r["task"], r["ratio"]) for r in records if OURS in r["rows"])
    assert have
    found = {(a.task, a.ratio): a.seeds for a in against(records)}
    assert found == {point: n for point, n in have.items() if n > 1}
