"""Card B4."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentei.allocation import Target
from sentei.criteria import Evidence, needs, needs_of
from sentei.criteria.gates import gate_gradients, taylor_act, taylor_gate
from sentei.criteria.taylor import taylor
from sentei.criteria.weights.fisher import fisher_diagonal
from sentei.criteria.weights.taylor import taylor_abs, taylor_second, taylor_sq
from sentei.graph.errors import PruneError
from sentei.graph.groups import analyze
from sentei.hooks import TaylorMomentum
from sentei.methods import METHODS, apply
from sentei.pruning import prune
from tests.methods.gradient.nets import batch, convnet, evidence, mlp
from tests.methods.magnitude.nets import setting


def test_in_a_linear_model_with_a_linear_loss_it_is_the_true_change():
    torch.manual_seed(0)
    model, (x, _) = nn.Linear(4, 2).double(), batch(7, 4)
    about = evidence(model, (x, torch.zeros(7)), lambda out, y: out.mean())
    scores = taylor_abs(about)["weight"]
    whole = model(x).mean().item()
    for place in range(8):
        value = model.weight.data.view(-1)[place].item()
        model.weight.data.view(-1)[place] = 0.0
        change = abs(model(x).mean().item() - whole)
        model.weight.data.view(-1)[place] = value
        torch.testing.assert_close(scores.view(-1)[place].item(), change, rtol=1e-9, atol=1e-12)


def test_for_one_example_the_absolute_value_is_the_root_of_the_square():
    about = evidence(mlp(4, 5, 3), batch(1, 4))
    for name, scores in taylor_sq(about).items():
        torch.testing.assert_close(scores.sqrt(), taylor_abs(about)[name])


def test_the_absolute_value_is_inside_the_mean():
    model, data = mlp(4, 5, 3), batch(20, 4)
    about = evidence(model, data)
    singles = evidence(model, [(data[0][i : i + 1], data[1][i : i + 1]) for i in range(20)])
    for name, scores in taylor_abs(about, examples=True).items():
        torch.testing.assert_close(scores, taylor_abs(singles)[name])
        assert (scores >= taylor_abs(about)[name] - 1e-12).all()


def test_over_single_examples_the_square_is_the_fishers():
    about = evidence(mlp(4, 5, 3), batch(20, 4))
    fisher = fisher_diagonal(about)
    for name, scores in taylor_sq(about, examples=True).items():
        torch.testing.assert_close(scores, 2 * fisher[name])


def test_the_second_order_score_is_exact_on_a_parabola():
    """L = (w x - y)² / 2 for one example: g w - w² h / 2 is the loss lost with w."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1, bias=False).double()
    x, y = torch.tensor([[1.5]]).double(), torch.tensor([[0.4]]).double()
    about = evidence(model, (x, y), lambda out, y: 0.5 * (out - y).square().mean())
    got = taylor_second(about, curvature="hessian")["weight"].item()
    change = 0.5 * (model(x) - y).square().item() - 0.5 * y.square().item()
    torch.testing.assert_close(got, change**2, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("norm", [False, True])
def test_gate_gradients_are_those_of_a_factor_on_the_output(norm):
    """The gate is put in by a hook behind the layer, or its batch-norm, and differentiated."""
    model, data = convnet(norm).eval(), batch(8, 2, 8, 8)
    if norm:
        model[1].weight.data.uniform_(0.5, 2.0)
        model[1].bias.data.normal_()
        model[1].running_mean.normal_()
    groups = analyze(model, data[0])
    about = Evidence.of(model, groups, data=data, loss=F.cross_entropy)
    gate = torch.ones(4, dtype=torch.float64, requires_grad=True)
    hook = model[1 if norm else 0].register_forward_hook(
        lambda module, args, out: out * gate[:, None, None]
    )
    F.cross_entropy(model(data[0]), data[1]).backward()
    hook.remove()
    torch.testing.assert_close(
        gate_gradients(groups["0"], about)[0], gate.grad, rtol=1e-9, atol=1e-14
    )
    torch.testing.assert_close(taylor_gate(groups["0"], about), gate.grad.square())
    unit = gate.grad.abs() / gate.grad.norm()
    torch.testing.assert_close(taylor_act(groups["0"], about), unit)


def test_activations_behind_a_relu_give_the_same_products():
    model, (x, y) = convnet(), batch(8, 2, 8, 8)
    groups = analyze(model, x)
    maps = []
    hook = model[1].register_forward_hook(lambda module, args, out: maps.append(out))
    loss = F.cross_entropy(model(x), y)
    hook.remove()
    grad = torch.autograd.grad(loss, maps[0])[0]
    want = (maps[0] * grad).mean((0, 2, 3)).abs()
    got = taylor_act(groups["0"], Evidence.of(model, groups, data=(x, y), loss=F.cross_entropy))
    torch.testing.assert_close(got, (want / want.norm()).detach())


def test_with_batch_statistics_a_whole_layer_before_the_norm_is_worth_nothing():
    """F3: the joint score of the layer's own weights is zero; see also test_facts."""
    from sentei.criteria.weights.snip import connection_sensitivity

    about = evidence(convnet(norm=True), batch(8, 2, 8, 8))
    assert connection_sensitivity(about)["0.weight"].sum().square() < 1e-24


def test_a_unit_of_one_weight_has_the_square_of_its_absolute_score():
    model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 2, bias=False)).double()
    groups = analyze(model, torch.zeros(1, 1).double())
    about = Evidence.of(model, groups, data=batch(6, 1, classes=2), loss=F.cross_entropy)
    # The gate's unit is the one weight of its row; the joint unit has its column, too, and by F2
    # the column's sum is the row's: twice as much, four times in the square.
    gates = taylor_gate(groups["0"], about)
    torch.testing.assert_close(gates.sqrt(), taylor_abs(about)["0.weight"].flatten())
    torch.testing.assert_close(taylor(groups["0"], about), 4 * gates)


