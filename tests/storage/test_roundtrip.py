"""Saved, then loaded into a freshly built model: the same outputs, bit for bit."""

import copy
import json
import subprocess
import sys

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

import sentei
from sentei import PruneError, Target
from sentei.graph.capture import tensors_in
from sentei.graph.history import Past, compose, history
from sentei.graph.stock import MultiheadAttention
from sentei.storage.recipe import decode, encode
from tests.random_networks import networks
from zoo.registry import load as zoo


def outputs(model, args, kwargs=None):
    torch.manual_seed(0)
    with torch.no_grad():
        return tensors_in(model.eval()(*args, **(kwargs or {})))


def assert_same(a, b, args, kwargs=None):
    for (_, x), (_, y) in zip(outputs(a, args, kwargs), outputs(b, args, kwargs), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


class Encoder(nn.Module):
    """Stock attention, which pruning swaps for a stand-in."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.body(x).mean(1))


class Tagger(nn.Module):
    """An LSTM keeps its weights in a flat list beside the parameters."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 12, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Tied(nn.Module):
    """One matrix embeds and scores; a table that is no parameter follows the width."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(20, 12), nn.Linear(12, 12)
        self.head = nn.Linear(12, 20, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.rand(12), persistent=False)
        self.shift = torch.rand(12)
        self.dims = {"model": (12, 3)}

    def forward(self, ids):
        x = self.embed(ids) * self.scale + self.shift
        x = torch.relu(self.mix(x)).reshape(*ids.shape, self.dims["model"][0])
        return self.head(x)


NETWORKS = {
    "resnet18": (torchvision.models.resnet18, lambda: torch.randn(2, 3, 32, 32)),
    "encoder": (Encoder, lambda: torch.randn(2, 5, 16)),
    "lstm": (Tagger, lambda: torch.randn(2, 5, 6)),
    "tied": (Tied, lambda: torch.randint(20, (2, 5))),
}


def build(name):
    torch.manual_seed(1 + len(name))  # other weights than those that were pruned
    return NETWORKS[name][0]().eval()


@pytest.fixture(params=NETWORKS)
def case(request):
    name = request.param
    torch.manual_seed(0)
    model = NETWORKS[name][0]().eval()
    return name, model, NETWORKS[name][1]()


def test_a_fresh_model_computes_the_same(case, tmp_path):
    name, model, x = case
    result = sentei.prune(model, x, target=Target(params=0.5))
    folder = sentei.save(result, tmp_path / "small")
    # Non-persistent tensors that pruning cut are in the file, too; the rest is the model's code.
    again = sentei.load(folder, model=build(name))
    assert_same(result.model, again, (x,))
    state, new = result.model.state_dict(), again.state_dict()
    assert state.keys() == new.keys()
    assert all(torch.equal(state[n], new[n]) for n in state)


class Positions(nn.Module):
    """Keeps a table for the length it last met, and makes it anew for another."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 6), nn.Linear(6, 3)
        self.register_buffer("table", torch.zeros(1, 6), persistent=False)

    def forward(self, ids):
        x = self.embed(ids)
        if len(self.table) != ids.shape[1]:
            self.table = torch.linspace(-1, 1, ids.shape[1])[:, None].repeat(1, x.shape[2])
        return self.head(x * self.table)


def test_a_table_that_was_made_for_an_input_is_what_is_loaded(tmp_path):
    torch.manual_seed(0)
    model, ids = Positions().eval(), torch.randint(20, (2, 5))
    model(ids)
    result = sentei.prune(model, ids, target=Target(width=0.5))
    again = sentei.load(sentei.save(result, tmp_path / "small"), Positions().eval())
    assert_same(result.model, again, (ids,))
    assert_same(result.model, again, (ids[:, :4],))


class Codebook(nn.Module):
    """Divides its sums once, when it is first asked for them."""

    def __init__(self):
        super().__init__()
        self.sums, self.counts = nn.Buffer(torch.randn(9, 6)), nn.Buffer(torch.ones(9))
        self.head = nn.Linear(6, 3)
        self.table = None

    def forward(self, ids):
        if self.table is None:
            self.table = self.sums / self.counts[:, None]
        return self.head(F.embedding(ids, self.table))


def test_a_table_that_the_first_pass_makes_is_what_is_loaded(tmp_path):
    torch.manual_seed(0)
    model, ids = Codebook().eval(), torch.randint(9, (2, 5))
    model(ids)
    result = sentei.prune(model, ids, target=Target(width=0.5))
    folder = sentei.save(result, tmp_path / "small")
    again = sentei.load(folder, Codebook().eval())
    assert again.table.shape == (9, 3)
    assert_same(result.model, again, (ids,))
    other = Codebook()
    other.head = nn.Linear(6, 4)
    with pytest.raises(PruneError, match="weight has shape"):
        sentei.load(folder, other)
    assert other.table is None


def test_prune_train_prune_makes_one_recipe(case, tmp_path):
    name, model, x = case
    sentei.prune(model, x, target=Target(params=0.7))
    model = copy.deepcopy(model)  # what it lost comes with it
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model.train()(x).square().mean().backward()
    optimizer.step()
    result = sentei.prune(model.eval(), x, target=Target(params=0.7), optimizer=optimizer)
    folder = sentei.save(result, tmp_path / "small")
    assert_same(result.model, sentei.load(folder, build(name)), (x,))


def test_load_prune_save_load(case, tmp_path):
    name, model, x = case
    first = sentei.save(sentei.prune(model, x, target=Target(params=0.7)), tmp_path / "first")
    again = sentei.load(first, build(name))
    result = sentei.prune(again, x, target=Target(params=0.8))
    folder = sentei.save(result, tmp_path / "second")
    assert_same(again, sentei.load(folder, build(name)), (x,))


def test_the_pruned_model_can_be_pruned_on_after_loading_without_its_example(tmp_path):
    model = Encoder()
    x = torch.randn(2, 5, 16)
    result = sentei.prune(model, x, target=Target(params=0.5))
    again = sentei.load(sentei.save(result, tmp_path / "small"), Encoder())
    attention = again.body.layers[0].self_attn
    assert type(attention) is MultiheadAttention
    assert attention.out_proj.in_features == result.model.body.layers[0].self_attn.num_heads * (
        attention.v_head_dim
    )
    assert again.train()(x).shape == (2, 3)


@pytest.mark.parametrize("name", ["hf/gpt2", "plain/llama", "plain/bi_gru", "plain/axis_juggler"])
@pytest.mark.filterwarnings("ignore")
def test_zoo(name, tmp_path):
    (entry,) = zoo(name)
    example = entry.build()
    call = {"args": example.args, "kwargs": example.kwargs}
    result = sentei.prune(example.model, **call, target=Target(params=0.6))
    again = sentei.load(sentei.save(result, tmp_path / "small"), entry.build().model)
    assert_same(result.model, again, example.args, example.kwargs)


@settings(max_examples=15)
@given(networks(), st.floats(0.4, 0.9))
def test_random_networks(tmp_path_factory, case, fraction):
    model, inputs = case
    fresh = copy.deepcopy(model)
    for p in fresh.parameters():
        p.data.fill_(0.25)
    try:
        result = sentei.prune(model, inputs, target=Target(params=fraction))
    except PruneError:
        return
    folder = sentei.save(result, tmp_path_factory.mktemp("x") / "small")
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    assert_same(result.model, sentei.load(folder, fresh), args)


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    model = Tied()
    result = sentei.prune(model, torch.randint(20, (2, 5)), target=Target(params=0.6))
    folder = sentei.save(result, tmp_path / "small")
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names == {"embed.weight", "mix.weight", "mix.bias", "scale", "shift"}
    recipe = json.loads((folder / "sentei.json").read_text())
    assert recipe["tensors"]["embed.weight"]["aliases"] == ["head.weight"]
    again = sentei.load(folder, Tied())
    assert again.head.weight is again.embed.weight
    assert again.dims["model"][0] == again.mix.out_features < 12


def test_untying_is_noticed(tmp_path):
    model = Tied()
    sentei.prune(model, torch.randint(20, (2, 5)), target=Target(params=0.6))
    sentei.save(model, tmp_path / "small")
    fresh = Tied()
    fresh.head.weight = nn.Parameter(fresh.head.weight.detach().clone())
    with pytest.raises(PruneError, match=r"embed.weight is tied to nothing, was tied to 'head"):
        sentei.load(tmp_path / "small", fresh)


def test_parameters_cut_from_one_flat_tensor(tmp_path):
    def flat():
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
        pool = torch.randn(64)
        net[0].weight = nn.Parameter(pool[:32].view(8, 4))
        net[2].weight = nn.Parameter(pool[32:].view(4, 8))
        return net

    model, x = flat(), torch.randn(3, 4)
    result = sentei.delete_units(model, "0", [1], x)
    sentei.save(result, tmp_path / "a")
    assert_same(model, sentei.load(tmp_path / "a", flat()), (x,))
    sentei.save(flat(), tmp_path / "whole")  # an unpruned model is an artefact, too


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex128])
def test_dtypes(dtype, tmp_path):
    def net():
        return nn.Sequential(nn.Linear(4, 8, dtype=dtype), nn.Linear(8, 2, dtype=dtype))

    model, x = net(), torch.randn(3, 4, dtype=dtype)
    result = sentei.delete_units(model, "0", [1, 2], x)
    folder = sentei.save(result, tmp_path / "a")
    assert_same(model, sentei.load(folder, net()), (x,))
    with pytest.raises(PruneError, match=r"0.weight is float32, was .*use model.to"):
        sentei.load(folder, nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)))


