"""Inputs of grouped convolutions and stacked matrices: other units for each outer index."""

import copy

import pytest
import torch
from torch import Tensor, nn

import sentei
from sentei import PruneError, Target
from sentei.graph.groups import Groups, analyze
from sentei.graph.history import Past, compose, history
from sentei.graph.rows import take
from sentei.graph.surgery import remove
from tests.fuzz import share

GROUPS = 4


def convolutions(n: int) -> nn.Module:
    """A chain of grouped convolutions with norms between, as in ResNeXt and RegNet."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[n - 1]
    return nn.Sequential(
        conv(3, 12, 1), norm(12), nn.ReLU(), conv(12, 20, 3, groups=GROUPS, padding=1), norm(20),
        nn.ReLU(), conv(20, 8, 1, groups=GROUPS, bias=False), norm(8), nn.ReLU(), conv(8, 3, 1),
    )  # fmt: skip


def transposed(n: int) -> nn.Module:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
    turned = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[n - 1]
    return nn.Sequential(
        conv(3, 12, 1), nn.ReLU(), turned(12, 20, 2, groups=GROUPS), nn.ReLU(),
        turned(20, 8, 2, groups=GROUPS), nn.ReLU(), conv(8, 3, 1),
    )  # fmt: skip


class Stack(nn.Module):
    def __init__(self, style: str) -> None:
        super().__init__()
        self.parts, self.style = 3, style
        self.enter, self.leave = nn.Linear(5, 12), nn.Linear(12, 2)
        self.up, self.down = (nn.Parameter(torch.randn(3, *s)) for s in ((4, 6), (6, 4)))
        self.bias = nn.Parameter(torch.randn(3, 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        x = self.enter(x).view(n, self.parts, -1)
        if self.style == "einsum":
            x = torch.einsum("ngi,gio->ngo", x, self.up).relu()
            return self.leave(torch.einsum("ngi,gio->ngo", x, self.down).reshape(n, -1))
        x = x.transpose(0, 1)
        x = torch.baddbmm(self.bias, x, self.up) if self.style == "baddbmm" else x.bmm(self.up)
        return self.leave((x.relu() @ self.down).transpose(0, 1).reshape(n, -1))


def case(name: str) -> tuple[nn.Module, Tensor]:
    kind, _, rest = name.partition(" ")
    torch.manual_seed(0)
    if kind == "stack":
        return Stack(rest).double().eval(), torch.randn(4, 5, dtype=torch.float64)
    net = {"grouped": convolutions, "transposed": transposed}[kind](int(rest)).double().eval()
    for module in net:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net, torch.randn(2, 3, *[5] * int(rest), dtype=torch.float64)


CASES = [f"{kind} {n}" for kind in ("grouped", "transposed") for n in (1, 2, 3)]
CASES += [f"stack {style}" for style in ("bmm", "baddbmm", "einsum")]


def by_row(groups: Groups) -> list[str]:
    """Groups that stand in another dimension of some parameter than their outer dim."""
    return [
        name for name, g in groups.items()
        if g.outer and any(groups.analysis.parameters[s.parameter][0] is not s.axis
                           and s.dim > 0 and s.axis is g.dim for s in g.slices)
    ]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_outer_unit_keeps_inputs_of_its_own(name: str) -> None:
    net, x = case(name)
    assert len(by_row(analyze(net, x))) >= 2
    for seed in range(3):
        model = copy.deepcopy(net)
        groups = analyze(model, x)
        keep = share(groups, torch.Generator().manual_seed(seed))
        check = remove(model, groups, keep, ((x,), {})).verification
        assert check.passed and check.error < 1e-12, str(check)
        model(x).sum().backward()


def test_against_a_loop_over_the_groups() -> None:
    """No code of the engine but the slices: silence the inputs that each group loses by hand."""
    net, x = case("grouped 2")
    want = copy.deepcopy(net)
    groups = analyze(net, x)
    name = next(
        n for n in by_row(groups) if any(s.parameter == "0.weight" for s in groups[n].slices)
    )
    kept = torch.tensor([[0, 1], [0, 2], [1, 2], [0, 2]])
    remove(net, groups, {name: kept}, ((x,), {}))
    assert net[3].in_channels == 8 and net[3].groups == 4
    with torch.no_grad():
        for group, lost in enumerate([2, 1, 0, 1]):
            want[3].weight[5 * group : 5 * group + 5, lost] = 0
    torch.testing.assert_close(net(x), want(x), rtol=1e-9, atol=1e-12)


def test_two_prunings_compose_and_load_bit_for_bit(tmp_path) -> None:
    net, x = case("grouped 2")
    fresh, whole = copy.deepcopy(net), {n: t.clone() for n, t in net.state_dict().items()}
    for seed in (3, 5):
        groups = analyze(net, x)
        remove(net, groups, share(groups, torch.Generator().manual_seed(seed)), ((x,), {}))
    kept = history(net).kept
    assert any(p.dim() == 2 for dims in kept.values() for _, p in dims.values())
    for key, tensor in net.state_dict().items():
        if tensor.dim():
            places = {d: p for d, (_, p) in kept.get(key, {}).items()}
            assert torch.equal(tensor, take(whole[key], places)), key
    again = sentei.load(sentei.save(net, tmp_path / "small"), fresh)
    assert torch.equal(again(x), net(x))


def test_histories_compose_in_every_way() -> None:
    rows, columns = torch.tensor([[0, 2, 3], [1, 2, 4]]), torch.tensor([0, 2])
    whole, mixed = torch.arange(24).view(4, 6), torch.tensor([[0, 1], [2, 0], [1, 2]])
    ways = [
        ({1: (6, rows)}, {1: (3, columns)}),
        ({1: (6, torch.tensor([1, 3, 5]))}, {1: (3, rows[:, :2] % 3)}),
        ({1: (6, rows)}, {0: (4, torch.tensor([0, 1, 3]))}),
        ({1: (6, rows)}, {0: (4, torch.tensor([0, 2, 3])), 1: (3, mixed)}),
        ({0: (4, torch.tensor([1, 2])), 1: (6, rows)}, {0: (2, torch.tensor([1]))}),
    ]
    for first, second in ways:
        steps = [{d: p for d, (_, p) in kept.items()} for kept in (first, second)]
        both = compose(Past({"w": first}), Past({"w": second})).kept["w"]
        want = take(take(whole, steps[0]), steps[1])
        assert torch.equal(take(whole, {d: p for d, (_, p) in both.items()}), want)


@pytest.mark.parametrize("factored", [False, True])
def test_state_of_optimizers_follows(factored: bool) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = 3
            self.enter, self.leave = nn.Linear(5, 12, bias=False), nn.Linear(12, 2)
            self.scale = nn.Parameter(torch.rand(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.leave((self.enter(x).view(len(x), self.heads, -1) * self.scale).flatten(1))

    model, x = Table(), torch.randn(6, 5)
    make = torch.optim.Adafactor if factored else torch.optim.Adam
    optimizer = make(model.parameters(), lr=0.01)
    model(x).square().sum().backward()
    optimizer.step()
    before = {k: v.clone() for k, v in optimizer.state[model.scale].items()}
    groups = analyze(model, x)
    name = next(n for n, g in groups.items() if g.outer)
    kept = torch.tensor([[0, 1], [1, 3], [0, 2]])
    remove(model, groups, {name: kept}, ((x,), {}), optimizer=optimizer)
    state = optimizer.state[model.scale]
    if factored:
        assert torch.equal(state["row_var"], before["row_var"])
        torch.testing.assert_close(state["col_var"], before["col_var"][0, kept].mean(0)[None])
    else:
        assert torch.equal(state["exp_avg"], before["exp_avg"].gather(1, kept))
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


class Shuffled(nn.Module):
    def __init__(self, second: int) -> None:
        super().__init__()
        self.groups = 4
        self.enter, self.leave = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 2, 1)
        self.first = nn.Conv2d(12, 24, 1, groups=4, bias=False)
        self.second = nn.Conv2d(24, 12, 1, groups=second)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.enter(x).relu())
        b, c, h, w = x.shape
        x = x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.leave(self.second(x))


@pytest.mark.parametrize("second", [2, 4, 6])
def test_a_shuffle_ends_the_freedom(second: int) -> None:
    model, x = Shuffled(second).double(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    groups = analyze(model, x)
    for group in groups.values():
        made, read = (
            any(s.parameter == f"{part}.weight" and s.dim == d for s in group.slices)
            for part, d in (("first", 0), ("second", 1))
        )
        assert not (made and read and group.outer)
    check = remove(model, groups, share(groups, torch.Generator().manual_seed(1)), ((x,), {}))
    assert check.verification.passed


class Across(nn.Module):
    """Heads that see one another: unit i of one head meets unit i of the next."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.heads, self.how = 3, how
        self.enter, self.leave = nn.Linear(7, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).view(len(x), self.heads, -1)
        match self.how:
            case "compared":
                x = (x @ x.mT / 2).softmax(-1) @ x
            case "softmax":
                x = x * x.softmax(1)
            case "running sum":
                x = x.cumsum(1)
            case "normed":
                x = nn.functional.layer_norm(x.mT, (self.heads,)).mT
        return self.leave(x.flatten(1))


