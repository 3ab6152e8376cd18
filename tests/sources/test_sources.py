"""A MODEL string becomes a model, and the same one again from its JSON."""

import json
import os
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.utils._pytree import tree_leaves

import sentei
from sentei import PruneError
from sentei.sources import Source, load_weights
from sentei.sources.user_file import run_function

TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
TEXT = TINY | {"num_attention_heads": 4, "vocab_size": 50}
HUGGING_FACE = {
    "LlamaForCausalLM": transformers.LlamaConfig(**TEXT),
    "BertForSequenceClassification": transformers.BertConfig(**TEXT, num_labels=3),
    "ViTForImageClassification": transformers.ViTConfig(
        **TINY, num_attention_heads=4, image_size=32, patch_size=8
    ),
    "T5ForConditionalGeneration": transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=4
    ),
}


def hf_folder(home, name):
    model = getattr(transformers, name)(HUGGING_FACE[name]).eval()
    model.save_pretrained(home / name)
    return model, home / name


def same_shapes(a, b):
    return {n: t.shape for n, t in a.state_dict().items()} == {
        n: t.shape for n, t in b.state_dict().items()
    }


def call(model, example):
    with torch.no_grad():
        if isinstance(example, dict):
            return model(**example)
        return model(*example) if isinstance(example, tuple) else model(example)


@pytest.mark.parametrize(
    "text, options, shape",
    [
        ("timm:resnet18", {"num_classes": 10, "in_chans": 1}, (2, 1, 224, 224)),
        ("timm:vit_tiny_patch16_224", {"img_size": 64}, (2, 3, 64, 64)),
        ("torchvision:mobilenet_v3_small", {"num_classes": 7}, (2, 3, 224, 224)),
        ("torchvision:inception_v3", {}, (2, 3, 299, 299)),
    ],
)
def test_named_models(text, options, shape):
    source = Source.of(text, **options)
    again = Source.from_json(json.loads(source.to_json()))
    assert again == source and str(again) == text
    model, example = again.open()
    assert example.shape == shape and not model.training
    assert same_shapes(model, source.skeleton())
    if shape[-1] == 64:
        assert call(model, example).shape == (2, 1000)


def test_detectors_and_videos_take_other_inputs():
    assert Source.of("torchvision:r3d_18").example(nn.Identity()).shape == (2, 3, 16, 112, 112)
    (images,) = Source.of("torchvision:fasterrcnn_resnet50_fpn").example(nn.Identity())
    assert [tuple(i.shape) for i in images] == [(3, 224, 224)] * 2


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face_folders(name, tmp_path):
    model, folder = hf_folder(tmp_path, name)
    source = Source.from_json(Source.of(f"hf:{folder}").to_json())
    again, example = source.open()
    state = again.state_dict()
    assert type(again) is type(model)
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    a, b = call(model, example), call(again, example)
    assert torch.equal(tree_leaves(a)[0], tree_leaves(b)[0])
    (folder / "config.json").unlink()  # the source has all it takes to build the shapes again
    assert same_shapes(source.skeleton(), model)


def test_hugging_face_options_and_refusals(tmp_path):
    _, folder = hf_folder(tmp_path, "BertForSequenceClassification")
    named = Source.of(f"hf:{folder}", architecture="BertForMaskedLM")
    assert type(named.skeleton()) is transformers.BertForMaskedLM
    assert Source.of(f"hf:{folder}", hidden_act="relu").skeleton().config.hidden_act == "relu"
    torch.manual_seed(0)
    head = Source.of(f"hf:{folder}", num_labels=5).build()
    stored = Source.of(f"hf:{folder}").build()
    assert head.classifier.out_features == 5 and head.classifier.weight.isfinite().all()
    assert torch.equal(head.bert.pooler.dense.weight, stored.bert.pooler.dense.weight)
    with pytest.raises(PruneError, match=r"has shape .* and .* by the options \(intermediate_size"):
        Source.of(f"hf:{folder}", intermediate_size=44).build()
    with pytest.raises(PruneError, match=r"no model class 'BertForMaskedLN'; closest: .*MaskedLM"):
        Source.of(f"hf:{folder}", architecture="BertForMaskedLN")
    with pytest.raises(PruneError, match="looks like a Hugging Face folder; write hf:"):
        Source.of(folder)
    with pytest.raises(PruneError, match="has no option 'hidden'"):
        Source.of(f"hf:{folder}", hidden=3).skeleton()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PruneError, match=r"pickled weights .* are not read"):
        Source.of(f"hf:{folder}").build()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mine"}))
    with pytest.raises(PruneError, match="has no model type 'mine', and code in the folder"):
        Source.of(f"hf:{folder}")
    (folder / "config.json").write_text("{")
    with pytest.raises(PruneError, match="is no JSON"):
        Source.of(f"hf:{folder}")


