"""Removing equals silencing: the engine's one promise, held over random and hand-made networks."""

from __future__ import annotations

import copy
import typing

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sentei
from sentei.graph import surgery
from sentei.graph.errors import VerificationError
from sentei.graph.groups import Groups, analyze
from sentei.graph.surgery import Mismatch, remove
from tests.fuzz import outcome
from tests.random_networks import Block, Network, build, networks
from zoo.registry import load, randomise


def half(groups: Groups, generator: torch.Generator) -> dict[str, Tensor]:
    """Random units of every group, half of them: equal shares where widths are tied, and others for
    each outer index where a group is free in one."""
    keep: dict[str, Tensor] = {}
    for members in groups.classes():
        shares = max(1, members[0].size // members[0].step // 2)
        for g in members:
            rows = groups[g.outer].size if g.outer else 1
            order = torch.rand(rows, g.size, generator=generator).argsort(dim=1)
            kept = order[:, : shares * g.step].sort(dim=1).values
            keep[g.name] = kept if g.outer else kept[0]
    return keep


def prune_half(model: nn.Module, args: tuple, kwargs: dict, seed: int = 0):
    groups = analyze(model, args=args, kwargs=kwargs, train=False)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(8):
        if not len(groups):
            return None, groups
        try:
            return remove(model, groups, half(groups, generator), (args, kwargs)), groups
        except Mismatch as error:
            if isinstance(error, VerificationError):
                raise
            groups = groups.without(error.dims, str(error))
    return None, groups


def widened(tree):
    return tuple(x.double() if x.is_floating_point() else x for x in tree)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks(), st.integers(0, 99))
def test_random_networks_compute_what_the_silenced_original_computes(drawn, seed) -> None:
    model, args = drawn
    model = model.double()
    result, _ = prune_half(model, widened(args), {}, seed)
    if result is not None:
        assert result.verification.passed


@pytest.mark.parametrize("name", [e.name for e in load("plain/*")][::3])
def test_plain_networks_compute_what_the_silenced_original_computes(name: str) -> None:
    (entry,) = load(name)
    example = entry.build()
    randomise(example.model)
    result, groups = prune_half(example.model, example.args, example.kwargs)
    if result is None:
        assert not len(groups)
        assert all(g.pinned for g in groups.pinned.values())
    else:
        assert result.verification.passed


