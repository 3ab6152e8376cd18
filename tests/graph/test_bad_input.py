"""What people get wrong: each mistake has words of its own, and leaves the model as it was."""

import copy

import pytest
import torch
from torch import nn

from sentei import PruneError, Target, analyze, delete_units, prune
from sentei.graph.surgery import remove

HALF = Target(macs=0.5)
X = torch.randn(3, 4)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def snapshot(model):
    return (
        {n: (id(p), p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()},
        {n: b.clone() for n, b in model.named_buffers()},
        [(type(m), m.training, m.extra_repr(), sorted(vars(m))) for m in model.modules()],
    )


def assert_untouched(model, before):
    now = snapshot(model)
    assert now[2] == before[2]
    for old, new in zip(before[:2], now[:2], strict=True):
        assert old.keys() == new.keys()
        for name, value in old.items():
            a, b = (
                (value, new[name]) if isinstance(value, torch.Tensor) else (value[1], new[name][1])
            )
            assert a.is_meta == b.is_meta and a.shape == b.shape
            assert a.is_meta or torch.equal(a.nan_to_num(), b.nan_to_num())
            if not isinstance(value, torch.Tensor):
                assert (value[0], value[2]) == (new[name][0], new[name][2])


def refused(words, model=None, x=X, kind=PruneError, **how):
    model = net() if model is None else model
    before = snapshot(model) if isinstance(model, nn.Module) else None
    with pytest.raises(kind, match=words) as caught:
        prune(model, x, **{"target": HALF, **how})
    if before is not None:
        assert_untouched(model, before)
    return caught.value


# -- example inputs -------------------------------------------------------------------------------
@pytest.mark.parametrize("call", [prune, analyze])
@pytest.mark.parametrize("x", [None, (), {}])
def test_no_example_inputs(call, x):
    options = {"target": HALF} if call is prune else {}
    with pytest.raises(PruneError, match="no example inputs: give a tensor, a tuple"):
        call(net(), x, **options)


def test_example_inputs_given_twice():
    refused("example_inputs, or args= and kwargs=, not both", args=(X,))


def test_empty_example_inputs():
    refused(r"an example input is empty \(shape \(0, 4\)\)", x=torch.empty(0, 4))
    refused("is empty", x={"input": torch.empty(3, 0)})


@pytest.mark.parametrize(
    "x, kind, words",
    [
        (torch.randn(3, 5), RuntimeError, "3x5 and 4x16"),
        ((X, X), TypeError, "takes 2 positional arguments but 3 were given"),
        ({"image": X}, TypeError, "unexpected keyword argument 'image'"),
        ([X], TypeError, "must be Tensor, not list"),
        ("hello", TypeError, "must be Tensor, not str"),
    ],
)
def test_inputs_the_forward_does_not_take(x, kind, words):
    error = refused(words, x=x, kind=kind)
    assert error.__notes__ == [
        "raised by the forward of Sequential on the example inputs, in eval mode; "
        "the model is as before"
    ]


def test_inputs_of_nan_prune_but_show_nothing():
    result = prune(net(), X * float("nan"), target=HALF)
    assert result.after.macs == result.before.macs / 2
    assert not result.verification.conclusive
    assert "inconclusive" in str(result.verification)


# -- the model ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "model, words",
    [
        (torch.relu, "must be an nn.Module; got a builtin_function_or_method"),
        (net().state_dict(), "must be an nn.Module; got a OrderedDict"),
        (nn.Linear, "got the class Linear itself"),
        (None, "got a NoneType"),
    ],
)
def test_not_a_model(model, words):
    with pytest.raises(PruneError, match=words):
        prune(model, X, target=HALF)
    with pytest.raises(PruneError, match=words):
        analyze(model, X)


def test_a_model_without_sizes():
    with pytest.raises(PruneError, match=r"0.weight has no size yet .*run the model once"):
        prune(nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 2)), X, target=HALF)


@pytest.mark.parametrize("value, word", [(float("nan"), "NaN"), (float("inf"), "infinity")])
@pytest.mark.parametrize("at", [0, 1])
def test_weights_that_are_no_numbers(value, word, at):
    model = net()
    with torch.no_grad():
        model[at].weight[2] = value
    refused(f"parameter '{at}.weight' holds {word}: its units cannot be scored", model)


def test_removing_the_units_that_are_no_numbers_is_possible():
    model = net().eval()
    with torch.no_grad():
        model[0].weight[2] = float("nan")
    assert model(X).isnan().any()
    assert delete_units(model, "0", [2], X).verification.passed
    assert model(X).isfinite().all()


class OwnError(Exception):
    def __init__(self, code):
        super().__init__(f"my own words, {code}")
        self.code = code


