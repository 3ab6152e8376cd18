"""Random networks for property tests: a plain description is drawn, then built.

Descriptions hold no tensors and no widths that depend on one another: every number is legal in
every place, because the builders fit it to what is there (a group count becomes some divisor of
the width at hand). So hypothesis can delete and simplify any part, and a failing network prints
as an expression that can be pasted into a test: ``build(Network(...))``.

Images are (batch, channels, height, width), sequences (batch, tokens, channels). The blocks keep
the attributes and spell the shapes as users do: sometimes stored numbers, sometimes `x.shape`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

BATCH, SIZE, TOKENS, VOCAB, CLASSES = 2, (8, 6), 7, 19, 5


@dataclass(frozen=True)
class Block:
    """One block; what `width`, `pick` and `flag` choose depends on the kind."""

    kind: str
    width: int = 4
    pick: int = 0
    flag: bool = False
    branches: tuple[tuple[Block, ...], ...] = ()


@dataclass(frozen=True)
class Network:
    """A whole network: how inputs enter, a chain of blocks, how outputs leave."""

    image: bool
    width: int = 4
    stem: str = "single"
    blocks: tuple[Block, ...] = ()
    head: str = "mean"
    seed: int = 0


@dataclass
class Place:
    """What a builder knows of the features it is given."""

    image: bool
    channels: int
    size: tuple[int, int] = SIZE

    @property
    def dim(self) -> int:
        return 1 if self.image else -1

    def point(self, i: int, o: int, bias: bool = True) -> nn.Module:
        return nn.Conv2d(i, o, 1, bias=bias) if self.image else nn.Linear(i, o, bias)

    def but(self, channels: int) -> Place:
        return Place(self.image, channels, self.size)


Built = tuple[nn.Module, int]
Builder = Callable[[Block, Place], Built]
LEAVES: dict[bool, dict[str, Builder]] = {True: {}, False: {}}
WRAPPERS: dict[str, Builder] = {}
RESIZERS: dict[str, Builder] = {}


def leaf(*, image: bool = True, sequence: bool = True) -> Callable[[Builder], Builder]:
    """Register a block under its builder's name; blocks that come first are the simpler ones."""

    def add(builder: Builder) -> Builder:
        if image:
            LEAVES[True][builder.__name__] = builder
        if sequence:
            LEAVES[False][builder.__name__] = builder
        return builder

    return add


def wrapper(builder: Builder) -> Builder:
    WRAPPERS[builder.__name__] = builder
    return builder


def resizer(builder: Builder) -> Builder:
    """Only for images, and only in the main chain: branches that join must keep their size."""
    RESIZERS[builder.__name__] = builder
    return builder


def divisor(number: int, pick: int) -> int:
    """The pick-th divisor, from 1 upwards and around again."""
    options = [d for d in range(1, number + 1) if number % d == 0]
    return options[pick % len(options)]


def along(vector: Tensor, dim: int) -> Tensor:
    """A vector over channels, shaped to broadcast against features."""
    return vector[:, None, None] if dim == 1 else vector


# --- Blocks of one path --------------------------------------------------------------------------


@leaf()
def point(block: Block, place: Place) -> Built:
    return place.point(place.channels, block.width, bias=not block.flag), block.width


@leaf(sequence=False)
def conv(block: Block, place: Place) -> Built:
    groups = divisor(place.channels, block.pick)
    width = block.width * groups if groups > 1 else block.width
    module = nn.Conv2d(place.channels, width, 3, padding=1, groups=groups, bias=not block.flag)
    return module, width


@leaf(sequence=False)
def depthwise(block: Block, place: Place) -> Built:
    width = place.channels * (1 + block.flag)
    return nn.Conv2d(place.channels, width, 3, padding=1, groups=place.channels), width


@leaf(sequence=False)
def transposed(block: Block, place: Place) -> Built:
    groups = divisor(place.channels, block.pick)
    width = block.width * groups if block.flag else groups
    return nn.ConvTranspose2d(place.channels, width, 3, padding=1, groups=groups), width


@leaf()
def activation(block: Block, place: Place) -> Built:
    c = place.channels
    options = [nn.ReLU(), nn.GELU(), nn.Tanh(), nn.PReLU(c if place.image else 1), nn.Dropout(0.1)]
    return options[block.pick % len(options)], c


class LastNorm(nn.Module):
    """Layer norm over the channels of an image."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Swapped(nn.Module):
    """A channels-first module applied to a sequence."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class RMSNorm(nn.Module):
    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.weight, self.dim = nn.Parameter(torch.ones(channels)), dim

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(self.dim, keepdim=True) + 1e-5)
        return x * along(self.weight, self.dim)


