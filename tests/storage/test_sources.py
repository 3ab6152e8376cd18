"""An artefact that says how its model is built loads from the folder alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import sentei
from sentei import PruneError, Source, Target
from sentei.sources import source_of
from sentei.storage.recipe import VERSION
from sentei.storage.schema import text
from sentei.structures import Masks
from tests.sources.test_sources import FILE, hf_folder
from tests.storage.test_roundtrip import assert_same

VERSION_1 = Path(__file__).parent / "version1"


def positional(example):
    return ((), example) if isinstance(example, dict) else ((example,), {})


@pytest.mark.parametrize(
    "text, options, shape",
    [
        ("timm:resnet18", {"num_classes": 10, "in_chans": 1}, (2, 1, 32, 32)),
        ("timm:vit_tiny_patch16_224", {"img_size": 32, "num_classes": 5}, (2, 3, 32, 32)),
        ("torchvision:mobilenet_v3_small", {"num_classes": 7}, (2, 3, 32, 32)),
    ],
)
def test_timm_and_torchvision(text, options, shape, tmp_path):
    model, x = Source.of(text, **options).build(), torch.randn(shape)
    result = sentei.prune(model, x, target=Target(params=0.5))
    folder = sentei.save(result, tmp_path / "small")  # models of a source know theirs
    state = torch.random.get_rng_state()
    again = sentei.load(folder)
    assert torch.equal(state, torch.random.get_rng_state())
    assert_same(result.model, again, (x,))
    assert source_of(again) == Source.of(text, **options)


def settings(model):
    return {k: v for k, v in model.config.to_dict().items() if k != "_name_or_path"}


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertForSequenceClassification"])
def test_hugging_face(name, uniform, tmp_path):
    _, home = hf_folder(tmp_path, name)
    model, example = Source.of(f"hf:{home}").open()
    result = sentei.prune(model, example, target=Target(params=0.7), uniform=uniform)
    folder = sentei.save(result, tmp_path / "small")
    shutil.rmtree(home)  # the configuration is in the artefact
    again = sentei.load(folder)
    assert_same(result.model, again, (), example)
    assert settings(again) == settings(result.model)
    if uniform:
        again.save_pretrained(tmp_path / "plain")
        plain = type(model).from_pretrained(tmp_path / "plain")
        assert_same(again, plain, (), example)


def test_half_precision(tmp_path):
    _, home = hf_folder(tmp_path, "LlamaForCausalLM")
    model, example = Source.of(f"hf:{home}").open()
    result = sentei.prune(model.to(torch.bfloat16), example, target=Target(params=0.7))
    again = sentei.load(sentei.save(result, tmp_path / "small"))
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert_same(result.model, again, (), example)


def test_prune_load_prune_load(tmp_path):
    """The second artefact starts from the unpruned model, too; a folder is a source."""
    x = torch.randn(2, 3, 32, 32)
    first = Source.of("torchvision:resnet18", num_classes=4).build()
    sentei.save(sentei.prune(first, x, target=Target(params=0.6)), tmp_path / "one")
    source = Source.of(tmp_path / "one")
    assert source.kind == "sentei" and source.example().shape == (2, 3, 224, 224)
    result = sentei.prune(source.build(), x, target=Target(params=0.6))
    folder = sentei.save(result, tmp_path / "two", source=source)
    shutil.rmtree(tmp_path / "one")
    assert_same(sentei.load(folder), result.model, (x,))


def test_a_source_given_as_text_must_build_this_model(tmp_path):
    x, model = torch.randn(2, 3, 32, 32), Source.of("torchvision:resnet18", num_classes=4).build()
    result = sentei.prune(model, x, target=Target(params=0.6))
    with pytest.raises(PruneError, match=r"source='torchvision:resnet18' does not build this .*fc"):
        sentei.save(result, tmp_path / "small", source="torchvision:resnet18")
    assert not (tmp_path / "small").exists()
    model.fc = nn.Linear(model.fc.in_features, 9)  # another head than the source builds
    folder = sentei.save(model, tmp_path / "small")
    with pytest.raises(PruneError, match=r"does not say how its model is built .*pass it as model"):
        sentei.load(folder)


# -- a user's file ------------------------------------------------------------------------------
@pytest.fixture
def saved(tmp_path):
    (tmp_path / "beside.py").write_text("CLASSES = 3\n")
    (tmp_path / "mine.py").write_text(FILE)
    model, example = Source.of(f"{tmp_path / 'mine.py'}:both", width=12).open()
    result = sentei.prune(model, example, target=Target(params=0.6))
    return tmp_path / "mine.py", sentei.save(result, tmp_path / "small"), result.model


def test_a_users_file_is_run_when_trusted(saved):
    _, folder, model = saved
    with pytest.raises(PruneError, match=r"is built by running .*mine.py:both.* trust=True"):
        sentei.load(folder)
    assert_same(sentei.load(folder, trust=True), model, (torch.randn(3, 4),))
    assert_same(Source.of(folder, trust=True).build(), model, (torch.randn(3, 4),))


def test_a_users_file_that_changed_is_not_run(saved, tmp_path):
    file, folder, model = saved
    file.write_text(FILE + "open('ran', 'w')\n")
    with pytest.raises(PruneError, match=r"is not the file it was.*pass it as model="):
        sentei.load(folder, trust=True)
    assert not Path("ran").exists()
    unpruned = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
    assert_same(sentei.load(folder, unpruned), model, (torch.randn(3, 4),))


# -- the recipe -----------------------------------------------------------------------------------
def test_folders_of_version_1_load():
    net = sentei.load(VERSION_1, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    assert net[0].out_features == 6
    assert {v for p in net.parameters() for v in p.unique().tolist()} == {0.5}


def edited(folder, **changes):
    recipe = json.loads((folder / "sentei.json").read_text()) | changes
    (folder / "sentei.json").write_text(json.dumps(recipe))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"version": 1}, "'source' does not belong in format version 1"),
        ({"source": {"kind": "pickle", "name": "x"}}, r"'source.kind': Input should be 'timm'"),
        ({"source": {"kind": "sentei", "name": "/tmp"}}, r"'source.kind': Input should be 'timm'"),
        ({"source": {"kind": "timm", "name": "hf-hub:a/b"}}, "timm has no model 'hf-hub:a/b'"),
        ({"source": {"kind": "timm", "name": "resnet34"}}, "the artefact is of another model"),
        ({"source": {"kind": "hf", "name": "/x"}}, "transformers has no model class ''"),
        ({"source": {"kind": "torchvision", "name": "os"}}, "torchvision has no model 'os'"),
        ({"masks": ["nothing"]}, "masks names 'nothing', not stored"),
    ],
)
def test_sources_that_lie(changes, words, tmp_path):
    result = sentei.prune(
        Source.of("timm:test_resnet", num_classes=4).build(),
        torch.randn(1, 3, 32, 32),
        target=Target(params=0.6),
    )
    folder = sentei.save(result, tmp_path / "small")
    edited(folder, **changes)
    with pytest.raises(PruneError, match=words):
        sentei.load(folder)


def test_masks_are_named_and_read_back(tmp_path):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        net[0].weight[:, ::2] = 0
    folder = sentei.save(net, tmp_path / "sparse", masks=["0.weight"])
    assert json.loads((folder / "sentei.json").read_text())["masks"] == ["0.weight"]
    fresh = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert torch.equal(sentei.load(folder, fresh)[0].weight, net[0].weight)
    read = sentei.storage.masks(folder)
    assert list(read) == ["0.weight"] and torch.equal(read["0.weight"], net[0].weight != 0)
    with pytest.raises(PruneError, match=r"masks: no tensor '0.weigth' to store; closest"):
        sentei.save(net, tmp_path / "sparse", masks=["0.weigth"])


def test_a_weight_that_happens_to_be_zero_is_not_masked(tmp_path):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    masks = Masks(
        {n: torch.rand(net.get_parameter(n).shape) > 0.5 for n in ("0.weight", "2.weight")}
    )
    masks.apply_(net)
    with torch.no_grad():
        net[0].weight[3] = 0  # trained to zero: dead, not pruned
        net[0].weight[5, 1:3] = 0
    folder = sentei.save(net, tmp_path / "sparse", masks=masks)
    assert sentei.storage.masks(folder).equal(masks)
    wrong = Masks({"0.weight": torch.zeros(8, 4, dtype=torch.bool)})
    with pytest.raises(PruneError, match=r"weights of '0\.weight' that are masked are not zero"):
        sentei.save(net, tmp_path / "wrong", masks=wrong)
    with pytest.raises(PruneError, match=r"wants booleans of shape \[8, 4\]"):
        sentei.save(net, tmp_path / "wrong", masks={"0.weight": torch.ones(4, 8, dtype=torch.bool)})
    for zeros, words in {
        "0-99": "kept position 99 of a dimension of 32",
        "0-31": "zeros of '0.weight' that are not zero",
    }.items():
        edited(folder, zeros={"0.weight": zeros})
        with pytest.raises(PruneError, match=words):
            sentei.storage.masks(folder)
    edited(folder, zeros={"0.bias": "1"})
    with pytest.raises(PruneError, match=r"zeros of '0\.bias', which has no mask"):
        sentei.storage.masks(folder)


def test_the_schema_in_the_docs_is_in_step(saved):
    """`python -m sentei.storage.schema docs/schema` writes it anew."""
    home = Path(__file__).parents[2] / "docs" / "schema"
    assert (home / f"sentei-v{VERSION}.json").read_text(encoding="utf-8") == text()
    jsonschema = pytest.importorskip("jsonschema")
    for folder, version in ((saved[1], VERSION), (VERSION_1, 1)):
        schema = json.loads((home / f"sentei-v{version}.json").read_text(encoding="utf-8"))
        recipe = json.loads((folder / "sentei.json").read_text(encoding="utf-8"))
        jsonschema.validate(recipe, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(recipe | {"more": 1}, schema)