class Raises(nn.Module):
    """Leaves traces, then raises: at once, in train mode only, or only when narrowed."""

    def __init__(self, when):
        super().__init__()
        self.a, self.b, self.when, self.calls = nn.Linear(4, 8), nn.Linear(8, 2), when, 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.seen += 1
        self.last = x
        h = self.a(x)
        if self.when == "always" or (self.when == "narrow" and h.shape[1] < 8):
            raise OwnError(7)
        if self.when == "train" and self.training:
            raise OwnError(8)
        return self.b(h)


def test_the_users_own_error_comes_through():
    model = Raises("always").train()
    error = refused("my own words, 7", model, kind=OwnError)
    assert error.code == 7
    assert not hasattr(model, "last") and model.calls == 0 and model.training
    assert error.__cause__ is None and error.__suppress_context__


def test_a_forward_that_cannot_train_is_pruned_in_eval_mode():
    model = Raises("train")
    result = prune(model, X, target=HALF)
    assert model.a.out_features == 4 and result.verification.passed
    assert model.calls == 0 and model.seen == 0


def test_a_forward_that_raises_once_pruned():
    model = Raises("narrow")
    before = snapshot(model)
    with pytest.raises(PruneError, match=r"cannot be repaired.*OwnError: my own words, 7"):
        delete_units(model, "a", [0], X)
    assert_untouched(model, before)
    refused("my own words, 7", model)


def test_nothing_left_running_after_an_error():
    """No hook, mode or switch stays behind."""
    fast = torch.backends.mha.get_fastpath_enabled()
    refused("my own words", Raises("always"), kind=OwnError)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert not torch.is_inference_mode_enabled()
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert type(X.shape[0]) is int


@pytest.mark.parametrize(
    "model, words",
    [
        (lambda: nn.Linear(4, 3), r"nothing to prune: all 2 groups are pinned.*model output"),
        (lambda: nn.ReLU(), "nothing to prune: the model has no parameters with units"),
        (lambda: nn.Sequential(), "nothing to prune"),
    ],
)
def test_nothing_to_prune(model, words):
    refused(words, model())


# -- the request ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "budget", [0, -1, -0.5, 1.5, float("nan"), float("inf"), "half", True, [1]]
)
@pytest.mark.parametrize("what", ["macs", "params", "units", "width"])
def test_budgets_that_are_none(what, budget):
    with pytest.raises(PruneError, match=rf"Target\({what}=.*"):
        Target(**{what: budget})


def test_budgets_out_of_reach():
    refused(r"out of reach: params 1 \(0.61%\).*Nearest: params=13", target=Target(params=0.01))
    refused("out of reach.*Nearest: macs=336", min_units=100)
    refused(r"must be a Target, such as Target\(macs=0.5\); got 0.5", target=0.5)


@pytest.mark.parametrize(
    "how, words",
    [
        ({"criterion": "tailor"}, "unknown criterion 'tailor'; closest: 'taylor'"),
        ({"criterion": 3}, "unknown criterion 3; known: "),
        ({"criterion": "taylor"}, "needs gradients: give data="),
        ({"criterion": lambda group, evidence: torch.ones(3)}, r"3\b.*16|16.*3\b"),
        ({"criterion": lambda group, evidence: None}, "gave a NoneType for 0; want a tensor of 16"),
        ({"allocation": "globl"}, "unknown allocation 'globl'; closest: 'global'"),
        ({"granularity": "heads"}, "unknown granularity 'heads'; "),
        ({"normalise": "median"}, "unknown normalisation 'median'; "),
        ({"round_to": 0}, "round_to must be a positive integer such as 8; got 0"),
        ({"min_units": 0}, "min_units must be at least 1"),
        ({"min_fraction": 2}, r"min_fraction in \[0, 1\]"),
        ({"protect": "heads*"}, r"protect: 'heads\*' is no group, module or parameter; known: '0'"),
        ({"protect": [3]}, "protect: want names, patterns or modules; got 3"),
        ({"protect": nn.Linear(1, 1)}, "protect: Linear is not a module of this model"),
        ({"protect": net()[0]}, "protect: Linear is not a module of this model"),
        ({"protect": "*"}, "nothing to prune.*protected by"),
        ({"optimizer": "sgd"}, "optimizer must be a torch optimizer; got a str"),
        ({"optimizer": torch.optim.SGD(net().parameters(), 0.1)}, "holds no parameter of this"),
        (
            {"optimizer": torch.optim.SGD(net().parameters(), 0.1), "inplace": False},
            "inplace=False prunes a copy; drop one",
        ),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_carried_out(how, words):
    refused(words, **how)


def test_protecting_by_a_name_with_brackets():
    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 6), nn.Linear(6, 2))
    ids = torch.randint(9, (2, 3))
    name = "0.weight[1]"  # also a pattern, which does not match itself
    assert name in analyze(model, ids)
    assert name not in analyze(model, ids, protect=[name])