class Residual(nn.Module):
    """Batch norm, a residual stream, a concatenation and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.deep = nn.Conv2d(10, 10, 3, padding=1, groups=10)
        self.side = nn.Conv2d(10, 6, 1)
        self.join = nn.Conv2d(16, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.deep(x)
        x = self.join(torch.cat([x, self.side(x).relu()], 1)).relu()
        return self.head(x.mean((2, 3)))


def zeroed(model: nn.Module, groups: Groups, keep: dict[str, Tensor]) -> nn.Module:
    """The dense model with every slice of every removed unit set to zero: no code of the engine
    but the slices it reports."""
    model = copy.deepcopy(model)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, kept in keep.items():
            gone = [i for i in range(groups[name].size) if i not in set(kept.tolist())]
            for part in groups[name].slices:
                tensors[part.parameter].index_fill_(part.dim, part.positions[gone].flatten(), 0)
    return model


@given(st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_removing_equals_zeroing_the_slices(data) -> None:
    torch.manual_seed(data.draw(st.integers(0, 50)))
    model, x = Residual().double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    groups = analyze(model, x)
    keep = {
        name: torch.tensor(sorted(data.draw(
            st.sets(st.integers(0, g.size - 1), min_size=1, max_size=g.size)
        )))
        for name, g in groups.items()
    }  # fmt: skip
    want = zeroed(model, groups, keep)(x)
    remove(model, groups, keep, ((x,), {}))
    torch.testing.assert_close(model(x), want, rtol=1e-9, atol=1e-12)


def test_a_wrong_analysis_is_caught_and_the_model_is_unchanged(monkeypatch) -> None:
    model, x = Residual().double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    groups = analyze(model, x)
    before, want = copy.deepcopy(model.state_dict()), model(x)
    # Lie about where a consumer keeps its inputs: reverse the columns of `side`.
    honest = surgery.apply

    def lying(net: nn.Module, record, transaction=None) -> None:
        positions = record.kept["side.weight"][1]
        record.kept["side.weight"][1] = (9 - positions).sort().values
        honest(net, record, transaction)

    monkeypatch.setattr(surgery, "apply", lying)
    with pytest.raises(VerificationError, match="silenced original"):
        remove(model, groups, {"stem": torch.arange(4)}, ((x,), {}))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert torch.equal(model(x), want)


def test_attention_keeps_its_scale() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = 3
            self.qkv, self.out = nn.Linear(7, 3 * 12), nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            b, n, _ = x.shape
            qkv = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(*qkv.unbind(0))
            return self.out(y.transpose(1, 2).reshape(b, n, -1))

    model, x = Attention().double(), torch.randn(2, 5, 7, dtype=torch.float64)
    groups = analyze(model, x)
    width = next(g for g in groups.values() if g.kind == "block width")
    report = remove(model, groups, {width.name: torch.tensor([0, 3])}, ((x,), {})).verification
    assert report.passed
    assert report.conclusive
    assert model.heads == 3


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_padded_batch_runs_on_torchs_nested_path_after_pruning() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 2, 20, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).double().eval()
    x = torch.randn(3, 5, 12, dtype=torch.float64)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [4]])
    call = (x,), {"src_key_padding_mask": padding}
    groups = analyze(model, args=call[0], kwargs=call[1])
    keep = {n: torch.arange(g.size - g.size // 2) for n, g in groups.items()}
    assert remove(model, groups, keep, call).verification.passed
    want = model(*call[0], **call[1])  # with gradients torch takes the plain path
    with torch.no_grad():
        got = model(*call[0], **call[1])
    assert (got[padding] == 0).all()
    torch.testing.assert_close(got[~padding], want[~padding], rtol=1e-9, atol=1e-12)


class Rotary(nn.Module):
    """Attention as in Llama's first code: pairs of channels are turned as complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 2, 6
        self.q, self.k, self.v = (nn.Linear(7, 12, bias=False) for _ in range(3))
        self.out = nn.Linear(12, 7)
        angles = torch.outer(torch.arange(5.0), torch.tensor([1.0, 0.3, 0.1])).double()
        self.turns = torch.polar(torch.ones_like(angles), angles)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, self.heads, self.width) for f in (self.q, self.k, self.v))
        q, k = (torch.view_as_complex(t.reshape(*t.shape[:-1], -1, 2)) for t in (q, k))
        q, k = (torch.view_as_real(t * self.turns[:, None]).flatten(3) for t in (q, k))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / self.width**0.5
        return self.out(torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).reshape(b, n, -1))


def test_complex_rotary_attention_loses_heads_and_pairs() -> None:
    model, x = Rotary().double(), torch.randn(2, 5, 7, dtype=torch.float64)
    groups = analyze(model, x)
    keep = {"q/0": [1], "q/1": [0, 2], "v/1": [0, 1, 3, 5]}
    keep = {name: torch.tensor(kept) for name, kept in keep.items()}
    report = remove(model, groups, keep, ((x,), {})).verification
    assert report.passed
    assert report.conclusive
    assert model.q.weight.shape == (4, 7)
    assert model.turns.shape == (5, 2)


class Spectral(nn.Module):
    """A Fourier layer: weights for each frequency, channels mixed in between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 8, 1), nn.Conv2d(6, 3, 1)
        self.weight = nn.Parameter(torch.randn(8, 6, 3, 2, dtype=torch.complex128) / 8)

    def forward(self, x: Tensor) -> Tensor:
        low = torch.fft.rfft2(self.stem(x))[:, :, :3, :2]
        mixed = torch.einsum("bixy,ioxy->boxy", low, self.weight)
        return self.head(torch.fft.irfft2(mixed, s=x.shape[-2:]).relu())


def test_channels_of_a_fourier_layer_go_and_those_left_stay_exact() -> None:
    torch.manual_seed(0)
    model = Spectral().double()
    x = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    result, groups = prune_half(model, (x,), {})
    assert set(groups) == {"weight", "weight[1]"}
    assert result.verification.passed
    assert model.weight.shape == (4, 3, 3, 2)


class Positions(nn.Module):
    """A table of positions that is longer than the example."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 16, 8))
        self.stem, self.head = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        table = self.table.squeeze(0).unsqueeze(0)
        return self.head((self.stem(x) + table[:, : x.shape[1]]).relu())


