"""Whole layers and branches: what is found, what deletion leaves, what is refused."""

import copy
import re
from functools import cache

import pytest
import torch
from torch import nn

import sentei
from sentei import PruneError, delete_layer, delete_units, insert_layer, layers, replace_layer
from sentei.graph.errors import VerificationError
from sentei.graph.layers import Silent
from zoo.registry import load, randomise


class Block(nn.Module):
    """x + f(g(x)), pre-norm."""

    def __init__(self, width=8, inner=12):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Plain(nn.Module):
    def __init__(self, depth=4, width=8):
        super().__init__()
        self.depth = depth
        self.inp, self.head = nn.Linear(5, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        for i, block in enumerate(self.blocks):
            block.layer_idx = i

    def forward(self, x):
        x = self.inp(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def zoo(name):
    made = load(name)[0].build()
    return randomise(made.model), made.args, made.kwargs


def encoder(norm_first):
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


def resnet():
    from torchvision.models import resnet18

    return randomise(resnet18(num_classes=4).eval()), (torch.randn(2, 3, 64, 64),), {}


def vit():
    timm = pytest.importorskip("timm")
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=48, depth=3, num_heads=3, num_classes=5
    )
    return randomise(model.eval()), (torch.randn(2, 3, 32, 32),), {}


MODELS = {
    "plain": lambda: (randomise(Plain()), (torch.randn(4, 5),), {}),
    "resnet18": resnet,
    "timm-vit": vit,
    "encoder-post-norm": lambda: (randomise(encoder(False).eval()), (torch.randn(2, 5, 16),), {}),
    "encoder-pre-norm": lambda: (randomise(encoder(True).eval()), (torch.randn(2, 5, 16),), {}),
    "llama": lambda: zoo("hf/llama"),
    "gpt2": lambda: zoo("hf/gpt2"),
    "bert": lambda: zoo("hf/bert"),
    "t5": lambda: zoo("hf/t5"),
}
FOUND = {
    # One branch each: the layer is the branch.
    "plain": "blocks.0 blocks.1 blocks.2 blocks.3",
    # The first blocks of the other stages change width: no residual.
    "resnet18": "layer1.0 layer1.1 layer2.1 layer3.1 layer4.1",
    "timm-vit": " ".join(f"blocks.{i}{s}" for i in range(3) for s in ("", ".attn", ".mlp")),
    "encoder-post-norm": " ".join(
        f"layers.{i}{s}" for i in range(3) for s in ("", ".linear2", ".self_attn")
    ),
    "encoder-pre-norm": " ".join(
        f"layers.{i}{s}" for i in range(3) for s in ("", ".linear2", ".self_attn")
    ),
    "llama": " ".join(f"model.layers.{i}{s}" for i in range(2) for s in ("", ".mlp", ".self_attn")),
    "gpt2": " ".join(f"transformer.h.{i}{s}" for i in range(2) for s in ("", ".attn", ".mlp")),
    "bert": " ".join(
        f"bert.encoder.layer.{i}{s}"
        for i in range(2)
        for s in ("", ".attention.output.dense", ".output.dense")
    ),
    # The first blocks make the position bias of all others.
    "t5": (
        "decoder.block.0.layer.2.DenseReluDense decoder.block.1 "
        "decoder.block.1.layer.0.SelfAttention decoder.block.1.layer.1.EncDecAttention "
        "decoder.block.1.layer.2.DenseReluDense encoder.block.0.layer.1.DenseReluDense "
        "encoder.block.1 encoder.block.1.layer.0.SelfAttention "
        "encoder.block.1.layer.1.DenseReluDense"
    ),
}


@cache
def _made(name):
    torch.manual_seed(0)
    return MODELS[name]()


def built(name):
    model, args, kwargs = _made(name)
    return copy.deepcopy(model), args, kwargs


def run(model, args, kwargs):
    with torch.no_grad():
        out = model.eval()(*args, **kwargs)
    return out if isinstance(out, torch.Tensor) else out.logits


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def snapshot(model):
    text = repr(model)
    numbers = {
        (n, k): v
        for n, m in model.named_modules()
        for k, v in vars(m).items()
        if type(v) in (int, bool)
    }
    config = model.config.to_dict() if hasattr(model, "config") else None
    return text, numbers, config, {n: t.clone() for n, t in model.state_dict().items()}


def same(a, b):
    tensors = a[3].keys() == b[3].keys() and all(torch.equal(a[3][n], t) for n, t in b[3].items())
    return a[:3] == b[:3] and tensors


@pytest.mark.parametrize("name", MODELS)
def test_what_is_found(name):
    model, args, kwargs = built(name)
    before = snapshot(model)
    found = layers(model, args=args, kwargs=kwargs)
    assert list(found) == FOUND[name].split()
    assert same(snapshot(model), before)
    table = str(found)
    assert all(layer.name in table and f"{layer.params:,}" in table for layer in found.values())
    assert all(layer.params > 0 and layer.macs > 0 for layer in found.values())


def zeroed(model, layer):
    """Hooks that multiply what the last module of each branch returns by zero."""

    def silence(_, __, output):
        if isinstance(output, tuple):
            return output[0] * 0, *output[1:]
        return output * 0

    return model.get_submodule(layer).register_forward_hook(silence)


# Modules whose output is what a whole layer adds.
ADDED = {
    "plain": ("blocks.1", ("down",)),
    "resnet18": ("layer2.1", ("bn2",)),
    "timm-vit": ("blocks.1", ("attn", "mlp")),
    "encoder-pre-norm": ("layers.1", ("self_attn", "linear2")),
    "llama": ("model.layers.0", ("self_attn", "mlp")),
    "gpt2": ("transformer.h.1", ("attn", "mlp")),
    "t5": ("encoder.block.1", ("layer.0.SelfAttention", "layer.1.DenseReluDense")),
}


@pytest.mark.parametrize("name", ADDED)
def test_deletion_is_the_branches_times_zero(name):
    model, args, kwargs = built(name)
    layer, parts = ADDED[name]
    reference = copy.deepcopy(model)
    for part in parts:
        zeroed(reference, f"{layer}.{part}")
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        want = run(reference, args, kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    full, size = run(model, args, kwargs), parameters(model)
    deleted = delete_layer(model, layer, args=args, kwargs=kwargs)
    got = run(model, args, kwargs)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, full, rtol=1e-3)
    assert deleted.kind == "layer"
    assert deleted.exact
    assert size - parameters(model) == deleted.params


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_can_go_and_the_rest_trains(name):
    model, args, kwargs = built(name)
    for layer in layers(model, args=args, kwargs=kwargs).values():
        small = copy.deepcopy(model)
        deleted = delete_layer(small, layer.name, args=args, kwargs=kwargs)  # verifies
        assert deleted == layer or deleted.name == layer.name
        assert parameters(model) - parameters(small) == layer.params
        small.train()
        out = small(*args, **kwargs)
        (out if isinstance(out, torch.Tensor) else out.logits).sum().backward()
        assert any(p.grad is not None for p in small.parameters())


@pytest.mark.parametrize("name", ["plain", "timm-vit", "encoder-pre-norm", "llama", "bert"])
def test_a_branch_times_zero(name):
    model, args, kwargs = built(name)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for layer in layers(model, args=args, kwargs=kwargs).values():
            if layer.kind != "branch":
                continue
            reference, small = copy.deepcopy(model), copy.deepcopy(model)
            zeroed(reference, layer.name)
            delete_layer(small, layer.name, args=args, kwargs=kwargs)
            assert isinstance(small.get_submodule(layer.name), Silent)
            want, got = run(reference, args, kwargs), run(small, args, kwargs)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
            # Another batch than the one it was recorded on.
            if args:
                assert run(small, (args[0][:1],), kwargs).shape[0] == 1
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_what_runs_for_a_branch_alone_goes_with_it():
    model, args, kwargs = built("bert")
    found = layers(model, args=args, kwargs=kwargs)
    modules = found["bert.encoder.layer.0.attention.output.dense"].modules
    assert "bert.encoder.layer.0.attention.self" in modules
    stack, args, kwargs = built("encoder-pre-norm")
    modules = layers(stack, args=args, kwargs=kwargs)["layers.0.linear2"].modules
    assert set(modules) == {"layers.0.linear2", "layers.0.linear1", "layers.0.norm2"}


# --- what else must follow -----------------------------------------------------------------------
def test_counts_and_numbers_follow():
    model, args, kwargs = built("plain")
    delete_layer(model, "blocks.1", args=args, kwargs=kwargs)
    assert model.depth == 3
    assert [b.layer_idx for b in model.blocks] == [0, 1, 2]
    assert list(model.blocks._modules) == ["0", "1", "2"]
    stack, args, kwargs = built("encoder-pre-norm")
    delete_layer(stack, "layers.0", args=args, kwargs=kwargs)
    assert stack.num_layers == 2


def test_names_of_a_named_sequential_stay():
    net = nn.Sequential()
    for key, part in (("inp", nn.Linear(5, 8)), ("a", Block()), ("b", Block())):
        net.add_module(key, part)
    delete_layer(net, "a", torch.randn(2, 5))
    assert list(net._modules) == ["inp", "b"]


@pytest.mark.parametrize(
    "name, layer, depths",
    [
        ("llama", "model.layers.0", {"num_hidden_layers": 1}),
        ("gpt2", "transformer.h.0", {"n_layer": 1}),
        ("bert", "bert.encoder.layer.1", {"num_hidden_layers": 1}),
        ("t5", "decoder.block.1", {"num_layers": 2, "num_decoder_layers": 1}),
        ("t5", "encoder.block.1", {"num_layers": 1, "num_decoder_layers": 2}),
    ],
)
def test_the_configuration_states_the_depth(name, layer, depths, tmp_path):
    model, args, kwargs = built(name)
    delete_layer(model, layer, args=args, kwargs=kwargs)
    assert {k: getattr(model.config, k) for k in depths} == depths
    model.save_pretrained(tmp_path)
    read, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(run(read, args, kwargs), run(model, args, kwargs))


def test_lists_by_layer_follow():
    model, args, kwargs = zoo("hf/gemma2")
    kinds = list(model.config.layer_types)
    assert len(set(kinds)) == 2
    delete_layer(model, "model.layers.0", args=args, kwargs=kwargs)
    assert model.config.layer_types == kinds[1:]
    assert model.config.num_hidden_layers == 1


def test_lists_by_layer_follow_where_a_branch_went_before():
    model, args, kwargs = zoo("hf/gemma2")
    kinds = list(model.config.layer_types)
    branch = "model.layers.1.post_feedforward_layernorm"
    delete_layer(model, branch, args=args, kwargs=kwargs)
    delete_layer(model, "model.layers.0", args=args, kwargs=kwargs)  # verifies
    assert model.config.layer_types == kinds[1:]


@pytest.mark.parametrize("what", ["model.layers.0", "model.layers.0.self_attn"])
def test_generation_with_and_without_a_cache(what):
    model, args, kwargs = built("llama")
    delete_layer(model, what, args=args, kwargs=kwargs)
    ids = kwargs["input_ids"][:2, :6]
    options = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    with_cache = model.generate(ids, use_cache=True, **options)
    without = model.generate(ids, use_cache=False, **options)
    assert torch.equal(with_cache, without)
    assert with_cache.shape == (2, 11)
    left = [m.layer_idx for m in model.modules() if type(m).__name__ == "LlamaAttention"]
    assert left == list(range(len(left)))


# --- insert and replace --------------------------------------------------------------------------
def test_attention_to_an_encoder_keeps_its_own_numbers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=3, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = randomise(transformers.T5ForConditionalGeneration(config).eval())
    kwargs = dict.fromkeys(("input_ids", "decoder_input_ids"), torch.tensor([[3, 1, 4]]))
    delete_layer(model, "decoder.block.1.layer.0.SelfAttention", kwargs=kwargs)
    places = [[block.layer[i] for block in model.decoder.block] for i in (0, 1)]
    assert [place.SelfAttention.layer_idx for place in places[0]] == [0, 1, 1]
    assert [place.EncDecAttention.layer_idx for place in places[1]] == [0, 1, 2]


def test_a_branch_of_a_layer_that_is_unpacked_by_position():
    class Pairs(Plain):
        def __init__(self):
            super().__init__(2)
            self.blocks = nn.ModuleList(
                nn.ModuleList([block, nn.LayerNorm(8)]) for block in self.blocks
            )

        def forward(self, x):
            x = self.inp(x)
            for block, norm in self.blocks:
                x = norm(block(x))
            return self.head(x)

    model, x = Pairs().eval(), torch.randn(2, 5)
    (first, _) = layers(model, x)
    assert first == "blocks.0.0.down"
    assert delete_layer(model, first, x).verification.passed


def test_insert_undoes_delete():
    model, args, kwargs = built("llama")
    before, want = snapshot(model), run(model, args, kwargs)
    layer = model.model.layers[1]
    delete_layer(model, "model.layers.1", args=args, kwargs=kwargs)
    name = insert_layer(model, "model.layers.0", layer, args=args, kwargs=kwargs)
    assert name == "model.layers.1"
    assert same(snapshot(model), before)
    assert torch.equal(run(model, args, kwargs), want)


def test_insert_first_and_between():
    model, args, kwargs = built("plain")
    first, middle = Block(), Block()
    middle.layer_idx = first.layer_idx = 77
    assert insert_layer(model, "blocks", first, args=args, kwargs=kwargs) == "blocks.0"
    assert insert_layer(model, "blocks.2", middle, args=args, kwargs=kwargs) == "blocks.3"
    assert model.blocks[0] is first
    assert model.blocks[3] is middle
    assert model.depth == 6
    assert [b.layer_idx for b in model.blocks] == list(range(6))


def test_replace():
    model, args, kwargs = built("llama")
    old = model.model.layers[0].mlp
    small = copy.deepcopy(old)
    for key, shape in (("gate_proj", (8, 96)), ("up_proj", (8, 96)), ("down_proj", (96, 8))):
        setattr(small, key, nn.Linear(*shape[::-1], bias=False))
    assert replace_layer(model, "model.layers.0.mlp", small, args=args, kwargs=kwargs) is old
    assert model.model.layers[0].mlp is small
    attention = copy.deepcopy(model.model.layers[0].self_attn)
    replace_layer(model, "model.layers.1.self_attn", attention, args=args, kwargs=kwargs)
    assert attention.layer_idx == 1
    run(model, args, kwargs)


# --- refused -------------------------------------------------------------------------------------
class Twice(nn.Module):
    """One block, used twice."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block()])

    def forward(self, x):
        return self.blocks[0](self.blocks[0](x))


class Side(nn.Module):
    """The first block also makes what the second needs."""

    class First(Block):
        def forward(self, x):
            return super().forward(x), x.mean(-1, keepdim=True)

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Side.First(), Block()])

    def forward(self, x):
        x, mean = self.blocks[0](x)
        return self.blocks[1](x * mean)


REFUSED = [
    ("plain", "blocks.7", "no layer 'blocks.7'; closest: 'blocks.3'"),
    ("plain", "blocks.0.up", "(Linear) cannot be deleted: it turns [4, 8] into [4, 12]"),
    ("plain", "head", "head (Linear) cannot be deleted: it turns [4, 8] into [4, 3]"),
    ("plain", "blocks", "blocks (ModuleList) is not called on the example input. Inside it: "),
    ("resnet18", "layer2.0", "layer2.0 (BasicBlock) cannot be deleted: it turns [2, 64, 16, 16]"),
    ("resnet18", "relu", "relu (ReLU) cannot be deleted: its output is not its input plus"),
    ("t5", "encoder.block.0", "other parts of the model use something else that is computed"),
    ("t5", "encoder.block.1.layer.0", "does not run without encoder.block.1.layer.0 (TypeError"),
    ("bert", "bert.encoder.layer.0.attention", "Inside it: 'bert.encoder.layer.0.attention.output"),
]


@pytest.mark.parametrize("name, layer, words", REFUSED)
def test_refused_with_the_reason(name, layer, words):
    model, args, kwargs = built(name)
    before = snapshot(model)
    with pytest.raises(PruneError, match=re.escape(words)):
        delete_layer(model, layer, args=args, kwargs=kwargs)
    assert same(snapshot(model), before)


def test_refused_shared_and_leaking_layers():
    with pytest.raises(PruneError, match=r"blocks.0 \(Block\) is called 2 times"):
        delete_layer(Twice(), "blocks.0", torch.randn(2, 8))
    with pytest.raises(PruneError, match="other parts of the model use something else"):
        delete_layer(Side(), "blocks.0", torch.randn(2, 8))
    equal = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    with pytest.raises(PruneError, match="its output is not its input plus something"):
        delete_layer(equal, "1", torch.randn(2, 4))


def test_insert_and_replace_refuse_and_undo():
    model, args, kwargs = built("llama")
    before = snapshot(model)
    wide = nn.Linear(96, 64)
    for call, words in (
        (lambda: insert_layer(model, "model.layers.0", wide, args=args, kwargs=kwargs),
         "does not run with Linear as model.layers.1"),
        (lambda: insert_layer(model, "model.norm", wide, args=args, kwargs=kwargs),
         "'model.norm' is not an element of a ModuleList or Sequential but of LlamaModel"),
        (lambda: insert_layer(model, "model.layers.0", model.model.layers[1], args=args,
                              kwargs=kwargs), "already part of the model; insert a copy"),
        (lambda: insert_layer(model, "model.layer.0", wide, args=args, kwargs=kwargs),
         "no module 'model.layer.0'; closest: 'model.layers.0'"),
        (lambda: insert_layer(model, "model.layers.0", 3, args=args, kwargs=kwargs),
         "give a module; got int"),
        (lambda: replace_layer(model, "model.layers.0.mlp", wide, args=args, kwargs=kwargs),
         "does not run with Linear as model.layers.0.mlp"),
        (lambda: replace_layer(model, "lm_head", wide, args=args, kwargs=kwargs),
         "the model returns shape (5, 17, 64) with Linear as lm_head, was (5, 17, 131)"),
    ):  # fmt: skip
        with pytest.raises(PruneError, match=re.escape(words)):
            call()
        assert same(snapshot(model), before)


def test_the_last_layer_stays():
    net = nn.Sequential(Block())
    with pytest.raises(PruneError, match="the last element of the model must stay"):
        delete_layer(net, "0", torch.randn(2, 8))
    assert len(net) == 1


def test_verification_finds_what_the_tape_cannot(monkeypatch):
    model, args, kwargs = built("plain")
    before = snapshot(model)
    resize = sentei.graph.layers.change.resize

    def clumsy(model, name, change):
        found = resize(model, name, change)
        model.inp.bias.data = model.inp.bias.data + 1
        return found

    bias = model.inp.bias.data.clone()
    monkeypatch.setattr(sentei.graph.layers.change, "resize", clumsy)
    with pytest.raises(VerificationError, match=r"the original with blocks\.1 silenced by"):
        delete_layer(model, "blocks.1", args=args, kwargs=kwargs)
    model.inp.bias.data = bias
    assert same(snapshot(model), before)


@pytest.mark.parametrize("hide", ["head", "branch"])
def test_weights_that_hide_a_layer_are_replaced_for_the_comparison(hide):
    model, args, kwargs = built("plain")
    hidden = model.head if hide == "head" else model.blocks[1].down
    with torch.no_grad():
        hidden.weight.zero_()
        hidden.bias.zero_()
    weights = {id(p): p.clone() for p in model.parameters()}
    report = delete_layer(model, "blocks.1", args=args, kwargs=kwargs).verification
    assert report.passed
    assert report.conclusive
    assert report.perturbed
    assert all(torch.equal(p, weights[id(p)]) for p in model.parameters())


def test_a_wrong_deletion_does_not_hide_behind_the_weights(monkeypatch):
    model, args, kwargs = built("plain")
    torch.nn.init.zeros_(model.head.weight)
    before = snapshot(model)
    resize = sentei.graph.layers.change.resize

    def clumsy(model, name, change):  # takes the next one as well
        return resize(model, name, lambda items, i: change(items, i)[:-1])

    monkeypatch.setattr(sentei.graph.layers.change, "resize", clumsy)
    with pytest.raises(VerificationError, match=r"the original with blocks\.1 silenced by"):
        delete_layer(model, "blocks.1", args=args, kwargs=kwargs)
    assert same(snapshot(model), before)


def test_the_optimiser_forgets_a_deleted_layer():
    model, args, kwargs = built("plain")
    optimizer = torch.optim.Adam(
        [{"params": model.blocks.parameters(), "lr": 0.1}, {"params": model.head.parameters()}]
    )
    model(*args, **kwargs).sum().backward()
    optimizer.step()
    kept = {id(p): optimizer.state[p]["exp_avg"] for p in model.blocks[2].parameters()}
    gone = list(model.blocks[1].parameters())
    with pytest.raises(PruneError):
        delete_layer(model, "inp", args=args, kwargs=kwargs, optimizer=optimizer)
    assert gone[0] in optimizer.state
    delete_layer(model, "blocks.1", args=args, kwargs=kwargs, optimizer=optimizer)
    first, second = (group["params"] for group in optimizer.param_groups)
    assert [id(p) for p in first] == [id(p) for p in model.blocks.parameters()]
    assert [id(p) for p in second] == [id(p) for p in model.head.parameters()]
    assert not any(p in optimizer.state for p in gone)
    moved = list(model.blocks[1].parameters())
    assert all(optimizer.state[p]["exp_avg"] is kept[id(p)] for p in moved)
    model(*args, **kwargs).sum().backward()
    optimizer.step()


# --- units by hand: everything coupled follows ---------------------------------------------------
UNITS = [
    # model, group or module, units, parameter -> shape afterwards
    ("resnet18", "layer1.0.bn1", [0, 63], {
        "layer1.0.conv1.weight": (62, 64, 3, 3), "layer1.0.bn1.running_var": (62,),
        "layer1.0.conv2.weight": (64, 62, 3, 3)}),
    # The stream of a stage: every block that adds to it, and the next stage's input.
    ("resnet18", "conv1", range(10), {
        "conv1.weight": (54, 3, 7, 7), "layer1.0.conv2.weight": (54, 64, 3, 3),
        "layer1.1.bn2.weight": (54,), "layer2.0.downsample.0.weight": (128, 54, 1, 1)}),
    ("timm-vit", "blocks.1.attn.qkv/1", [1], {
        "blocks.1.attn.qkv.weight": (96, 48), "blocks.1.attn.proj.weight": (48, 32)}),
    ("llama", "model.layers.0.self_attn.q_proj/0", [0], {
        "model.layers.0.self_attn.q_proj.weight": (60, 96),
        "model.layers.0.self_attn.v_proj.weight": (20, 96),
        "model.layers.0.self_attn.o_proj.weight": (96, 60)}),
    ("llama", "model.layers.0.self_attn.o_proj", [5, 6], {
        "model.embed_tokens.weight": (131, 94), "model.layers.1.mlp.down_proj.weight": (94, 112),
        "model.norm.weight": (94,), "lm_head.weight": (131, 94)}),
    ("gpt2", "transformer.h.0.attn.c_proj/0", [2, 4], {
        "transformer.h.0.attn.c_attn.weight": (96, 192),
        "transformer.h.0.attn.c_proj.weight": (64, 96)}),
    ("encoder-pre-norm", "layers.0.linear1", range(30), {
        "layers.0.linear1.bias": (2,), "layers.0.linear2.weight": (16, 2)}),
    ("t5", "encoder.block.0.layer.1.DenseReluDense.wi", [0], {
        "encoder.block.0.layer.1.DenseReluDense.wi.weight": (111, 96),
        "encoder.block.0.layer.1.DenseReluDense.wo.weight": (96, 111)}),
]  # fmt: skip


@pytest.mark.parametrize("name, group, units, expected", UNITS, ids=lambda v: str(v)[:40])
def test_everything_coupled_follows_deleted_units(name, group, units, expected):
    model, args, kwargs = built(name)
    result = delete_units(model, group, units, args=args, kwargs=kwargs)
    state = model.state_dict()
    assert {n: tuple(state[n].shape) for n in expected} == expected
    assert result.verification.passed
    assert result.after.params == parameters(model)


@pytest.mark.parametrize(
    "name, group, words",
    [
        ("resnet18", "fc", "model output"),
        ("llama", "lm_head", "model output"),
        ("bert", "bert.embeddings.word_embeddings", "rows are addressed by token number"),
        ("timm-vit", "blocks.1.attn.qkv", "is not one group of units; name the group"),
        ("llama", "model.layers.0.self_attn.v_proj/1", "must keep equal shares"),
    ],
)
def test_units_that_cannot_be_deleted(name, group, words):
    model, args, kwargs = built(name)
    before = snapshot(model)
    with pytest.raises((PruneError, KeyError), match=words):
        delete_units(model, group, [0], args=args, kwargs=kwargs)
    assert same(snapshot(model), before)


@pytest.mark.parametrize("part", ["linear2", "self_attn"])
def test_a_fused_encoder_layer_does_not_look_for_the_weights_of_what_went(part):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(3, 5, 8)
    delete_layer(model, f"layers.1.{part}", x)
    with torch.no_grad():  # the fused kernel is for inference
        plain = model(x)
    torch.testing.assert_close(plain, model(x).detach())
    assert torch.equal(copy.deepcopy(model)(x).detach(), model(x).detach())


class Bottleneck(nn.Module):
    """A branch whose last convolution takes other channels than it makes."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 10, 3), nn.Linear(10, 2)
        self.deep, self.back = nn.Conv2d(10, 6, 3, padding=1), nn.Conv2d(6, 10, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.back(self.deep(x).relu())).mean((2, 3)))