@pytest.mark.parametrize(
    "name, units, words",
    [
        ("00", [1], "no group or module '00'; closest: '0'"),
        ("3", [1], "group '3' is pinned: model output"),
        ("0", [16], "no unit 16; units are numbered 0 to 15"),
        ("0", [-1], "no unit -1"),
        ("0", [0.5], r"must be a sequence of integers; got \[0.5\]"),
        ("0", torch.rand(3), "must be a sequence of integers"),
        ("0", torch.ones(16, dtype=torch.bool), "by number, from 0; got a mask"),
        ("0", [True, False], "by number, from 0; got a mask"),
        ("0", 3, "must be a sequence of integers; got 3"),
        ("0", "ab", "must be a sequence of integers; got 'ab'"),
        ("0", None, "which units"),
        ("0", range(16), "cannot remove all 16 units"),
    ],
)
def test_units_that_are_not_there(name, units, words):
    model = net()
    before = snapshot(model)
    with pytest.raises(PruneError, match=words):
        delete_units(model, name, units, X)
    assert_untouched(model, before)


# -- what hangs on the parameters -----------------------------------------------------------------
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.AdamW(p, 0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, 0.1),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizer_state_and_gradients_follow(kind):
    model = net()
    optimizer = OPTIMIZERS[kind](model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    state = copy.deepcopy({n: optimizer.state[p] for n, p in model.named_parameters()})
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    result = prune(model, X, target=HALF, optimizer=optimizer)
    kept = result.surgery.kept
    assert kept
    for name, p in model.named_parameters():
        for d, positions in kept.get(name, {}).items():
            grads[name] = grads[name].index_select(d, positions)
            for key, value in state[name].items():
                if value.dim() == p.dim() and value.shape[d] > 1:
                    state[name][key] = value.index_select(d, positions)
        assert torch.equal(p.grad, grads[name])
        assert optimizer.state[p].keys() == state[name].keys()
        for key, value in state[name].items():
            assert torch.equal(optimizer.state[p][key], value), (name, key)
    model(X).sum().backward()
    optimizer.step()


def test_optimizer_state_comes_back_after_an_error():
    model = Raises("narrow")
    optimizer = torch.optim.Adam(model.parameters())
    model(X).sum().backward()
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    grads = [p.grad.clone() for p in model.parameters()]
    with pytest.raises(PruneError):
        delete_units(model, "a", [0], X, optimizer=optimizer)
    after = optimizer.state_dict()
    for i, entry in before["state"].items():
        assert all(torch.equal(after["state"][i][k], v) for k, v in entry.items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))


def test_frozen_parameters_stay_frozen():
    model = net()
    model[0].weight.requires_grad_(False)
    prune(model, X, target=HALF)
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5


def test_tied_parameters_stay_tied():
    model = nn.Sequential(nn.Embedding(9, 12), nn.Linear(12, 12), nn.Linear(12, 9, bias=False))
    model[2].weight = model[0].weight
    result = prune(model, torch.randint(9, (2, 3)), target=Target(params=0.6))
    assert model[2].weight is model[0].weight
    assert len(list(model.parameters())) == 3
    assert model[0].embedding_dim == model[2].in_features < 12
    assert result.verification.passed


def test_models_without_weights():
    refused("'0.weight' is on the meta device and has no values.*'random'", net().to("meta"))
    model = net().to("meta")
    result = prune(model, X, target=HALF, criterion="random")
    assert model[0].weight.shape == (8, 4) and model[0].weight.is_meta
    assert result.verification is None
    model = net().to("meta")
    delete_units(model, "0", [1], X)
    assert model[0].out_features == 15


def test_kept_units_that_are_not_there():
    model = net()
    groups = analyze(model, X)
    for keep, words in [([], "cannot remove all 16"), ([16], "numbered 0 to 15, got 16 to 16")]:
        with pytest.raises(PruneError, match=words):
            remove(model, groups, {"0": torch.tensor(keep)}, ((X,), {}))
    with pytest.raises(KeyError, match="no group 'x'"):
        remove(model, groups, {"x": torch.tensor([0])}, ((X,), {}))


def test_groups_of_another_model():
    groups = analyze(net(), X)
    other = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    before = snapshot(other)
    with pytest.raises(PruneError):
        remove(other, groups, {"0": torch.arange(8)}, ((X,), {}))
    assert_untouched(other, before)
