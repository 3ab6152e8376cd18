"""Removing equals silencing: the engine's one promise, held over random and hand-made networks."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sentei.graph.errors import VerificationError
from sentei.graph.groups import Groups, analyze
from sentei.graph.surgery import Mismatch, remove
from tests.random_networks import networks
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
            groups = groups.without(error.dims, str(error))
    return None, groups


def widened(tree):
    return tuple(x.double() if x.is_floating_point() else x for x in tree)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks(), st.integers(0, 99))
def test_random_networks_compute_what_the_silenced_original_computes(drawn, seed) -> None:
    model, args = drawn
    model = model.double()
    surgery, _ = prune_half(model, widened(args), {}, seed)
    if surgery is not None:
        assert surgery.verification.passed


@pytest.mark.parametrize("name", [e.name for e in load("plain/*")][::3])
def test_plain_networks_compute_what_the_silenced_original_computes(name: str) -> None:
    (entry,) = load(name)
    example = entry.build()
    randomise(example.model)
    surgery, groups = prune_half(example.model, example.args, example.kwargs)
    if surgery is None:
        assert not len(groups)
        assert all(g.pinned for g in groups.pinned.values())
    else:
        assert surgery.verification.passed


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


def test_a_wrong_analysis_is_caught_and_the_model_is_unchanged() -> None:
    model, x = Residual().double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    groups = analyze(model, x)
    before, want = copy.deepcopy(model.state_dict()), model(x)
    # Lie about where a consumer keeps its inputs: reverse the columns of `side`.
    from sentei.graph import axis, surgery

    honest = surgery.apply

    def lying(net: nn.Module, record, transaction=None) -> None:
        positions = record.kept["side.weight"][1]
        record.kept["side.weight"][1] = (9 - positions).sort().values
        honest(net, record, transaction)

    surgery.apply = lying
    try:
        with pytest.raises(VerificationError, match="silenced original"):
            remove(model, groups, {"stem": torch.arange(4)}, ((x,), {}))
    finally:
        surgery.apply = honest
    assert axis is not None
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
