"""Curves, ranks, findings and rules from records that were made up to know the answer."""

import json

import pytest

from sentei.bench import Store
from sentei.bench.curves import curves, label
from sentei.bench.findings import check
from sentei.bench.ranks import _holm, nemenyi, rank
from sentei.bench.report import cell, write_report
from sentei.bench.rules import rules
from sentei.graph.errors import PruneError


def record(method, target, seed, accuracy, *, task="digits", model="mlp", options=None, **more):
    return {
        "run": {"task": task, "model": model, "method": method, "target": target, "seed": seed,
                "axis": "weights", "options": options or {}, "training": {"epochs": 1}},
        "accuracy": accuracy, "top5": 1.0, "loss": 1 - accuracy,
        "control": {"accuracy": 0.98, "top5": 1.0, "loss": 0.1},
        "compression": target, "speedup": more.get("speedup", target),
        "latency": {"before": 1.0, "after": 1.0}, "bytes": {"before": 100, "after": 50},
        "steps": {"dense": 10, "method": 5},
    }  # fmt: skip


def store(tasks=("digits", "shapes", "karate")):
    made = []
    for task in tasks:
        for seed in range(3):
            made.append(record("dense", 1.0, seed, 0.98, task=task))
            for target in (2.0, 4.0, 8.0, 16.0, 32.0):
                fall = target / 100
                for method, options, worse in (
                    ("han-magnitude", {}, 0.1 if target == 32 else 0),
                    ("han-magnitude", {"scope": "uniform"}, 0.02),
                    ("random", {}, 2 * fall),
                    ("agp", {}, -0.01),
                ):
                    made.append(
                        record(method, target, seed, 0.98 - fall * (target > 2) - worse
                               + 0.001 * seed * (method != "agp"),
                               task=task, options=options,
                               speedup=target * (1.3 if options else 1))
                    )  # fmt: skip
    return made


def test_points_are_means_and_sample_deviations():
    found = curves([record("x", 2.0, s, a) for s, a in enumerate((0.5, 0.6, 0.7))])
    (point,) = found[0].points
    assert point.accuracy == pytest.approx(0.6) and point.accuracy_std == pytest.approx(0.1)
    assert point.seeds == (0, 1, 2) and found[0].pair == "digits/mlp"
    assert label({"method": "x", "options": {}}) == "x"


def test_mixed_controls_are_refused():
    other = record("x", 2.0, 1, 0.5)
    other["run"]["training"] = {"epochs": 2}
    with pytest.raises(ValueError, match="different trainings"):
        curves([record("x", 2.0, 0, 0.5), other])


def test_ranks():
    found = curves(store())
    told = rank(found, 32.0)
    assert list(told.ranks) == ["agp", "han-magnitude (scope=uniform)", "han-magnitude", "random"]
    assert list(told.ranks.values()) == [1, 2, 3, 4]
    # All blocks agree: chi² = 12 k (k + 1)... = 9 with three blocks and four methods.
    assert told.friedman == pytest.approx(0.0293, abs=1e-3)
    assert told.critical == pytest.approx(nemenyi(4, 3))
    assert len(told.wilcoxon) == 6 and all(0 < p <= 1 for p in told.wilcoxon.values())
    with pytest.raises(PruneError, match="fewer than two"):
        rank(found, 3.0)


def test_a_method_that_was_not_run_everywhere_is_not_ranked():
    found = curves([*store(), record("lamp", 32.0, 0, 0.9)])
    assert "lamp" not in rank(found, 32.0).ranks


def test_pairs_are_compared_seed_by_seed():
    stats = pytest.importorskip("scipy.stats")
    one = {0: 0.90, 1: 0.10, 2: 0.80, 3: 0.75, 4: 0.60, 5: 0.55}
    two = {0: 0.85, 2: 0.78, 3: 0.74, 4: 0.56, 5: 0.58}  # seed 1 gave no result
    made = [record("a", 2.0, s, a) for s, a in one.items()]
    made += [record("b", 2.0, s, a) for s, a in two.items()]
    told = rank(curves(made), 2.0)
    asked = stats.wilcoxon([one[s] - two[s] for s in two]).pvalue
    assert told.wilcoxon["a", "b"] == pytest.approx(asked)
    assert told.friedman is None and told.ranks == {"b": 1.0, "a": 2.0}