@leaf()
def norm(block: Block, place: Place) -> Built:
    c, kind = place.channels, block.pick % 4
    if kind == 0:
        return (nn.BatchNorm2d(c) if place.image else Swapped(nn.BatchNorm1d(c))), c
    if kind == 1:
        return (LastNorm(c) if place.image else nn.LayerNorm(c)), c
    if kind == 2:
        group = nn.GroupNorm(divisor(c, block.width), c)
        return (group if place.image else Swapped(group)), c
    return RMSNorm(c, place.dim), c


@leaf()
def mlp(block: Block, place: Place) -> Built:
    c, hidden = place.channels, block.width + 3
    act = nn.ReLU(inplace=True) if block.flag else nn.GELU()
    return nn.Sequential(place.point(c, hidden), act, place.point(hidden, c)), c


class Scale(nn.Module):
    def __init__(self, channels: int, dim: int, shift: bool):
        super().__init__()
        self.scale, self.dim = nn.Parameter(torch.ones(channels)), dim
        self.shift = nn.Parameter(torch.zeros(channels)) if shift else None

    def forward(self, x: Tensor) -> Tensor:
        x = x * along(self.scale, self.dim)
        return x if self.shift is None else x + along(self.shift, self.dim)


@leaf()
def scale(block: Block, place: Place) -> Built:
    return Scale(place.channels, place.dim, block.flag), place.channels


class Raw(nn.Module):
    """A linear map by a bare parameter, in one of the ways to spell it."""

    def __init__(self, i: int, o: int, image: bool, style: int):
        super().__init__()
        self.image, self.style = image, style % 3
        self.weight = nn.Parameter(torch.empty((o, i) if self.style == 0 else (i, o)))
        self.bias = nn.Parameter(torch.empty(o))

    def forward(self, x: Tensor) -> Tensor:
        if self.image and self.style == 1:
            return torch.einsum("bihw,io->bohw", x, self.weight) + self.bias[:, None, None]
        x = x.movedim(1, -1) if self.image else x
        if self.style == 0:
            x = F.linear(x, self.weight, self.bias)
        elif self.style == 1:
            x = torch.einsum("bni,io->bno", x, self.weight) + self.bias
        else:
            x = x @ self.weight + self.bias
        return x.movedim(-1, 1) if self.image else x


@leaf()
def raw(block: Block, place: Place) -> Built:
    return Raw(place.channels, block.width, place.image, block.pick), block.width


class Glu(nn.Module):
    def __init__(self, proj: nn.Module, dim: int, half: int, style: int):
        super().__init__()
        self.proj, self.dim, self.half, self.style = proj, dim, half, style % 3

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        if self.style == 0:
            return F.glu(x, self.dim)
        a, b = x.chunk(2, self.dim) if self.style == 1 else x.split(self.half, dim=self.dim)
        return a * F.silu(b)


@leaf()
def glu(block: Block, place: Place) -> Built:
    proj = place.point(place.channels, 2 * block.width)
    return Glu(proj, place.dim, block.width, block.pick), block.width


class Squeeze(nn.Module):
    """Channel gate; images use views with a stored width or the shape's."""

    def __init__(self, channels: int, hidden: int, image: bool, stored: bool):
        super().__init__()
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.channels, self.image, self.stored = channels, image, stored

    def forward(self, x: Tensor) -> Tensor:
        if not self.image:
            return x * torch.sigmoid(self.up(F.relu(self.down(x.mean(1, keepdim=True)))))
        b, c, _, _ = x.size()
        c = self.channels if self.stored else c
        gate = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1).view(b, c)))))
        return x * gate.view(b, c, 1, 1)


@leaf()
def squeeze(block: Block, place: Place) -> Built:
    module = Squeeze(place.channels, block.width, place.image, block.flag)
    return module, place.channels


class Pooled(nn.Module):
    """Means over channels, read by what takes up their denominator, or by what does not."""

    def __init__(self, stem: nn.Module, place: Place, width: int, how: int):
        super().__init__()
        self.stem, self.dim, self.how = stem, place.dim, how % 5
        self.read = place.point(2 if self.how == 2 else 1, width)
        self.wide = place.point(place.channels, width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.stem(x))
        if self.how == 1:
            mean = y.sum(self.dim, keepdim=True) / y.shape[self.dim]
        else:
            mean = y.mean(self.dim, keepdim=True)
        if self.how == 2:
            mean = torch.cat([mean, y.amax(self.dim, keepdim=True)], self.dim)
        if self.how == 3:
            mean = (mean + 0.3).sigmoid()
        if self.how == 4:
            return self.wide(x) + self.read(torch.relu(-2 * mean)) + self.read(mean)
        return self.wide(x) * torch.sigmoid(self.read(mean))


@leaf()
def pooled(block: Block, place: Place) -> Built:
    stem = place.point(place.channels, 3 + block.width)
    return Pooled(stem, place, block.width, block.pick), block.width


