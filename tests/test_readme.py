"""The README's Python runs as printed, from top to bottom."""

import re
from pathlib import Path

import torch

from sentei.tasks.digits import digits
from sentei.tasks.models import digits_resnet

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    def build_my_model():
        # Wide enough for the unit numbers in "surgery by hand".
        return digits_resnet(width=80, blocks=(1, 1))

    monkeypatch.chdir(tmp_path)
    names = {"example_inputs": digits().example, "build_my_model": build_my_model}
    # The short tour trains for 20 epochs; what matters here is that it runs.
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        names["model"] = build_my_model()  # each block stands for itself
        exec(compile(block.replace("epochs=20", "epochs=0"), str(README), "exec"), names)
    assert names["result"].after.macs <= 0.5 * names["result"].before.macs
    assert names["result"].model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert capsys.readouterr().out
