"""Card B12."""

import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp, vjp

from sentei.allocation.weights import select
from sentei.criteria.tangent import kernel_by_layers, tangent_kernel
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, Setting, apply
from sentei.methods.gradient.ntt import distances
from sentei.recovery.train import Recipe
from sentei.structures import Masks
from tests.methods.gradient.nets import batch, convnet, mlp


def pieces(seed=0):
    model = mlp(4, 6, 3, seed=seed)
    values = {n: p.detach().clone() for n, p in model.named_parameters()}
    return model, values, lambda v, x: functional_call(model, v, (x,))


def test_the_kernel_is_symmetric_and_positive():
    _, values, network = pieces()
    x1, x2 = batch(4, 4)[0], batch(5, 4, seed=2)[0]
    one, two = tangent_kernel(network, values, x1, x2), tangent_kernel(network, values, x2, x1)
    assert one.shape == (4, 5, 3, 3)
    torch.testing.assert_close(one, two.permute(1, 0, 3, 2))
    square = tangent_kernel(network, values, x1, x1).permute(0, 2, 1, 3).reshape(12, 12)
    assert torch.linalg.eigvalsh(square).min() > -1e-12


def test_contracting_jacobians_is_pushing_a_pulled_back_output():
    _, values, network = pieces()
    x1, x2 = batch(1, 4)[0], batch(1, 4, seed=2)[0]
    kernel = tangent_kernel(network, values, x1, x2)[0, 0]
    _, pull = vjp(lambda v: network(v, x2), values)
    for k in range(3):
        unit = torch.zeros(1, 3, dtype=torch.float64)
        unit[0, k] = 1.0
        _, pushed = jvp(lambda v: network(v, x1), (values,), (pull(unit)[0],))
        torch.testing.assert_close(kernel[:, k], pushed[0], rtol=1e-10, atol=1e-12)


def kernel_and_gradient(model, values, masks, x1, x2, how):
    """The kernel of θ for weights m θ, and the gradient of a function of it and of the outputs."""
    theta = {n: v.clone().requires_grad_() for n, v in values.items()}

    def masked(v, x):
        return functional_call(model, {n: v[n] * masks[n] if n in masks else v[n] for n in v}, (x,))

    if how == "layers":
        now = {n: v * masks[n] if n in masks else v for n, v in theta.items()}
        kernel = kernel_by_layers(model, now, x1, x2, masks)
    else:
        kernel = tangent_kernel(masked, theta, x1, x2)
    weights = torch.linspace(0.5, 2, kernel.numel(), dtype=torch.float64).view(kernel.shape)
    loss = (kernel * weights).square().sum() + masked(theta, x1).square().sum()
    return kernel, torch.autograd.grad(loss, list(theta.values()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("density", [1.0, 0.4])
def test_layer_by_layer_it_is_the_same_kernel_and_moves_alike(bias, density):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 6, bias=bias), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(inplace=True),
        nn.Linear(5, 3, bias=bias),
    ).double()  # fmt: skip
    values = {n: p.detach() for n, p in model.named_parameters()}
    weights = {n: v.abs() for n, v in values.items() if "weight" in n}
    masks = select(weights, density)
    x1, x2 = batch(4, 2, 2)[0], batch(5, 2, 2, seed=2)[0]
    want, slope = kernel_and_gradient(model, values, masks, x1, x2, "jacobian")
    got, mine = kernel_and_gradient(model, values, masks, x1, x2, "layers")
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    for one, two in zip(mine, slope, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)
    assert not any(m._forward_hooks for m in model.modules())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4).double()

    def forward(self, x):
        return self.layer(self.layer(x))


class InPlaces(Twice):
    def forward(self, x):
        return self.layer(x.view(len(x), 1, 4).expand(-1, 2, -1)).flatten(1)


@pytest.mark.parametrize("build", [convnet, Twice, InPlaces])
def test_other_networks_go_by_their_jacobians(build):
    model = build()
    x = batch(4, 2, 8, 8)[0] if build is convnet else batch(4, 4)[0]
    values = {n: p.detach().clone() for n, p in model.named_parameters()}
    assert kernel_by_layers(model, values, x[:2], x[2:]) is None
    weights = {n: v for n, v in values.items() if "weight" in n}
    assert distances(model, values, values, Masks.full(weights), x)[0].item() < 1e-20


def test_a_whole_student_is_at_no_distance_and_a_sparse_one_is():
    model, values, _ = pieces()
    weights = {n: v for n, v in values.items() if "weight" in n}
    x = batch(8, 4)[0]
    kernel, outputs = distances(model, values, values, Masks.full(weights), x)
    assert kernel.item() == 0.0 and outputs.item() == 0.0
    masks = select({n: w.abs() for n, w in weights.items()}, 0.3)
    kernel, outputs = distances(model, values, values, masks, x)
    assert kernel > 0 and outputs > 0


def test_the_transfer_brings_the_student_closer_and_needs_no_labels():
    def run(labels):
        model = mlp(4, 12, 3)
        dense = {n: p.detach().clone() for n, p in model.named_parameters()}
        data = batch(64, 4)[0], labels
        given = Setting(model, data, density=0.3, recipe=Recipe(epochs=0))
        masks = apply(METHODS["ntt"], given, steps=60, lr=1e-2, batch_size=16,
                      mask_every=20, decay=0.0).masks  # fmt: skip
        now = {n: p.detach().clone() for n, p in model.named_parameters()}
        return dense, now, masks, model

    dense, now, masks, model = run(torch.zeros(64, dtype=torch.int64))
    x = batch(32, 4, seed=5)[0]
    start = select({n: dense[n].abs() for n in masks}, 0.3, "uniform")
    before, after = distances(model, dense, dense, start, x), distances(model, now, dense, masks, x)
    assert after[1] < 0.5 * before[1]
    assert masks.equal(run(torch.ones(64, dtype=torch.int64))[2])


def test_mistakes_speak():
    given = Setting(mlp(4, 6, 3), batch(20, 4), density=0.5)
    with pytest.raises(PruneError, match="batch_size of at least 2"):
        apply(METHODS["ntt"], given, batch_size=1)


def test_the_mask_rests_for_the_last_span_of_the_transfer(monkeypatch):
    module = sys.modules[METHODS["ntt"].run.__module__]  # the name is the method's, too
    chosen = []
    monkeypatch.setattr(module, "select", lambda *a: chosen.append(select(*a)) or chosen[-1])
    model = mlp(4, 6, 3).float()
    x, y = batch(16, 4)
    given = Setting(model, (x.float(), y), density=0.5, recipe=Recipe(epochs=1))
    found = apply(METHODS["ntt"], given, steps=7, mask_every=2, batch_size=8).masks
    # At the start, after 2 and after 4 steps; not after 6, with one step left.
    assert len(chosen) == 3 and found.equal(chosen[-1])
