"""Every example of the site runs, page by page, as a reader would run it."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_" not in p.parent.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_its_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__main__"}
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        exec(compile(block, str(page), "exec"), names)


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text("utf-8")
    for page in PAGES:
        name = str(page.relative_to(DOCS))[: -len(".md")]
        assert name == "index" or re.search(rf"^{re.escape(name)}$", index, re.MULTILINE), name


def test_generated_pages_are_made_of_records(tmp_path, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert "| A1 |" in made.claims()
    for part in (
        "engine", "zoo", "latency", "allocation", "streaming", "recovery", "masks", "zeros",
        "bench",
    ):  # fmt: skip
        assert getattr(made, part)().startswith("## "), part
    assert made.table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |"