def test_a_group_that_no_layer_makes_says_so():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6, 2))

        def forward(self, x):
            return x @ self.a @ self.b

    model = Scaled()
    groups = analyze(model, torch.zeros(1, 4))
    about = Evidence.of(
        model, groups, data=(torch.ones(2, 4), torch.zeros(2)), loss=lambda out, y: out.sum()
    )
    with pytest.raises(PruneError, match="made by no layer"):
        taylor_gate(next(iter(groups.values())), about)


def gathered(hook, model, steps, seed=0):
    """Train by hand, as a user's loop would; what was seen at each step."""
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), []
    hook.start(model, optimizer, steps)
    for step in range(steps):
        x, y = batch(12, 4, seed=100 * seed + step)
        loss = F.cross_entropy(model(x), y) + hook.penalty()
        optimizer.zero_grad()
        loss.backward()
        seen.append({n: (p * p.grad).detach().clone() for n, p in model.named_parameters()})
        if hook.before_step():
            optimizer.step()
        hook.after_step()
    hook.finish()
    return seen


@pytest.mark.parametrize("form", ["abs", "sq"])
def test_scores_run_with_momentum_over_the_batches_of_a_training(form):
    hook, shape = TaylorMomentum(form, momentum=0.7), {"abs": torch.abs, "sq": torch.square}[form]
    model = mlp(4, 5, 3)
    seen = gathered(hook, model, 6)
    for name in ("0.weight", "2.weight"):
        want = sum(0.3 * 0.7 ** (5 - t) * shape(s[name]) for t, s in enumerate(seen))
        torch.testing.assert_close(hook.scores[name], want / (1 - 0.7**6))
    assert set(hook.scores) == {"0.weight", "2.weight"}
    # As a criterion it is summed over all that leaves with the unit.
    groups = analyze(model, torch.zeros(1, 4).double())
    got = hook(groups["0"], Evidence.of(model, groups))
    both = hook.scores["0.weight"].sum(1) + hook.scores["2.weight"].sum(0)
    torch.testing.assert_close(got, both)