def test_rows_that_the_example_does_not_reach_stay_for_longer_inputs() -> None:
    model, x = Positions().double(), torch.randn(2, 5, 3, dtype=torch.float64)
    groups = analyze(model, x)
    assert list(groups) == ["stem"]
    reasons = {g.size: g.pinned for g in groups.pinned.values()}
    assert reasons[11] == "a part that the captured pass does not read"
    keep = {"stem": torch.tensor([1, 2, 5])}
    want = zeroed(model, groups, keep)
    remove(model, groups, keep, ((x,), {}))
    longer = torch.randn(1, 16, 3, dtype=torch.float64)
    torch.testing.assert_close(model(longer), want(longer), rtol=1e-9, atol=1e-12)


class SparseGraph(nn.Module):
    """Graph convolutions with the adjacency as a sparse matrix, as in the paper's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Parameter(torch.randn(6, 12)),
            nn.Parameter(torch.randn(12, 10)),
        )
        self.third = nn.Parameter(torch.randn(10, 4))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = torch.spmm(adjacency, torch.mm(x, self.first)).relu()
        x = torch.sparse.mm(adjacency, torch.mm(x, self.second)).relu()
        return torch.sparse.mm(adjacency, torch.mm(x, self.third))


def test_sparse_inputs_are_recorded_and_rows_of_features_go() -> None:
    torch.manual_seed(0)
    model, x = SparseGraph().double(), torch.randn(9, 6, dtype=torch.float64)
    adjacency = (torch.rand(9, 9, dtype=torch.float64) > 0.6).double().to_sparse()
    result, groups = prune_half(model, (x, adjacency), {})
    assert list(groups) == ["second", "third"]
    assert result.verification.passed
    assert model.first.shape == (6, 6) and model.third.shape == (5, 4)


def test_each_head_may_keep_other_channels() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads, self.width = 3, 4
            self.q, self.k, self.v = (nn.Linear(7, 12) for _ in range(3))
            self.out = nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            b, n, _ = x.shape
            q, k, v = (
                f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v)
            )
            y = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
            return self.out(y.transpose(1, 2).reshape(b, n, -1))

    model, x = Attention().double(), torch.randn(2, 5, 7, dtype=torch.float64)
    want = copy.deepcopy(model)
    groups = analyze(model, x)
    values = next(g for g in groups.values() if any(s.parameter == "v.weight" for s in g.slices)
                  and g.kind == "block width")  # fmt: skip
    assert values.outer is not None
    kept = torch.tensor([[0, 1], [1, 3], [0, 2]])
    remove(model, groups, {values.name: kept}, ((x,), {}))
    gone = [2, 3, 4 + 0, 4 + 2, 8 + 1, 8 + 3]
    with torch.no_grad():
        want.out.weight[:, gone] = 0
    torch.testing.assert_close(model(x), want(x), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="ask for 3 rows"):
        remove(want, analyze(want, x), {values.name: kept[:2]}, ((x,), {}))


def B(kind: str, pick: int = 0, branches: tuple = ()) -> Block:
    return Block(kind=kind, width=2, pick=pick, flag=False, branches=branches)


# What `make fuzz` found, with the draw that chose what to keep; simplest form.
FOUND = {
    # Channels of conv groups that differ by group were counted as one, so the reference normalised
    # over other groups than the network.
    "group norm over conv groups": (
        Network(
            image=True, width=2, stem="single", head="mean", seed=0,
            blocks=(
                B("point"), B("point"), B("strided"), B("strided"), B("point"),
                B("residual", 0, ((B("conv", 1), B("norm", 2)),)),
            ),
        ),
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_fuzzing_found_stays_right(name: str) -> None:
    network, number = FOUND[name]
    assert outcome(*build(network), number) == "exact"


def hidden(last: str) -> tuple[nn.Module, Tensor]:
    """A network whose own weights hide its hidden units."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 3), nn.ReLU()
    )
    with torch.no_grad():
        if last == "zero":
            net[4].weight.zero_()
            net[4].bias.zero_()
        else:  # dead on every input
            net[4].bias.fill_(-50.0).mul_(torch.rand(3) + 1)
    return net.double(), torch.randn(5, 4, dtype=torch.float64)


