"""Damaged, foreign and hostile artefacts: each is refused in words, and the model is as before."""

import copy
import json
import os
import shutil
import struct
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sentei
from sentei import PruneError
from sentei.storage import recipe as recipes
from sentei.storage.files import sha256


class Net(nn.Module):
    """Integers in every place where an edit may find them, and things it must not touch."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 4)
        self.norm = nn.BatchNorm1d(12)
        self.config = types.SimpleNamespace(width=12, name="net", sizes=[12, 4])
        self.shape, self.table = (12, 1), {"up": 12, 3: 12}
        self.flag, self.ratio, self.act = True, 0.5, torch.relu
        self.method = self.describe

    def describe(self):
        return "net"

    def forward(self, x):
        return self.down(torch.relu(self.norm(self.up(x))).view(-1, self.config.width))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    net = Net().eval()
    sentei.delete_units(net, "up", [0, 3, 4], torch.randn(2, 6))
    return sentei.save(net, tmp_path_factory.mktemp("original") / "small")


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "small")


def changed(folder, edit):
    """Rewrite the recipe; a stranger would fix the hash, too."""
    path = folder / "sentei.json"
    data = json.loads(path.read_text())
    weights = folder / "model.safetensors"
    data["weights"] |= {"bytes": weights.stat().st_size, "sha256": sha256(weights)}
    edit(data)
    path.write_text(json.dumps(data))


def refused(folder, words, model=None):
    model = Net() if model is None else model
    state = {n: t.clone() for n, t in model.state_dict().items()}
    plain = copy.deepcopy({k: v for k, v in vars(model).items() if k in PLAIN})
    kinds = [type(m) for m in model.modules()]
    with pytest.raises(PruneError, match=words) as caught:
        sentei.load(folder, model=model)
    assert len(str(caught.value)) < 1500  # a stranger's novel is not printed
    assert "\x1b" not in str(caught.value)
    now = model.state_dict()
    assert now.keys() == state.keys() and all(torch.equal(now[n], t) for n, t in state.items())
    assert {k: v for k, v in vars(model).items() if k in PLAIN} == plain
    assert [type(m) for m in model.modules()] == kinds
    assert not any("_sentei_past" in vars(m) for m in model.modules())


PLAIN = ("config", "shape", "table", "flag", "ratio")


def test_the_original_loads(folder):
    net = sentei.load(folder, Net())
    assert net.config.width == net.norm.num_features == 9


# -- files ----------------------------------------------------------------------------------------
def test_without_a_model(folder):
    with pytest.raises(PruneError, match=r"build a fresh '.*Net', .* pass it as model="):
        sentei.load(folder)


def test_no_folder(tmp_path):
    refused(tmp_path / "nothing", "there is no folder .*nothing")


def test_a_file_is_no_folder(folder):
    refused(folder / "sentei.json", "is a file; an artefact is a folder")


def test_empty_folder(tmp_path):
    refused(tmp_path, r"has no sentei.json")


@pytest.mark.parametrize("name", ["sentei.json", "model.safetensors"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, f"has no {name}")


@pytest.mark.parametrize("name", ["sentei.json", "model.safetensors"])
def test_links(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, f"{name} is a link")


@pytest.mark.parametrize("name", ["sentei.json", "model.safetensors"])
def test_folders_and_pipes(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, f"{name} is not a plain file")
    if hasattr(os, "mkfifo"):
        (folder / name).rmdir()
        os.mkfifo(folder / name)  # reading it would wait forever
        refused(folder, f"{name} is not a plain file")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_cut_short(folder, share):
    for name, words in (("model.safetensors", "was cut short"), ("sentei.json", "is no JSON")):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])
        refused(folder, words)
        (folder / name).write_bytes(whole)


def test_one_bit(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    refused(folder, "changed or damaged: its SHA-256 is not the recipe's")
    path.write_bytes(bytes(data) + b"more")
    refused(folder, "it was changed")


# -- JSON -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, words",
    [
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"null", "not a Sentei recipe"),
        (b"[]", "not a Sentei recipe"),
        (b"{}", "not a Sentei recipe"),
        (b'{"format": "other"}', "not a Sentei recipe"),
        (b'{"format": "sentei"}', "format version 'None', this Sentei reads 1"),
        (b'{"format": "sentei", "version": 4}', "version '4', this Sentei reads 1 to 3; a newer"),
        (b'{"format": "sentei", "version": true}', "version 'True'"),
        (b'{"format": "sentei", "version": "1"}', "version '1'"),
        (b'{"format": "sentei", "version": 1}', "'model': Field required"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"a":' * 100_000, "is no JSON"),
        (b"9" * 100_000, "is no JSON|not a Sentei"),
        (b"[" + b"0," * 5_000_000 + b"0]", "lists more than"),
    ],
)  # fmt: skip
def test_json(folder, text, words):
    (folder / "sentei.json").write_bytes(text)
    refused(folder, words)


def test_json_of_absurd_size(folder):
    with open(folder / "sentei.json", "wb") as file:
        file.truncate(recipes._BYTES + 1)  # a hole, no real bytes
    refused(folder, "more than .* are not read")


def put(*path_and_value):
    *path, last, value = path_and_value

    def edit(data):
        for step in path:
            data = data[step]
        data[last] = value

    return edit


TENSOR = ("tensors", "up.weight")


@pytest.mark.parametrize(
    "edit, words",
    [
        (put("extra", 1), "'extra': Extra inputs"),
        (put("weights", "file", "../../etc/passwd"), "weights.file.*'model.safetensors'"),
        (put("weights", "file", "/etc/passwd"), "weights.file.*'model.safetensors'"),
        (put("weights", "bytes", -1), "weights.bytes"),
        (put("weights", "bytes", "9"), "weights.bytes"),
        (put("weights", "sha256", "../x"), "weights.sha256"),
        (put("model", ["os.system"]), "'model'"),
        (put("model", "x" * 100_000), "'model'"),
        (put("seed", 1.5), "'seed'"),
        (put("asked", {"macs": None}), "asked.macs"),
        (put("tensors", []), "'tensors'"),
        (put(*TENSOR, "dtype", "float64"), "up.weight is float32, was 'float64'"),
        (put(*TENSOR, "dtype", 7), "tensors.up.weight.dtype"),
        (put(*TENSOR, "kind", "function"), "tensors.up.weight.kind"),
        (put(*TENSOR, "kind", "buffer"), "up.weight is a parameter, was a buffer"),
        (put(*TENSOR, "shape", [12, 7]), r"up.weight has shape \[12, 6\], was \[12, 7\]"),
        (put(*TENSOR, "shape", [10**15, 6]), r"was \[1000000000000000, 6\]"),
        (put(*TENSOR, "shape", [10**400, 6]), "tensors.up.weight.shape|is no JSON"),
        (put(*TENSOR, "shape", [-12, 6]), "tensors.up.weight.shape"),
        (put(*TENSOR, "shape", [12] * 65), "tensors.up.weight.shape"),
        (put(*TENSOR, "shape", [12.0, 6]), "tensors.up.weight.shape"),
        (put(*TENSOR, "kept", [0]), "has 2 dimensions, the recipe lists 1"),
        (put(*TENSOR, "kept", [7, None]), "refers to selection 7 of 1"),
        (put(*TENSOR, "kept", [-1, None]), "tensors.up.weight.kept"),
        (put(*TENSOR, "kept", [None, 0]), "has 6 along dimension 1, was 12"),
        (put(*TENSOR, "kept", []), r"up.weight is F32 \[9, 6\], the recipe says .* \[12, 6\]"),
        (put(*TENSOR, "aliases", ["down.weight"]), "up.weight is tied to nothing, was tied to"),
        (put("selections", 0, "size", 10**15), "along dimension 0, was 1000000000000000"),
        (put("selections", 0, "size", -1), "selections.0.size"),
        (put("selections", 0, "kept", "0-999999999"), "position 999999999 of a dimension of 12"),
        (put("selections", 0, "kept", "-3"), "must read like"),
        (put("selections", 0, "kept", "3 3"), "ascend"),
        (put("selections", 0, "kept", "4 3"), "ascend"),
        (put("selections", 0, "kept", ""), "no positions"),
        (put("selections", 0, "kept", [1, 2]), "selections.0.kept"),
        (put("selections", 0, "kept", "0-3"), r"is F32 \[9, 6\], the recipe says .* \[4, 6\]"),
        (put("selections", []), "refers to selection 0 of 0"),
        (put("tensors", "ghost\x1b[31m", {"kind": "buffer", "dtype": "float32", "shape": [1]}),
         r"the model has no 'ghost\\x1b\[31m'"),
        (lambda data: data["tensors"].pop("down.bias"), "the artefact has no 'down.bias'"),
        (put("swapped", {"up": "Popen"}), "'Popen', which is no stand-in"),
        (put("swapped", {"up": "MultiheadAttention"}), "but the model has Linear there"),
        (put("swapped", {"": "MultiheadAttention"}), "but the model has Net there"),
        (put("swapped", {"__class__": "MultiheadAttention"}), "no such module there"),
    ],
)  # fmt: skip
def test_recipes_that_lie(folder, edit, words):
    changed(folder, edit)
    refused(folder, words)


@pytest.mark.parametrize(
    "module, path, value, words",
    [
        ("", ["__class__"], 1, "no such attribute|not Sentei's"),
        ("", ["__dict__"], 1, "not Sentei's"),
        ("", ["config", "__class__"], 1, "not Sentei's"),
        ("", ["config", "__dict__", "width"], 1, "not Sentei's"),
        ("up", ["__init__"], 1, "not Sentei's"),
        ("", ["_modules", "up"], 1, "belongs to torch"),
        ("", ["_parameters"], 1, "belongs to torch"),
        ("", ["training"], 1, "belongs to torch"),
        ("", ["_forward_hooks", 0], 1, "belongs to torch"),
        ("", ["flag"], 1, "that is a bool and only plain integers"),
        ("", ["ratio"], 1, "that is a float"),
        ("", ["act"], 1, "that is a function"),
        ("", ["method"], 1, "that is a function"),
        ("", ["method", "__func__"], 1, "through a function"),
        ("", ["act", "x"], 1, "through a function"),
        ("", ["config"], 1, "that is a SimpleNamespace"),
        ("", ["config", "name"], 1, "that is a str"),
        ("", ["config", "name", 0], 1, "through a str"),
        ("", ["config", "depth"], 1, "no such attribute"),
        ("", ["shape", 2], 1, "no such attribute"),
        ("", ["shape", -1], 1, "no such attribute"),
        ("", ["shape", "0"], 1, "no such attribute"),
        ("", ["table", "3"], 1, "no such attribute"),
        ("", ["forward"], 1, "no such attribute"),
        ("", [], 1, "attributes.0.path"),
        ("", ["config"] * 9, 1, "attributes.0.path"),
        ("", [["config"]], 1, "attributes.0.path"),
        ("", ["config", "width"], 10**30, "attributes.0.value"),
        ("", ["config", "width"], "9", "attributes.0.value"),
        ("", ["config", "width"], 9.0, "attributes.0.value"),
        ("", ["config", "width"], True, "attributes.0.value"),
        ("ghost", ["x"], 1, "no module of that name"),
        ("up.weight", ["x"], 1, "no module of that name"),
        ("forward.__globals__", ["x"], 1, "no module of that name"),
    ],
)
def test_edits_find_plain_integers_only(folder, module, path, value, words):
    edit = {"module": module, "path": path, "value": value}
    changed(folder, put("attributes", [edit]))
    refused(folder, words)


@pytest.mark.parametrize("path", [["shape", 0], ["table", "up"], ["table", 3], ["config", "width"]])
def test_edits_reach_integers_in_containers(folder, path):
    changed(folder, put("attributes", [{"module": "", "path": path, "value": 9}]))
    value = vars(sentei.load(folder, Net()))[path[0]]
    assert (vars(value) if path[0] == "config" else value)[path[1]] == 9


def test_an_error_while_applying_rolls_back(folder, monkeypatch):
    from sentei.storage import loading

    def failing(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(loading, "_fill", failing)
    model, x = Net().eval(), torch.randn(2, 6)
    before = model(x)
    with pytest.raises(RuntimeError, match="out of memory"):
        sentei.load(folder, model)
    assert torch.equal(model(x), before)
    assert model.config.width == model.up.out_features == 12


# -- the weights ----------------------------------------------------------------------------------
def rewritten(folder, edit):
    """Change the header of the safetensors file, hash and size kept right."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + n :])
    changed(folder, lambda data: None)


