"""What is exported computes what the model computes, in the runtime it is for."""

import json
import sys

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import sentei
from sentei import PruneError, Source, Target
from sentei.export.compare import difference
from tests.sources.test_sources import HUGGING_FACE, hf_folder
from tests.storage.test_roundtrip import Encoder, Tagger, assert_same


class Head(nn.Module):
    """Branches, a reshape, two inputs and a mapping out."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(6, 12), nn.Linear(12, 5)
        self.mix = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 12))

    def forward(self, x, other, scale=1.0):
        both = self.mix(torch.relu(self.a(x)) + torch.sigmoid(self.b(other)))
        return {"logits": self.c(both) * scale, "hidden": both.view(len(x), 3, 4).sum(1)}


def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


MODELS = {
    "convnet": (convnet, lambda: torch.randn(2, 3, 16, 16)),
    "head": (Head, lambda: (torch.randn(3, 6), torch.randn(3, 6))),
    "encoder": (Encoder, lambda: torch.randn(2, 5, 16)),
    "lstm": (Tagger, lambda: torch.randn(2, 5, 6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_onnx_and_pt2(name, tmp_path):
    build, example = MODELS[name]
    model, x = build().eval(), example()
    sentei.prune(model, x, target=Target(params=0.6))
    model.train()
    for to in ("onnx", "pt2"):
        done = sentei.export(model, to, tmp_path / f"model.{to}", example_inputs=x)
        assert done.path.is_file() and done.bytes == done.path.stat().st_size
        assert done.error <= done.tolerance == 1e-4
        assert (done.dynamic, len(done.compared)) == (("batch",), 3) or name == "encoder", done
    assert model.training
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_torchs_own_transformer_layers_are_not_one_operator(to, tmp_path):
    """As they are in eval mode, where they are whole; and a mask may be a buffer."""

    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.register_buffer("mask", torch.ones(5, 5, dtype=torch.bool).triu(1))

        def forward(self, x):
            return self.layers(x, mask=self.mask)

    x = torch.randn(2, 5, 16)
    done = sentei.export(Causal().eval(), to, tmp_path / "m", example_inputs=x)
    assert done.error <= 1e-4 and torch.backends.mha.get_fastpath_enabled()
    if to == "pt2":
        called = {str(n.target) for n in torch.export.load(done.path).graph.nodes}
        assert not any("_transformer_encoder_layer_fwd" in name for name in called)


def test_what_onnx_has_no_word_for_is_named(tmp_path):
    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j1(x)

    with pytest.raises(PruneError, match=r"ONNX cannot .* No ONNX function found .*bessel_j1"):
        sentei.export(Bessel(), "onnx", tmp_path / "m", example_inputs=torch.randn(2, 4))


def test_an_onnx_file_is_run_without_us(tmp_path):
    import onnxruntime

    model = convnet().eval()
    done = sentei.export(model, "onnx", tmp_path / "m.onnx", example_inputs=torch.randn(1, 3, 9, 9))
    session = onnxruntime.InferenceSession(str(done.path))
    (given,) = session.get_inputs()
    assert given.shape == ["batch", 3, 9, 9]
    x = np.random.default_rng(0).normal(size=(7, 3, 9, 9)).astype(np.float32)
    (got,) = session.run(None, {given.name: x})
    np.testing.assert_allclose(got, model(torch.from_numpy(x)).detach(), atol=1e-5)
    assert "batch" in str(done) and "onnxruntime gives" in str(done)


def test_a_language_model(tmp_path):
    _, home = hf_folder(tmp_path, "LlamaForCausalLM")
    result = sentei.prune(*Source.of(f"hf:{home}").open(), target=Target(params=0.8))
    done = sentei.export(result, "onnx", tmp_path / "llama.onnx")  # its source knows its inputs
    assert done.dynamic == ("batch", "sequence") and done.compared == (2, 1, 3)


def test_a_folder_exports_into_itself(tmp_path):
    model = Source.of("timm:test_resnet", num_classes=3).build()
    x = torch.randn(1, 3, 32, 32)
    result = sentei.prune(model, x, target=Target(params=0.6))
    folder = sentei.save(result, tmp_path / "small")
    done = sentei.export(folder, "pt2", example_inputs=x)
    assert done.path == folder / "model.pt2" and done.dynamic == ("batch",)
    again = torch.export.load(done.path).module()
    assert torch.allclose(again(x), result.model.eval()(x), atol=1e-5)
    sentei.save(result, folder)  # what speaks of the model that is replaced goes with it
    assert not done.path.exists()


def test_static_sizes_where_the_model_wants_them(tmp_path):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(4, 4)

        def forward(self, x):
            return self.f(x).reshape(2, 4)

    for dynamic in (True, False):
        done = sentei.export(
            Fixed(), "pt2", tmp_path / "m.pt2", example_inputs=torch.randn(2, 4), dynamic=dynamic
        )
        assert done.dynamic == () and done.compared == (2,)
        assert "all sizes as in the example" in str(done)


# -- Hugging Face ---------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertForSequenceClassification"])
def test_a_hugging_face_folder(name, tmp_path):
    _, home = hf_folder(tmp_path, name)
    (home / "tokenizer.json").write_text("{}")
    (home / "modeling_evil.py").write_text("raise SystemExit")
    model, example = Source.of(f"hf:{home}").open()
    result = sentei.prune(model, example, target=Target(params=0.7), uniform=True)
    folder = sentei.save(result, tmp_path / "small")
    done = sentei.export(folder, "hf", tmp_path / "plain")
    plain = getattr(transformers, name).from_pretrained(done.path)
    assert_same(plain, result.model, (), example)
    assert done.error == 0 and "from_pretrained" in done.note
    assert (done.path / "tokenizer.json").exists()
    assert not (done.path / "modeling_evil.py").exists()
    sentei.export(result, "hf", done.path)  # ours: replaced
    (done.path / "notes.txt").write_text("mine")
    with pytest.raises(PruneError, match=r"holds other files \('notes.txt'\)"):
        sentei.export(result, "hf", done.path)
    with pytest.raises(PruneError, match=r"holds other files"):
        sentei.export(result, "hf", home)


def test_widths_that_no_configuration_says(tmp_path):
    model = transformers.LlamaForCausalLM(HUGGING_FACE["LlamaForCausalLM"])
    ids = torch.randint(50, (2, 9))
    sentei.delete_units(model, "model.layers.0.mlp.gate_proj", [0, 3], ids)
    model.config.intermediate_size = 24
    with pytest.raises(
        PruneError, match=r"cannot say these widths: .*mlp.*prune with uniform=True"
    ):
        sentei.export(model, "hf", tmp_path / "plain")
    with pytest.raises(PruneError, match=r"a Sequential is no transformers model"):
        sentei.export(convnet(), "hf", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_a_configuration_does_not_say_the_numbers_in_the_code(tmp_path):
    class Flat(transformers.PreTrainedModel):
        config_class = transformers.PretrainedConfig

        def __init__(self, config):
            super().__init__(config)
            self.a, self.b = nn.Linear(4, config.width), nn.Linear(config.width, 2)
            self.post_init()

        def forward(self, x):
            return self.b(self.a(x).view(-1, 2, 4).flatten(1).relu())

    model = Flat(transformers.PretrainedConfig(width=8)).eval()
    result = sentei.prune(model, torch.randn(3, 4), target=Target(width=0.5))
    assert any(key.in_code for key in result.surgery.attributes)
    model.config.width = 4
    with pytest.raises(PruneError, match=r"cannot say the numbers that changed .* \(Flat\)"):
        sentei.export(model, "hf", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


# -- refusals -------------------------------------------------------------------------------------
class Odd(nn.Module):
    """Computes something else once it is exported."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x):
        return self.f(x) + (100.0 if torch.compiler.is_exporting() else 0.0)


