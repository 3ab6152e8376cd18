"""One call from model and budget to a smaller model; removal by hand; what is printed."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sentei
from sentei import PruneError, Target, analyze, delete_units, prune
from sentei.allocation import ALLOCATIONS
from sentei.criteria import CRITERIA
from sentei.graph.surgery import remove
from sentei.tasks.models import digits_resnet
from sentei.tasks.papers import (
    VGG16_A,
    cifar_resnet,
    cifar_vgg,
    conv_linear_macs,
    conv_linear_weights,
)
from tests.random_networks import networks

IMAGE = torch.zeros(2, 1, 8, 8)


def mlp():
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def state(model):
    return {n: t.clone() for n, t in model.state_dict().items()}


def same(model, before):
    now = model.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[n], t) for n, t in before.items())


@settings(max_examples=25)
@given(networks(), st.sampled_from(["params", "macs"]), st.floats(0.4, 0.9))
def test_random_networks_reach_their_budget_and_compute_the_same(case, what, fraction):
    model, inputs = case
    before = state(model)
    try:
        result = prune(model, inputs, target=Target(**{what: fraction}))
    except sentei.graph.errors.VerificationError:
        raise
    except PruneError:  # nothing to prune, or not so far
        assert same(model, before)
        return
    assert result.reached[what] <= result.asked[what]
    assert parameters(result.model) == result.after.params
    assert result.verification.passed
    # What the analysis of the small network says it costs is what the plan promised.
    assert analyze(model, inputs).cost() == result.after


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("allocation", [a for a in ALLOCATIONS if a != "fastest"])
def test_every_criterion_with_every_allocation(criterion, allocation):
    torch.manual_seed(0)
    model = digits_resnet(width=4, blocks=(1, 1))
    data = torch.randn(8, 1, 8, 8), torch.randint(0, 10, (8,))
    plans = []
    for _ in range(2):
        result = prune(
            copy.deepcopy(model),
            IMAGE,
            target=Target(macs=0.5),
            criterion=criterion,
            allocation=allocation,
            data=data,
            loss=F.cross_entropy,
        )
        assert result.after.macs <= 0.5 * result.before.macs
        assert conv_linear_macs(result.model, IMAGE) == result.after.macs
        assert parameters(result.model) == result.after.params
        assert result.model(IMAGE).shape == (2, 10)
        plans.append(result.keep)
    assert plans[0].keys() == plans[1].keys()
    assert all(torch.equal(plans[0][n], plans[1][n]) for n in plans[0])


def test_in_place_or_not():
    model = mlp()
    before = state(model)
    result = prune(model, torch.zeros(2, 4), target=Target(width=0.5), inplace=False)
    assert same(model, before)
    assert result.model is not model
    assert result.model[0].out_features == 8
    assert prune(model, torch.zeros(2, 4), target=Target(width=0.5)).model is model
    assert model[0].out_features == 8


def test_a_dry_run_touches_nothing():
    model = mlp()
    before = state(model)
    result = prune(model, torch.zeros(2, 4), target=Target(width=0.5), dry_run=True)
    assert same(model, before)
    assert result.surgery is None
    assert result.verification is None
    assert result.after.params < result.before.params == parameters(model)
    assert "dry run: nothing was removed" in str(result)


def test_nothing_to_do_is_no_error():
    model = mlp()
    before = state(model)
    result = prune(model, torch.zeros(2, 4), target=Target(macs=1.0))
    assert same(model, before)
    assert result.keep == {}
    assert "0 groups lost units" in str(result)


def test_protect_and_optimizer():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    result = prune(
        model,
        torch.zeros(2, 4),
        target=Target(macs=0.7),
        protect=["0"],
        optimizer=optimizer,
    )
    assert list(result.keep) == ["2"]
    for p in model.parameters():
        assert optimizer.state[p]["exp_avg"].shape == p.shape
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()


def test_args_kwargs_and_wrapped_models():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x, *, scale):
            return self.b(self.a(x) * scale)

    model = Two()
    x, scale = torch.zeros(1, 4), torch.ones(())
    prune(model, args=(x,), kwargs={"scale": scale}, target=Target(width=0.5))
    assert model.a.out_features == 4
    wrapped = nn.DataParallel(mlp())
    result = prune(wrapped, torch.zeros(2, 4), target=Target(width=0.5))
    assert result.model is wrapped
    assert wrapped.module[0].out_features == 8


def test_what_surgery_contradicts_is_left_whole_and_planned_around(monkeypatch):
    from sentei.graph.surgery import Mismatch

    layers = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)
    model = nn.Sequential(*copy.deepcopy(layers))

    def moody(model, groups, keep, call, **options):
        if "0" in keep:
            raise Mismatch("view in 0 should give [1, 2] and gives [1, 3]", (groups["0"].dim,))
        return remove(model, groups, keep, call, **options)

    monkeypatch.setattr("sentei.pruning.job.remove", moody)
    result = prune(model, torch.zeros(2, 4), target=Target(macs=0.6), normalise="mean")
    assert model[0].out_features == 8
    assert model[2].out_features < 8
    assert result.held == {"0": "view in 0 should give [1, 2] and gives [1, 3]"}
    assert "Held: 0: view in 0 should give" in str(result)
    with pytest.raises(PruneError, match=r"out of reach.*Left whole, because view in 0.*: 0"):
        prune(nn.Sequential(*layers), torch.zeros(2, 4), target=Target(macs=0.1))


def test_the_table_fits_a_hundred_columns():
    result = prune(
        digits_resnet(width=8), IMAGE, target=Target(macs=0.5, width=0.95, units=0.9), round_to=2
    )
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100
    for word in ("parameters", "MACs", "asked", "left", "layer1.0.conv1", "silenced", "Time:"):
        assert word in text
    assert f"{result.asked['macs']:,}" in text
    assert f"{result.after.macs:,}" in text


# --- By hand --------------------------------------------------------------------------------------


def test_delete_units_removes_these_units():
    model = mlp()
    before = state(model)
    x = torch.randn(5, 4)
    result = delete_units(model, "0", [0, 4, 15], x)
    rest = [i for i in range(16) if i not in (0, 4, 15)]
    assert torch.equal(model[0].weight, before["0.weight"][rest])
    assert torch.equal(model[1].running_mean, before["1.running_mean"][rest])
    assert torch.equal(model[3].weight, before["3.weight"][:, rest])
    assert result.keep["0"].tolist() == rest
    assert result.after.params == parameters(model)


def test_delete_units_by_the_name_of_any_module_in_the_group():
    for name in ("0", "1", "2"):
        model = mlp()
        delete_units(model, name, torch.tensor([3]), torch.zeros(2, 4))
        assert model[0].out_features == 15


def test_delete_units_from_several_groups_and_a_copy():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    result = delete_units(
        model, {"0": [0], "2": range(3)}, example_inputs=torch.zeros(1, 4), inplace=False
    )
    assert (result.model[0].out_features, result.model[2].out_features) == (7, 5)
    assert model[0].out_features == 8


class Halves(nn.Module):
    """`chunk` wants the outputs of a and of b equally wide."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        left, right = torch.cat([self.a(x), self.b(x)], -1).chunk(2, -1)
        return self.c(left * 2) + right.sum()


