"""The page of a run: from real figures, and in a real browser."""

import dataclasses
import json

import pytest
import torch

import sentei
from sentei.graph.errors import PruneError
from sentei.report import describe, layer_seconds, write
from sentei.tasks.models import digits_resnet
from tests.report.test_map import browser  # noqa: F401 - a fixture


def figures() -> dict:
    torch.manual_seed(0)
    model, x = digits_resnet(), torch.randn(2, 1, 8, 8)
    result = sentei.prune(model, x, target=sentei.Target(macs=0.5), inplace=False)
    widths = result.plan.widths
    pinned: dict[str, list[str]] = {}
    for name, group in result.groups.pinned.items():
        pinned.setdefault(group.pinned, []).append(name)
    return {
        "format": "sentei-result", "version": 1, "model": "a <resnet>", "data": "digits",
        "notes": [], "metric": {"name": "accuracy", "higher_is_better": True, "percent": True},
        "config": {"model": "a <resnet>", "criterion": "l2", "nothing": None},
        "asked": result.asked, "reached": result.reached,
        "baseline": {"value": 0.98, "loss": 0.1}, "final": {"value": 0.975, "loss": 0.1},
        "cost": {"before": dataclasses.asdict(result.before),
                 "after": dataclasses.asdict(result.after)},
        "masks": None, "latency": {"before": 0.004, "after": 0.002, "threads": 1},
        "stored": 100_000,
        "groups": {n: {"kind": g.kind, "before": g.size, "after": widths.get(n, g.size)}
                   for n, g in result.groups.items()},
        "pinned": [{"because": w, "groups": n} for w, n in pinned.items()],
        "held": {}, "verification": [{"error": 1e-7, "conclusive": True, "passed": True}],
        "training": [{"stage": "recover-1", "losses": [1.5, 0.7, 0.3]}], "seconds": 12.0,
        "machine": {"device": "cpu", "torch": "2"},
        "network": describe(result.groups, widths),
        "layer_seconds": layer_seconds([model, result.model], ((x,), {}), turns=2),
    }  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return figures()


def written(tmp_path, result):
    (tmp_path / "result.json").write_text(json.dumps(result))
    return write(tmp_path)


def test_a_network_is_described_by_its_own_numbers(made):
    network, cost = made["network"], made["cost"]
    for i, side in enumerate(("before", "after")):
        total = sum(layer["params"][i] for layer in network["layers"])
        assert total == cost[side]["params"]
        macs = sum(layer["macs"][i] for layer in network["layers"]) + network["other_macs"][i]
        assert macs == cost[side]["macs"]
    assert network["layers"][0]["parameters"][0]["groups"][1] == []  # the image's channel
    clocks = made["layer_seconds"]
    assert {layer["name"] for layer in network["layers"]} <= set(clocks[0])


def test_attention_is_counted_apart():
    from sentei.tasks.models import digits_vit

    groups = sentei.analyze(digits_vit(), torch.randn(2, 1, 8, 8))
    network = describe(groups)
    total = sum(layer["macs"][0] for layer in network["layers"]) + network["other_macs"][0]
    assert total == groups.cost().macs and network["other_macs"][0] > 0


def test_the_page_says_it_all(tmp_path, made):
    page = written(tmp_path, made).read_text()
    for words in ("a &lt;resnet&gt;, pruned", "98.00 %", "97.50 %", "2.00 times as fast",
                  "Asked and reached", "equal within 1e-07", "What was pinned, and why",
                  "sentei.load(&quot;model&quot;)", "recover-1: 1.5000 → 0.3000"):  # fmt: skip
        assert words in page, words
    assert "src=" not in page and "http://" not in page and "https://" not in page
    assert "trust" not in page.partition("Load and deploy")[2].partition("</section>")[0]


def test_what_the_page_says_to_type_is_what_the_model_needs(tmp_path, made):
    page = written(tmp_path, made | {"model": "/home/net.py:build"}).read_text()
    for words in ("load(&quot;model&quot;, trust=True)", "verify . --trust", "onnx --trust"):
        assert words in page
    config = made["config"] | {"uniform": True}
    page = written(tmp_path, made | {"model": "hf:/home/llama", "config": config}).read_text()
    assert "sentei export . --to hf" in page


def test_sections_without_figures_are_left_out(tmp_path, made):
    bare = made | {"metric": None, "final": None, "baseline": None, "training": [], "pinned": [],
                   "network": None, "layer_seconds": None, "asked": {}, "groups": {},
                   "masks": {"weights": 100, "kept": 10, "params": 120, "nonzeros": 30},
                   }  # fmt: skip
    page = written(tmp_path, bare).read_text()
    assert "Training" not in page and "What is cut together" not in page
    assert "weights not zero" in page and "masks.safetensors" in page


def test_layers_that_were_taken_out_are_marked(tmp_path, made):
    page = written(tmp_path, made | {"layers": [["layer1.1"], []]}).read_text()
    assert page.count("taken out as a whole") == 4  # two convolutions and two norms
    assert "layer1.1.conv1 (taken out)" in page and "layer1.0.conv1 (taken out)" not in page


def test_what_is_no_run_says_so(tmp_path):
    with pytest.raises(PruneError, match="cannot read the figures"):
        write(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(PruneError, match="not what"):
        write(tmp_path)


def test_hovering_a_size_lights_its_group(tmp_path, made, browser):  # noqa: F811
    tab = browser.new_page()
    errors, requests = [], []
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.on("request", lambda r: requests.append(r.url))
    tab.goto(f"file://{written(tmp_path, made)}")
    cell = tab.locator(".cell[data-names]").first
    cell.hover()
    lit = tab.locator(".cell.lit")
    names = json.loads(cell.get_attribute("data-names"))
    assert lit.count() >= 2 and tab.locator("#lines path").count() == 1
    assert all(names[0] in json.loads(c.get_attribute("data-names")) for c in lit.all())
    tab.mouse.move(0, 0)
    assert tab.locator(".cell.lit").count() == 0
    tab.locator("button.group").last.focus()
    tab.keyboard.press("Enter")
    assert tab.locator(".cell.lit").count() >= 1
    assert "sizes in" in tab.locator("#told").inner_text()
    long = made | {"model": "/home/" + "deep/" * 20 + "net.py:build"}
    long["pinned"] = [{"because": "a reason", "groups": ["encoder." * 12 + "weight[2]"]}]
    tab.set_viewport_size({"width": 420, "height": 800})
    tab.goto(f"file://{written(tmp_path, long)}")
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert errors == [] and all(u.startswith("file:") for u in requests)