@pytest.mark.parametrize(
    "edit, words",
    [
        (put("up.weight", "shape", [10**12, 10**12]), "cannot read"),
        (put("up.weight", "shape", [54]), r"up.weight is F32 \[54\], the recipe says"),
        (put("up.weight", "dtype", "I32"), "up.weight is I32"),
        (put("up.weight", "dtype", "PICKLE"), "cannot read"),
        (put("up.weight", "data_offsets", [0, 10**15]), "cannot read"),
        (put("up.weight", "data_offsets", [-8, 8]), "cannot read"),
        (lambda h: h.update(ghost=h.pop("up.weight")), "'up.weight' is missing; 'ghost' is not"),
    ],
)
def test_weights_that_lie(folder, edit, words):
    rewritten(folder, edit)
    refused(folder, words)


def test_no_safetensors_at_all(folder):
    (folder / "model.safetensors").write_bytes(b"\x80\x04cposix\nsystem\n" * 9)
    changed(folder, lambda data: None)
    refused(folder, "cannot read")


@settings(max_examples=150)
@given(st.data())
def test_any_flipped_byte_is_refused_or_harmless(tmp_path_factory, original, data):
    """Anything but an error in words, or a model that runs, is a bug."""
    folder = shutil.copytree(original, tmp_path_factory.mktemp("x") / "small")
    name = data.draw(st.sampled_from(["sentei.json", "model.safetensors"]))
    text = bytearray((folder / name).read_bytes())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(text)
    model = Net()
    try:
        sentei.load(folder, model)
    except PruneError:
        assert model.up.out_features == model.config.width == 12


# -- the wrong model ------------------------------------------------------------------------------
def test_another_model(folder):
    words = r"of another model \('.*Net'; this is 'torch.*Sequential'\): .*; and \d+ more"
    refused(folder, words, nn.Sequential(nn.Linear(6, 12), nn.Linear(12, 4)))


def test_other_widths(folder):
    net = Net()
    net.up, net.norm, net.down = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 4)
    refused(folder, r"up.weight has shape \[16, 6\], was \[12, 6\]; ", net)


def test_a_model_pruned_already(folder):
    net = sentei.load(folder, Net())
    with pytest.raises(PruneError, match="pruned already; build a fresh one"):
        sentei.load(folder, net)
    assert net.up.out_features == 9


def test_models_without_weights(folder):
    with pytest.raises(PruneError, match=r"no weights \(meta device\)"):
        sentei.load(folder, Net().to("meta"))
    lazy = Net()
    lazy.up = nn.LazyLinear(12)
    with pytest.raises(PruneError, match="without a size; run it once"):
        sentei.load(folder, lazy)
