"""Checkpoints that are pruned on disk, beside the same network pruned in memory."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import sentei
from sentei import PruneError, Source, Target, prune, prune_checkpoint

transformers = pytest.importorskip("transformers")


def llama(**more):
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, **more,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def build(name):
    t = transformers
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    makers = {
        "llama": llama,
        "llama, tied": lambda: llama(tie_word_embeddings=True),
        "gpt2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64)
        ),
        "bert": lambda: t.BertForSequenceClassification(
            t.BertConfig(vocab_size=64, intermediate_size=48, **small)
        ),
        "vit": lambda: t.ViTForImageClassification(
            t.ViTConfig(image_size=16, patch_size=8, intermediate_size=48, **small)
        ),
        "mixtral": lambda: t.MixtralForCausalLM(
            t.MixtralConfig(
                vocab_size=64,
                intermediate_size=48,
                num_key_value_heads=2,
                num_local_experts=3,
                **small,
            )
        ),
        "t5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
        ),
    }
    torch.manual_seed(0)
    return makers[name]().eval()


@pytest.mark.parametrize("name", ["llama", "llama, tied", "gpt2", "bert", "vit", "t5", "mixtral"])
def test_the_same_as_in_memory(name, tmp_path):
    net = build(name)
    net.save_pretrained(tmp_path / "whole", max_shard_size="20KB")
    (tmp_path / "whole" / "tokenizer.json").write_text("{}")
    source = f"hf:{tmp_path / 'whole'}"
    told = []
    done = prune_checkpoint(
        source, tmp_path / "small", target=Target(params=0.8), wrote=lambda *n: told.append(n)
    )
    model, example = Source.of(source).open(batch=1)
    result = prune(model, example, target=Target(params=0.8), uniform=True)
    assert done.result.plan.widths == result.plan.widths and result.plan.widths
    again = type(net).from_pretrained(done.folder)
    ours, theirs = again.state_dict(), result.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    assert again.config.to_diff_dict() == result.model.config.to_diff_dict()
    assert (done.folder / "tokenizer.json").exists()
    assert sum(n for n, _ in told) == done.written == told[0][1]
    assert done.written < done.read and f"{done.written:,}" in str(done)
    assert done.result.after.params == sum(p.numel() for p in again.parameters())
    files = sorted(f.name for f in done.folder.glob("*.safetensors"))
    assert len(files) == len(list((tmp_path / "whole").glob("*.safetensors"))) > 1
    index = json.loads((done.folder / "model.safetensors.index.json").read_text())
    assert sorted({*index["weight_map"].values()}) == files
    with torch.no_grad():
        kwargs = example if isinstance(example, dict) else {}
        torch.testing.assert_close(again(**kwargs)[0], result.model(**kwargs)[0])


def test_half_precision_and_one_file(tmp_path):
    net = llama().to(torch.bfloat16)
    net.save_pretrained(tmp_path / "whole")
    bytes_of = sum(p.numel() for p in net.parameters()) * 2
    done = prune_checkpoint(
        f"hf:{tmp_path / 'whole'}", tmp_path / "small", target=Target(bytes=0.7), criterion="l1"
    )
    assert done.result.before.bytes == bytes_of == done.read
    assert done.written <= 0.7 * bytes_of
    again = transformers.AutoModelForCausalLM.from_pretrained(done.folder)
    assert again.dtype == torch.bfloat16
    assert [f.name for f in done.folder.glob("*.safetensors*")] == ["model.safetensors"]
    prune_checkpoint(
        f"hf:{tmp_path / 'whole'}", done.folder, target=Target(params=0.9), criterion="random"
    )
    assert 0.7 * bytes_of < (done.folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:vit_tiny_patch16_224"])
def test_networks_without_a_configuration(name, tmp_path):
    source = Source.of(name, num_classes=10)
    model, x = source.open()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    done = prune_checkpoint(
        source, tmp_path / "small", weights=tmp_path / "weights.safetensors",
        target=Target(macs=0.5), normalise="mean",
    )  # fmt: skip
    again = sentei.load(done.folder)
    result = prune(model, x, target=Target(macs=0.5), normalise="mean")
    ours, theirs = again.state_dict(), result.model.state_dict()
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
    with torch.no_grad():
        assert torch.equal(again(x), result.model(x))
    assert again.fc.in_features if "resnet" in name else again.head.in_features
    assert str(done.folder) in done.loads


def test_widths_that_no_configuration_can_say(tmp_path):
    net = build("llama")
    net.save_pretrained(tmp_path / "whole")
    source = f"hf:{tmp_path / 'whole'}"
    done = prune_checkpoint(
        source, tmp_path / "small", target=Target(params=0.8), uniform=False, granularity="width"
    )
    again = sentei.load(done.folder)
    model, example = Source.of(source).open(batch=1)
    result = prune(model, example, target=Target(params=0.8), granularity="width")
    ours, theirs = again.state_dict(), result.model.state_dict()
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


BUILDER = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 16), nn.Linear(16, 3)
        self.register_buffer("table", torch.arange(16.0), persistent=False)

    def forward(self, x):
        return self.head(self.body(x).relu() * self.table)

def build():
    return Net(), torch.zeros(2, 4)
"""