@pytest.mark.parametrize("to, who", [("onnx", "onnxruntime"), ("pt2", "the exported program")])
def test_what_computes_something_else_is_not_written(to, who, tmp_path):
    (tmp_path / "m").write_text("before")
    with pytest.raises(PruneError, match=rf"{who} \(batch 2\) computes something else than the"):
        sentei.export(Odd(), to, tmp_path / "m", example_inputs=torch.randn(2, 4))
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


def test_what_cannot_be_exported(tmp_path, monkeypatch, capfd):
    class Listening(nn.Module):
        def forward(self, x):
            return x * 2 if x[x > 0].numel() > 2 else x

    x = torch.randn(2, 4)
    with pytest.raises(PruneError, match=r"torch.export cannot export this Listening: \w+"):
        sentei.export(Listening(), "pt2", tmp_path / "m", example_inputs=x)
    assert not capfd.readouterr().err  # torch prints the graph
    with pytest.raises(PruneError, match=r"cannot export to 'onx'; closest: 'onnx'"):
        sentei.export(convnet(), "onx", tmp_path / "m", example_inputs=x)
    with pytest.raises(PruneError, match=r"give example_inputs="):
        sentei.export(convnet(), "onnx", tmp_path / "m")
    with pytest.raises(PruneError, match=r"where should it go\? Give out="):
        sentei.export(convnet(), "onnx", example_inputs=x)
    with pytest.raises(PruneError, match=r"cannot export a int"):
        sentei.export(3, "onnx", tmp_path / "m")
    with pytest.raises(PruneError, match=r"a folder of its own; give it as out="):
        sentei.export(tmp_path, "hf")
    with pytest.raises(PruneError, match=r"is a folder; give the name of a file"):
        sentei.export(nn.Linear(4, 2), "pt2", tmp_path, example_inputs=x)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PruneError, match=r"needs onnxruntime, .*pip install 'sentei\[export\]'"):
        sentei.export(nn.Linear(4, 2), "onnx", tmp_path / "m", example_inputs=x)
    assert not list(tmp_path.iterdir())


def test_difference():
    a = torch.tensor([1.0, float("nan"), float("inf"), 4.0])
    assert difference([a], [a]) == 0
    assert difference([a + torch.tensor([0, 0, 0, 1.0])], [a]) == 0.25
    assert difference([a], [a[:3]]) == difference([a], []) == float("inf")
    assert difference([torch.tensor([float("nan")])], [torch.ones(1)]) == float("inf")
    assert difference([torch.ones(1)], [torch.zeros(1)]) == float("inf")


def test_the_list_of_a_folder(tmp_path):
    model = transformers.LlamaForCausalLM(HUGGING_FACE["LlamaForCausalLM"])
    done = sentei.export(model, "hf", tmp_path / "plain")
    listed = json.loads((done.path / "sentei-export.json").read_text())["files"]
    assert sorted(listed) == sorted(f.name for f in done.path.iterdir())