def test_the_joint_form_with_one_batch_is_the_joint_criterion():
    model = mlp(4, 5, 3)
    groups = analyze(model, torch.zeros(1, 4).double())
    hook = TaylorMomentum("joint", groups=groups)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    hook.start(model, optimizer, 1)
    data = batch(12, 4)
    F.cross_entropy(model(data[0]), data[1]).backward()
    hook.before_step()
    about = Evidence.of(model, groups, data=data, loss=F.cross_entropy)
    torch.testing.assert_close(hook(groups["0"], about), taylor(groups["0"], about))


def test_units_are_pruned_in_a_loop_of_the_users_own():
    model, example = mlp(4, 12, 8, 3), torch.zeros(1, 4).double()
    for seed in range(2):
        hook = TaylorMomentum("joint", groups=analyze(model, example))
        gathered(hook, model, 4, seed)
        low = int(hook.scores["0"].argmin())
        row = model[0].weight[low].clone()
        prune(model, example, target=Target(params=0.8), criterion=hook, allocation="local")
        assert not (model[0].weight == row).all(1).any()
        with pytest.raises(PruneError, match="units were removed since the scores were gathered"):
            hook.before_step()
    assert model[0].out_features < 12


def test_the_hook_goes_on_where_it_was():
    whole, model = TaylorMomentum(), mlp(4, 5, 3)
    gathered(whole, model, 3)
    other = TaylorMomentum()
    other.start(model, torch.optim.SGD(model.parameters(), lr=0.0), 3)
    other.load_state_dict(whole.state_dict())
    for name, score in whole.scores.items():
        assert torch.equal(other.scores[name], score)


def test_weights_go_on_the_way_with_the_momentum_of_the_paper():
    given = setting(0.25)
    outcome = apply(METHODS["taylor-abs"], given, momentum=0.9, every=2)
    assert outcome.kept == round(0.25 * outcome.weights)
    assert outcome.steps == 12  # the recovery's own steps and no others
    with pytest.raises(PruneError, match="the recovery has 12; got 12"):
        apply(METHODS["taylor-sq"], setting(0.25), momentum=0.9, every=12)


def test_momentum_speaks():
    with pytest.raises(PruneError, match="unknown form 'absolute'; closest: 'abs'"):
        TaylorMomentum("absolute")
    with pytest.raises(PruneError, match="whole units: give groups="):
        TaylorMomentum("joint")
    with pytest.raises(PruneError, match=r"in \[0, 1\); got 1"):
        TaylorMomentum(momentum=1)
    with pytest.raises(PruneError, match="no batch has been seen"):
        TaylorMomentum().scores  # noqa: B018


def test_criteria_say_what_they_need_and_get_it():
    """What removes units hands over data by what the criterion says, not by its name."""
    from sentei.methods.units import channels

    asked = []

    @needs()
    def taylor_in_name_only(group, evidence):
        asked.append(evidence.data)
        return torch.arange(group.size)

    def says_nothing(group, evidence):
        asked.append(evidence.data)
        return torch.arange(group.size)

    for criterion in (taylor_in_name_only, says_nothing, "fisher-diag", "l2"):
        given = setting(None, target=Target(params=0.7))
        channels.remove_units(given, criterion)
    assert asked[0] is None and asked[-1] is not None
    assert needs_of("snip") == needs_of("taylor-gate") == ("data", "gradients")
    assert needs_of("lamp") == needs_of(TaylorMomentum()) == ()
    given = setting(None, target=Target(params=0.7))
    given.data = None
    with pytest.raises(PruneError, match="needs data"):
        channels.remove_units(given, "snip")
    with pytest.raises(ValueError, match="needs 'labels'"):
        needs("labels")