def test_in_a_fresh_process(tmp_path):
    model, x = build("tied"), torch.arange(10).view(2, 5)
    result = sentei.prune(model, x, target=Target(params=0.6))
    sentei.save(result, tmp_path / "small")
    code = (
        "import sys, torch, sentei\n"
        "from tests.storage.test_roundtrip import Tied\n"
        "model = sentei.load(sys.argv[1], Tied()).eval()\n"
        "print(model(torch.arange(10).view(2, 5)).double().sum().item().hex())"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "small")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == model(x).double().sum().item().hex()


def test_what_the_recipe_says(tmp_path):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    result = sentei.prune(net, torch.randn(3, 4), target=Target(macs=0.5), seed=7)
    recipe = json.loads((sentei.save(result, tmp_path / "a") / "sentei.json").read_text())
    assert (recipe["format"], recipe["version"]) == ("sentei", 3)
    assert recipe["model"] == "torch.nn.modules.container.Sequential"
    assert (recipe["asked"], recipe["reached"], recipe["seed"]) == ({"macs": 72}, {"macs": 72}, 7)
    assert recipe["tensors"]["0.weight"]["shape"] == [8, 4]
    assert recipe["versions"]["torch"] == torch.__version__


def test_ways_to_say_what(tmp_path):
    net, x = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.randn(3, 4)
    result = sentei.delete_units(net, "0", [0], x, inplace=False)
    sentei.save(result, tmp_path / "a")
    sentei.save(result.surgery, tmp_path / "a", model=result.model)
    sentei.save(result.model, tmp_path / "a")
    trained = copy.deepcopy(result.model)
    sentei.save(result, tmp_path / "a", model=trained)
    with pytest.raises(PruneError, match=r"has not been through that surgery.*result\.model"):
        sentei.save(result.surgery, tmp_path / "a", model=net)
    with pytest.raises(PruneError, match="give the pruned one as model="):
        sentei.save(result.surgery, tmp_path / "a")
    with pytest.raises(PruneError, match="two models"):
        sentei.save(net, tmp_path / "a", model=net)
    with pytest.raises(PruneError, match="cannot save a dict"):
        sentei.save({}, tmp_path / "a")
    dry = sentei.prune(net, x, target=Target(macs=0.5), dry_run=True)
    with pytest.raises(PruneError, match="dry run: nothing was removed"):
        sentei.save(dry, tmp_path / "a")


