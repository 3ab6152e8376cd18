"""Models that lost whole layers and branches, saved and loaded into fresh ones."""

import json

import pytest
import torch
from torch import nn

import sentei
from sentei import PruneError, Source, Target
from sentei.graph.history import history
from tests.graph.test_layers import FOUND, MODELS, built, snapshot
from tests.storage.test_roundtrip import assert_same


def first(name, kind):
    """The last layer or branch of a model: those before it make sure that names move."""
    model, args, kwargs = built(name)
    found = sentei.layers(model, args=args, kwargs=kwargs)
    return next((n for n in reversed(FOUND[name].split()) if found[n].kind == kind), None)


@pytest.mark.parametrize("kind", ["layer", "branch"])
@pytest.mark.parametrize("name", MODELS)
def test_layers_and_branches(name, kind, tmp_path):
    layer = first(name, kind)
    if layer is None:
        pytest.skip(f"{name} has no {kind}")
    model, args, kwargs = built(name)
    sentei.delete_layer(model, layer, args=args, kwargs=kwargs)
    sentei.prune(model, args=args, kwargs=kwargs, target=Target(params=0.8), verify=False)
    fresh, _, _ = built(name)
    again = sentei.load(sentei.save(model, tmp_path / "small"), fresh)
    assert again is fresh
    assert_same(model, again, args, kwargs)
    assert snapshot(model)[:3] == snapshot(again)[:3]
    assert history(again).gone == history(model).gone


def test_widths_layers_widths(tmp_path):
    """Sizes that a stand-in holds follow later surgery; what is loaded can be pruned on."""
    model, args, kwargs = built("encoder-pre-norm")
    call = {"args": args, "kwargs": kwargs}
    for layer in ("layers.1", "layers.1.linear2", "layers.0.self_attn"):
        sentei.prune(model, **call, target=Target(params=0.9))
        sentei.delete_layer(model, layer, **call)
    sentei.prune(model, **call, target=Target(params=0.9))
    again = sentei.load(sentei.save(model, tmp_path / "one"), built("encoder-pre-norm")[0])
    assert_same(model, again, args, kwargs)
    assert len(again.layers) == 2
    result = sentei.prune(again, **call, target=Target(params=0.9))
    third = sentei.load(sentei.save(result, tmp_path / "two"), built("encoder-pre-norm")[0])
    assert_same(again, third, args, kwargs)


def test_a_part_of_a_larger_model(tmp_path):
    part, (x,), _ = built("plain")
    sentei.delete_layer(part, "blocks.1", x)
    whole = nn.Sequential(nn.Identity(), part)
    fresh = nn.Sequential(nn.Identity(), built("plain")[0])
    again = sentei.load(sentei.save(whole, tmp_path / "whole"), fresh)
    assert_same(whole, again, (x,))
    recipe = json.loads((tmp_path / "whole" / "sentei.json").read_text())
    assert [layer["name"] for layer in recipe["layers"]] == ["1.blocks.1"]


