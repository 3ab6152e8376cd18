"""uniform=True: what a configuration can state, and nothing else; read back without Sentei."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import sentei
from sentei import PruneError, Target, analyze, huggingface, prune
from sentei.graph.blueprint import blueprint
from zoo.registry import load, randomise

transformers = pytest.importorskip("transformers")

# name -> the fields that must become smaller, at a budget that needs them.
FAMILIES = {
    "llama": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "qwen2": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "qwen3": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "mistral": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "mixtral": ("hidden_size", "intermediate_size"),
    "gemma": ("intermediate_size", "num_attention_heads"),
    "gemma4": ("intermediate_size",),  # some of its fields differ from layer to layer
    "gpt2": ("n_embd", "n_inner", "n_head"),
    "gpt-neox": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "opt": ("hidden_size", "ffn_dim", "num_attention_heads"),
    "phi": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "bert": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "roberta": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "distilbert": ("dim", "hidden_dim", "n_heads"),
    "vit": ("hidden_size", "intermediate_size", "num_attention_heads"),
    "t5": ("d_ff", "num_heads"),
    "bart": ("encoder_ffn_dim", "decoder_ffn_dim"),
}
NEVER = ("vocab_size", "max_position_embeddings", "n_positions", "num_hidden_layers", "num_layers")

READER = """
import json, sys, torch, transformers
from safetensors.torch import load_file
folder, name = sys.argv[1:]
for name in sorted(json.loads(name)):
    kind, kwargs = torch.load(f"{folder}/{name}/call.pt")
    auto = next(a for a in (
        "AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModelForSeq2SeqLM",
        "AutoModelForImageClassification",
    ) if kind in getattr(transformers, a)._model_mapping._model_mapping.values())
    model, info = getattr(transformers, auto).from_pretrained(
        f"{folder}/{name}", output_loading_info=True
    )
    assert type(model).__name__ == kind, (name, type(model))
    assert not any(info.values()), (name, info)
    with torch.no_grad():
        out = model.eval()(**kwargs).logits
    expected = load_file(f"{folder}/{name}/expected.safetensors")["logits"]
    torch.testing.assert_close(out, expected, msg=name)