@pytest.mark.parametrize("how", ["compared", "softmax", "running sum", "normed"])
def test_what_goes_along_the_outer_dim_ends_the_freedom(how: str) -> None:
    model, x = Across(how).double(), torch.randn(4, 7, dtype=torch.float64)
    groups = analyze(model, x)
    assert len(groups) and not any(g.outer for g in groups.values())
    keep = share(groups, torch.Generator().manual_seed(1))
    assert remove(model, groups, keep, ((x,), {})).verification.passed
    if how != "normed":  # there the code's own number of heads cannot follow
        assert any(g.outer for g in analyze(Across("").double(), x).values())


@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor"])
def test_each_group_keeps_its_own_best(criterion: str) -> None:
    net, x = case("grouped 2")
    data = [(x, torch.randn(2, 3, 5, 5, dtype=torch.float64))]
    result = sentei.prune(
        net, x, target=Target(macs=0.5), criterion=criterion, data=data, loss=nn.MSELoss(),
        granularity="width",
    )  # fmt: skip
    rows = [p for dims in result.surgery.kept.values() for p in dims.values() if p.dim() == 2]
    assert rows and result.surgery.verification.passed
    assert any(len(p) == net[3].groups for p in rows)


def test_the_best_by_hand() -> None:
    """Each group loses the input whose weights are all zero, another one each."""
    net, x = case("grouped 2")
    lost = [2, 1, 0, 1]
    with torch.no_grad():
        for group, i in enumerate(lost):
            net[0].weight[3 * group + i] = net[0].bias[3 * group + i] = 0
            net[1].weight[3 * group + i] = net[1].bias[3 * group + i] = 0
            net[3].weight[5 * group : 5 * group + 5, i] = 0
    want = net(x)
    groups = analyze(net, x)
    name = next(
        n for n in by_row(groups) if any(s.parameter == "0.weight" for s in groups[n].slices)
    )
    others = [n for n in groups if n not in (name, groups[name].outer)]
    result = sentei.prune(net, x, target=Target(width=0.67), protect=others, granularity="width")
    assert result.surgery.units[name].tolist() == [[0, 1], [0, 2], [1, 2], [0, 2]]
    torch.testing.assert_close(net(x), want)


