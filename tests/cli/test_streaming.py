"""`sentei stream`."""

import pytest
import torch
from safetensors.torch import save_file

import sentei
from tests.cli.helpers import sentei as command
from tests.cli.helpers import widest

transformers = pytest.importorskip("transformers")


def test_from_disk_to_disk(tmp_path):
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "whole")
    text = command(
        "stream", f"hf:{tmp_path}/whole", "--target", "params=80%", "-o", tmp_path / "small"
    )
    assert widest(text) <= 80 + len(str(tmp_path)) and "from_pretrained" in text
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    whole = sum(p.numel() for p in transformers.LlamaForCausalLM(config).parameters())
    assert sum(p.numel() for p in again.parameters()) <= 0.8 * whole
    text = command(
        "stream", f"hf:{tmp_path}/whole", "-t", "params=80%", "--free", "-o", tmp_path / "free"
    )
    assert "sentei.load" in text
    sentei.load(tmp_path / "free")


def test_weights_beside_a_builder_and_what_is_refused(tmp_path):
    source = sentei.Source.of("torchvision:squeezenet1_1", num_classes=5)
    save_file(source.build().state_dict(), tmp_path / "w.safetensors")
    model = ("torchvision:squeezenet1_1", "--set", "num_classes=5")
    out = ("-o", tmp_path / "small")
    weights = ("--weights", tmp_path / "w.safetensors")
    text = command("stream", *model, *weights, "-t", "macs=50%", "--round-to", "128", *out)
    assert "--round-to 128 had no effect on" in " ".join(text.split())
    assert sentei.load(tmp_path / "small").classifier[1].out_channels == 5
    for more, said in (
        (weights, "Give --target"),
        (("-t", "macs=50%"), "where are the weights=?"),
        ((*weights, "-t", "latency=50%"), "takes no time"),
        ((*weights, "-t", "macs=50%", "--round-to", "auto"), "give a number"),
        ((*weights, "-t", "macs=50%", "-c", "taylor"), "looks at data"),
    ):
        assert said in command("stream", *model, *more, *out, code=1)
