"""Whole experts: what is found, what deletion leaves, what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei import PruneError, delete_experts, experts
from sentei.graph.errors import VerificationError
from zoo.registry import load, randomise


class Stacked(nn.Module):
    """Experts in one parameter, chosen by sigmoid scores and a bias, within groups."""

    def __init__(self, count=12, groups=3, chosen=2, width=8, inner=10):
        super().__init__()
        torch.manual_seed(0)
        self.num_experts, self.groups, self.top_k, self.inner = count, groups, chosen, inner
        self.router = nn.Parameter(torch.randn(count, width))
        self.register_buffer("balance", torch.randn(count))
        self.up = nn.Parameter(torch.randn(count, width, inner))
        self.up_bias = nn.Parameter(torch.randn(count, inner))
        self.down = nn.Parameter(torch.randn(count, inner, width))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        scores = F.linear(x.float(), self.router.float()).to(x).sigmoid()
        choice = scores + self.balance
        best = choice.view(-1, self.groups, self.num_experts // self.groups).topk(2, dim=-1)[0]
        winner = best.sum(-1).argmax(-1, keepdim=True)
        group = torch.arange(self.num_experts) // (self.num_experts // self.groups)
        choice = choice.masked_fill(group != winner, -torch.inf)
        index = choice.topk(self.top_k, dim=-1)[1]
        weight = scores.gather(1, index)
        weight = weight / weight.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        hit = F.one_hot(index, self.num_experts).permute(2, 1, 0)
        for expert in range(self.num_experts):
            place, token = torch.where(hit[expert])
            hidden = torch.tanh(x[token] @ self.up[expert] + self.up_bias[expert])
            out.index_add_(0, token, (hidden @ self.down[expert]) * weight[token, place, None])
        return self.head(x + out)


def stacked(**options):
    return Stacked(**options).double().eval(), torch.randn(20, 8, dtype=torch.float64)


def zoo(name):
    made = load(name)[0].build()
    return randomise(made.model), {"args": made.args, "kwargs": made.kwargs}


def test_what_is_found():
    model, x = stacked()
    found = experts(model, x)
    assert list(found) == [""]
    assert (found[""].experts, found[""].chosen) == (12, 2)
    assert found[""].params == 8 + 8 * 10 + 10 + 10 * 8  # the balance is no parameter
    assert str(found).splitlines()[0].split() == [
        "mixture",
        "experts",
        "chosen",
        "params",
        "of",
        "one",
    ]
    assert not experts(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4))


def test_experts_in_groups_go_and_the_choice_is_as_before():
    model, x = stacked()
    original = copy.deepcopy(model)
    remains = delete_experts(model, "", [1, 4, 11], x)
    assert remains.verification.passed
    assert remains.verification.conclusive
    assert (remains.experts, model.num_experts) == (9, 9)
    kept = [0, 2, 3, 5, 6, 7, 8, 9, 10]
    for name in ("router", "balance", "up", "up_bias", "down"):
        assert torch.equal(getattr(model, name), getattr(original, name)[kept])
    # By hand: the removed ones never win, within the same groups of four.
    original.balance[[1, 4, 11]] = -1e9
    torch.testing.assert_close(model(x), original(x), rtol=1e-12, atol=1e-12)
    model(x).sum().backward()


def test_counts_that_differ_by_group_are_refused():
    model, x = stacked()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises((PruneError, VerificationError)):
        delete_experts(model, "", [0, 1], x)
    assert model.num_experts == 12
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ([12], "numbered 0 to 11"),
        ([], "numbered 0 to 11"),
        (range(11), "chooses 2 of its 12 experts for each token; 1 would remain"),
    ],
)
def test_refused_with_the_reason(gone, words):
    model, x = stacked()
    with pytest.raises(PruneError, match=words):
        delete_experts(model, "", gone, x)


def test_an_unknown_mixture_is_named():
    model, x = stacked()
    with pytest.raises(PruneError, match="no mixture 'mlp'"):
        delete_experts(model, "mlp", [0], x)


def test_a_number_in_the_code_refuses():
    model, call = zoo("plain/einsum_experts")  # it says 5
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PruneError, match="does not run without these experts"):
        delete_experts(model, "", [0], **call)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_a_list_of_experts_closes_ranks_and_the_optimiser_forgets():
    model, call = zoo("plain/sparse_experts")
    optimizer = torch.optim.Adam(model.parameters())
    model(*call["args"]).sum().backward()
    optimizer.step()
    second, gone = model.experts[2], list(model.experts[1].parameters())
    remains = delete_experts(model, "", [1], optimizer=optimizer, **call)
    assert remains.verification.passed
    assert list(model.experts) == [model.experts[0], second]
    assert not any(p in optimizer.state for p in gone)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert [id(p) for p in held] == [id(p) for p in model.parameters()]
    assert optimizer.state[model.router.weight]["exp_avg"].shape == (2, 10)
    model(*call["args"]).sum().backward()
    optimizer.step()


def test_a_router_of_zeros_hides_nothing():
    model, x = stacked(groups=1)
    with torch.no_grad():
        model.router.zero_()
        model.head.weight.zero_()
    favourite = int(model.balance.argmax())
    report = delete_experts(model, "", [favourite], x).verification
    assert report.perturbed
    assert report.conclusive


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_transformers_write_and_read_fewer_experts(name, tmp_path):
    model, call = zoo(f"hf/{name}")
    fresh = copy.deepcopy(model)
    names = list(experts(model, **call))
    assert len(names) == 2
    delete_experts(model, names[0], [1, 6], **call)
    assert model.config.num_local_experts == 8  # the layers do not agree
    report = delete_experts(model, names[1], [0, 3], **call).verification
    assert report.passed
    assert report.conclusive
    assert model.config.num_local_experts == 6
    want = model(**call["kwargs"])[0]
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(again(**call["kwargs"])[0], want)
    loaded = sentei.load(sentei.save(model, tmp_path / "artefact"), fresh)
    assert torch.equal(loaded(**call["kwargs"])[0], want)


def test_an_artefact_tells_which_elements_of_a_list_stayed(tmp_path):
    model, call = zoo("plain/sparse_experts")
    fresh, other = copy.deepcopy(model), copy.deepcopy(model)
    delete_experts(model, "", [0], **call)
    want = model(*call["args"])
    home = sentei.save(model, tmp_path / "artefact")
    assert torch.equal(sentei.load(home, fresh)(*call["args"]), want)
    del other.experts[2]
    with pytest.raises(PruneError, match=r"experts has 2 elements; \[1, 2\] would stay"):
        sentei.load(home, other)
    assert len(other.experts) == 2