def test_a_recipe_by_row_that_lies(tmp_path) -> None:
    import json

    net, x = case("grouped 1")
    groups = analyze(net, x)
    remove(net, groups, share(groups, torch.Generator().manual_seed(3)), ((x,), {}))
    folder = sentei.save(net, tmp_path / "small")
    text = (folder / "sentei.json").read_text()
    at = next(i for i, s in enumerate(json.loads(text)["selections"]) if type(s["kept"]) is list)

    def refused(words: str, **changes) -> None:
        data = json.loads(text)
        data["selections"][at] |= changes.pop("selection", {})
        for key, value in changes.items():
            data[key] = value(data[key])
        (folder / "sentei.json").write_text(json.dumps(data))
        fresh, _ = case("grouped 1")
        state = copy.deepcopy(fresh.state_dict())
        with pytest.raises(PruneError, match=words):
            sentei.load(folder, fresh)
        assert all(torch.equal(state[n], t) for n, t in fresh.state_dict().items())

    kept = json.loads(text)["selections"][at]["kept"]
    refused("positions by row do not belong in format version 2", version=lambda _: 2)
    refused("every row must keep as many", selection={"kept": [*kept[:-1], "0-2"]})
    refused("must be equal shares", selection={"kept": [*kept, *kept[:1], *kept, *kept, *kept[:2]]})
    refused("rows that could differ", selection={"kept": kept * 10_000})
    refused("selections", selection={"kept": kept[:1]})
    refused("selections", selection={"kept": [1, 2]})
    refused("selections", selection={"kept": [kept, kept]})
    refused("of a dimension of", selection={"kept": [*kept[:-1], "0-999999999"]})
    refused("ascend", selection={"kept": [*kept[:-1], "1 0"]})
    refused("no tensor keeps selection", selections=lambda s: [*s, {"size": 2**50, "kept": "0"}])
    refused(
        "no .* rows that could differ along dimension 0",
        tensors=lambda t: t | {"3.bias": t["3.bias"] | {"kept": [at]}},
        selection={"size": 20},
    )
