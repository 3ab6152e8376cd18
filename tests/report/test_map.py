"""The map: every method once, nothing overlaps, and it works in a real browser."""

import itertools
import json
import shutil

import pytest

from sentei.bench.curves import curves
from sentei.methods import METHODS
from sentei.report.map import layout, read_claims, write_map
from tests.bench.test_results import store

CLAIM = {
    "card": "A1", "statement": "It <works>", "paper": "x", "outcome": "partly",
    "checks": {"a": True, "b": False}, "command": "c", "seeds": [0, 1, 2],
    "figures": {"accuracy": {"mean": 97.0, "std": 0.5, "values": []}},
}  # fmt: skip


def test_every_method_has_a_place_of_its_own():
    places, years, lanes = layout(list(METHODS.values()))
    assert sorted(p.id for p in places) == sorted(METHODS)
    assert years == sorted({m.year for m in METHODS.values()})
    for a, b in itertools.combinations(places, 2):
        assert a.x + a.width <= b.x or b.x + b.width <= a.x or abs(a.y - b.y) >= 26, (a, b)
    for p in places:
        top, height = lanes[p.family]
        assert top <= p.y and p.y + 26 <= top + height


def written(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "A1.json").write_text(json.dumps(CLAIM))
    claims = read_claims(tmp_path / "claims")
    return write_map(tmp_path / "map.html", claims=claims, curves=curves(store()))


def test_the_page_holds_all_it_needs(tmp_path):
    text = written(tmp_path).read_text()
    assert text.count('class="node ') == len(METHODS)
    assert "It \\u003cworks>" in text  # data cannot end the script
    assert "src=" not in text and "@import" not in text
    assert "default-src 'none'" in text


@pytest.fixture
def browser():
    sync = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with sync.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield made
        made.close()


def test_it_works_by_mouse_and_by_keyboard(tmp_path, browser):
    tab = browser.new_page()
    errors, requests = [], []
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.on("request", lambda r: requests.append(r.url))
    tab.goto(f"file://{written(tmp_path)}")
    panel = tab.locator("#panel")
    tab.locator('.node[data-id="han-magnitude"]').click()
    assert "Learning both Weights" in panel.inner_text()
    assert "It <works>" in panel.inner_text() and "does not hold: b" in panel.inner_text()
    assert panel.locator("figure").count() == 6  # three networks, two options
    tab.locator('.node[data-id="random"]').focus()
    tab.keyboard.press("Enter")
    assert "Random pruning" in panel.inner_text()
    tab.locator("#panel a", has_text="rst").first.click()
    assert "rst" in panel.locator("h2").inner_text()
    tab.fill("#find", "han pool")
    assert tab.locator(".node:not(.dim)").count() == 1
    assert "1 of" in tab.locator("#shown").inner_text()
    assert errors == [] and all(u.startswith("file:") for u in requests)
