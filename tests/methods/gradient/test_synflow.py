"""Card B8."""

import copy

import pytest
import torch
from torch import nn

from sentei.allocation.weights import select
from sentei.criteria.weights import weigh
from sentei.criteria.weights.synflow import flow
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, Setting, apply
from sentei.recovery.train import Recipe
from sentei.structures import Masks
from tests.methods.gradient.nets import convnet, evidence, mlp

IMAGE = torch.zeros(1, 2, 8, 8)
UNTRAINED = Recipe(epochs=0)


def sums(model, example):
    scores, total = flow(evidence(model, example=example))
    return {n: s.sum().item() for n, s in scores.items()}, total


@pytest.mark.parametrize("masked", [False, True])
def test_every_layer_carries_the_whole_flow(masked):
    model = convnet()
    for module in model:
        if hasattr(module, "bias"):
            nn.init.zeros_(module.bias)
    if masked:
        weights = dict(model.named_parameters())
        weights = {n: w for n, w in weights.items() if "weight" in n}
        Masks({n: torch.rand(w.shape) < 0.5 for n, w in weights.items()}).apply_(model)
    carried, total = sums(model, IMAGE)
    for layer in (0, 3, 7):
        assert carried[f"{layer}.weight"] == pytest.approx(total, rel=1e-12)


def test_biases_add_the_flow_that_starts_with_them():
    carried, total = sums(mlp(4, 5, 6, 3), torch.zeros(1, 4))
    for layer in (0, 2, 4):
        later = sum(carried[f"{j}.bias"] for j in (0, 2, 4) if j >= layer)
        assert carried[f"{layer}.weight"] + later == pytest.approx(total, rel=1e-12)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4, bias=False)
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.skip = nn.Linear(4, 4, bias=False)
        self.last = nn.Linear(4, 2, bias=False)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last((self.skip(x) + self.b(self.a(x).relu())).relu())


def test_in_a_residual_network_the_sum_over_any_cut_is_the_flow():
    torch.manual_seed(0)
    carried, total = sums(Residual(), torch.zeros(1, 3))
    assert carried["a.weight"] == pytest.approx(carried["b.weight"], rel=1e-12)
    assert carried["a.weight"] < total
    for cut in (("first",), ("a", "skip"), ("b", "skip"), ("last",)):
        assert sum(carried[f"{n}.weight"] for n in cut) == pytest.approx(total, rel=1e-12)


def test_neurons_keep_the_flow_and_scores_are_not_negative():
    scores, _ = flow(evidence(mlp(4, 5, 3), example=torch.zeros(1, 4)))
    into = scores["0.weight"].sum(1) + scores["0.bias"]
    torch.testing.assert_close(into, scores["2.weight"].sum(0), rtol=1e-12, atol=0)
    assert all((s >= 0).all() for s in scores.values())


def test_signs_and_data_do_not_matter():
    model = mlp(4, 9, 3)
    one = select(weigh("synflow", evidence(model, example=torch.zeros(1, 4))), 0.3)
    flipped = copy.deepcopy(model)
    with torch.no_grad():
        for p in flipped.parameters():
            p.mul_(torch.randint(0, 2, p.shape) * 2 - 1)
    two = select(weigh("synflow", evidence(flipped, example=torch.randn(7, 4))), 0.3)
    assert one.equal(two)


def test_batch_norm_lets_the_flow_through_unchanged():
    model = convnet(norm=True)
    carried, total = sums(model, IMAGE)
    assert carried["0.weight"] == pytest.approx(total, rel=1e-12)
    assert carried["4.weight"] == pytest.approx(total, rel=1e-12)
    model[1].running_mean.fill_(3.0)  # trained statistics would start a flow of their own
    model[1].running_var.fill_(7.0)
    assert sums(model, IMAGE) == (carried, total)


def test_batch_statistics_would_stop_the_flow():
    model = convnet(norm=True).train()
    for p in model.parameters():
        p.data.abs_()
    total = model(torch.ones(2, 2, 8, 8, dtype=torch.float64)).sum()
    grad = torch.autograd.grad(total, model[0].weight)[0]
    assert (model[0].weight * grad).sum().abs() < 1e-4 * total.abs()


def test_many_steps_leave_one_weight_a_layer_where_one_step_empties_layers():
    """The axiom of maximal critical compression at N / L, on a chain of four layers."""

    def layers(steps):
        model = mlp(8, 12, 12, 12, 4, bias=False)
        total = sum(p.numel() for p in model.parameters())
        given = Setting(
            model, (torch.zeros(8, 8).double(), torch.zeros(8).long()), density=4 / total,
            recipe=UNTRAINED, example=torch.zeros(1, 8),
        )  # fmt: skip
        masks = apply(METHODS["synflow"], given, steps=steps).masks
        return [int(m.sum()) for m in masks.values()]

    assert layers(100) == [1, 1, 1, 1]
    assert 0 in layers(1)


def test_a_single_step_empties_the_largest_layer_first():
    """Equal sums make a layer's mean score R / n: the largest layer has the smallest."""
    model = mlp(8, 40, 12, 4, bias=False)
    scores, total = flow(evidence(model, example=torch.zeros(1, 8)))
    for score in scores.values():
        assert score.mean().item() == pytest.approx(total / score.numel(), rel=1e-12)


def test_without_shapes_there_is_nothing_to_score():
    with pytest.raises(PruneError, match="example inputs or data"):
        weigh("synflow", evidence(mlp(4, 5, 3)))
    deep = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    for p in deep.parameters():
        p.data.fill_(1e200)
    with pytest.raises(PruneError, match="the flow through the network is inf"):
        weigh("synflow", evidence(deep, example=torch.zeros(1, 1)))


def test_a_loss_among_the_outputs_does_not_flow():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp(4, 5, 3)

        def forward(self, x):
            out = self.inner(x)
            return {"loss": 100 * out.square().sum(), "logits": out}

    x = torch.zeros(1, 4)
    _, total = flow(evidence(Both(), example=x))
    assert total == flow(evidence(mlp(4, 5, 3), example=x))[1]


def test_a_model_that_makes_tensors_of_a_fixed_type_is_scored_in_its_own():
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.last = nn.GRUCell(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.cell(x, torch.ones(len(x), 4, dtype=torch.float32)))

    scores = weigh("synflow", evidence(Stateful(), example=torch.zeros(1, 3)))
    assert scores["last.weight"].dtype == torch.float32 and (scores["last.weight"] > 0).all()