class Shuffle(nn.Module):
    """Channel shuffle; the sizes of the view are stored or taken from the input."""

    def __init__(self, groups: int, channels: int, image: bool, stored: bool):
        super().__init__()
        self.groups, self.per, self.image, self.stored = groups, channels // groups, image, stored

    def forward(self, x: Tensor) -> Tensor:
        if self.image:
            b, c, h, w = x.shape
            per = self.per if self.stored else c // self.groups
            x = x.reshape(b, self.groups, per, h, w).transpose(1, 2).contiguous()
            return x.view(b, -1 if self.stored else c, h, w)
        b, n, c = x.shape
        per = self.per if self.stored else c // self.groups
        return x.reshape(b, n, self.groups, per).transpose(2, 3).reshape(b, n, c)


@leaf()
def shuffle(block: Block, place: Place) -> Built:
    groups = divisor(place.channels, block.pick)
    return Shuffle(groups, place.channels, place.image, block.flag), place.channels


class Maxout(nn.Module):
    def __init__(self, pieces: int, dim: int, first: bool):
        super().__init__()
        self.pieces, self.dim, self.first = pieces, dim, first

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            return x.unflatten(self.dim, (self.pieces, -1)).amax(1 if self.dim == 1 else -2)
        return x.unflatten(self.dim, (-1, self.pieces)).max(2 if self.dim == 1 else -1).values


@leaf()
def maxout(block: Block, place: Place) -> Built:
    pieces = 2 + block.pick % 2
    proj = place.point(place.channels, block.width * pieces)
    return nn.Sequential(proj, Maxout(pieces, place.dim, block.flag)), block.width


class InPlace(nn.Module):
    """In-place arithmetic on the fresh result of a projection."""

    def __init__(self, proj: nn.Module, channels: int, dim: int, pick: int):
        super().__init__()
        self.proj, self.dim, self.pick = proj, dim, pick
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        x.add_(along(self.scale, self.dim))
        if self.pick % 2:
            x += 0.5
        if self.pick % 3:
            x.mul_(1.5)
        return F.relu(x, inplace=True)


@leaf()
def in_place(block: Block, place: Place) -> Built:
    proj = place.point(place.channels, block.width)
    return InPlace(proj, block.width, place.dim, block.pick), block.width


class Slices(nn.Module):
    """Two projections write their parts of a preallocated tensor."""

    def __init__(self, a: nn.Module, b: nn.Module, sizes: tuple[int, int], dim: int):
        super().__init__()
        self.a, self.b, self.sizes, self.dim = a, b, sizes, dim

    def forward(self, x: Tensor) -> Tensor:
        cut, total = self.sizes[0], sum(self.sizes)
        if self.dim == 1:
            out = x.new_zeros(x.size(0), total, *x.shape[2:])
            out[:, :cut] = self.a(x)
            out[:, cut:] = self.b(x)
        else:
            out = x.new_zeros(*x.shape[:-1], total)
            out[..., :cut] = self.a(x)
            out[..., cut:] += self.b(x)
        return out


@leaf()
def slices(block: Block, place: Place) -> Built:
    a, b = block.width, 1 + block.pick
    parts = place.point(place.channels, a), place.point(place.channels, b)
    return Slices(*parts, (a, b), place.dim), a + b


class Window(nn.Module):
    """Keeps a range of the channels, by slice or by narrow."""

    def __init__(self, start: int, length: int, dim: int, narrow: bool):
        super().__init__()
        self.start, self.length, self.dim, self.narrow = start, length, dim, narrow

    def forward(self, x: Tensor) -> Tensor:
        if self.narrow:
            return x.narrow(self.dim, self.start, self.length)
        stop = self.start + self.length
        return x[:, self.start : stop] if self.dim == 1 else x[..., self.start : stop]


@leaf()
def window(block: Block, place: Place) -> Built:
    length = 1 + block.width % place.channels
    start = block.pick % (place.channels - length + 1)
    return Window(start, length, place.dim, block.flag), length


class Padded(nn.Module):
    def __init__(self, before: int, after: int, image: bool):
        super().__init__()
        self.pad = (0, 0, 0, 0, before, after) if image else (before, after)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pad)


@leaf()
def padded(block: Block, place: Place) -> Built:
    before, after = block.pick % 3, 1 + int(block.flag)
    return Padded(before, after, place.image), place.channels + before + after


class FusedAttention(nn.Module):
    """One projection for all three, its axes told apart by a view with stored numbers."""

    def __init__(self, c: int, heads: int, dim: int, heads_first: bool):
        super().__init__()
        self.num_heads, self.head_dim, self.heads_first = heads, dim, heads_first
        self.qkv, self.proj = nn.Linear(c, 3 * heads * dim), nn.Linear(heads * dim, c)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        if self.heads_first:
            qkv = self.qkv(x).reshape(b, n, self.num_heads, 3, self.head_dim)
            q, k, v = qkv.permute(3, 0, 2, 1, 4)
        else:
            qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))