def test_several_comparisons_are_corrected_by_holm():
    found = {"ab": 0.01, "bc": 0.04, "ac": 0.03}
    # Ascending: 3 · .01, then 2 · .03, then .04 but no less than the one before.
    assert _holm(found) == pytest.approx({"ab": 0.03, "bc": 0.06, "ac": 0.06})
    assert _holm({"ab": 0.9, "bc": 0.8}) == {"ab": 1.0, "bc": 1.0}


def test_a_better_small_architecture_is_set_beside_a_pruned_large_one():
    def sized(size, **more):
        return record(**more) | {"bytes": {"before": 900, "after": size}}

    large = [sized(900, method="dense", target=1.0, seed=0, accuracy=0.90, model="large")]
    small = [sized(300, method="dense", target=1.0, seed=0, accuracy=0.95, model="small")]
    for accuracy, verdict in ((0.94, "holds"), (0.96, "does not hold")):
        pruned = [
            sized(250, method="x", target=4.0, seed=0, accuracy=accuracy, model="large"),
            sized(400, method="x", target=2.0, seed=0, accuracy=0.99, model="large"),  # too large
        ]
        told = {f.id: f for f in check(curves([*large, *small, *pruned]))}
        assert told["F6"].verdict == verdict and len(told["F6"].evidence) == 1
    held = {r.id: r.held for r in rules(curves([*large, *small]))}
    assert held["R11"] and not held["R1"]
    assert not {r.id: r.held for r in rules(curves(large))}["R11"]


def test_a_cell_says_what_one_seed_is_and_what_missed_its_target():
    def cell_of(*made):
        return cell(curves(made)[0].points[0])

    assert cell_of(record("x", 2.0, 0, 0.5)) == "50.0 (one seed)"
    assert cell_of(record("x", 2.0, 0, 0.5), record("x", 2.0, 1, 0.5)) == "50.0 ± 0.0"
    missed = record("x", 8.0, 0, 0.5) | {"compression": 7.04}
    assert cell_of(missed) == "50.0 (one seed) at 7.04x"
    assert cell(None) == "–"


def test_findings_are_judged_by_the_figures():
    told = {f.id: f for f in check(curves(store()))}
    assert told["F2"].verdict == told["F3"].verdict == told["G1"].verdict == "holds"
    assert told["F4"].verdict == "does not hold"  # global fell below uniform at 32x
    assert told["F4b"].verdict == told["F7"].verdict == told["F9"].verdict == "holds"
    assert len(told["F3"].evidence) == 3 and "at 32x" in told["F3"].evidence[0]
    empty = {f.verdict for f in check([])}
    assert empty == {"open"}


def test_the_checklist():
    told = {r.id: r for r in rules(curves(store()))}
    assert not told["R1"].held and "none is large-scale" in told["R1"].found
    assert all(told[i].held for i in ("R3", "R4", "R5", "R6", "R9", "R10"))
    few = {r.id: r for r in rules(curves([record("lamp", 2.0, 0, 0.9)]))}
    assert not few["R4"].held and not few["R5"].held and not few["R6"].held
    assert "random" in few["R9"].found


def filled(folder, records=None):
    made = Store(folder)
    for i, r in enumerate(records or store()):
        r |= {"versions": {"torch": "2"}, "machine": {"processor": "x", "threads": 1}}
        made.add(f"{i:04}", r)
    return made


def test_the_report_says_it_all_and_asks_nobody(tmp_path):
    pytest.importorskip("plotly")
    made = filled(tmp_path / "store")
    made.fail("abc", {"run": record("snip", 64.0, 0, 0.0)["run"], "error": "<out of reach>"})
    files = write_report(made, tmp_path / "out")
    page, text = files["html"].read_text(), files["md"].read_text()
    for words in ("digits/mlp", "agp", "Friedman", "does not hold", "R9", "91.0 ± 0.0"):
        assert words in text, words
    assert "&lt;out of reach&gt;" in page and page.count('class="plot"') == 6
    # Nothing is loaded from anywhere (plotly's own code names its home page in comments).
    own = page.replace(page[page.index("<script>") : page.index("</script>")], "")
    assert "http" not in own and "src=" not in own
    plain = json.loads(files["json"].read_text())
    assert plain["runs"] == 3 * 3 * 21 and len(plain["rankings"]) == 5


def test_an_empty_store_says_so(tmp_path):
    with pytest.raises(PruneError, match="holds no results"):
        write_report(Store(tmp_path), tmp_path)