def test_what_a_configuration_may_not_say():
    config = json.loads(transformers.LlamaConfig(**TEXT).to_json_string(use_diff=False))
    code = {"auto_map": {"AutoModel": "evil.Model"}, "_attn_implementation": "someone/kernel"}
    source = Source("hf", "/gone", {}, {"architecture": "LlamaModel", "config": config | code})
    assert not hasattr(source.skeleton().config, "auto_map")
    options = {"_attn_implementation": "someone/kernel"}
    with pytest.raises(PruneError, match=r"_attn_implementation='someone/kernel' could fetch"):
        Source("hf", "/gone", options, source.facts).skeleton()
    plain = Source("hf", "/gone", {"attn_implementation": "eager"}, source.facts).skeleton()
    assert plain.config._attn_implementation == "eager"
    for name in ("os", "pipeline", "LlamaConfig", "AutoModel", "__loader__", 3):
        with pytest.raises(PruneError, match="no model class"):
            Source("hf", "/gone", {}, {"architecture": name, "config": config}).skeleton()


def test_a_stranger_cannot_make_timm_fetch_or_read(tmp_path):
    for name in ("hf-hub:someone/model", f"local-dir:{tmp_path}"):
        with pytest.raises(PruneError, match="timm has no model"):
            Source("timm", name).skeleton()
    bad = {"pretrained": True, "checkpoint_path": "/etc/passwd", "pretrained_cfg": {"url": "x"}}
    assert Source("timm", "resnet18", bad).skeleton().fc.out_features == 1000


@pytest.mark.parametrize(
    "text, words",
    [
        ("timm:resnet188", "timm has no model 'resnet188'; closest: 'resnet18'"),
        ("torchvision:resnet1", "torchvision has no model 'resnet1'; closest: 'resnet18'"),
        ("keras:vgg", "no kind of model 'keras'"),
        ("timm:", "'timm:' names no model; a model is one of timm:NAME"),
        ("model.py", r"needs the function that builds the model: model.py:FUNCTION"),
        ("model.py:a-b", "'a-b' is no name of a function"),
        ("nowhere.py:build", "cannot read .*nowhere.py: No such file"),
        ("resnet18", "cannot tell what model 'resnet18' is"),
        (".", "is a folder without sentei.json"),
        ("hf:nowhere", "is no Hugging Face folder: config.json: No such file"),
    ],
)
def test_names_that_are_none(text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PruneError, match=words):
        Source.of(text)


def test_options_are_plain_and_speak_when_refused():
    assert Source.of("torchvision:resnet18", layers=(1, 2)).options == {"layers": [1, 2]}
    with pytest.raises(PruneError, match=r"options: a\[1\].b is a Tensor; only plain JSON"):
        Source.of("timm:resnet18", a=[1, {"b": torch.ones(1)}])
    with pytest.raises(PruneError, match=r"timm could not build 'resnet18' with .*'bogus'"):
        Source.of("timm:resnet18", bogus=1).build()
    with pytest.raises(PruneError, match="torchvision could not build"):
        Source.of("torchvision:resnet18", bogus=1).build()
    with pytest.raises(PruneError, match="a source has kind, name, options and facts"):
        Source.from_json({"kind": "timm", "name": "resnet18", "more": 1})
    with pytest.raises(PruneError, match="no kind of source 'tim'; closest: 'timm'"):
        Source("tim", "resnet18")


def test_a_missing_library_says_which_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(PruneError, match=r"needs timm, which is not installed: .*sentei\[vision\]"):
        Source.of("timm:resnet18")


