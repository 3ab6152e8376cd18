"""Costs against torch's own counter, on whole models, single operators and narrower twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sentei.graph.groups import analyze
from sentei.graph.surgery import remove


def counted(model: nn.Module, *args: Tensor) -> int:
    """Multiply-adds by `torch.utils.flop_counter`, which counts two operations for each."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused layers hide their products
    try:
        # The counter does not know the fused kernel that some processors have for attention.
        plain = sdpa_kernel(SDPBackend.MATH)
        with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
            model.eval()(*args)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    return counter.get_total_flops() // 2


def image(size: int = 64, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, size, size)


def tv(name: str) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (getattr(torchvision.models, name)(weights=None), image())


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    **{name: tv(name) for name in (
        "resnet18", "mobilenet_v2", "densenet121", "shufflenet_v2_x0_5", "regnet_y_400mf",
        "efficientnet_b0", "squeezenet1_0", "mnasnet0_5", "swin_t",
    )},
    "vit": lambda: (timm.create_model("vit_tiny_patch16_224", img_size=64), image(batch=2)),
    "convnext": lambda: (timm.create_model("convnext_atto"), image(batch=2)),
    "encoder": lambda: (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        torch.randn(2, 3, 8),
    ),
    "transposed": lambda: (
        nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.ConvTranspose2d(6, 3, 3)),
        torch.randn(2, 4, 5, 5),
    ),
    "grouped": lambda: (
        nn.Sequential(nn.Conv1d(4, 6, 3, groups=2), nn.Conv1d(6, 3, 3)), torch.randn(2, 4, 9),
    ),
    "volume": lambda: (nn.Conv3d(2, 4, 3), torch.randn(2, 2, 5, 5, 5)),
    "unbatched": lambda: (nn.Conv2d(2, 4, 3), torch.randn(2, 5, 5)),
    "lstm": lambda: (
        nn.LSTM(5, 7, 2, bidirectional=True, proj_size=3, batch_first=True), torch.randn(3, 2, 5),
    ),
    "gru": lambda: (nn.GRU(5, 7), torch.randn(3, 2, 5)),
    "rnn": lambda: (nn.RNN(5, 7), torch.randn(3, 2, 5)),
    "cell": lambda: (nn.LSTMCell(4, 6), torch.randn(3, 4)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_models_cost_what_torch_counts(name: str) -> None:
    model, x = MODELS[name]()
    cost = analyze(model.eval(), x, train=False).cost()
    assert cost.macs == counted(model, x)
    assert cost.params == sum(p.numel() for p in model.parameters())
    assert cost.bytes == sum(t.numel() * t.element_size() for t in model.state_dict().values())


class One(nn.Module):
    """A linear layer of 96 multiply-adds, then what is tested."""

    def __init__(self, body: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.w = nn.Linear(4, 4), nn.Parameter(torch.randn(4, 6))
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.layer(x), self.w)


E, sdpa = torch.einsum, F.scaled_dot_product_attention
OPERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "matmul": lambda x, w: x @ w,
    "matmul broadcast": lambda x, w: x[:, None] @ w,
    "matmul expanded": lambda x, w: x @ w.expand(2, 4, 6),
    "vector matrix": lambda x, w: x[0, 0] @ w,
    "mm": lambda x, w: x[0].mm(w),
    "bmm": lambda x, w: x.bmm(x.transpose(1, 2)),
    "addmm": lambda x, w: torch.addmm(w[0], x[0], w),
    "baddbmm": lambda x, w: torch.baddbmm(x.new_zeros(1), x, x.transpose(1, 2)),
    "inner": lambda x, w: torch.inner(x, w.t()),
    "tensordot": lambda x, w: torch.tensordot(x, w, 1),
    "tensordot over two": lambda x, w: torch.tensordot(x, x, ([1, 2], [1, 2])),
    "einsum": lambda x, w: E("bnd,dk->bnk", x, w),
    "einsum scores": lambda x, w: E("bnd,bmd->bnm", x, x),
    "einsum batched": lambda x, w: E("bnd,bnd->bn", x, x),
    "einsum dots": lambda x, w: E("...d,dk->...k", x, w),
    "einsum implicit": lambda x, w: E("bnd,dk", x, w),
    "einsum of three": lambda x, w: E("bnd,dk,bnk->b", x, w, x @ w),
    "einsum that only permutes": lambda x, w: E("bnd->bdn", x),
    "einsum that only multiplies": lambda x, w: E("bnd,d->bnd", x, w[:, 0]),
    "einsum outer": lambda x, w: E("i,j->ij", x[0, 0], w[0]),
    "attention": lambda x, w: sdpa(x[:, None], x[:, None], (x @ w)[:, None]),
    "grouped queries": lambda x, w: sdpa(
        x[:, None].repeat(1, 4, 1, 1), x[:, None].repeat(1, 2, 1, 1),
        x[:, None].repeat(1, 2, 1, 1), enable_gqa=True,
    ),
    "elementwise": lambda x, w: (x * x).exp() / 2,
    "outer": lambda x, w: torch.outer(x[0, 0], w[0]),
    "functional convolution": lambda x, w: F.conv1d(x, torch.ones(2, 3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_cost_what_torch_counts(name: str) -> None:
    model, x = One(OPERATORS[name]), torch.randn(2, 3, 4)
    assert analyze(model, x).cost().macs == counted(model, x)


# The counter skips these; a product with a vector is as many multiply-adds as its formula says.
@pytest.mark.parametrize("body, macs", [
    (lambda x, w: x[0] @ w[:, 0], 3 * 4), (lambda x, w: x[0, 0] @ x[0, 1], 4),
    (lambda x, w: F.linear(x, w[:, 0]), 6 * 4),
    (lambda x, w: torch.addmv(x[0, :, 0], x[0], w[:, 0]), 3 * 4),
    (lambda x, w: F.bilinear(x, x, w[:, :4].expand(3, 4, 4)), 6 * 3 * 4 * 4),
])  # fmt: skip
def test_products_that_the_counter_skips(body: Any, macs: int) -> None:
    assert analyze(One(body), torch.randn(2, 3, 4)).cost().macs == 96 + macs


def test_a_fused_lstm_costs_its_matrices() -> None:
    cost = analyze(nn.LSTM(5, 7, 2, bidirectional=True), torch.randn(3, 2, 5)).cost()
    assert cost.macs == 3 * 2 * 2 * ((5 + 7) + (14 + 7)) * 4 * 7


# -- the formula at other widths ------------------------------------------------------------------
def tower(first: int, second: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, first, 3), nn.BatchNorm2d(first), nn.ReLU(),
        nn.Conv2d(first, first, 3, groups=first), nn.Conv2d(first, second, 1),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * second, 5),
    )  # fmt: skip


@pytest.mark.parametrize("first, second", [(8, 6), (3, 6), (8, 1), (1, 1), (5, 4)])
def test_the_formula_at_other_widths_is_the_narrower_network(first: int, second: int) -> None:
    groups = analyze(tower(8, 6), image(8, 2))
    cost = groups.cost({"0": first, "4": second})
    narrow = tower(first, second)
    assert cost.macs == counted(narrow, image(8, 2))
    assert cost.params == sum(p.numel() for p in narrow.parameters())
    assert cost == analyze(narrow, image(8, 2)).cost()


def test_a_shared_parameter_is_counted_once_and_used_twice() -> None:
    layer = nn.Linear(4, 4)
    cost = analyze(
        nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 2)), torch.randn(3, 4)
    ).cost()
    assert cost.params == 20 + 10
    assert cost.macs == 3 * (16 + 16 + 8)