def test_depth_and_a_source(tmp_path):
    model = Source.of("timm:test_vit", num_classes=3).build()
    x = torch.randn(1, 3, 160, 160)
    for layer in list(sentei.layers(model, x))[:1]:
        sentei.delete_layer(model, layer, x)
    result = sentei.prune(model, x, target=Target(params=0.7))
    assert_same(sentei.load(sentei.save(result, tmp_path / "small")), result.model, (x,))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"name": "nowhere.0", "stand_ins": []}, "layers: 'nowhere.0': no module 'nowhere.0'"),
        ({"name": "norm", "stand_ins": []}, "layers: 'norm': .* is not an element"),
        ({"name": "", "stand_ins": []}, "layers: '': "),
        ({"name": "blocks.0", "stand_ins": []}, "the artefact is of another model"),
        ({"stand_ins": [{"module": "x", "steps": [], "outputs": 0}]}, "cannot return '0'"),
        ({"stand_ins": [{"module": "x", "steps": [["run", 1]], "outputs": 0}]}, "made by 'run'"),
        (
            {"stand_ins": [{"module": "x", "steps": [["zeros", [0, 1, [-1]]]], "outputs": 0}]},
            "made by 'zeros', which makes no sense",
        ),
        (
            {"stand_ins": [{"module": "x", "steps": [["input", 0]], "outputs": {"exec": []}}]},
            "cannot return",
        ),
        (
            {"stand_ins": [{"module": "x", "steps": [["input", 0]], "outputs": 0}]},
            "layers: .*no module 'x'",
        ),
        ({"numbers": {"layer_idx": [-1]}}, "'layers.0.numbers.layer_idx.0': Input should be"),
    ],
)
def test_layers_that_lie(change, words, tmp_path):
    model, (x,), _ = built("timm-vit")
    sentei.delete_layer(model, "blocks.1.mlp", x)
    folder = sentei.save(model, tmp_path / "small")
    recipe = json.loads((folder / "sentei.json").read_text())
    recipe["layers"][0] |= change
    (folder / "sentei.json").write_text(json.dumps(recipe))
    fresh, _, _ = built("timm-vit")
    before = snapshot(fresh)
    with pytest.raises(PruneError, match=words):
        sentei.load(folder, fresh)
    after = snapshot(fresh)
    assert before[:3] == after[:3] and not history(fresh)
    assert all(torch.equal(before[3][n], t) for n, t in after[3].items())


# -- modules that were put in -----------------------------------------------------------------
def convnet():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 16, 4),
    )  # fmt: skip


def test_modules_put_in_before_and_after_widths(tmp_path):
    model, x = convnet().eval(), torch.randn(2, 1, 6, 6)
    sentei.insert_layer(model, "0", nn.BatchNorm2d(8, eps=1e-3), x)
    sentei.prune(model, x, target=Target(macs=0.6))
    width = model[0].out_channels
    block = nn.Sequential(nn.Conv2d(width, 12, 1, bias=False), nn.GELU("tanh"))
    block.append(nn.Conv2d(12, width, 1))
    block.append(nn.MaxPool2d(3, 1, 1))
    sentei.insert_layer(model, "2", block, x)
    sentei.replace_layer(model, "2", nn.LeakyReLU(0.2), x)
    sentei.prune(model, x, target=Target(macs=0.6))
    assert model[3][0].out_channels < 12
    sentei.insert_layer(model, "", nn.Identity(), x)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(x).square().sum().backward()
    optimizer.step()  # batch-norm statistics and weights that are nobody's first ones
    folder = sentei.save(model.eval(), tmp_path / "small")
    again = sentei.load(folder, model=convnet().eval())
    assert torch.equal(again(x), model(x))
    assert str(again) == str(model)
    assert history(again).gone == history(model).gone
    # What was loaded is pruned and saved on.
    result = sentei.prune(again, x, target=Target(macs=0.7))
    third = sentei.load(sentei.save(result, tmp_path / "third"), model=convnet().eval())
    assert torch.equal(third(x), again(x))
    half = sentei.load(
        sentei.save(model.to(torch.bfloat16), tmp_path / "half"), model=convnet().bfloat16()
    )
    assert half[1].weight.dtype == torch.bfloat16


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.over, self.head = nn.GRU(5, 12, batch_first=True), nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.over(x)[0][:, -1])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("made", [
    lambda: nn.GRU(5, 12, 2, bias=False, batch_first=True),
    lambda: nn.LSTM(5, 16, batch_first=True, proj_size=12),
    lambda: nn.RNN(5, 6, nonlinearity="relu", batch_first=True, bidirectional=True),
])  # fmt: skip
def test_recurrent_modules_are_put_in(made, tmp_path):
    torch.manual_seed(0)
    model, x = Counting().eval(), torch.randn(2, 4, 5)
    sentei.replace_layer(model, "over", made(), x)
    result = sentei.prune(model, x, target=Target(params=0.6))
    assert result.verification.passed and result.after.params < result.before.params
    again = sentei.load(sentei.save(result, tmp_path / "small"), model=Counting().eval())
    assert torch.equal(again(x), model(x)) and str(again) == str(model)