@pytest.mark.parametrize("last", ["zero", "dead"])
def test_weights_that_hide_units_are_replaced_for_the_comparison(last: str) -> None:
    net, x = hidden(last)
    before = {name: p.clone() for name, p in net.named_parameters()}
    report = remove(net, analyze(net, x), {"0": torch.arange(5)}, ((x,), {})).verification
    assert report.passed
    assert report.conclusive
    assert report.perturbed
    assert "also with other weights" in str(report)
    assert torch.equal(net[0].weight, before["0.weight"][:5])
    assert all(torch.equal(p, before[n]) for n, p in net.named_parameters() if n[0] == "4")


@pytest.mark.parametrize("last", ["zero", "dead"])
def test_a_wrong_network_does_not_hide_behind_its_weights(last: str, monkeypatch) -> None:
    net, x = hidden(last)
    groups = analyze(net, x)
    honest = surgery.apply

    def lying(model: nn.Module, record, transaction=None) -> None:
        record.kept["2.weight"][1] = record.kept["2.weight"][1] + 1  # columns of other units
        honest(model, record, transaction)

    monkeypatch.setattr(surgery, "apply", lying)
    with pytest.raises(VerificationError, match="silenced original"):
        remove(net, groups, {"0": torch.arange(5)}, ((x,), {}))
    assert net[0].weight.shape == (9, 4)


def test_one_number_that_moves_is_something_to_compare() -> None:
    net, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), torch.randn(1, 4)
    report = remove(net, analyze(net, x), {"0": torch.arange(5)}, ((x,), {})).verification
    assert report.conclusive
    assert not report.perturbed


class Seeing(nn.Module):
    """Writes what it sees over the placeholders of a text, as multimodal decoders do."""

    def __init__(self, expanded: bool) -> None:
        super().__init__()
        self.expanded = expanded
        self.words, self.eyes = nn.Embedding(9, 12), nn.Linear(7, 12)
        self.up, self.down, self.head = nn.Linear(12, 20), nn.Linear(20, 12), nn.Linear(12, 5)

    def forward(self, ids: Tensor, patches: Tensor) -> Tensor:
        x = self.words(ids)
        mask = (ids == 0).unsqueeze(-1)
        if self.expanded:
            mask = mask.expand_as(x).to(x.device)
        x = x.masked_scatter(mask, self.eyes(patches))
        return self.head(x + self.down(self.up(x).relu()))


@pytest.mark.parametrize("expanded", [True, False])
def test_the_width_of_what_is_written_over_placeholders_goes(expanded: bool) -> None:
    torch.manual_seed(0)
    model = Seeing(expanded).double().eval()
    ids = torch.tensor([[1, 0, 0, 5], [0, 3, 4, 7]])
    result, groups = prune_half(model, (ids, torch.randn(3, 7, dtype=torch.float64)), {})
    assert {g.size for g in groups.values()} == {12, 20}
    assert result.verification.passed and model.words.weight.shape == (9, 6)