def test_bytes_follow_the_type() -> None:
    net = nn.Sequential(nn.Linear(4, 8).half(), nn.Linear(8, 2).half())
    assert analyze(net, torch.randn(1, 4).half()).cost().bytes == 2 * (40 + 18)


def test_activations_leave_out_views() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(), nn.ReLU())
    assert analyze(net, torch.randn(5, 4)).cost().activations == 5 * 6 * 2


def test_nothing_kept_costs_nothing_in_its_slices() -> None:
    groups = analyze(tower(8, 6), image(8))
    empty = groups.costs.evaluate(lambda d: 0)
    assert empty.macs == 0
    assert empty.params == 5  # the bias of the output


# --- Memory at the peak, counted by hand ----------------------------------------------------------


class Steps(nn.Module):
    """A linear layer from 4 to 6 and what `step` does next."""

    def __init__(self, step):
        super().__init__()
        self.layer, self.step = nn.Linear(4, 6), step

    def forward(self, x):
        return self.step(self.layer(x))


WEIGHTS, INPUT, HIDDEN = 4 * (4 * 6 + 6), 4 * 5 * 4, 4 * 5 * 6
PEAKS = {
    "out of place": (lambda x: x.relu().exp(), 2 * HIDDEN),
    "in place": (lambda x: x.relu_().exp_(), HIDDEN),
    "views are free": (lambda x: x.view(10, 3).t()[1:], HIDDEN),
    "a reshape that copies": (lambda x: x.t().reshape(5, 6), 2 * HIDDEN),
    "a reshape that does not": (lambda x: x.reshape(6, 5), HIDDEN),
    "a residual is held": (lambda x: x + x.exp().sin(), 3 * HIDDEN),
    "a chain is not": (lambda x: x.exp().sin().cos().tan(), 2 * HIDDEN),
    "dropout does nothing": (lambda x: F.dropout(x, training=False), HIDDEN),
    "a sum is small": (lambda x: x.sum(1), HIDDEN + 4 * 5),
    "outputs stay": (lambda x: [x.exp(), x.sin(), x.cos()], 4 * HIDDEN),
}


@pytest.mark.parametrize("name", PEAKS)
def test_memory_at_the_peak(name: str) -> None:
    step, live = PEAKS[name]
    cost = analyze(Steps(step), torch.randn(5, 4), train=False).cost()
    assert cost.memory == WEIGHTS + INPUT + live


def test_memory_of_the_pruned_is_as_planned() -> None:
    model, x = tower(8, 6), image(8)
    groups = analyze(model, x)
    name, group = next(iter(groups.items()))
    planned = groups.cost({name: group.size // 2})
    remove(model, groups, {name: torch.arange(group.size // 2)}, ((x,), {}))
    assert analyze(model, x).cost() == planned
    assert planned.memory < groups.cost().memory


def test_stored_bytes_leave_out_what_a_state_dict_does() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    stored = analyze(net.eval(), torch.randn(3, 4)).cost().bytes
    assert stored == sum(t.numel() * t.element_size() for t in net.state_dict().values())
    net.register_buffer("scratch", torch.zeros(100), persistent=False)
    assert analyze(net, torch.randn(3, 4)).cost().bytes == stored
