"""Commands that change nothing, and the help."""

import json
import re
import shlex
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from typer.main import get_command

from sentei.cli.app import app
from tests.cli.helpers import error, process, sentei, user_file, widest

COMMANDS = ("prune", "plan", "stream", "inspect", "sensitivity", "verify", "report", "export",
            "compare", "methods", "doctor")  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return f"{user_file(tmp_path_factory.mktemp('cli'))}:net"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_and_names_every_command(command):
    text = sentei(*([command] if command else []), "--help")
    assert widest(text) <= 80
    if not command:
        assert all(name in text for name in COMMANDS)


def test_inspect(model):
    text = sentei("inspect", model, "--input", "1x6")
    assert widest(text) <= 80 and "2 groups can shrink" in text and "model output" in text
    found = json.loads(sentei("inspect", model, "--input", "1x6", "--json"))
    assert found["params"] == 6 * 16 + 16 + 16 * 8 + 8 + 8 * 3 + 3
    assert sum(m["macs"] for m in found["modules"]) == found["macs"] == 6 * 16 + 16 * 8 + 8 * 3
    assert sum(m["params"] for m in found["modules"]) == found["params"]


def test_plan(model):
    text = sentei("plan", model, "--input", "1x6", "-t", "params=50%")
    assert widest(text) <= 80 and "Nothing was changed." in text
    found = json.loads(sentei("plan", model, "--input", "1x6", "-t", "params=50%", "--json"))
    assert found["after"]["params"] <= found["asked"]["params"] < found["before"]["params"]
    text = sentei("plan", model, "--input", "1x6", "-t", "params=1M")
    assert "The target holds already" in text


def test_options_of_a_file_serve_every_command_that_opens_a_model(model, tmp_path):
    data, file = model.replace(":net", ":data"), tmp_path / "options.yaml"
    file.write_text(f"model: {model}\ndata: {data}\ntarget: {{macs: 0.5}}\n")
    assert "Nothing was changed." in sentei("plan", "--config", file)
    assert "2 groups can shrink" in sentei("inspect", "--config", file)
    ratios = ("--ratios", "50", "-o", tmp_path)
    assert "whole model:" in sentei("sensitivity", "--config", file, *ratios)
    assert "which model?" in sentei("plan", "-t", "50%", code=1)
    file.write_text(file.read_text() + "method: channel-l1\n")
    assert "'channel-l1' decides while it runs" in sentei("plan", "--config", file, code=1)


def test_sensitivity(model, tmp_path):
    data = model.replace(":net", ":data")
    text = sentei("sensitivity", model, "-d", data, "-o", tmp_path, "--ratios", "25,50")
    table = "\n".join(text.splitlines()[:5])
    assert widest(table) <= 80 and "whole model:" in text
    root = xml.parse(tmp_path / "sensitivity.svg").getroot()
    lines = root.iter("{http://www.w3.org/2000/svg}polyline")
    figures = json.loads((tmp_path / "sensitivity.json").read_text())
    assert len(list(lines)) == len(figures["curves"]) == 2
    assert "percentages" in sentei(
        "sensitivity", model, "-d", data, "-o", tmp_path, "--ratios", "200", code=1
    )
    assert "this needs data" in sentei("sensitivity", model, "-o", tmp_path, code=1)


def test_methods():
    text = sentei("methods")
    assert widest(text) <= 80 and "han-magnitude" in text and "lottery" in text
    only = json.loads(sentei("methods", "--family", "lottery", "--json"))
    assert only and {m["family"] for m in only} == {"lottery"}
    detail = sentei("methods", "han-magnitude")
    assert widest(detail) <= 80 and "1506.02626" in detail and "--sparsity" in detail


def test_doctor(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEI_CACHE", str(tmp_path / "cache"))
    text = sentei("doctor")
    assert widest(text) <= 80 and "threads" in text
    found = json.loads(sentei("doctor", "--json"))
    assert found["core"]["torch"] and found["cache"]["folder"] == str(tmp_path / "cache")


def test_the_module_is_the_command():
    child = process("--version")
    text, _ = child.communicate(timeout=60)
    assert child.returncode == 0 and text.startswith("sentei ")
    assert "pruen" in sentei("pruen", code=2)


def test_the_commands_of_the_readme_are_commands():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## The command line")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("sentei ")]
    lines += re.findall("`(sentei prune [^`]+)`", section)
    assert len(lines) >= 7
    known = get_command(app).commands
    for line in lines:
        _, name, *rest = shlex.split(line)
        known[name].make_context(name, rest)  # raises where an option is unknown


def test_an_input_may_be_tokens(tmp_path):
    (tmp_path / "lm.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 16), nn.Linear(16, 9))\n"
    )
    model = f"{tmp_path}/lm.py:net"
    assert "1x16:int64 for tokens" in error("inspect", model, "--input", "1x4")
    found = json.loads(sentei("inspect", model, "--input", "1x4:int64", "--json"))
    assert found
    for text in ("1x4:in64", "1x4:nn", "4y4"):
        assert "such as 1x16:int64; got" in error("inspect", model, "--input", text)
