"""The records of claims say what their figures say, and nothing is left out."""

import json

import pytest

from benchmarks.claims import load
from benchmarks.claims.__main__ import RESULTS
from sentei.methods import METHODS

CLAIMS = load()


def test_every_claim_has_a_record_and_every_record_a_claim():
    assert set(CLAIMS) == {p.stem for p in RESULTS.glob("*.json")}
    told = {name.partition("-")[0] for name in CLAIMS}
    assert {m.card for m in METHODS.values() if m.card} <= told


@pytest.mark.parametrize("card", CLAIMS)
def test_a_record_says_what_its_figures_say(card):
    claim, record = CLAIMS[card], json.loads((RESULTS / f"{card}.json").read_text())
    assert (record["statement"], record["paper"]) == (claim.statement, claim.paper)
    means = {name: f["mean"] for name, f in record["figures"].items()}
    assert record["checks"] == {words: bool(check(means)) for words, check in claim.checks.items()}
    held = sum(record["checks"].values())
    whole = held == len(record["checks"])
    assert record["outcome"] == ("reproduced" if whole else "partly" if held else "not reproduced")
    # Where something did not come out, what is known of the reason stands beside it.
    assert record["why"] == ("" if whole else claim.why) and bool(record["why"]) != whole
    assert len(record["seeds"]) >= 3
    for figure in record["figures"].values():
        assert len(figure["values"]) == len(record["seeds"])
        assert sum(figure["values"]) / len(record["seeds"]) == pytest.approx(figure["mean"])
