"""The table of groups says what is true, fits, and escapes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from sentei.graph.groups import Groups, analyze
from sentei.graph.table import carried, elide, html, reasons, rich_table, short, text


class Gated(nn.Module):
    """Two halves that must stay equally wide, and a name that needs escaping."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("<b>bold & long</b> " + "x" * 60, nn.Linear(6, 16))
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = next(iter(self.children()))(x).chunk(2, -1)
        return self.out(self.norm(torch.cat([a[:, :4] * b[:, :4], a[:, 4:] * b[:, 4:]], -1)))


@pytest.fixture
def groups() -> Groups:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 16, 10),
    )  # fmt: skip
    return analyze(net, torch.randn(1, 3, 8, 8))


def test_carried_is_what_vanishes_with_the_group(groups: Groups) -> None:
    params, macs = carried(groups.costs.params), carried(groups.costs.macs)
    for group in groups.values():
        whole = groups.cost()
        without = groups.costs.evaluate(lambda d, gone=group.dim: 0 if d is gone else d.size)
        assert params[group.dim] == whole.params - without.params
        assert macs[group.dim] == whole.macs - without.macs


def test_carried_counts_a_dim_that_occurs_twice_once() -> None:
    """A square weight over one width has the width squared in its formula."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.c(x + self.b(x))

    groups = analyze(Residual(), torch.randn(1, 3))
    (group,) = groups.values()
    assert carried(groups.costs.params)[group.dim] == (12 + 4) + (16 + 4) + 8


def test_text_lists_every_group(groups: Groups) -> None:
    lines = text(groups).splitlines()
    assert lines[0].startswith("2 prunable groups, 6 pinned; ")
    assert re.search(r"^0 +channels +8 +3 +800 ", lines[2])
    assert any("convolution kernel" in line and "+3" in line for line in lines)
    assert repr(groups) == text(groups)


@pytest.mark.parametrize("depth", [1, 100])
def test_text_fits_a_hundred_columns(depth: int) -> None:
    layers = nn.Sequential()
    for i in range(depth):
        layers.add_module(f"a_rather_long_name_of_a_layer_that_goes_on_and_on_{i}", nn.Linear(4, 4))
    shown = text(analyze(layers, torch.randn(2, 4)))
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert len(shown.splitlines()) < 80
    if depth == 100:
        assert "… and 39 more groups" in shown


def test_long_names_keep_both_ends_and_ties_are_shown() -> None:
    shown = text(analyze(Gated(), torch.randn(2, 6)))
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert "<b>bold" in shown
    assert "…" in shown
    assert "normalised" in shown


def test_html_is_escaped_and_whole() -> None:
    page = html(analyze(Gated(), torch.randn(2, 6)))
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold &amp; long&lt;/b&gt; " + "x" * 60 in page
    assert "<script" not in page and "http" not in page

    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(page)
    assert parser.open == []


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_rich_never_cuts_a_number(groups: Groups, columns: int) -> None:
    console = Console(width=columns)
    with console.capture() as captured:
        console.print(rich_table(groups))
    shown = captured.get()
    assert all(len(line) <= columns for line in shown.splitlines())
    assert "800" in shown
    assert "1.86k" in shown
    assert groups.__rich__() is not None
    assert groups._repr_html_() == html(groups)


def test_rich_markup_in_names_is_text() -> None:
    net = nn.Sequential()
    net.add_module("[red]a[/red]", nn.Linear(4, 8))
    net.add_module("b", nn.Linear(8, 2))
    console = Console(width=100)
    with console.capture() as captured:
        console.print(rich_table(analyze(net, torch.randn(1, 4))))
    assert "[red]a[/red]" in captured.get()


def test_one_cause_in_many_layers_is_one_line() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).flip(-1)).flip(-1))

    found = reasons(analyze(Fixed(), torch.randn(1, 4)))
    assert ("flip reverses positions", ["a", "b"]) in found
    assert [len(names) for _, names in found] == sorted((len(n) for _, n in found), reverse=True)


def test_operators_without_a_rule_are_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.linalg.inv(self.a(x) @ self.a.weight))

    shown = text(analyze(Odd(), torch.randn(4, 4)))
    assert "operators without a rule, so pinned: aten.linalg_inv" in shown


def test_nothing_to_prune_still_prints() -> None:
    shown = text(analyze(nn.Linear(4, 2), torch.randn(1, 4)))
    assert shown.startswith("0 prunable groups, 2 pinned; 10 parameters, 8 MACs")


@pytest.mark.parametrize("n", [0, 9, 999, 1000, 9995, 99950, 999_499, 999_500, 10**9, 10**15 - 1])
def test_short_is_short(n: int) -> None:
    assert len(short(n)) <= 5


@pytest.mark.parametrize("width", [1, 2, 3, 8, 20])
def test_elide_meets_its_width(width: int) -> None:
    name = "model.layers.11.self_attn.q_proj"
    assert len(elide(name, width)) == width
    assert elide("ab", 2) == "ab"