assert "sentei" not in sys.modules
print("read", len(json.loads(sys.argv[2])))
"""


def example(name):
    made = load(f"hf/{name}")[0].build()
    return randomise(made.model), made.kwargs


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("pruned")


SLOW = ("qwen2", "mistral", "phi", "roberta", "opt")  # like one of the others


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in FAMILIES]
)
def test_the_configuration_states_the_pruned_network(name, shelf, tmp_path):
    model, kwargs = example(name)
    before = copy.deepcopy(model.config)
    # Grouped matrix products want rows of 16 bytes.
    result = prune(
        model, kwargs=kwargs, target=Target(width=0.76), allocation="uniform", uniform=True,
        round_to=8 if name == "mixtral" else None,
    )  # fmt: skip
    assert result.verification.passed
    assert result.after.params == sum(p.numel() for p in model.parameters())
    for field in FAMILIES[name]:
        assert getattr(model.config, field) < (getattr(before, field) or 10**6), field
    for field in NEVER:
        assert getattr(model.config, field, None) == getattr(before, field, None), field
    for module in model.modules():  # copies that parts of the model hold
        if hasattr(module, "config") and module.config.__class__ is before.__class__:
            for field in FAMILIES[name]:
                assert getattr(module.config, field) == getattr(model.config, field)
    # The class builds it from the configuration, in this process ...
    fresh = blueprint(type(model), model.config)
    shapes = {n: t.shape for n, t in fresh.state_dict().items()}
    assert shapes == {n: t.shape for n, t in model.state_dict().items()}
    with torch.no_grad():
        logits = model.eval()(**kwargs).logits
    # The artefact says of a configuration what it may not have said before, such as `head_dim`.
    again = sentei.load(sentei.save(result, tmp_path / name), model=type(model)(before).eval())
    with torch.no_grad():
        assert torch.equal(again(**kwargs).logits, logits)
    assert again.config.to_dict() == model.config.to_dict()
    # ... and another process reads it, further down.
    model.save_pretrained(shelf / name)
    from safetensors.torch import save_file

    save_file({"logits": logits.contiguous()}, shelf / name / "expected.safetensors")
    torch.save((type(model).__name__, kwargs), shelf / name / "call.pt")


def test_plain_transformers_reads_them_all(shelf):
    names = sorted(p.name for p in shelf.iterdir())
    if not names:
        pytest.skip("runs after the tests that write")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READER, str(shelf), json.dumps(names)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"read {len(names)}" in run.stdout


def moves(model, kwargs, granularity="auto"):
    groups = analyze(model, kwargs=kwargs)
    found = huggingface.wording(model, groups, ((), kwargs), granularity)
    return found, {" and ".join(".".join(map(str, f)) for f in m.fields) for m in found.moves}


def test_what_is_pinned_says_why():
    model, kwargs = example("llama")
    found, said = moves(model, kwargs)
    assert said == {
        "hidden_size", "intermediate_size", "num_attention_heads",
        "num_attention_heads and num_key_value_heads",
    }  # fmt: skip
    pinned = found.groups.pinned["model.layers.0.self_attn.v_proj/1"].pinned
    # Rotary angles depend on the width of a head: shapes would fit, the function would not.
    assert pinned == "uniform=True: head_dim also changes model.rotary_emb.inv_freq"


def test_what_must_move_together_does():
    model, kwargs = example("bert")
    found, said = moves(model, kwargs)
    assert said == {"intermediate_size", "hidden_size and num_attention_heads"}
    stream = found.groups["bert.encoder.layer.0.attention.output.dense"]
    assert "bert.encoder.layer.1.attention.self.query/0" in stream.tied
    result = prune(model, kwargs=kwargs, target=Target(params=0.6), uniform=True)
    config = model.config
    assert config.hidden_size == 16 * config.num_attention_heads
    assert result.reached["params"] <= result.asked["params"]


def test_widths_are_lowered_until_the_class_accepts_them():
    model, kwargs = example("llama")
    result = prune(
        model, kwargs=kwargs, target=Target(params=0.9), uniform=True, protect=["*.q_proj/*"]
    )
    assert model.config.hidden_size % model.config.num_attention_heads == 0
    assert result.after.params == sum(p.numel() for p in model.parameters())
    assert result.reached["params"] == result.after.params <= result.asked["params"]


def test_refused_where_the_configuration_does_not_describe_the_model():
    model, kwargs = example("llama")
    sentei.delete_units(model, "model.layers.0.mlp.gate_proj", [3], kwargs=kwargs)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(PruneError, match=r"first at model\.layers\.0\.mlp\.gate_proj\.weight"):
        prune(model, kwargs=kwargs, target=Target(params=0.7), uniform=True)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_undone_where_the_network_built_anew_would_differ(monkeypatch):
    model, kwargs = example("distilbert")
    config = model.config.to_dict()
    lend = huggingface._lend

    def spoilt(model, fresh):
        lend(model, fresh)
        fresh.classifier.weight = nn.Parameter(fresh.classifier.weight.detach() * 2)

    monkeypatch.setattr(huggingface, "_lend", spoilt)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(**kwargs).logits.sum().backward()
    optimizer.step()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state = {id(p): s["momentum_buffer"].shape for p, s in optimizer.state.items()}
    with pytest.raises(PruneError, match="built from the configuration differs from the pruned"):
        prune(model, kwargs=kwargs, target=Target(params=0.7), uniform=True, optimizer=optimizer)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert model.config.to_dict() == config
    assert state == {id(p): s["momentum_buffer"].shape for p, s in optimizer.state.items()}


def test_a_dry_run_leaves_the_configuration_alone():
    model, kwargs = example("gpt2")
    config = model.config.to_dict()
    result = prune(model, kwargs=kwargs, target=Target(params=0.7), uniform=True, dry_run=True)
    assert model.config.to_dict() == config
    assert result.after.params < result.before.params


def test_a_cache_is_no_output_to_preserve():
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    assert config.use_cache
    model = randomise(transformers.LlamaForCausalLM(config).eval())
    ids = torch.arange(12).view(2, 6)
    # As many key heads as queries to each: two kinds of units nonetheless.
    assert moves(model, {"input_ids": ids})[1] >= {
        "num_attention_heads", "num_attention_heads and num_key_value_heads"
    }  # fmt: skip
    prune(model, ids, target=Target(width=0.5), uniform=True, granularity="blocks")
    assert (model.config.num_attention_heads, model.config.num_key_value_heads) != (4, 2)
    options = {"max_new_tokens": 4, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    cached = model.generate(ids, use_cache=True, **options)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **options))


def test_other_models_are_uniform_without_a_configuration():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert not huggingface.configured(net)
    prune(net, torch.zeros(1, 4), target=Target(params=0.6), uniform=True)
    assert net[0].out_features == net[2].out_features < 8


def test_of_a_ratio_only_whole_numbers_are_planned_for():
    """Inner widths are `mlp_ratio * hidden_size`: a quarter goes, or a half, nothing between."""
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14,
    )  # fmt: skip
    model = randomise(transformers.Dinov2Model(config)).eval()
    x = torch.randn(2, 3, 28, 28)
    found, said = moves(model, {"pixel_values": x})
    assert "mlp_ratio" in said
    inner = next(g for g in found.groups.values() if g.size == 4 * 32)
    assert inner.step == 32
    result = prune(model, x, target=Target(params=0.9), uniform=True)
    assert model.config.mlp_ratio in (1, 2, 3) and result.verification.passed
    assert result.plan.widths[inner.name] == 32 * model.config.mlp_ratio