class Routed(nn.Module):
    """Two experts whose rows one grouped product takes, in lines of whole 16 bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(5, 8), nn.Linear(14, 3)
        self.up = nn.Parameter(torch.randn(2, 40, 8) / 3)
        self.down = nn.Parameter(torch.randn(2, 14, 20) / 3)

    def forward(self, x: Tensor) -> Tensor:
        ends = torch.tensor([4, len(x)], dtype=torch.int32)
        x = self.stem(x)
        gate, up = torch._grouped_mm(x, self.up.transpose(1, 2), ends).chunk(2, dim=-1)
        return self.head(torch._grouped_mm(gate.sigmoid() * up, self.down.transpose(1, 2), ends))


def test_widths_stay_multiples_of_what_a_kernel_takes() -> None:
    torch.manual_seed(0)
    model = Routed().eval()
    x = torch.randn(10, 5)
    groups = analyze(model, x)
    assert {g.size: g.step for g in groups.values()} == {8: 4, 20: 4, 14: 1}
    result = sentei.prune(copy.deepcopy(model), x, target=sentei.Target(params=0.75))
    assert result.model.down.shape[2] % 4 == 0 and result.model.stem.out_features % 4 == 0
    small, _ = prune_half(model, (x,), {})
    assert small.verification.passed and model.down.shape == (2, 7, 8)


class Averaging(nn.Module):
    """A mean over hidden units, read as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.how = how
        self.stem, self.head = nn.Linear(5, 12), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.stem(x))  # (batch, 7, 12)
        if self.how == "linear":
            return self.head(y.mean(-1))
        if self.how == "by hand":
            return self.head(y.sum(-1) / y.shape[-1])
        if self.how == "passed on":
            return self.head(torch.relu(-y.mean((0, 2), keepdim=True).transpose(1, 2) * 0.5)[0])
        if self.how == "squared":
            return self.head(y.mean(-1) ** 2)
        if self.how == "shifted":
            return self.head(y.mean(-1) + 0.5)
        if self.how == "returned":
            return y.mean(-1)
        return self.head(y.mean(-1)) + self.head(x.sum(-1))  # "elsewhere"


