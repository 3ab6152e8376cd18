"""The demo runs end to end, in short; its table fits a page."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def demo():
    """The demo as a module; it is a script, so it has no importable name."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("sentei_demo", DEMO)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_it_prunes_saves_and_loads_in_a_fresh_process(tmp_path):
    short = ["--seeds", "1", "--epochs", "2", "--finetune-epochs", "1", "--out", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, str(DEMO), *short], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "bit-identical" in run.stdout
    assert (tmp_path / "seed0" / "model.safetensors").exists()


def test_the_table_fits_a_hundred_columns():
    module = demo()
    before = module.Measured(1.0, 123_456_789, 12_345_678_901, 1.23456, 10**9)
    after = module.Measured(0.0, 123_456_789, 12_345_678_901, 1.23456, 10**9)
    page = io.StringIO()
    Console(file=page, width=200).print(module.table([(before, after)] * 3))
    assert max(map(len, page.getvalue().splitlines())) <= 100
    assert "-100.00 pt" in page.getvalue()


def test_another_networks_outputs_are_noticed(tmp_path, capsys):
    import torch
    from safetensors.torch import save_file

    import sentei

    module = demo()
    task = module.digits()
    result = sentei.prune(
        module.digits_resnet(), task.example, target=sentei.Target(macs=0.5), criterion="l2"
    )
    folder = tmp_path / "artefact"
    sentei.save(result, folder)
    save_file({"outputs": torch.zeros(450, 10)}, folder.with_suffix(".outputs.safetensors"))
    assert module.check([folder]) == 1
    assert "outputs differ by up to" in capsys.readouterr().out
