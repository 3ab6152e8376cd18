"""Scores against plain loops, and every error's words."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import nn
from torch.utils._pytree import tree_leaves

from sentei.criteria import CRITERIA, Evidence, criterion, score
from sentei.graph.axis import beside, units
from sentei.graph.errors import PruneError
from sentei.graph.groups import analyze
from tests.random_networks import networks


def looped(group, tables, groups):
    """Sum of `tables` (parameter name -> elementwise values) over the group's units, by loops; a
    row for each outer unit where the group is free in another."""
    outer = group.dim.outer
    out = torch.zeros(outer.size if outer else 1, group.size, dtype=torch.float64)
    for s in group.slices:
        if s.parameter in tables:
            table = tables[s.parameter].double()
            if outer and not beside(s.axis, group.dim):  # the outer unit is in dimension 0
                first = units(groups.analysis.parameters[s.parameter][0], outer).tolist()
                for unit in range(group.size):
                    for position in s.positions[unit].tolist():
                        for row, values in zip(first, table.select(s.dim, position), strict=True):
                            out[row, unit] += values.sum()
                continue
            rows = units(s.axis, outer) if outer else torch.zeros(s.axis.size, dtype=torch.long)
            for unit in range(group.size):
                for position in s.positions[unit].tolist():
                    out[rows[position], unit] += table.select(s.dim, position).sum()
    return out


def together(rows):
    """The k-th best units of all rows go together: their scores, added."""
    return rows.sort(dim=1, descending=True).values.sum(0) if len(rows) > 1 else rows[0]


def evidence_of(model, inputs, **options):
    groups = analyze(model, inputs)
    return groups, Evidence.of(model, groups, **options)


def mlp():
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3)
    )


@settings(max_examples=25)
@given(networks())
def test_magnitude_is_the_sum_over_all_slices(case):
    model, inputs = case
    groups, evidence = evidence_of(model, inputs)
    parameters = dict(model.named_parameters())
    absolute = {n: p.detach().abs() for n, p in parameters.items()}
    squares = {n: p.detach().double().square() for n, p in parameters.items()}
    for name, got in score("l1", groups.values(), evidence).items():
        want = together(looped(groups[name], absolute, groups))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)
    for name, got in score("l2", groups.values(), evidence).items():
        want = together(looped(groups[name], squares, groups).sqrt())
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


@settings(max_examples=10)
@given(networks(image=True))
def test_taylor_is_the_squared_sum_of_weight_times_gradient(case):
    model, inputs = case
    groups = analyze(model, inputs)
    if not groups:
        return
    batches = [(inputs, torch.zeros(1)), (tuple(x + 0.1 for x in inputs), torch.zeros(1))]

    def loss(out, _):
        return sum(t.square().mean() for t in tree_leaves(out) if isinstance(t, torch.Tensor))

    want = dict.fromkeys(groups, 0.0)
    for x, _ in batches:
        twin = copy.deepcopy(model).eval()
        loss(twin(*x), None).backward()
        tables = {
            n: (p * p.grad).detach() for n, p in twin.named_parameters() if p.grad is not None
        }
        for name in groups:
            want[name] = want[name] + looped(groups[name], tables, groups).square() / len(batches)
    evidence = Evidence.of(model, groups, data=batches, loss=loss)
    for name, got in score("taylor", groups.values(), evidence).items():
        expected = together(want[name])
        scale = float(expected.max()) + 1e-12
        torch.testing.assert_close(got / scale, expected / scale, rtol=1e-3, atol=1e-5)


def test_each_weight_is_read_once_for_all_groups():
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(5)))
    groups, evidence = evidence_of(model, torch.zeros(2, 8))
    seen = []

    def counted(weight):
        seen.append(tuple(weight.shape))
        return weight.abs()

    for group in groups.values():
        evidence.sum(group, counted)
    # The last bias is all output: no unit of it can go, so nobody looks.
    assert len(seen) == 9


def test_a_weight_in_a_row_and_a_column_of_one_unit_counts_in_both():
    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.square = nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.leave = nn.Linear(2, 1, bias=False)

        def forward(self, x):
            x = self.enter(x)
            return self.leave(x + self.square(x))

    model = Square()
    groups, evidence = evidence_of(model, torch.zeros(1, 1))
    for p in model.parameters():
        p.data.zero_()
    model.square.weight.data.copy_(torch.tensor([[1.0, 10.0], [100.0, 1000.0]]))
    (group,) = groups.values()
    assert criterion("l1")(group, evidence).tolist() == [1 + 10 + 1 + 100, 100 + 1000 + 10 + 1000]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_low_precision_is_summed_in_high(dtype):
    model = nn.Sequential(nn.Linear(4096, 2), nn.ReLU(), nn.Linear(2, 1)).to(dtype)
    for p in model.parameters():
        p.data.fill_(1.0)
    groups, evidence = evidence_of(model, torch.zeros(1, 4096, dtype=dtype))
    got = score("l1", groups.values(), evidence)["0"]
    assert got.dtype == torch.float64
    assert got.tolist() == [4098.0, 4098.0]


def test_squares_that_overflow_are_summed_all_the_same():
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
    model[0].weight.data.copy_(torch.tensor([[3e30], [1.0]]))
    model[1].weight.data.copy_(torch.tensor([[4e30, 0.0]]))
    groups, evidence = evidence_of(model, torch.zeros(1, 1))
    assert score("l2", groups.values(), evidence)["0"].tolist() == pytest.approx([5e30, 1.0])


def test_bn_scale_averages_the_scales_of_a_residual_stream():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.na = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
            self.b, self.nb = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
            self.head = nn.Conv2d(2, 1, 1)

        def forward(self, x):
            return self.head(self.na(self.a(x)) + self.nb(self.b(x)))

    model = Block()
    model.na.weight.data.copy_(torch.tensor([1.0, -2.0]))
    model.nb.weight.data.copy_(torch.tensor([3.0, 0.0]))
    groups, evidence = evidence_of(model, torch.zeros(2, 1, 3, 3))
    assert score("bn-scale", groups.values(), evidence)["a"].tolist() == [2.0, 1.0]


def test_bn_scale_finds_functional_normalisation():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.head = nn.Linear(3, 2), nn.Linear(2, 1)
            self.gamma = nn.Parameter(torch.tensor([0.5, -4.0]))

        def forward(self, x):
            return self.head(F.layer_norm(self.fc(x), (2,), self.gamma))

    model = Functional()
    groups, evidence = evidence_of(model, torch.zeros(2, 3))
    assert "gamma" in evidence.norm_scales
    for group in groups.values():
        assert score("bn-scale", [group], evidence)[group.name].tolist() == [0.5, 4.0]


def test_random_depends_on_seed_and_name_only():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 1))
    groups, evidence = evidence_of(model, torch.zeros(1, 3), seed=3)
    forwards = score("random", groups.values(), evidence)
    backwards = score("random", list(groups.values())[::-1], evidence)
    assert all(torch.equal(forwards[n], backwards[n]) for n in groups)
    assert not torch.equal(forwards["0"], forwards["2"])
    other = score("random", groups.values(), Evidence.of(model, groups, seed=4))
    assert not torch.equal(forwards["0"], other["0"])


@pytest.mark.parametrize("name", CRITERIA)
def test_the_same_evidence_gives_the_same_scores(name):
    model = mlp()
    batch = torch.randn(8, 4), torch.randint(0, 3, (8,))
    groups = analyze(model, batch[0])
    options = {"data": batch, "loss": F.cross_entropy, "seed": 1}
    one, two = (
        score(name, groups.values(), Evidence.of(model, groups, **options)) for _ in range(2)
    )
    assert one.keys() == two.keys() == {"0"}
    assert torch.equal(one["0"], two["0"])


def test_gradients_leave_the_model_as_it_was():
    model = mlp().train()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones(3, 6)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    batch = torch.randn(8, 4), torch.randint(0, 3, (8,))
    groups = analyze(model, batch[0])
    with torch.no_grad():
        got = score(
            "taylor", groups.values(), Evidence.of(model, groups, data=batch, loss=F.cross_entropy)
        )
    assert got["0"].gt(0).all()
    assert all(m.training for m in model.modules())
    assert not model[0].weight.requires_grad
    assert model[0].bias.grad is None
    assert torch.equal(model[4].weight.grad, torch.ones(3, 6))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_batches_come_in_the_usual_forms():
    model = mlp()
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    groups = analyze(model, x)

    def taylor(data):
        evidence = Evidence.of(model, groups, data=data, loss=F.cross_entropy)
        return score("taylor", groups.values(), evidence)["0"]

    want = taylor((x, y))
    for data in ([x, y], [(x, y)], [[x, y]], iter([(x, y)]), (((x,), y)), ({"input": x}, y)):
        assert torch.equal(taylor(data), want)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    assert torch.equal(taylor(loader), want)


def test_a_mapping_is_a_batch_whose_outputs_know_their_loss():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x, labels=None):
            logits = self.net(x)
            if labels is None:
                return logits
            return type("Out", (), {"loss": F.cross_entropy(logits, labels), "logits": logits})()

    model = Own()
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    groups = analyze(model, x)
    own = Evidence.of(model, groups, data={"x": x, "labels": y})
    given_ = Evidence.of(model, groups, data=(x, y), loss=F.cross_entropy)
    a, b = (score("taylor", groups.values(), e)["net.0"] for e in (own, given_))
    torch.testing.assert_close(a, b)


def test_a_function_is_a_criterion():
    groups, evidence = evidence_of(mlp(), torch.zeros(2, 4))

    def backwards(group, evidence):
        return torch.arange(group.size, 0, -1)

    assert score(backwards, groups.values(), evidence)["0"].tolist() == [6, 5, 4, 3, 2, 1]


# --- Errors ---------------------------------------------------------------------------------------


def taylor_error(**options):
    model = mlp()
    groups, evidence = evidence_of(model, torch.zeros(2, 4), **options)
    with pytest.raises(PruneError) as caught:
        score("taylor", groups.values(), evidence)
    return str(caught.value)


BATCH = (torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))


def test_errors_about_data_and_loss():
    assert "needs gradients: give data=(inputs, targets)" in taylor_error()
    assert "give loss=, a function of (outputs, targets)" in taylor_error(data=BATCH)
    assert "data holds no batch" in taylor_error(data=[], loss=F.cross_entropy)
    assert "a batch must be (inputs, targets)" in taylor_error(data=[1, 2, 3], loss=F.cross_entropy)
    assert "got int" in taylor_error(data=3, loss=F.cross_entropy)
    no_mean = taylor_error(data=BATCH, loss=lambda out, y: out)
    assert "one number a batch; got shape (2, 3)" in no_mean
    assert "got float" in taylor_error(data=BATCH, loss=lambda out, y: 1.0)
    constant = taylor_error(data=BATCH, loss=lambda out, y: torch.zeros(()))
    assert "does not depend on the model's parameters" in constant


@pytest.mark.parametrize("value, word", [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_weights_that_are_no_numbers_are_named(value, word):
    model = mlp()
    model[4].weight.data[0, 0] = value
    groups, evidence = evidence_of(model, torch.zeros(2, 4))
    with pytest.raises(PruneError, match=rf"parameter '4.weight' holds {word}"):
        score("l2", groups.values(), evidence)


def test_gradients_that_are_no_numbers_are_named():
    message = taylor_error(data=BATCH, loss=lambda out, y: (out * float("nan")).sum())
    assert "the gradient of parameter '" in message
    assert "holds NaN" in message


def test_meta_weights_cannot_be_scored_but_drawn():
    with torch.device("meta"):
        model = mlp()
    groups, evidence = evidence_of(model, torch.zeros(2, 4))
    with pytest.raises(PruneError, match=r"'0.weight' is on the meta device"):
        score("l2", groups.values(), evidence)
    assert len(score("random", groups.values(), evidence)["0"]) == 6


def test_bn_scale_names_the_groups_without():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    groups, evidence = evidence_of(model, torch.zeros(2, 3))
    with pytest.raises(PruneError, match=r"scales group '0'.*protect=\['0', '2'\]"):
        score("bn-scale", groups.values(), evidence)


def test_unknown_names_and_wrong_shapes():
    groups, evidence = evidence_of(mlp(), torch.zeros(2, 4))
    with pytest.raises(PruneError, match="unknown criterion 'bn_scale'; closest: 'bn-scale'"):
        criterion("bn_scale")

    def short(group, evidence):
        return torch.zeros(2)

    def void(group, evidence):
        return torch.tensor([0.0, 0, 0, float("nan"), 0, 0])

    with pytest.raises(PruneError, match=r"group '0' has 6 units.*shape \(2,\); want \(6,\)"):
        score(short, groups.values(), evidence)
    with pytest.raises(PruneError, match=r"void: the scores of group '0' hold NaN.*unit 3"):
        score(void, groups.values(), evidence)