def test_a_function_of_ones_own(tmp_path):
    (tmp_path / "net.py").write_text(BUILDER)
    source = Source.of(f"{tmp_path}/net.py:build")
    model, x = source.open()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(PruneError, match=r"weights=\?"):
        prune_checkpoint(source, tmp_path / "small", target=Target(params=0.5))
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    done = prune_checkpoint(
        source, tmp_path / "small", target=Target(units=5),
        weights=tmp_path / "weights.safetensors",
    )  # fmt: skip
    again = sentei.load(done.folder, trust=True)
    want = prune(model, x, target=Target(units=5)).model
    x = torch.randn(3, 4)
    assert torch.equal(again(x), want(x)) and again.table.tolist() == want.table.tolist()
    with pytest.raises(PruneError, match="has been pruned before"):
        prune_checkpoint(
            str(done.folder), tmp_path / "more", target=Target(units=3), weights=done.folder
        )


# --- What cannot be done --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, what",
    [
        ({"target": Target(latency=0.5)}, "takes no time"),
        ({"criterion": "taylor"}, "looks at data"),
        ({"criterion": "lll"}, "unknown criterion"),
        ({"allocation": "fastest"}, "runs the network"),
        ({"target": Target(params=0.001)}, "budget out of reach"),
    ],
)
def test_what_needs_the_network_to_run(tmp_path, options, what):
    llama().save_pretrained(tmp_path / "whole")
    options = {"target": Target(params=0.8), **options}
    with pytest.raises(PruneError, match=what):
        prune_checkpoint(f"hf:{tmp_path / 'whole'}", tmp_path / "small", **options)
    assert os.listdir(tmp_path) == ["whole"]