def test_a_deleted_branch_fits_pictures_of_any_size(tmp_path):
    model, x = Bottleneck().eval(), torch.randn(2, 3, 12, 12)
    want = Bottleneck().eval()
    want.load_state_dict(model.state_dict())
    zeroed(want, "back")
    delete_layer(model, "back", x)
    loaded = sentei.load(sentei.save(model, tmp_path / "small"), Bottleneck().eval())
    other = torch.randn(1, 3, 9, 15)
    torch.testing.assert_close(model(other), want(other))
    assert torch.equal(loaded(other), model(other))


def test_an_encoder_without_a_branch_of_its_first_layer_still_takes_padding():
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(2, 5, 8)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    call = {"src": x, "src_key_padding_mask": padding}
    for name in ("layers.0.self_attn", "layers.1.linear2"):
        delete_layer(model, name, kwargs=call)
    with torch.no_grad():
        assert model(**call).shape == x.shape
    assert model(**call).shape == x.shape


class Inline(nn.Module):
    """Attention written out in the forward: what feeds a deleted branch still runs, on zeros."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.head = nn.Linear(5, 12), nn.LayerNorm(12), nn.Linear(12, 2)
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x):
        x = self.stem(x)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, 3, 3, c // 3).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.head(x + self.out(y.reshape(b, n, c)))


def test_a_network_without_a_branch_can_be_pruned_on():
    model, x = Inline().eval(), torch.randn(2, 4, 5)
    delete_layer(model, "out", x)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert result.verification.passed
    assert model.stem.out_features == 6
    assert model(torch.randn(1, 7, 5)).shape == (1, 7, 2)