def test_delete_units_from_tied_groups_only_together():
    model = Halves()
    before = state(model)
    assert analyze(model, torch.zeros(1, 4))["a"].tied
    with pytest.raises(PruneError, match="must keep equal shares; this would keep: a 5 of 6, b 6"):
        delete_units(model, "a", [0], torch.zeros(1, 4))
    assert same(model, before)
    delete_units(model, {"a": [0], "b": [5]}, None, torch.zeros(1, 4))
    assert (model.a.out_features, model.b.out_features) == (5, 5)


@pytest.mark.parametrize(
    "name, units, words",
    [
        ("0", [16], "0: no unit 16; units are numbered 0 to 15"),
        ("0", [-1], "0: no unit -1; units are numbered 0 to 15"),
        ("0", range(16), "0: cannot remove all 16 units; one must stay"),
        ("0", "ab", "units must be a sequence of integers; got 'ab'"),
        ("0", 3, "units must be a sequence of integers; got 3"),
        ("0", None, "which units\\? Give their numbers, from 0"),
        ("3", [0], "group '3' is pinned: model output"),
        ("layer", [0], "no group or module 'layer'"),
    ],
)
def test_delete_units_says_what_is_wrong(name, units, words):
    model = mlp()
    before = state(model)
    with pytest.raises(PruneError, match=words):
        delete_units(model, name, units, torch.zeros(2, 4))
    assert same(model, before)


def test_delete_units_from_an_output_of_several_groups():
    class Cat(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
            self.join = Join()
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.join(self.both[0](x), self.both[1](x)))

    class Join(nn.Module):
        def forward(self, a, b):
            return torch.cat([a, b], -1)

    with pytest.raises(PruneError, match=r"not one group of units; name the group: 'both\.0', '"):
        delete_units(Cat(), "join", [0], torch.zeros(1, 4))


