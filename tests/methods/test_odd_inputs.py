"""Models and data that are not what papers have: each works, or says in one line why not."""

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei.graph.errors import PruneError
from sentei.recovery.train import Recipe, TrainingError
from tests.methods.test_methods import network, toy

ONE = Recipe(epochs=1, lr=0.02, batch_size=96)
NONE = Recipe(epochs=0)


def pruned(name: str, model: nn.Module, data, example=None, **more):
    given = {"sparsity": 0.5, "training": ONE, "tuning": ONE} | more
    example = toy()[0][:2] if example is None else example
    return sentei.prune(model, example, method=name, data=data, **given)


@pytest.mark.parametrize("name", ["agp", "han-magnitude", "snip", "sparsegpt", "wanda", "set"])
def test_data_that_cannot_be_is_refused_in_one_line(name):
    x, y = toy()
    for data, words in (
        ([], "no batches"), ((x[:0], y[:0]), "x is empty"), ((x, y[:5]), "they must agree"),
    ):  # fmt: skip
        with pytest.raises(PruneError, match=f"data: .*{words}"):
            pruned(name, network(), data)


@dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


class Keywords(nn.Module):
    """Batches are keyword arguments and outputs carry the loss, as Hugging Face models have it."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x, labels=None):
        logits = self.net(x)
        return Output(logits, None if labels is None else F.cross_entropy(logits, labels))


@pytest.mark.parametrize("name", ["snip", "fisher-diag", "movement-pruning", "lth-imp", "rigl"])
def test_batches_of_keyword_arguments_bring_their_own_loss(name):
    x, y = toy()
    data = [{"x": x[:48], "labels": y[:48]}, {"x": x[48:], "labels": y[48:]}]
    model = Keywords()
    outcome = pruned(name, model, data, {"x": x[:2]})
    assert outcome.density == 0.5
    with pytest.raises(ValueError, match=r"no loss: .*hand over labels="):
        pruned(name, model, [{"x": x}], {"x": x[:2]})
    with pytest.raises(PruneError, match="Try temperature=1"):
        pruned("grasp", model, data, {"x": x[:2]})
    outcome = pruned("grasp", model, data, {"x": x[:2]}, options={"temperature": 1.0})
    assert outcome.density == 0.5


class NaN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


class Broken(nn.Module):
    """Its outputs are numbers, its gradients are not."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 12), nn.Linear(12, 4)

    def forward(self, x):
        return self.two(NaN.apply(torch.relu(self.one(x))))


@pytest.mark.parametrize(
    "name, steps",
    [("edge-popup", 1), ("leap", 1), ("han-magnitude", 1), ("han-magnitude", 2), ("woodfisher", 1),
     ("obs", 1), ("snip", 1), ("agp", 1)],
)  # fmt: skip
def test_gradients_that_are_no_numbers_end_it_and_leave_the_weights(name, steps):
    model = Broken()
    before = copy.deepcopy(model.state_dict())
    recipe = Recipe(epochs=steps, batch_size=96)
    with pytest.raises((PruneError, TrainingError), match=r"NaN|nan|no epoch"):
        pruned(name, model, toy(), training=recipe, tuning=recipe)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_examples_of_recurrent_networks_are_looked_at_one_by_one_without_a_warning():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 4)

        def forward(self, x):
            return self.head(self.rnn(x.view(len(x), 2, 4))[0][:, -1])

    for name in ("fisher-diag", "ntt"):  # warnings are errors here
        more = {"options": {"steps": 2}} if name == "ntt" else {}
        assert pruned(name, Recurrent(), toy(), **more).density == pytest.approx(0.5, abs=0.01)


def test_a_parameter_that_nothing_uses_costs_the_surgeon_nothing():
    model = network()
    model.extra = nn.Linear(3, 4)
    model.forward = lambda x: nn.Sequential(*list(model)[:5])(x)
    outcome = pruned("obs", model, toy())
    assert outcome.density == 0.5 and not outcome.masks["extra.weight"].all()


def test_what_is_frozen_is_not_trained_by_tangent_transfer():
    model = network()
    model[0].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    masks = pruned("ntt", model, toy(), options={"steps": 3, "mask_every": 1}).masks
    kept = masks["0.weight"]
    assert torch.equal(model[0].weight[kept], before["0.weight"][kept])
    assert torch.equal(model[0].bias, before["0.bias"])


@pytest.mark.parametrize("name", ["grasp", "l-obs", "ntk-sap", "obs", "synflow", "woodfisher"])
def test_types_modes_and_statistics_are_put_back(name):
    model = network(norm=True).eval()
    before = {n: (t.dtype, id(t)) for n, t in model.state_dict(keep_vars=True).items()}
    pruned(name, model, toy(), training=NONE, tuning=NONE)
    assert {n: (t.dtype, id(t)) for n, t in model.state_dict(keep_vars=True).items()} == before
    assert not any(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert model[1].running_mean.count_nonzero() == 0 and (model[1].running_var == 1).all()
    model(toy()[0])


@pytest.mark.parametrize("name", ["synflow", "ntk-sap"])
def test_what_needs_no_data_gives_masks_without_any(name):
    model = network()
    with pytest.raises(PruneError, match="needs data"):
        pruned(name, model, None)
    assert pruned(name, model, None, training=NONE).density == 0.5