@pytest.mark.parametrize("how", ["linear", "by hand", "passed on"])
def test_a_mean_counts_removed_units_as_zeros_where_its_readers_take_the_factor(how: str) -> None:
    model, x = Averaging(how).double(), torch.randn(3, 7, 5, dtype=torch.float64)
    groups = analyze(model, x)
    keep = {"stem": torch.tensor([1, 4, 5, 9, 10])}
    want = zeroed(model, groups, keep)(x)
    assert not groups["stem"].normalised
    report = remove(model, groups, keep, ((x,), {})).verification
    assert report.passed
    assert report.conclusive
    torch.testing.assert_close(model(x), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("how", ["squared", "shifted", "returned", "elsewhere"])
def test_a_mean_is_over_what_remains_where_the_factor_has_no_place(how: str) -> None:
    model, x = Averaging(how).double(), torch.randn(3, 7, 5, dtype=torch.float64)
    groups = analyze(model, x)
    assert groups["stem"].normalised
    head = model.head.weight.clone()
    report = remove(model, groups, {"stem": torch.arange(5)}, ((x,), {})).verification
    assert report.passed
    assert report.conclusive
    assert torch.equal(model.head.weight, head)


def test_a_mean_beside_other_channels_scales_its_own_column() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.out = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 4, 1)
            self.gate = nn.Conv2d(2, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            pooled = torch.cat([y.amax(1, keepdim=True), y.mean(1, keepdim=True)], 1)
            return self.out(y * self.gate(pooled).sigmoid())

    model, x = Gated().double(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    gate = model.gate.weight.clone()
    groups = analyze(model, x)
    assert groups["stem"].normalised  # the maximum is over what remains
    assert remove(model, groups, {"stem": torch.arange(4)}, ((x,), {})).verification.passed
    torch.testing.assert_close(model.gate.weight[:, 0], gate[:, 0])
    torch.testing.assert_close(model.gate.weight[:, 1], gate[:, 1] * 0.4)


class Measured(nn.Module):
    """Divides by a number it measures, and runs only if that is not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        size = y.abs().sum()
        if not size > 0:  # no twin without values passes here
            raise ValueError("nothing to measure")
        return self.head(y / size)


def agrees_after_a_real_run(model: nn.Module) -> None:
    x = torch.randn(3, 5, dtype=torch.float64)
    groups = analyze(model, x)
    assert not groups.analysis.tapes[0].abstract
    keep = {"stem": torch.arange(5)}
    want = zeroed(model, groups, keep)(x)
    assert remove(model, groups, keep, ((x,), {})).verification.passed
    torch.testing.assert_close(model(x), want, rtol=1e-9, atol=1e-12)


def test_numbers_measured_in_a_real_run_may_change() -> None:
    agrees_after_a_real_run(Measured().double())


def test_how_many_a_real_run_counts_may_change() -> None:
    class Counting(Measured):
        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            frames = torch.arange(int(100 * y.abs().sum()))  # as long as it says that it speaks
            if not len(frames):
                raise ValueError("nothing to say")
            return self.head(y) * frames.double().mean()

    agrees_after_a_real_run(Counting().double())


def test_a_number_from_a_width_may_choose_a_branch() -> None:
    class Chooser(Measured):
        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            cost = torch.tensor([float(y.shape[0]), y.shape[1]]) @ torch.tensor([0.5, 2.0])
            if cost > 1e6:
                return self.head(y.contiguous())
            return self.head(y)

    model, x = Chooser().double(), torch.randn(3, 5, dtype=torch.float64)
    report = remove(model, analyze(model, x), {"stem": torch.arange(5)}, ((x,), {})).verification
    assert report.passed
    assert report.conclusive


def test_ordered_dicts_are_put_back(monkeypatch) -> None:
    model, x = Measured().double(), torch.randn(3, 5, dtype=torch.float64)
    model.hooks = typing.OrderedDict[int, int]()  # such a one has attributes of its own
    model.hooks[3] = 4

    def failing(net: nn.Module, record, transaction=None) -> None:
        raise RuntimeError("in between")

    monkeypatch.setattr(surgery, "apply", failing)
    with pytest.raises(RuntimeError, match="in between"):
        remove(model, analyze(model, x), {"stem": torch.arange(5)}, ((x,), {}))
    assert dict(model.hooks) == {3: 4}


class AlwaysDropping(nn.Module):
    """Drops units whether it is trained or not."""

    def __init__(self, drop) -> None:
        super().__init__()
        self.drop = drop
        self.inner, self.out = nn.Linear(6, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(torch.tanh(self.inner(x))))


@pytest.mark.parametrize("drop", [
    lambda h: F.dropout(h, 0.5, training=True),
    lambda h: F.alpha_dropout(h, 0.5, training=True),
    lambda h: F.dropout(h.clone(), 0.5, training=True, inplace=True),
    lambda h: F.dropout1d(h[..., None], 0.5, training=True)[..., 0],
    lambda h: F.scaled_dot_product_attention(*torch.ones(2, 1, 4, 3), h[None], dropout_p=0.3)[0],
])  # fmt: skip
def test_units_that_are_dropped_even_in_eval_mode_are_compared_without(drop) -> None:
    model, x = AlwaysDropping(drop), torch.randn(4, 6)
    surgery, _ = prune_half(model, (x,), {})
    report = surgery.verification
    assert report.passed and report.conclusive and model.inner.out_features == 6
    assert not torch.equal(model(x), model(x))  # it drops as before


# -- what the analysis cannot foresee -------------------------------------------------------------
class Oddly(nn.Module):
    """Attention whose scale is a number that nobody can follow back to the width it came from."""

    def __init__(self, scale) -> None:
        super().__init__()
        self.scale = [scale]
        self.q, self.k, self.v = nn.Linear(7, 12), nn.Linear(7, 12), nn.Linear(7, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        scores = q @ k.mT / self.scale[0](q.shape[-1])
        return self.head(scores.softmax(-1) @ v)


SCALES = {
    "text": lambda width: float(str(width)) ** 0.5,  # seen in the trial run
    "table": lambda width: range(20)[width >> 1],  # an integer: only the answers tell
    "elsewhere": lambda width: torch.FloatTensor([str(width).count("2") + 1]),
}


@pytest.mark.parametrize("name", SCALES)
def test_what_is_to_blame_stays_whole_and_the_rest_goes(name: str) -> None:
    torch.manual_seed(0)
    model, x = Oddly(SCALES[name]).double(), torch.randn(2, 5, 7, dtype=torch.float64)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert result.verification.passed and result.verification.conclusive
    assert set(result.held) == {"q"} and model.q.out_features == 12
    assert model.v.out_features == 5
