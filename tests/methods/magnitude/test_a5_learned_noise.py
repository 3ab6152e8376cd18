"""Variational dropout and hard concrete gates; Gale's recipe is tested with A4 and A7."""

import math

import pytest
import torch
from torch import nn

from sentei.batches import batches
from sentei.graph.errors import PruneError
from sentei.hooks.hard_concrete import HardConcrete, expected_open, gate, sampled
from sentei.hooks.variational import VariationalDropout, divergence, log_alpha
from sentei.methods import METHODS, apply
from tests.methods.magnitude.nets import mlp, setting, toy


def weights(model):
    return {n: p for n, p in model.named_parameters() if p.dim() > 1}


def test_the_divergence_is_the_integral_it_approximates():
    # KL(N(1, α) || log-uniform) up to its constant: -log α / 2 + E log |1 + √α ε|, by quadrature.
    eps = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    density = torch.exp(-eps.square() / 2) / math.sqrt(2 * math.pi)
    alphas = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    exact = []
    for a in alphas.exp():
        logs = (1 + a.sqrt() * eps).abs().clamp(min=1e-12).log()
        exact.append(torch.trapezoid(density * logs, eps) - 0.5 * a.log())
    exact = torch.stack(exact)
    # The approximation's zero is at α → ∞, where the integral tends to a constant.
    limit = -(0.577216 + math.log(2)) / 2
    torch.testing.assert_close(divergence(alphas), exact - limit, rtol=0, atol=0.02)


def test_log_alpha_is_clipped():
    theta, variance = torch.tensor([1e-20, 1.0, 1e3]), torch.zeros(3)
    assert log_alpha(theta, variance).tolist() == [8.0, 0.0, -8.0]


@pytest.mark.parametrize(
    "layer,shape",
    [
        (nn.Linear(6, 5), (3, 6)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 7, 7)),
        (nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 8)),
    ],
)
def test_outputs_have_the_mean_and_spread_of_sampled_weights(layer, shape):
    layer = layer.double()
    hook = VariationalDropout({"weight": layer.weight}, lambda step: 1.0, 10, start=-3.0)
    hook.start(layer, None, 0)
    x = torch.randn(shape, dtype=torch.float64)
    layer.train()
    local = torch.stack([layer(x).detach() for _ in range(4000)])
    hook.close()
    plain, sigma = layer.weight.detach().clone(), math.exp(-1.5)
    sampled_weights = []
    for _ in range(4000):
        with torch.no_grad():
            layer.weight.copy_(plain + sigma * torch.randn_like(plain))
        sampled_weights.append(layer(x).detach())
    whole = torch.stack(sampled_weights)
    torch.testing.assert_close(local.mean(0), whole.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(local.std(0), whole.std(0), rtol=0.1, atol=0.02)


def test_in_eval_mode_and_after_the_training_there_is_no_noise():
    model, x = mlp(), toy()[0]
    clean = model(x)
    hook = VariationalDropout(weights(model), lambda step: 1.0, 96, start=0.0)
    hook.start(model, None, 0)
    assert torch.equal(model.eval()(x), clean) and not torch.equal(model.train()(x), clean)
    hook.finish()
    assert torch.equal(model(x), clean)


def test_layers_it_cannot_reach_speak_and_no_hook_is_left():
    model = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 3))
    hook = VariationalDropout(weights(model), lambda step: 1.0, 10)
    with pytest.raises(PruneError, match=r"'1\.weight_ih_l0' belongs to a LSTM"):
        hook.start(model, None, 0)
    assert not model[0]._forward_hooks


def test_a_threshold_on_the_noise_in_place_of_a_density():
    outcome = apply(METHODS["variational-dropout"], setting(density=None), threshold=3.0)
    assert 0.5 < outcome.density < 1.0  # two epochs make noise of the smallest weights only
    with pytest.raises(PruneError, match="no weight has log α"):
        apply(METHODS["variational-dropout"], setting(density=None), threshold=-9.0)


def test_gates_are_shut_open_and_between_with_the_right_odds():
    values = torch.tensor([-2.0, 0.0, 1.5])
    u = torch.rand(200_000, 3).clamp(1e-6, 1 - 1e-6)
    z = sampled(values, u)
    assert ((z >= 0) & (z <= 1)).all()
    torch.testing.assert_close((z > 0).float().mean(0), expected_open(values), rtol=0, atol=5e-3)
    assert (gate(torch.tensor([-3.0, 3.0])) == torch.tensor([0.0, 1.0])).all()


def test_gradients_are_those_of_autograd():
    model = mlp()
    hook = HardConcrete(weights(model), strength=5.0, start=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    hook.start(model, optimizer, 1)
    x, y = next(batches(toy(), 32))
    # The same by autograd: weights and gates as leaves.
    leaves = {n: d.clone().requires_grad_() for n, d in hook.dense.items()}
    alphas = {n: a.clone().requires_grad_() for n, a in hook.log_alpha.items()}
    noise = {}
    for name, z in hook.gates.items():
        s = (z - -0.1) / 1.2
        inside = (z > 0) & (z < 1)
        u = torch.sigmoid(torch.logit(s.clamp(1e-6, 1 - 1e-6)) * 2 / 3 - alphas[name].detach())
        noise[name] = torch.where(inside, u, torch.where(z <= 0, 1e-6, 1 - 1e-6))
    replaced = {n: leaves[n] * sampled(alphas[n], noise[n]) for n in leaves}
    out = torch.func.functional_call(model, replaced, (x,))
    total = sum(a.numel() for a in alphas.values())
    penalty = 5.0 * sum(expected_open(a).sum() for a in alphas.values()) / total
    (nn.functional.cross_entropy(out, y) + penalty).backward()
    nn.functional.cross_entropy(model(x), y).backward()
    seen = {}
    hook.learner.step = lambda: seen.update({n: a.grad.clone() for n, a in hook.log_alpha.items()})
    hook.before_step()
    for name in leaves:
        torch.testing.assert_close(seen[name], alphas[name].grad, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(hook.weights[name].grad, leaves[name].grad, rtol=1e-4, atol=1e-6)


def test_the_penalty_shuts_gates():
    still = apply(METHODS["l0-hard-concrete"], setting(), strength=0.0)
    assert still.density == 0.25
    model = mlp()
    hook = HardConcrete(weights(model), strength=1e4, lr=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    hook.start(model, optimizer, 40)
    for _ in range(40):
        hook.before_step()
        hook.after_step()
    hook.finish()
    assert all(not p.count_nonzero() for p in weights(model).values())