def test_modules_that_plain_data_cannot_describe_are_refused(tmp_path):
    class Mine(nn.Module):
        def forward(self, x):
            return x + 1

    changed = nn.LeakyReLU(0.2)
    changed.extra = 3
    wide = nn.Linear(4, 4)
    wide.bias = nn.Parameter(torch.zeros(1))
    for module, words in {
        Mine(): "a module was put behind 5, and the Mine is no module .* Give it to the code",
        nn.Sequential(nn.ReLU(), Mine()): "the Mine '1' in it is no module",
        changed: "the LeakyReLU was changed after it was built",
        wide: "the Linear was changed after it was built",
    }.items():
        model, x = convnet(), torch.randn(2, 1, 6, 6)
        sentei.insert_layer(model, "5", module, x)
        with pytest.raises(PruneError, match=words):
            sentei.save(model, tmp_path / "small")
        assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    "module, words",
    [
        ({"type": "Linear", "options": {"in_features": 4}}, "a Linear wants in_features"),
        ({"type": "eval", "options": {}}, "'eval' is no module that is built from plain data"),
        ({"type": "os.system"}, "'os.system' is no module"),
        ({"type": "Softmax", "options": {"dim": {"a": 1}}}, "dim of a Softmax cannot be"),
        ({"type": "GRU", "options": {
            "input_size": 1, "hidden_size": 1, "num_layers": 10**6, "bias": True,
            "batch_first": True, "dropout": 0.0, "bidirectional": False}},
         "num_layers of a GRU cannot be '1000000'"),
        ({"type": "Flatten", "options": {"start_dim": 2**40, "end_dim": 1}}, "start_dim of a"),
        ({"type": "GroupNorm", "options": {"num_groups": 0, "num_channels": 1, "eps": 1e-5,
                                           "affine": True}}, "a GroupNorm cannot be built so"),
        ({"type": "Linear", "options": {"in_features": 2**20, "out_features": 2**20,
                                        "bias": False}}, "1,099,511,627,776 numbers is put in"),
        ({"type": "Sequential", "children": {"forward": {"type": "ReLU6"}}}, "be called 'for"),
        ({"type": "Sequential", "children": {"a.b": {"type": "Tanh"}}}, "cannot be called 'a.b'"),
        ({"type": "Linear", "options": {"in_features": 4, "out_features": 4, "bias": True}},
         "the artefact has no '6.weight'|the artefact is of another model"),
        (None, "put and module belong together"),
        ({"type": "Tanh", "code": "x"}, "module.code"),
    ],
)  # fmt: skip
def test_hostile_descriptions(module, words, tmp_path):
    model, x = convnet(), torch.randn(2, 1, 6, 6)
    sentei.insert_layer(model, "5", nn.Tanh(), x)
    folder = sentei.save(model, tmp_path / "small")
    recipe = json.loads((folder / "sentei.json").read_text())
    assert recipe["layers"][0] == {"name": "5", "put": "behind", "module": {"type": "Tanh"}}
    recipe["layers"][0]["module"] = module
    (folder / "sentei.json").write_text(json.dumps(recipe))
    fresh = convnet()
    with pytest.raises(PruneError, match=words):
        sentei.load(folder, model=fresh)
    assert len(fresh) == 6 and not history(fresh)
    recipe["layers"][0] = {"name": "5", "put": "behind", "module": {"type": "Tanh"}}
    recipe["version"] = 2
    (folder / "sentei.json").write_text(json.dumps(recipe))
    with pytest.raises(PruneError, match="modules put in do not belong in format version 2"):
        sentei.load(folder, model=fresh)
