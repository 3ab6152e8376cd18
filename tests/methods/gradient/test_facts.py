"""The facts F1-F5 at the head of the cards, in float64: they catch signs, batches and masks."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from sentei.criteria.derivatives import gradient, hessian_times
from sentei.criteria.weights.snip import connection_sensitivity
from tests.methods.gradient.nets import batch, convnet, evidence, mlp


def scalar(out, y):
    return F.cross_entropy(out, y)


def hidden_sums(model, scores, layer, following):
    """(incoming weights plus bias, outgoing weights) summed for each hidden neuron."""
    incoming = scores[f"{layer}.weight"].sum(1) + scores[f"{layer}.bias"]
    return incoming, scores[f"{following}.weight"].sum(0)


def test_f1_mask_gradients_are_weight_times_gradient():
    model, data = mlp(5, 7, 3), batch(9, 5)
    got = connection_sensitivity(evidence(model, data))
    masks = {n: torch.ones_like(p).requires_grad_() for n, p in model.named_parameters()}
    values = {n: masks[n] * p for n, p in model.named_parameters()}
    F.cross_entropy(functional_call(model, values, data[0]), data[1]).backward()
    for name, scores in got.items():
        torch.testing.assert_close(scores, masks[name].grad, rtol=1e-12, atol=1e-14)


def test_f2_what_comes_into_a_neuron_leaves_it():
    model, data = mlp(5, 7, 6, 3), batch(9, 5)
    names = list(dict(model.named_parameters()))
    grads = gradient(evidence(model, data), names)
    scores = {n: p.detach() * grads[n] for n, p in model.named_parameters()}
    for layer, following in ((0, 2), (2, 4)):
        into, out = hidden_sums(model, scores, layer, following)
        torch.testing.assert_close(into, out, rtol=1e-9, atol=1e-12)
        assert into.abs().max() > 1e-3


def test_f3_before_batch_norm_the_products_of_each_unit_add_up_to_nothing():
    model, data = convnet(norm=True), batch(8, 2, 8, 8)
    scores = connection_sensitivity(evidence(model, data))["0.weight"]
    assert scores.sum((1, 2, 3)).abs().max() < 1e-12
    assert scores.abs().max() > 1e-3


def test_f4_before_batch_norm_weight_times_hessian_gradient_is_minus_the_gradients_norm():
    model, data = convnet(norm=True), batch(8, 2, 8, 8)
    about = evidence(model, data)
    grads = gradient(about, batch_statistics=True)
    product = hessian_times(about, grads, batch_statistics=True)
    got = (model[0].weight * product["0.weight"]).sum()
    want = -grads["0.weight"].square().sum()
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_f5_grasp_keeps_weight_times_hessian_gradient_plus_squared_gradient_per_neuron():
    model, data = mlp(5, 7, 6, 3), batch(9, 5)
    names = list(dict(model.named_parameters()))
    about = evidence(model, data)
    grads = gradient(about, names)
    product = hessian_times(about, grads)
    plain = {n: p.detach() * product[n] for n, p in model.named_parameters()}
    scores = {n: plain[n] + grads[n].square() for n in names}
    for layer, following in ((0, 2), (2, 4)):
        into, out = hidden_sums(model, scores, layer, following)
        torch.testing.assert_close(into, out, rtol=1e-9, atol=1e-12)
        into, out = hidden_sums(model, plain, layer, following)  # alone they are not kept
        assert (into - out).abs().max() > 1e-4


def test_scoring_leaves_the_model_as_it_was():
    model, data = convnet(norm=True).train(), batch(8, 2, 8, 8)
    model[0].weight.requires_grad_(False)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    connection_sensitivity(evidence(model, data))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in model.modules())
    assert not model[0].weight.requires_grad and model[0].weight.grad is None
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_attention_can_be_differentiated_twice():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    about = evidence(layer, (x, torch.zeros(2)), lambda out, y: out.square().mean())
    grads = gradient(about)
    product = hessian_times(about, grads)
    name = "linear1.weight"
    step = 1e-5
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for n, g in grads.items():
                about.tensors[n].add_(sign * step * g)
        ends.append(gradient(about)[name])
        with torch.no_grad():
            for n, g in grads.items():
                about.tensors[n].sub_(sign * step * g)
    torch.testing.assert_close(
        product[name], (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-9
    )