def test_weights_of_another_network(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "small"
    llama().save_pretrained(whole)
    tensors = load_file(whole / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"

    def tried(changed, what):
        save_file(changed, whole / "model.safetensors", {"format": "pt"})
        with pytest.raises(PruneError, match=what):
            prune_checkpoint(f"hf:{whole}", out, target=Target(params=0.8))
        assert os.listdir(tmp_path) == ["whole"]

    tried({n: t for n, t in tensors.items() if n != name}, f"lacks 1 tensors .*{name}")
    tried(tensors | {name: tensors[name][:, 1:].clone()}, "weights of another network")
    tried(tensors | {name: tensors[name] * float("nan")}, f"{name}' holds NaN")
    save_file(tensors | {"rotary.old": torch.ones(2)}, whole / "model.safetensors")
    done = prune_checkpoint(f"hf:{whole}", out, target=Target(params=0.8))
    assert done.ignored == ("rotary.old",) and "rotary.old" in str(done)


def test_a_body_that_was_saved_alone(tmp_path):
    """Its names lack the prefix that the whole network gives them."""
    net = build("bert")
    net.save_pretrained(tmp_path / "whole")
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    tensors = {n.removeprefix("bert."): t for n, t in tensors.items()}
    save_file(tensors, tmp_path / "whole" / "model.safetensors", {"format": "pt"})
    done = prune_checkpoint(
        f"hf:{tmp_path / 'whole'}", tmp_path / "small", target=Target(params=0.8)
    )
    again = load_file(done.folder / "model.safetensors")
    assert "embeddings.word_embeddings.weight" in again  # names stay what they were
    type(net).from_pretrained(done.folder)


def test_other_files_are_not_replaced(tmp_path):
    llama().save_pretrained(tmp_path / "whole")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.txt").write_text("years of work")
    with pytest.raises(PruneError, match=r"thesis\.txt"):
        prune_checkpoint(f"hf:{tmp_path / 'whole'}", tmp_path / "small", target=Target(params=0.8))
    assert os.listdir(tmp_path / "small") == ["thesis.txt"]
    with pytest.raises(PruneError, match="holds other files"):
        prune_checkpoint(f"hf:{tmp_path / 'whole'}", tmp_path / "whole", target=Target(params=0.8))


# --- Real processes -------------------------------------------------------------------------------

CHILD = """
import resource, sys, time
import sentei
whole, out, mode = sys.argv[1:]
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0
def wrote(count, total):
    global most
    most = max(most, anonymous())
    print("wrote", flush=True)
    if mode == "slow":
        time.sleep(0.05)
most = start = anonymous()
if mode == "plain":  # imports take memory, too
    sentei.prune_checkpoint("hf:" + whole, out + "0", target=sentei.Target(params=0.95))
    most = start = anonymous()
if mode == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
sentei.prune_checkpoint("hf:" + whole, out, target=sentei.Target(params=0.8), wrote=wrote)
print("most", most - start)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A checkpoint of about 170 MB, in tensors of at most 3."""
    folder = tmp_path_factory.mktemp("large") / "whole"
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=1000, hidden_size=512, intermediate_size=1536, num_hidden_layers=12,
        num_attention_heads=8,
    )  # fmt: skip
    net = transformers.LlamaForCausalLM(config)
    net.save_pretrained(folder, max_shard_size="60MB")
    return folder, sum(p.numel() for p in net.parameters()) * 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_a_tensor_not_of_the_checkpoint(large, tmp_path):
    whole, size = large
    run = subprocess.run(
        [sys.executable, "-c", CHILD, whole, tmp_path / "small", "plain"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    most = int(run.stdout.rpartition("most ")[2])
    assert most < size / 3, f"{most:,} of {size:,}"


def test_a_kill_and_a_full_disk_leave_what_was_there(large, tmp_path):
    whole, _ = large
    out = tmp_path / "small"
    command = [sys.executable, "-c", CHILD, whole, out]
    full = subprocess.run([*command, "full"], capture_output=True, text=True, check=False)
    assert "PruneError: could not write" in full.stderr and "nothing was written" in full.stderr
    assert os.listdir(tmp_path) == []
    prune_checkpoint(f"hf:{whole}", out, target=Target(params=0.9))
    before = {f.name: f.stat().st_mtime_ns for f in out.iterdir()}
    child = subprocess.Popen([*command, "slow"], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        assert child.stdout.readline() == "wrote\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert {f.name: f.stat().st_mtime_ns for f in out.iterdir()} == before
    done = prune_checkpoint(f"hf:{whole}", out, target=Target(params=0.8))
    assert os.listdir(tmp_path) == ["small"]
    assert done.result.after.params <= 0.8 * done.result.before.params