# -- a user's file ------------------------------------------------------------------------------
FILE = """
import torch, beside
from torch import nn
print("hello from the user's file")
def build(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, beside.CLASSES))
def both(width=8):
    return build(width), torch.zeros(3, 4)
def nothing():
    return None
def raising():
    raise OSError("no GPU today")
def leaving():
    raise SystemExit(3)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("CLASSES = 3\n")
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


def test_a_users_file(file, capsys):
    path = list(sys.path)
    source = Source.from_json(Source.of(f"{file}:build", width=12).to_json())
    model, example = source.open()
    assert model[0].out_features == 12 and example is None
    assert Source.of(f"{file}:both").example().shape == (3, 4)
    assert capsys.readouterr().out == ""  # what it prints goes to stderr
    assert sys.path == path


@pytest.mark.parametrize(
    "function, words",
    [
        ("biuld", "has no function 'biuld'; closest: 'build'"),
        ("nothing", "must return a model, or a model and example inputs; it returned a NoneType"),
        ("raising", r"mine.py:12: OSError: no GPU today"),
        ("leaving", r"mine.py:14: SystemExit: 3"),
    ],
)
def test_a_users_file_that_fails(file, function, words):
    with pytest.raises(PruneError, match=words):
        Source.of(f"{file}:{function}").build()


def test_a_users_file_that_cannot_be_read_as_python(file):
    file.write_text("def build(:\n")
    with pytest.raises(PruneError, match=r"mine.py:1: SyntaxError"):
        Source.of(f"{file}:build").build()


def test_a_users_file_that_changed_is_not_run(file):
    source = Source.of(f"{file}:build")
    file.write_text(FILE + "# and one more thing\n")
    with pytest.raises(PruneError, match=r"is not the file it was .*SHA-256 differs"):
        source.build()


def test_a_users_file_that_moved_is_found_where_one_works(file, tmp_path, monkeypatch):
    source = Source.of(f"{file}:build")
    (tmp_path / "elsewhere").mkdir()
    for name in ("mine.py", "beside.py"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    sys.modules.pop("beside", None)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert source.build()[2].out_features == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_users_file_that_forks_leaves_one_process(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os\nfrom torch import nn\n"
        "def build():\n    child = os.fork()\n    if child: os.waitpid(child, 0)\n"
        "    return nn.Linear(2, 2)\n"
    )
    code = "from sentei.sources import Source; Source.of('mine.py:build').build(); print('on')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "on\n", done.stderr


# -- weights ------------------------------------------------------------------------------------
def net():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def filled(model):
    for p in model.parameters():
        nn.init.constant_(p, 7.0)
    return model


@pytest.mark.parametrize("form", ["safetensors", "state dict", "checkpoint", "data parallel"])
def test_weights(form, tmp_path):
    state = filled(net()).state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(state, path)
    elif form == "checkpoint":
        torch.save({"epoch": 3, "state_dict": state, "lr": 0.1}, path)
    else:
        torch.save({"module." * (form == "data parallel") + k: v for k, v in state.items()}, path)
    model = load_weights(net(), path)
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())


def test_tied_weights_are_in_a_safetensors_file_once(tmp_path):
    model, folder = hf_folder(tmp_path, "T5ForConditionalGeneration")
    source = Source.of(f"hf:{folder}")
    other = load_weights(source.skeleton(), folder / "model.safetensors")
    assert torch.equal(other.lm_head.weight, model.lm_head.weight)


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    model = net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    torch.save(
        filled(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))).state_dict(), tmp_path / "w.pt"
    )
    with pytest.raises(PruneError, match=r"another model .*'0.weight' is \[5, 4\], the model has"):
        load_weights(model, tmp_path / "w.pt")
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "w.pt")
    with pytest.raises(PruneError, match=r"it has no '0.weight'; .*and \d more"):
        load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


class Surprise:
    def __reduce__(self):
        return os.mkdir, ("surprise",)


def test_weights_run_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.ones(1), "more": Surprise()}, "w.pt")
    with pytest.raises(PruneError, match=r"holds more than tensors .* nothing in it is run"):
        load_weights(net(), "w.pt")
    assert not os.path.exists("surprise")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\x00" * 100, b"PK\x03\x04" + b"x" * 50])
def test_weights_that_are_none(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        PruneError, match=r"is empty|holds more than|no file of weights|no safetens"
    ):
        load_weights(net(), tmp_path / name)
    with pytest.raises(PruneError, match=r"cannot read weights from .*No such file"):
        load_weights(net(), tmp_path / "nowhere")


def test_open_with_weights(tmp_path):
    source = Source.of("torchvision:squeezenet1_1", num_classes=3)
    save_file(filled(source.build()).state_dict(), tmp_path / "w.safetensors")
    model, _ = source.open(weights=tmp_path / "w.safetensors")
    assert {v for p in model.parameters() for v in p.unique().tolist()} == {7.0}


def test_prune_takes_what_a_source_gives(tmp_path):
    _, folder = hf_folder(tmp_path, "LlamaForCausalLM")
    model, example = Source.of(f"hf:{folder}").open()
    result = sentei.prune(model, example, target=sentei.Target(params=0.8))
    assert result.after.params < result.before.params


def test_two_folders_may_have_a_module_of_one_name(tmp_path):
    """As a model's and its data's `utils`, or two files called alike."""
    for name, number in (("a", 3), ("b", 5)):
        home = tmp_path / name
        (home / "parts").mkdir(parents=True)
        (home / "utils.py").write_text(f"NUMBER = {number}\n")
        (home / "parts" / "deep.py").write_text(f"NUMBER = {10 * number}\n")
        (home / "net.py").write_text(
            "from parts import deep\n"
            "import utils\n"
            "class Here: pass\n"
            "def numbers(): return utils.NUMBER, deep.NUMBER, Here.__module__\n"
            "def late():\n"
            "    import utils\n"
            "    return utils.NUMBER\n"
        )
    a, b = (tmp_path / name / "net.py" for name in "ab")
    for _ in range(2):
        first, second = run_function(a, "numbers"), run_function(b, "numbers")
        assert first[:2] == (3, 30) and second[:2] == (5, 50)
        assert first[2] != second[2]  # a class is looked up where it says it is from
        assert (run_function(a, "late"), run_function(b, "late")) == (3, 5)
    assert sys.modules["utils"].NUMBER == 3
    for name in ("utils", "parts", "parts.deep"):
        sys.modules.pop(name)