class SeparateAttention(nn.Module):
    """Three projections; head widths follow from the shapes, or all sizes are stored."""

    def __init__(self, c: int, heads: int, dim: int, value_dim: int, stored: bool):
        super().__init__()
        self.heads, self.stored, self.dim, self.value_dim = heads, stored, dim, value_dim
        self.q, self.k = nn.Linear(c, heads * dim), nn.Linear(c, heads * dim, bias=False)
        self.v, self.o = nn.Linear(c, heads * value_dim), nn.Linear(heads * value_dim, c)

    def heads_of(self, x: Tensor, dim: int) -> Tensor:
        b, n, c = x.shape
        return x.view(b, n, self.heads, dim if self.stored else c // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.heads_of(self.q(x), self.dim), self.heads_of(self.k(x), self.dim)
        v = self.heads_of(self.v(x), self.value_dim)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        if self.stored:
            return self.o(out.contiguous().view(*x.shape[:2], self.heads * self.value_dim))
        return self.o(out.flatten(2))


class GroupedAttention(nn.Module):
    """Several query heads to each key and value head."""

    def __init__(self, c: int, kv_heads: int, repeats: int, dim: int, expand: bool):
        super().__init__()
        self.kv_heads, self.repeats, self.dim, self.expand = kv_heads, repeats, dim, expand
        self.q = nn.Linear(c, kv_heads * repeats * dim)
        self.k, self.v = nn.Linear(c, kv_heads * dim), nn.Linear(c, kv_heads * dim)
        self.o = nn.Linear(kv_heads * repeats * dim, c)

    def repeat(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        x = x.view(b, n, self.kv_heads, self.dim).transpose(1, 2)
        if not self.expand:
            return x.repeat_interleave(self.repeats, dim=1)
        x = x[:, :, None].expand(b, self.kv_heads, self.repeats, n, self.dim)
        return x.reshape(b, self.kv_heads * self.repeats, n, self.dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, -1, self.dim).transpose(1, 2)
        weights = (q @ self.repeat(self.k(x)).mT / self.dim**0.5).softmax(-1)
        return self.o((weights @ self.repeat(self.v(x))).transpose(1, 2).reshape(b, n, -1))


class TorchAttention(nn.Module):
    def __init__(self, c: int, heads: int, dim: int, bias: bool):
        super().__init__()
        self.stem = nn.Linear(c, heads * dim)
        self.attn = nn.MultiheadAttention(heads * dim, heads, bias=bias, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.attn(x, x, x, need_weights=False)[0]


class OverPixels(nn.Module):
    """A sequence module applied to an image's pixels."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = self.inner(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        return x.reshape(x.size(0), -1, h, w)


def placed(module: nn.Module, place: Place) -> nn.Module:
    return OverPixels(module) if place.image else module


@leaf()
def fused_attention(block: Block, place: Place) -> Built:
    module = FusedAttention(place.channels, 1 + block.pick % 3, block.width, block.flag)
    return placed(module, place), place.channels


@leaf()
def separate_attention(block: Block, place: Place) -> Built:
    heads, value_dim = 1 + block.pick % 3, block.width + block.pick % 2
    module = SeparateAttention(place.channels, heads, block.width, value_dim, block.flag)
    return placed(module, place), place.channels


@leaf()
def grouped_attention(block: Block, place: Place) -> Built:
    kv_heads, repeats = 1 + block.pick % 3, 2 + block.pick // 3 % 2
    module = GroupedAttention(place.channels, kv_heads, repeats, block.width, block.flag)
    return placed(module, place), place.channels


@leaf()
def torch_attention(block: Block, place: Place) -> Built:
    heads = 1 + block.pick % 3
    module = TorchAttention(place.channels, heads, block.width, not block.flag)
    return placed(module, place), heads * block.width


class Bottleneck(nn.Module):
    """Grouped convolutions between pointwise ones; outputs and inputs may differ by group."""

    def __init__(self, c: int, groups: int, widths: tuple[int, int], norm: bool):
        super().__init__()
        a, b = (groups * w for w in widths)
        self.reduce, self.expand = nn.Conv2d(c, a, 1, bias=not norm), nn.Conv2d(b, c, 1)
        self.first = nn.Conv2d(a, b, 3, padding=1, groups=groups, bias=not norm)
        self.second = nn.ConvTranspose2d(b, b, 1, groups=groups)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) if norm else nn.Identity() for n in (a, b))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.reduce(x)))
        y = F.relu(self.norms[1](self.first(y)))
        return x + self.expand(self.second(y))


@leaf(sequence=False)
def bottleneck(block: Block, place: Place) -> Built:
    groups, widths = 2 + block.pick % 3, (1 + block.width // 2, 1 + block.pick // 2)
    return Bottleneck(place.channels, groups, widths, block.flag), place.channels


class Stacked(nn.Module):
    """A stack of small layers, one for each part of the features, in one of three spellings."""

    def __init__(self, c: int, parts: int, width: int, style: int):
        super().__init__()
        self.parts, self.style = parts, style % 3
        self.enter, self.leave = nn.Linear(c, parts * width), nn.Linear(parts * width, c)
        self.up = nn.Parameter(torch.empty(parts, width, width + 1))
        self.bias = nn.Parameter(torch.empty(parts, 1, width + 1))
        self.down = nn.Parameter(torch.empty(parts, width + 1, width))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        x = self.enter(x).reshape(b * n, self.parts, -1)
        if self.style == 0:
            x = torch.einsum("ngi,gio->ngo", x, self.up).relu()
            x = torch.einsum("ngi,gio->ngo", x, self.down)
        else:
            x = x.transpose(0, 1)
            x = torch.baddbmm(self.bias, x, self.up) if self.style == 1 else torch.bmm(x, self.up)
            x = torch.bmm(x.relu(), self.down).transpose(0, 1)
        return self.leave(x.reshape(b, n, -1))


@leaf()
def stacked(block: Block, place: Place) -> Built:
    module = Stacked(place.channels, 2 + block.pick % 2, block.width, block.pick // 2)
    return placed(module, place), place.channels


class Across(nn.Module):
    """Heads beside one another: compared, normalised or added up along the heads."""

    def __init__(self, c: int, heads: int, dim: int, how: int):
        super().__init__()
        self.heads, self.how = heads, how % 4
        self.enter, self.leave = nn.Linear(c, heads * dim), nn.Linear(heads * dim, c)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        x = self.enter(x).view(b, n, self.heads, -1)
        if self.how == 0:
            x = (x @ x.mT / 2).softmax(-1) @ x
        elif self.how == 1:
            x = x * x.softmax(2)
        elif self.how == 2:
            x = x.cumsum(2)
        else:
            x = x - x.mean(2, keepdim=True)
        return self.leave(x.reshape(b, n, -1))


@leaf()
def across(block: Block, place: Place) -> Built:
    heads = 2 + block.pick // 4
    return placed(Across(place.channels, heads, block.width, block.pick), place), place.channels


class Experts(nn.Module):
    """Softly mixed experts, stacked in three-dimensional parameters."""

    def __init__(self, c: int, experts: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(c, experts)
        self.w1 = nn.Parameter(torch.empty(experts, c, hidden))
        self.w2 = nn.Parameter(torch.empty(experts, hidden, c))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.size(-1))
        y = torch.bmm(flat.unsqueeze(0).expand(self.w1.size(0), -1, -1), self.w1)
        y = torch.bmm(F.gelu(y), self.w2)
        return torch.einsum("ne,enc->nc", self.gate(flat).softmax(-1), y).view_as(x)


@leaf()
def experts(block: Block, place: Place) -> Built:
    module = Experts(place.channels, 2 + block.pick % 2, block.width)
    return placed(module, place), place.channels


@leaf(image=False)
def conv1d(block: Block, place: Place) -> Built:
    groups = divisor(place.channels, block.pick)
    width = block.width * groups
    return Swapped(nn.Conv1d(place.channels, width, 3, padding=1, groups=groups)), width


@leaf(image=False)
def token_mix(block: Block, place: Place) -> Built:
    mix = nn.Sequential(nn.Linear(TOKENS, block.width), nn.GELU(), nn.Linear(block.width, TOKENS))
    return Swapped(mix), place.channels


class Recurrent(nn.Module):
    def __init__(self, c: int, width: int, lstm: bool, both_ways: bool):
        super().__init__()
        kind = nn.LSTM if lstm else nn.GRU
        self.rnn = kind(c, width, batch_first=True, bidirectional=both_ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


@leaf(image=False)
def recurrent(block: Block, place: Place) -> Built:
    module = Recurrent(place.channels, block.width, block.pick % 2 == 0, block.flag)
    return module, block.width * (1 + block.flag)


# --- Blocks around branches ----------------------------------------------------------------------


def chain(blocks: tuple[Block, ...], place: Place) -> Built:
    """Blocks one after another; none is the identity."""
    modules, c = [], place.channels
    for block in blocks:
        module, c = BUILDERS[place.image][block.kind](block, place.but(c))
        modules.append(module)
    if len(modules) == 1:
        return modules[0], c
    return (nn.Sequential(*modules) if modules else nn.Identity()), c


def chain_to(
    width: int, blocks: tuple[Block, ...], place: Place, always: bool = False
) -> nn.Module:
    """A chain that ends with the given width, by a last projection where it is needed."""
    module, c = chain(blocks, place)
    if c == width and not always:
        return module
    return nn.Sequential(module, place.point(c, width))


class Residual(nn.Module):
    def __init__(self, body: nn.Module, shortcut: nn.Module, in_place: bool):
        super().__init__()
        self.body, self.shortcut, self.in_place = body, shortcut, in_place

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            y = self.body(x)
            y += self.shortcut(x)
            return y
        return self.shortcut(x) + self.body(x)


@wrapper
def residual(block: Block, place: Place) -> Built:
    """The body is brought back to the input's width, or the shortcut to the body's."""
    c = place.channels
    if block.flag:
        in_place = block.pick % 2 == 1
        return Residual(chain_to(c, block.branches[0], place, in_place), nn.Identity(), in_place), c
    body, width = chain(block.branches[0], place)
    shortcut = nn.Identity() if width == c else place.point(c, width)
    return Residual(body, shortcut, False), width


class Concat(nn.Module):
    def __init__(self, branches: list[nn.Module], dim: int):
        super().__init__()
        self.branches, self.dim = nn.ModuleList(branches), dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=self.dim)


@wrapper
def concat(block: Block, place: Place) -> Built:
    built = [chain(branch, place) for branch in block.branches]
    if block.flag:  # as in DenseNet, the input comes along
        built.append((nn.Identity(), place.channels))
    return Concat([module for module, _ in built], place.dim), sum(c for _, c in built)


class Split(nn.Module):
    """Each part takes its own branch; with `carry`, the one before is added first."""

    def __init__(self, sizes: list[int], branches: list[nn.Module], dim: int):
        super().__init__()
        self.sizes, self.branches, self.dim = sizes, nn.ModuleList(branches), dim

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.sizes, dim=self.dim)
        outs = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        return torch.cat(outs, self.dim)


@wrapper
def split(block: Block, place: Place) -> Built:
    branches = block.branches[: place.channels]
    spare = place.channels - len(branches)
    sizes = [1 + spare // len(branches)] * len(branches)
    if block.flag:
        sizes = [1 + block.pick % (spare + 1)] + [1] * (len(branches) - 1)
    sizes[-1] += place.channels - sum(sizes)
    built = [chain(b, place.but(s)) for b, s in zip(branches, sizes, strict=True)]
    return Split(sizes, [module for module, _ in built], place.dim), sum(c for _, c in built)


class Chunk(nn.Module):
    """Equal parts after a projection: joined in another order, multiplied or added up."""

    def __init__(self, proj: nn.Module, branches: list[nn.Module], dim: int, join: int):
        super().__init__()
        self.proj, self.branches, self.dim, self.join = proj, nn.ModuleList(branches), dim, join

    def forward(self, x: Tensor) -> Tensor:
        parts = self.proj(x).chunk(len(self.branches), dim=self.dim)
        outs = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        if self.join == 0:
            return torch.cat(outs[1:] + outs[:1], dim=self.dim)
        y = outs[0]
        for out in outs[1:]:
            y = y * torch.sigmoid(out) if self.join == 1 else y + out
        return y


@wrapper
def chunk(block: Block, place: Place) -> Built:
    count, width, join = len(block.branches), block.width, block.pick % 3
    proj = place.point(place.channels, count * width)
    parts = [chain_to(width, branch, place.but(width)) for branch in block.branches]
    return Chunk(proj, parts, place.dim, join), width * (count if join == 0 else 1)


class Merge(nn.Module):
    """Branches of one width, merged elementwise."""

    def __init__(self, branches: list[nn.Module], how: int):
        super().__init__()
        self.branches, self.how = nn.ModuleList(branches), how % 4

    def forward(self, x: Tensor) -> Tensor:
        outs = [branch(x) for branch in self.branches]
        if self.how == 0:
            return sum(outs)
        if self.how == 1:
            return torch.stack(outs).mean(0)
        if self.how == 2:
            return torch.stack(outs, dim=1).amax(1)
        gates = torch.stack(outs, 1).softmax(1)
        return (gates * torch.stack(outs, 1)).sum(1)


@wrapper
def merge(block: Block, place: Place) -> Built:
    branches = [chain_to(block.width, branch, place) for branch in block.branches]
    return Merge(branches, block.pick), block.width


class Shared(nn.Module):
    """One module, run several times on its own output."""

    def __init__(self, inner: nn.Module, times: int, adds: bool):
        super().__init__()
        self.inner, self.times, self.adds = inner, times, adds

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = x + self.inner(x) if self.adds else self.inner(x)
        return x


@wrapper
def shared(block: Block, place: Place) -> Built:
    inner = chain_to(place.channels, block.branches[0], place)
    return Shared(inner, 2 + block.pick % 2, block.flag), place.channels


class SharedAcross(nn.Module):
    """One module on two projections of the input."""

    def __init__(self, a: nn.Module, b: nn.Module, inner: nn.Module, dim: int | None):
        super().__init__()
        self.a, self.b, self.inner, self.dim = a, b, inner, dim

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.inner(self.a(x)), self.inner(self.b(x))
        return a - b if self.dim is None else torch.cat([a, b], self.dim)


@wrapper
def shared_across(block: Block, place: Place) -> Built:
    inner, c = chain(block.branches[0], place.but(block.width))
    a, b = (place.point(place.channels, block.width) for _ in range(2))
    dim = place.dim if block.flag else None
    return SharedAcross(a, b, inner, dim), c * (1 + block.flag)


# --- Blocks that change an image's size ----------------------------------------------------------


@resizer
def strided(block: Block, place: Place) -> Built:
    return nn.Conv2d(place.channels, block.width, 3, 2, 1), block.width


@resizer
def pool(block: Block, place: Place) -> Built:
    kind = nn.AvgPool2d if block.flag else nn.MaxPool2d
    return kind(3, stride=2, padding=1), place.channels


@resizer
def pixel_down(block: Block, place: Place) -> Built:
    if place.size[0] % 2 or place.size[1] % 2:
        return point(block, place)
    return nn.PixelUnshuffle(2), 4 * place.channels


@resizer
def pixel_up(block: Block, place: Place) -> Built:
    if place.size[0] > SIZE[0]:
        return point(block, place)
    conv = nn.Conv2d(place.channels, 4 * block.width, 3, padding=1)
    return nn.Sequential(conv, nn.PixelShuffle(2)), block.width


@resizer
def upsample(block: Block, place: Place) -> Built:
    if place.size[0] > SIZE[0]:
        return point(block, place)
    if block.flag:
        return nn.ConvTranspose2d(place.channels, block.width, 2, 2), block.width
    return nn.Upsample(scale_factor=2, mode="nearest"), place.channels


BUILDERS: dict[bool, dict[str, Builder]] = {
    image: {**LEAVES[image], **WRAPPERS, **(RESIZERS if image else {})} for image in (True, False)
}


# --- Inputs and outputs --------------------------------------------------------------------------


class Embed(nn.Module):
    """Tokens with learned positions."""

    def __init__(self, width: int, positions: bool):
        super().__init__()
        self.words = nn.Embedding(VOCAB, width)
        self.places = nn.Parameter(torch.empty(1, TOKENS, width)) if positions else None

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return x if self.places is None else x + self.places


class TwoInputs(nn.Module):
    """Two stems, summed or concatenated."""

    def __init__(self, a: nn.Module, b: nn.Module, dim: int | None):
        super().__init__()
        self.a, self.b, self.dim = a, b, dim

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.a(a), self.b(b)
        return a + b if self.dim is None else torch.cat([a, b], self.dim)


class Head(nn.Module):
    """Pools, then classifies; `flatten` views by a number counted by hand."""

    def __init__(self, kind: str, image: bool, shape: torch.Size):
        super().__init__()
        self.kind, self.image = kind, image
        c = shape[1] if image else shape[-1]
        if kind == "dense":
            self.out = nn.Conv2d(c, CLASSES, 1) if image else nn.Linear(c, CLASSES)
            return
        self.features = {"flatten": shape[1:].numel(), "both": 2 * c}.get(kind, c)
        self.out = nn.Linear(self.features, CLASSES)
        if kind == "pair":
            self.extra = nn.Linear(self.features, CLASSES - 2)

    def forward(self, x: Tensor) -> Any:
        if self.kind == "dense":
            return self.out(x)
        dims = (2, 3) if self.image else (1,)
        if self.kind == "flatten":
            return self.out(x.reshape(-1, self.features))
        if self.kind == "max":
            return self.out(x.amax(dims))
        if self.kind == "first":
            return self.out(x[:, :, 0, 0] if self.image else x[:, 0])
        if self.kind == "both":
            return self.out(torch.cat([x.mean(dims), x.amax(dims)], 1))
        x = x.mean(dims)
        return (
            {"logits": self.out(x), "extra": [self.extra(x)]}
            if self.kind == "pair"
            else self.out(x)
        )


STEMS = {True: ("single", "sum", "concat"), False: ("single", "tokens", "places", "sum", "concat")}
HEADS = ("mean", "max", "flatten", "first", "dense", "both", "pair")


class Model(nn.Module):
    def __init__(self, description: Network, stem: nn.Module, body: nn.Module, head: nn.Module):
        super().__init__()
        self.description, self.stem, self.body, self.head = description, stem, body, head

    def forward(self, *inputs: Tensor) -> Any:
        return self.head(self.body(self.stem(*inputs)))

    def __repr__(self) -> str:
        return f"build({self.description!r})"


def stem_of(network: Network) -> tuple[nn.Module, int, tuple[Tensor, ...]]:
    """The stem, the width it yields and example inputs."""
    width, join = network.width, network.stem in ("sum", "concat")
    other = width + 1 if network.stem == "concat" else width
    dim = (1 if network.image else -1) if network.stem == "concat" else None
    total = width + other if dim is not None else width
    if network.image:
        x, y = torch.randn(BATCH, 3, *SIZE), torch.randn(BATCH, 1, *SIZE)
        stem = nn.Conv2d(3, width, 3, padding=1)
        if join:
            return TwoInputs(stem, nn.Conv2d(1, other, 1), dim), total, (x, y)
        return stem, width, (x,)
    x, ids = torch.randn(BATCH, TOKENS, 3), torch.randint(VOCAB, (BATCH, TOKENS))
    if join:
        return TwoInputs(nn.Linear(3, width), Embed(other, False), dim), total, (x, ids)
    if network.stem == "single":
        return nn.Linear(3, width), width, (x,)
    return Embed(width, network.stem == "places"), width, (ids,)


def body_of(network: Network, width: int) -> Built:
    """The main chain; an image's size is followed through blocks that change it."""
    modules, place = [], Place(network.image, width)
    for block in network.blocks:
        module, c = BUILDERS[network.image][block.kind](block, place)
        size = place.size
        if block.kind in RESIZERS:
            probe = torch.zeros(1, place.channels, *size)
            size = tuple(module(probe).shape[2:])
        modules.append(module)
        place = Place(network.image, c, size)
    return nn.Sequential(*modules), place.channels


def fill(model: nn.Module, seed: int) -> None:
    """Weights without zeros, ones or symmetry, so that every unit shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, RMSNorm, Scale, InPlace)
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            if isinstance(module, norms) and name in ("weight", "scale"):
                p.uniform_(0.5, 1.5, generator=generator)
            elif p.dim() < 2:
                p.uniform_(0.1, 0.5, generator=generator)
                p.mul_(torch.randint(0, 2, p.shape, generator=generator) * 2 - 1)
            else:
                fan_in = p.shape[-2] if p.dim() == 3 else p[0].numel()
                p.normal_(0.0, max(fan_in, 1) ** -0.5, generator=generator)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


@torch.no_grad()
def build(network: Network) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The described model in eval mode and inputs for it; equal descriptions give equal ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(network.seed)
        stem, width, inputs = stem_of(network)
        body, _ = body_of(network, width)
        shape = body.eval()(stem(*inputs)).shape
        model = Model(network, stem, body, Head(network.head, network.image, shape)).eval()
    fill(model, network.seed)
    return model, inputs


# --- Strategies ----------------------------------------------------------------------------------


def blocks(image: bool, kinds: list[str], branches: st.SearchStrategy) -> st.SearchStrategy[Block]:
    return st.builds(
        Block,
        kind=st.sampled_from(kinds),
        width=st.integers(2, 9),
        pick=st.integers(0, 7),
        flag=st.booleans(),
        branches=branches,
    )


@st.composite
def networks(
    draw: st.DrawFn,
    image: bool | None = None,
    max_blocks: int = 5,
    without: Iterable[str] = (),
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A random model and inputs for it; `without` names kinds of block to leave out."""
    if image is None:
        image = draw(st.booleans())
    return build(draw(descriptions(image, max_blocks, tuple(without))))


@cache
def descriptions(
    image: bool, max_blocks: int = 5, without: tuple[str, ...] = ()
) -> st.SearchStrategy[Network]:
    """Descriptions of networks, simplest first."""

    def chosen(kinds: dict[str, Builder]) -> list[str]:
        return [kind for kind in kinds if kind not in without]

    def around(inner: st.SearchStrategy[Block]) -> st.SearchStrategy[Block]:
        branch = st.lists(inner, max_size=3).map(tuple)
        branches = st.lists(branch, min_size=1, max_size=3).map(tuple)
        return blocks(image, chosen(WRAPPERS), branches)

    leaves = blocks(image, chosen(LEAVES[image]), st.just(()))
    nested = st.recursive(leaves, around, max_leaves=6)
    if image and chosen(RESIZERS):
        nested = nested | blocks(image, chosen(RESIZERS), st.just(()))
    return st.builds(
        Network,
        image=st.just(image),
        width=st.integers(2, 9),
        stem=st.sampled_from(STEMS[image]),
        blocks=st.lists(nested, max_size=max_blocks).map(tuple),
        head=st.sampled_from(HEADS),
        seed=st.integers(0, 2**16),
    )