def test_options_that_contradict_one_another():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for call in (
        lambda **o: prune(model, torch.zeros(2, 4), target=Target(width=0.5), **o),
        lambda **o: delete_units(model, "0", [0], torch.zeros(2, 4), **o),
    ):
        with pytest.raises(PruneError, match="inplace=False prunes a copy"):
            call(optimizer=optimizer, inplace=False)
    with pytest.raises(PruneError, match=r"target must be a Target, such as Target\(macs=0.5\)"):
        prune(model, torch.zeros(2, 4), target=0.5)
    with pytest.raises(PruneError, match="no example inputs"):
        prune(model, target=Target(width=0.5))


def test_import_is_light():
    code = (
        "import sys, sentei; "
        "heavy = {'timm', 'torchvision', 'transformers', 'rich', 'sklearn', 'pydantic'}; "
        "print(sorted(heavy & sys.modules.keys())); print(sentei.__version__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("[]\n")


# --- Li et al. 2017: arXiv:1608.08710, tables 1 and 2, recounted ---------------------------------

CIFAR = torch.zeros(1, 3, 32, 32)
COUNTS = {
    # depth, p by stage, ids left whole -> weights and MACs before, after
    "56-A": (56, (0.1, 0.1, 0.1), (16, 20, 38, 54), (848_944, 125_485_696), (769_456, 112_435_840)),
    "56-B": (56, (0.6, 0.3, 0.1), (16, 18, 20, 34, 38, 54), (848_944, 125_485_696),
             (732_016, 90_907_264)),
    "110-A": (110, (0.5, 0, 0), (36,), (1_719_856, 252_887_680), (1_680_688, 212_779_648)),
    "110-B": (110, (0.5, 0.4, 0.3), (36, 38, 74), (1_719_856, 252_887_680),
              (1_161_712, 155_124_352)),
}  # fmt: skip


def largest(weight, kept):
    """The filters of largest L1 norm, as the paper ranks them."""
    return weight.detach().abs().flatten(1).sum(1).argsort(descending=True)[:kept].sort().values


def counts(model):
    return conv_linear_weights(model), conv_linear_macs(model, CIFAR)


@pytest.mark.parametrize("name", COUNTS)
def test_li_et_al_residual_networks(name):
    depth, ratios, whole, before, after = COUNTS[name]
    model = cifar_resnet(depth)
    blocks = (depth - 2) // 6
    groups = analyze(model, CIFAR)
    keep = {}
    for i, block in enumerate(model.blocks):
        filters = len(block.conv1.weight)
        kept = int(filters * (1 - ratios[i // blocks]))
        if 2 * i + 2 not in whole and kept < filters:
            keep[f"blocks.{i}.conv1"] = largest(block.conv1.weight, kept)
    assert counts(model) == before
    widths = {n: len(units) for n, units in keep.items()}
    assert (groups.cost().macs, groups.cost(widths).macs) == (before[1], after[1])
    surgery = remove(model, groups, keep, ((CIFAR,), {}))
    assert surgery.verification.passed
    assert counts(model) == after
    assert parameters(model) == groups.cost(widths).params


def test_li_et_al_vgg16():
    model, dense = cifar_vgg(), cifar_vgg()
    groups = analyze(model, CIFAR)
    convs = [i for i, layer in enumerate(model) if isinstance(layer, nn.Conv2d)]
    widths = [w for w in VGG16_A if w != "M"]
    keep = {
        str(i): largest(model[i].weight, width)
        for i, width in zip(convs, widths, strict=True)
        if width < model[i].out_channels
    }
    assert counts(dense) == (14_977_728, 313_463_808)
    remove(model, groups, keep, ((CIFAR,), {}))
    assert counts(model) == (5_390_176, 206_279_680)
    assert parameters(model) == 5_397_034


class Steps(nn.Module):
    """A layer for each step of a sequence, as many as the longest has."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.steps = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        h = self.stem(x[:, 0])
        for t in range(1, x.shape[1]):
            h = torch.tanh(self.steps[t](h) + self.stem(x[:, t]))
        return self.head(h)


def test_what_the_example_did_not_run_is_named():
    result = prune(Steps(), torch.randn(2, 3, 3), target=Target(width=0.5))
    assert "left whole: steps.0, steps.3. Where other inputs" in " ".join(str(result).split())