def test_a_pruned_part_of_a_larger_model(tmp_path):
    def whole():
        return nn.ModuleDict({"body": Encoder(), "extra": nn.Linear(2, 2)})

    model, x = whole(), torch.randn(2, 5, 16)
    sentei.prune(model["body"], x, target=Target(params=0.6))
    again = sentei.load(sentei.save(model, tmp_path / "a"), whole())
    assert_same(model["body"], again["body"], (x,))
    # And the part alone, taken out of the whole.
    alone = sentei.load(sentei.save(again["body"], tmp_path / "b"), Encoder())
    assert_same(model["body"], alone, (x,))


def test_a_layer_replaced_after_pruning(tmp_path):
    model, x = torchvision.models.resnet18(), torch.randn(2, 3, 32, 32)
    result = sentei.prune(model, x, target=Target(params=0.6))
    model.fc = nn.Linear(model.fc.in_features, 5)
    folder = sentei.save(result.model, tmp_path / "a")
    fresh = torchvision.models.resnet18()
    with pytest.raises(PruneError, match=r"fc.weight has shape \[1000, 512\], was \[5, "):
        sentei.load(folder, fresh)
    fresh.fc = nn.Linear(model.fc.in_features, 5)
    assert_same(model, sentei.load(folder, fresh), (x,))


def test_a_tensor_resized_by_hand_cannot_be_told():
    net, x = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.randn(3, 4)
    result = sentei.delete_units(net, "0", [0], x)
    net[0].weight.data = torch.randn(6, 4)
    with pytest.raises(PruneError, match=r"0.weight has shape \[6, 4\], but pruning left 7"):
        sentei.save(result, "/nowhere/at/all")


def test_a_failed_pruning_leaves_no_history():
    net, x = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.randn(3, 4)
    with pytest.raises(PruneError):
        sentei.delete_units(net, "0", range(8), x)
    assert not history(net)
    assert not any("_sentei_past" in vars(m) for m in net.modules())


@given(st.data())
def test_composition_is_selecting_twice(data):
    def chosen(n):
        return torch.tensor(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))))

    n = data.draw(st.integers(1, 30))
    x = torch.randn(n, 3)
    first = chosen(n)
    second = chosen(len(first))
    both = compose(Past({"w": {0: (n, first)}}), Past({"w": {0: (len(first), second)}}))
    size, kept = both.kept["w"][0]
    assert size == n
    assert torch.equal(x[kept], x[first][second])


@given(st.sets(st.integers(0, 200), min_size=1))
def test_runs_read_back(positions):
    tensor = torch.tensor(sorted(positions))
    assert torch.equal(decode(encode(tensor), 201), tensor)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "no positions"),
        ("-1", "must read like"),
        ("0,1", "must read like"),
        ("1 ", "must read like"),
        ("\uff11", "must read like"),
        ("9" * 400, "must read like"),
        ("3-1", "ascend"),
        ("2 1", "ascend"),
        ("1 1", "ascend"),
        ("0-3 3", "ascend"),
        ("5-10", "position 10 of a dimension of 10"),
        ("0-999999999999999", "of a dimension of 10"),
    ],
)
def test_runs_that_lie(text, words):
    with pytest.raises(PruneError, match=words):
        decode(text, 10)
