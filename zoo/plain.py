"""Networks in plain torch, one idea each, written the way users write them.

Widths that play different roles are given different numbers throughout: a pruner that mistakes
one axis for another must then fail on a shape, not pass because two sizes happened to agree.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_map
from torchvision.ops import DeformConv2d, StochasticDepth

from .registry import Example, register


@dataclass(frozen=True)
class Draw:
    """A recipe for one input, so that importing this file allocates no tensors."""

    make: Callable[[], Any]


def x(*shape: int) -> Draw:
    return Draw(lambda: torch.randn(shape))


def ids(vocab: int, *shape: int) -> Draw:
    return Draw(lambda: torch.randint(vocab, shape))


def const(value: Any) -> Draw:
    return Draw(lambda: torch.tensor(value))


def plain(*args: Any, **kwargs: Any) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Register the class with inputs drawn from the recipes, under its snake-cased name."""

    def wrap(cls: type[nn.Module]) -> type[nn.Module]:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__)

        @register(f"plain/{name.lower()}", "plain")
        def build() -> Example:
            model = cls().eval()
            drawn = tree_map(lambda a: a.make() if isinstance(a, Draw) else a, (args, kwargs))
            return Example(model, *drawn)

        return cls

    return wrap


def conv_bn(i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False),
        nn.BatchNorm2d(o),
        nn.ReLU(inplace=True),
    )


# --- Recurrent -----------------------------------------------------------------------------------


@plain(x(2, 7, 11))
class StackedLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(11, 14, num_layers=2, batch_first=True)
        self.head = nn.Linear(14, 5)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


@plain(x(2, 7, 9))
class BiLSTMProjected(nn.Module):
    """Projections make the output and the cell state differ in width."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(9, 17, 2, batch_first=True, bidirectional=True, proj_size=6)
        self.steps = nn.Linear(12, 4)
        self.cells = nn.Linear(17, 3)

    def forward(self, x):
        out, (_, c) = self.rnn(x)
        return self.steps(out), self.cells(c[-1])


@plain(x(7, 2, 10))
class TimeFirstGRU(nn.Module):
    """Time leads, and only the final hidden states are read."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(10, 12)
        self.rnn = nn.GRU(12, 13, num_layers=3, bias=False)
        self.head = nn.Linear(13, 5)

    def forward(self, x):
        _, h = self.rnn(torch.tanh(self.embed(x)))
        return self.head(h[-1])


@plain(ids(31, 2, 6))
class BiGRU(nn.Module):
    """The last layer's two directions are concatenated by hand."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(31, 8)
        self.rnn = nn.GRU(8, 15, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(30, 4)

    def forward(self, ids):
        _, h = self.rnn(self.embed(ids))
        return self.head(torch.cat([h[-2], h[-1]], dim=1))


@plain(x(2, 6, 7))
class ElmanRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(7, 11, 2, nonlinearity="relu", batch_first=True)
        self.norm = nn.LayerNorm(11)
        self.head = nn.Linear(11, 3)

    def forward(self, x):
        return self.head(self.norm(self.rnn(x)[0]).mean(1))


@plain(x(3, 6, 8), const([6, 4, 2]))
class PackedLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 13, batch_first=True)
        self.head = nn.Linear(13, 5)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True)
        out, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.head(out.sum(1) / lengths[:, None])


@plain(x(2, 5, 9))
class LSTMCellLoop(nn.Module):
    """The initial state is sized by an attribute the user keeps."""

    def __init__(self):
        super().__init__()
        self.hidden_size = 14
        self.cell = nn.LSTMCell(9, self.hidden_size)
        self.head = nn.Linear(self.hidden_size, 4)

    def forward(self, x):
        h = x.new_zeros(x.size(0), self.hidden_size)
        c = x.new_zeros(x.size(0), self.hidden_size)
        outs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outs.append(self.head(h))
        return torch.stack(outs, 1)


@plain(x(2, 5, 9))
class GRUCellLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.GRUCell(9, 12)
        self.second = nn.GRUCell(12, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        a = b = None
        for step in x.unbind(1):
            a = self.first(step, a)
            b = self.second(a, b)
        return self.head(b)


@plain(ids(29, 2, 6), ids(23, 2, 5))
class Seq2SeqGRU(nn.Module):
    """The encoder's state initialises the decoder, which ties their widths."""

    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Embedding(29, 10), nn.Embedding(23, 12)
        self.encoder = nn.GRU(10, 18, batch_first=True)
        self.decoder = nn.GRU(12, 18, batch_first=True)
        self.query = nn.Linear(18, 18, bias=False)
        self.head = nn.Linear(36, 23)

    def forward(self, source, target):
        memory, h = self.encoder(self.source(source))
        out, _ = self.decoder(self.target(target), h)
        weights = (self.query(out) @ memory.transpose(1, 2)).softmax(-1)
        return self.head(torch.cat([out, weights @ memory], -1))


@plain(x(2, 3, 16, 16), ids(37, 2, 5))
class CaptionLSTM(nn.Module):
    """Image features become the initial hidden and cell states."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(conv_bn(3, 10, stride=2), conv_bn(10, 14, stride=2))
        self.to_h, self.to_c = nn.Linear(14, 19), nn.Linear(14, 19)
        self.embed = nn.Embedding(37, 11)
        self.rnn = nn.LSTM(11, 19, batch_first=True)
        self.head = nn.Linear(19, 37)

    def forward(self, image, caption):
        features = self.encoder(image).mean((2, 3))
        state = (self.to_h(features).unsqueeze(0), self.to_c(features).unsqueeze(0))
        return self.head(self.rnn(self.embed(caption), state)[0])


@plain(x(2, 5, 8), (x(1, 2, 13), x(1, 2, 13)))
class StatefulLSTM(nn.Module):
    """The caller holds the state, so its width is part of the interface and must stay."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 10)
        self.rnn = nn.LSTM(10, 13, batch_first=True)
        self.head = nn.Sequential(nn.Linear(13, 17), nn.ReLU(), nn.Linear(17, 3))

    def forward(self, x, state):
        out, state = self.rnn(self.embed(x), state)
        return self.head(out), state


@plain(x(2, 3, 3, 12, 12))
class ConvLSTM(nn.Module):
    """Gates come from one convolution and are chunked along channels."""

    def __init__(self):
        super().__init__()
        self.hidden = 9
        self.gates = nn.Conv2d(3 + self.hidden, 4 * self.hidden, 3, padding=1)
        self.head = nn.Conv2d(self.hidden, 2, 1)

    def forward(self, video):
        b, t, _, h, w = video.shape
        state = cell = video.new_zeros(b, self.hidden, h, w)
        for k in range(t):
            i, f, o, g = self.gates(torch.cat([video[:, k], state], 1)).chunk(4, 1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            state = o.sigmoid() * cell.tanh()
        return self.head(state)


# --- Attention -----------------------------------------------------------------------------------


@plain(x(2, 6, 24), x(2, 5, 24))
class TorchTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Transformer(24, 4, 2, 1, dim_feedforward=37, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, src, tgt):
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1))
        return self.head(self.net(src, tgt, tgt_mask=mask))


@plain(x(2, 3, 16, 16))
class EncoderClassifier(nn.Module):
    """Patches, a class token and learned positions around `TransformerEncoder`."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 20, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, 20) * 0.1)
        self.pos = nn.Parameter(torch.randn(1, 17, 20) * 0.1)
        layer = nn.TransformerEncoderLayer(20, 5, 33, 0.0, "gelu", 1e-5, True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(20), enable_nested_tensor=False)
        self.head = nn.Linear(20, 7)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(x.size(0), -1, -1), tokens], 1) + self.pos
        return self.head(self.encoder(tokens)[:, 0])


@plain(ids(27, 5, 2), x(8, 2, 15))
class TorchDecoder(nn.Module):
    """Time leads; queries cross-attend to projected memory under a causal mask."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(27, 18)
        self.memory = nn.Linear(15, 18)
        layer = nn.TransformerDecoderLayer(18, 3, 29, dropout=0.1)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.head = nn.Linear(18, 27)

    def forward(self, target, memory):
        mask = torch.full((target.size(0),) * 2, float("-inf")).triu(1)
        return self.head(self.decoder(self.embed(target), self.memory(memory), tgt_mask=mask))


@plain(x(2, 5, 16), x(2, 7, 11), x(2, 7, 9))
class CrossAttention(nn.Module):
    """Keys and values of their own widths: three projection weights instead of one."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 24), nn.Linear(11, 13), nn.Linear(9, 10)
        self.attn = nn.MultiheadAttention(24, 4, kdim=13, vdim=10, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, q, k, v):
        out, weights = self.attn(self.q(q), self.k(k), self.v(v))
        return self.head(out), weights


@plain(x(6, 2, 10), const([[False] * 6, [False] * 4 + [True] * 2]))
class PaddedSelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(10, 18)
        self.attn = nn.MultiheadAttention(18, 3, add_bias_kv=True)
        self.norm = nn.LayerNorm(18)
        self.head = nn.Linear(18, 4)

    def forward(self, x, padding):
        x = self.proj(x)
        out, _ = self.attn(x, x, x, key_padding_mask=padding, need_weights=False)
        return self.head(self.norm(x + out)).mean(0)


@plain(x(2, 7, 15))
class EinsumAttention(nn.Module):
    """Raw parameters with heads as an axis of their own."""

    def __init__(self):
        super().__init__()
        self.q = nn.Parameter(torch.randn(15, 3, 8) * 0.2)
        self.k = nn.Parameter(torch.randn(15, 3, 8) * 0.2)
        self.v = nn.Parameter(torch.randn(15, 3, 6) * 0.2)
        self.o = nn.Parameter(torch.randn(3, 6, 11) * 0.2)

    def forward(self, x):
        q = torch.einsum("bnd,dhk->bhnk", x, self.q)
        k = torch.einsum("bnd,dhk->bhnk", x, self.k)
        v = torch.einsum("bnd,dhv->bhnv", x, self.v)
        weights = torch.einsum("bhik,bhjk->bhij", q, k).mul(8**-0.5).softmax(-1)
        return torch.einsum("bhij,bhjv,hvo->bio", weights, v, self.o)


@plain(x(2, 7, 20))
class GroupedQueryAttention(nn.Module):
    """Six query heads share two key/value heads through `repeat_interleave`."""

    def __init__(self):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = 6, 2, 5
        self.q = nn.Linear(20, 30)
        self.kv = nn.Linear(20, 20)
        self.o = nn.Linear(30, 20)

    def forward(self, x):
        b, n, _ = x.shape
        k, v = self.kv(x).chunk(2, -1)
        q = self.q(x).view(b, n, self.heads, self.head_dim).transpose(1, 2)
        k = k.reshape(b, n, self.kv_heads, self.head_dim).transpose(1, 2)
        v = v.reshape(b, n, self.kv_heads, self.head_dim).transpose(1, 2)
        k = k.repeat_interleave(self.heads // self.kv_heads, 1)
        v = v.repeat_interleave(self.heads // self.kv_heads, 1)
        out = F.scaled_dot_product_attention(q, k, v)
        return x + self.o(out.transpose(1, 2).reshape(b, n, -1))


def rotate(x: Tensor, base: float = 100.0) -> Tensor:
    """Rotary position embedding over the last axis of (batch, heads, length, dim)."""
    half = x.size(-1) // 2
    speeds = base ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.size(-2), device=x.device)[:, None] * speeds
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


@plain(ids(41, 2, 7))
class RotaryAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.n_head = 4
        self.embed = nn.Embedding(41, 18)
        self.qkv = nn.Linear(18, 3 * 24, bias=False)
        self.o = nn.Linear(24, 18, bias=False)
        self.head = nn.Linear(18, 9)

    def forward(self, ids):
        x = self.embed(ids)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        return self.head(x + self.o(out.transpose(1, 2).flatten(2)))


@plain(x(2, 6, 15))
class AlibiAttention(nn.Module):
    """Per-head slopes are a buffer, so dropping a head must drop its slope."""

    def __init__(self):
        super().__init__()
        self.heads = 3
        self.qkv = nn.Linear(15, 63)
        self.o = nn.Linear(21, 15)
        self.register_buffer("slopes", torch.tensor([0.5, 0.25, 0.125]))

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = (
            t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.qkv(x).split(21, dim=-1)
        )
        place = torch.arange(n, device=x.device)
        bias = -self.slopes[:, None, None] * (place[:, None] - place).abs()
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.size(-1)) + bias).softmax(-1)
        return x + self.o((weights @ v).transpose(1, 2).reshape(b, n, -1))


@plain(x(2, 3, 8, 8))
class WindowAttention(nn.Module):
    """Windows cut by view and permute, with a table of relative position biases per head."""

    def __init__(self):
        super().__init__()
        self.window, self.heads, self.dim = 4, 3, 18
        self.embed = nn.Conv2d(3, self.dim, 1)
        self.qkv, self.o = nn.Linear(self.dim, 3 * self.dim), nn.Linear(self.dim, self.dim)
        self.table = nn.Parameter(torch.randn(49, self.heads) * 0.1)
        place = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"))
        gap = place.flatten(1)[:, :, None] - place.flatten(1)[:, None] + 3
        self.register_buffer("index", gap[0] * 7 + gap[1])
        self.head = nn.Linear(self.dim, 5)

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        s = self.window
        x = x.view(b, h // s, s, w // s, s, c).transpose(2, 3).reshape(-1, s * s, c)
        qkv = self.qkv(x).reshape(x.size(0), s * s, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(s * s, s * s, -1).permute(2, 0, 1)
        weights = (q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1) + bias).softmax(-1)
        x = x + self.o((weights @ v).transpose(1, 2).reshape(-1, s * s, c))
        x = x.view(b, h // s, w // s, s, s, c).transpose(2, 3).reshape(b, h, w, c)
        return self.head(x.mean((1, 2)))


@plain(x(2, 6, 14))
class LinearAttention(nn.Module):
    """Kernelised attention: the key axis is contracted with itself, heads stay batched."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(14, 20), nn.Linear(14, 20), nn.Linear(14, 12)
        self.o = nn.Linear(12, 14)

    def forward(self, x):
        b, n, _ = x.shape
        q = F.elu(self.q(x)).add(1).view(b, n, 4, 5)
        k = F.elu(self.k(x)).add(1).view(b, n, 4, 5)
        v = self.v(x).view(b, n, 4, 3)
        context = torch.einsum("bnhk,bnhv->bhkv", k, v)
        scale = 1 / torch.einsum("bnhk,bhk->bnh", q, k.sum(1))
        out = torch.einsum("bnhk,bhkv,bnh->bnhv", q, context, scale)
        return self.o(out.reshape(b, n, 12))


@plain(x(2, 9, 6))
class Perceiver(nn.Module):
    """A few learned latents read a long input by cross-attention."""

    def __init__(self):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(5, 16))
        self.attn = nn.MultiheadAttention(16, 2, kdim=6, vdim=6, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 27), nn.GELU(), nn.Linear(27, 16))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        z = self.latents.unsqueeze(0).repeat(x.size(0), 1, 1)
        z = z + self.attn(z, x, x)[0]
        return self.head((z + self.mlp(z)).mean(1))


@plain(ids(43, 2, 6))
class TiedLanguageModel(nn.Module):
    """One matrix embeds the tokens and scores them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(43, 18)
        self.rnn = nn.LSTM(18, 25, batch_first=True)
        self.back = nn.Linear(25, 18)
        self.head = nn.Linear(18, 43, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.back(self.rnn(self.embed(ids))[0]))


class RMSNorm(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale


class LlamaBlock(nn.Module):
    def __init__(self, dim: int, heads: int, kv_heads: int, head_dim: int, hidden: int):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.wq = nn.Linear(dim, heads * head_dim, bias=False)
        self.wk = nn.Linear(dim, kv_heads * head_dim, bias=False)
        self.wv = nn.Linear(dim, kv_heads * head_dim, bias=False)
        self.wo = nn.Linear(heads * head_dim, dim, bias=False)
        self.gate, self.up = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        b, n, _ = x.shape
        y = self.norm1(x)
        q = rotate(self.wq(y).view(b, n, self.heads, self.head_dim).transpose(1, 2))
        k = rotate(self.wk(y).view(b, n, self.kv_heads, self.head_dim).transpose(1, 2))
        v = self.wv(y).view(b, n, self.kv_heads, self.head_dim).transpose(1, 2)
        shape = (b, self.kv_heads, self.heads // self.kv_heads, n, self.head_dim)
        k = k[:, :, None].expand(shape).reshape(b, self.heads, n, self.head_dim)
        v = v[:, :, None].expand(shape).reshape(b, self.heads, n, self.head_dim)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.wo(out.transpose(1, 2).contiguous().view(b, n, -1))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


@plain(ids(47, 2, 7))
class Llama(nn.Module):
    """Rotary grouped-query attention with SwiGLU, keys expanded rather than repeated."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(47, 20)
        self.blocks = nn.ModuleList(LlamaBlock(20, 6, 3, 4, 31) for _ in range(2))
        self.norm = RMSNorm(20)
        self.head = nn.Linear(20, 47, bias=False)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@plain(x(2, 10, 6))
class Conformer(nn.Module):
    """Feed-forward, attention, gated depthwise convolution: tokens and channels swap places."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 16)
        self.ff = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 26), nn.SiLU(), nn.Linear(26, 16))
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)
        self.pointwise = nn.Conv1d(16, 44, 1)
        self.depthwise = nn.Conv1d(22, 22, 3, padding=1, groups=22)
        self.norm = nn.BatchNorm1d(22)
        self.out = nn.Conv1d(22, 16, 1)

    def forward(self, x):
        x = self.proj(x)
        x = x + 0.5 * self.ff(x)
        x = x + self.attn(x, x, x)[0]
        y = F.glu(self.pointwise(x.transpose(1, 2)), dim=1)
        return x + self.out(F.silu(self.norm(self.depthwise(y)))).transpose(1, 2)


# --- Experts, routing and sharing ----------------------------------------------------------------


@plain(x(6, 11))
class ExpertList(nn.Module):
    """Softly weighted experts held in a `ModuleList`."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(11, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(11, 17 + i), nn.ReLU(), nn.Linear(17 + i, 7)) for i in range(3)
        )

    def forward(self, x):
        outs = torch.stack([expert(x) for expert in self.experts], 1)
        return (self.gate(x).softmax(-1).unsqueeze(-1) * outs).sum(1)


@plain(x(6, 11))
class BatchedExperts(nn.Module):
    """Experts stacked in 3-D parameters and applied with `bmm`."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(11, 4)
        self.w1 = nn.Parameter(torch.randn(4, 11, 15) * 0.2)
        self.b1 = nn.Parameter(torch.randn(4, 1, 15) * 0.2)
        self.w2 = nn.Parameter(torch.randn(4, 15, 9) * 0.2)

    def forward(self, x):
        y = x.unsqueeze(0).expand(4, -1, -1)
        y = torch.bmm(torch.relu(torch.baddbmm(self.b1, y, self.w1)), self.w2)
        return torch.einsum("ne,enk->nk", self.router(x).softmax(-1), y)


@plain(x(2, 5, 10))
class EinsumExperts(nn.Module):
    """Gated experts, top-2 routed with a dense mask."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(10, 5, bias=False)
        self.w1 = nn.Parameter(torch.randn(5, 13, 10) * 0.2)
        self.w3 = nn.Parameter(torch.randn(5, 13, 10) * 0.2)
        self.w2 = nn.Parameter(torch.randn(5, 10, 13) * 0.2)

    def forward(self, x):
        top, index = self.router(x).softmax(-1).topk(2, -1)
        weight = torch.zeros(*x.shape[:-1], 5).scatter(-1, index, top)
        a = torch.einsum("bnd,ehd->bneh", x, self.w1)
        b = torch.einsum("bnd,ehd->bneh", x, self.w3)
        y = torch.einsum("bneh,edh->bned", F.silu(a) * b, self.w2)
        return x + (weight.unsqueeze(-1) * y).sum(-2)


@plain(x(2, 4, 10))
class SparseExperts(nn.Module):
    """Tokens are gathered per expert and added back: the control flow reads the data."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(10, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(10, 14), nn.GELU(), nn.Linear(14, 10)) for _ in range(3)
        )

    def forward(self, x):
        tokens = x.reshape(-1, x.size(-1))
        weight, choice = self.router(tokens).softmax(-1).max(-1)
        out = torch.zeros_like(tokens)
        for i, expert in enumerate(self.experts):
            rows = (choice == i).nonzero().squeeze(1)
            out.index_add_(0, rows, expert(tokens[rows]) * weight[rows, None])
        return out.view_as(x)


@plain(x(2, 3, 12, 12), x(2, 3, 12, 12))
class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(conv_bn(3, 9, stride=2), conv_bn(9, 14), nn.Flatten())
        self.embed = nn.Linear(14 * 6 * 6, 20)
        self.score = nn.Linear(20, 1)

    def forward(self, a, b):
        a, b = self.embed(self.encoder(a)), self.embed(self.encoder(b))
        return torch.sigmoid(self.score((a - b).abs()))


@plain(x(2, 12), route="deep")
class RoutedDict(nn.Module):
    """The branch named by the caller runs; the other one is never traced."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(12, 18)
        self.routes = nn.ModuleDict(
            {
                "wide": nn.Linear(18, 7),
                "deep": nn.Sequential(nn.Linear(18, 23), nn.ReLU(), nn.Linear(23, 7)),
            }
        )

    def forward(self, x, route):
        return self.routes[route](torch.relu(self.stem(x)))


@plain(x(2, 3, 8, 8))
class SharedTwice(nn.Module):
    """One convolution runs on its own output, one norm on two tensors."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 11, 3, padding=1)
        self.again = nn.Conv2d(11, 11, 3, padding=1)
        self.norm = nn.BatchNorm2d(11)
        self.head = nn.Linear(11, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.norm(self.again(x)))
        x = torch.relu(self.again(x))
        return self.head(x.mean((2, 3)))


@plain(x(2, 3, 16, 16))
class SharedHeadPyramid(nn.Module):
    """A detector's head serves every level, so every level shares its channels."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = conv_bn(3, 8), conv_bn(8, 13, 3, 2), conv_bn(13, 17, 3, 2)
        self.l1, self.l2, self.l3 = nn.Conv2d(8, 10, 1), nn.Conv2d(13, 10, 1), nn.Conv2d(17, 10, 1)
        self.tower = nn.Sequential(nn.Conv2d(10, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.ReLU())
        self.scores, self.boxes = nn.Conv2d(12, 3 * 5, 1), nn.Conv2d(12, 3 * 4, 1)

    def forward(self, x):
        c1 = self.c1(x)
        c2 = self.c2(c1)
        c3 = self.c3(c2)
        p3 = self.l3(c3)
        p2 = self.l2(c2) + F.interpolate(p3, scale_factor=2.0, mode="nearest")
        p1 = self.l1(c1) + F.interpolate(p2, size=c1.shape[-2:], mode="nearest")
        scores, boxes = [], []
        for p in (p1, p2, p3):
            y = self.tower(p)
            scores.append(self.scores(y).permute(0, 2, 3, 1).reshape(x.size(0), -1, 5))
            boxes.append(self.boxes(y).permute(0, 2, 3, 1).reshape(x.size(0), -1, 4))
        return {"scores": torch.cat(scores, 1), "boxes": torch.cat(boxes, 1)}


# --- Generative and image-to-image ---------------------------------------------------------------


@plain(x(2, 14))
class DCGANGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(14, 24, 4, 1, 0, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(True),
            nn.ConvTranspose2d(24, 15, 4, 2, 1, bias=False),
            nn.BatchNorm2d(15),
            nn.ReLU(True),
            nn.ConvTranspose2d(15, 3, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.net(z.view(z.size(0), -1, 1, 1))


@plain(x(2, 3, 16, 16))
class DCGANDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 10, 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(10, 19, 4, 2, 1, bias=False),
            nn.BatchNorm2d(19),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(19, 1, 4),
        )

    def forward(self, x):
        return self.net(x).view(-1, 1).squeeze(1)


@plain(x(2, 9), ids(6, 2))
class StyleGenerator(nn.Module):
    """A learned constant, adaptive norms and modulated weights in one grouped convolution."""

    def __init__(self):
        super().__init__()
        self.label = nn.Embedding(6, 7)
        self.mapping = nn.Sequential(nn.Linear(16, 21), nn.LeakyReLU(0.2))
        self.const = nn.Parameter(torch.randn(1, 12, 4, 4))
        self.affine = nn.Linear(21, 24)
        self.modulation = nn.Linear(21, 12)
        self.weight = nn.Parameter(torch.randn(10, 12, 3, 3) * 0.1)
        self.rgb = nn.Conv2d(10, 3, 1)

    def forward(self, z, label):
        w = self.mapping(torch.cat([z, self.label(label)], 1))
        b = w.size(0)
        scale, shift = self.affine(w)[..., None, None].chunk(2, 1)
        x = F.instance_norm(self.const.expand(b, -1, -1, -1)) * (1 + scale) + shift
        weight = self.weight[None] * (1 + self.modulation(w))[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        _, o, i, *k = weight.shape
        x = F.conv2d(x.reshape(1, b * i, 4, 4), weight.reshape(b * o, i, *k), padding=1, groups=b)
        return self.rgb(F.leaky_relu(x.reshape(b, o, 4, 4), 0.2))


def double_conv(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(i, o), conv_bn(o, o))


@plain(x(2, 3, 16, 16))
class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.d2, self.d3 = double_conv(3, 6), double_conv(6, 10), double_conv(10, 16)
        self.up2, self.u2 = nn.ConvTranspose2d(16, 9, 2, 2), double_conv(19, 11)
        self.up1, self.u1 = nn.ConvTranspose2d(11, 7, 2, 2), double_conv(13, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        c = self.d3(F.max_pool2d(b, 2))
        y = self.u2(torch.cat([b, self.up2(c)], dim=1))
        return self.out(self.u1(torch.cat([a, self.up1(y)], dim=1)))


class TimedBlock(nn.Module):
    def __init__(self, i: int, o: int, time: int, groups: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)
        self.norm, self.time = nn.GroupNorm(groups, o), nn.Linear(time, o)
        self.skip = nn.Conv2d(i, o, 1)

    def forward(self, x, t):
        y = F.silu(self.norm(self.first(x))) + self.time(t)[:, :, None, None]
        return self.skip(x) + self.second(y)


@plain(x(2, 3, 8, 8), const([3.0, 11.0]))
class DiffusionUNet(nn.Module):
    """Sinusoidal time features reach every block."""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(10, 22), nn.SiLU())
        self.down, self.mid = TimedBlock(3, 8, 22, 4), TimedBlock(8, 15, 22, 3)
        self.up = TimedBlock(23, 12, 22, 2)
        self.out = nn.Conv2d(12, 3, 1)

    def forward(self, x, t):
        angle = t[:, None] * torch.exp(-torch.arange(5, device=t.device))
        t = self.time(torch.cat([angle.sin(), angle.cos()], -1))
        a = self.down(x, t)
        b = self.mid(F.avg_pool2d(a, 2), t)
        return self.out(self.up(torch.cat([a, F.interpolate(b, scale_factor=2)], 1), t))


@plain(x(2, 1, 12, 12))
class ConvAutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 7, 3, 2, 1), nn.ReLU(), nn.Conv2d(7, 13, 3, 2, 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(13, 9, 3, 2, 1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(9, 1, 3, 2, 1, output_padding=1),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x)).sigmoid()


@plain(x(2, 25))
class MLPAutoEncoder(nn.Module):
    """Tied weights: the decoder is the transpose of the encoder."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(25, 14), nn.Linear(14, 6)
        self.b1, self.b2 = nn.Parameter(torch.randn(14)), nn.Parameter(torch.randn(25))

    def forward(self, x):
        code = torch.sigmoid(self.second(torch.sigmoid(self.first(x))))
        y = torch.sigmoid(F.linear(code, self.second.weight.t(), self.b1))
        return F.linear(y, self.first.weight.t(), self.b2)


@plain(x(2, 3, 8, 8))
class VAE(nn.Module):
    """Mean and log-variance share the latent width; the decoder unflattens by literals."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 10, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.mu, self.logvar = nn.Linear(160, 7), nn.Linear(160, 7)
        self.expand = nn.Linear(7, 12 * 4 * 4)
        self.decoder = nn.ConvTranspose2d(12, 3, 4, 2, 1)

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu) if self.training else mu
        y = F.relu(self.expand(z)).view(-1, 12, 4, 4)
        return self.decoder(y), mu, logvar


@plain(x(2, 3, 8, 8))
class VectorQuantised(nn.Module):
    """Nearest codebook rows replace the encoder's vectors."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(conv_bn(3, 9, stride=2), nn.Conv2d(9, 6, 1))
        self.codebook = nn.Embedding(16, 6)
        self.decoder = nn.Sequential(nn.Conv2d(6, 11, 1), nn.ReLU(), nn.Conv2d(11, 3, 1))

    def forward(self, x):
        z = self.encoder(x).permute(0, 2, 3, 1)
        index = torch.cdist(z.reshape(-1, 6), self.codebook.weight).argmin(1)
        q = self.codebook(index).view(z.shape)
        q = z + (q - z).detach()
        return self.decoder(q.permute(0, 3, 1, 2)), index


@plain(x(2, 10))
class CouplingFlow(nn.Module):
    """Halves of the input pass through unchanged, so both ends pin the width between."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 13 + k), nn.Tanh(), nn.Linear(13 + k, 10)) for k in range(2)
        )

    def forward(self, x):
        logdet = x.new_zeros(x.size(0))
        for net in self.nets:
            a, b = x.chunk(2, dim=-1)
            scale, shift = net(a).chunk(2, dim=-1)
            scale = scale.tanh()
            x = torch.cat([b * scale.exp() + shift, a], dim=-1)
            logdet = logdet + scale.sum(-1)
        return x, logdet


@plain(x(2, 1, 8, 8))
class ESPCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 14, 5, padding=2), nn.Conv2d(14, 10, 3, padding=1)
        self.conv3, self.shuffle = nn.Conv2d(10, 9, 3, padding=1), nn.PixelShuffle(3)

    def forward(self, x):
        return self.shuffle(self.conv3(torch.tanh(self.conv2(torch.tanh(self.conv1(x))))))


class ScaledResidual(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, hidden, 3, padding=1), nn.ReLU(True), nn.Conv2d(hidden, width, 3, 1, 1)
        )

    def forward(self, x):
        return x + self.body(x).mul(0.1)


@plain(x(2, 3, 6, 6))
class EDSR(nn.Module):
    """Pixel shuffle inside the network: channels leave in groups of four."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 10, 3, padding=1)
        self.body = nn.Sequential(*(ScaledResidual(10, 13 + i) for i in range(2)))
        self.up = nn.Sequential(nn.Conv2d(10, 44, 3, padding=1), nn.PixelShuffle(2))
        self.tail = nn.Conv2d(11, 3, 3, padding=1)

    def forward(self, x):
        x = self.head(x)
        return self.tail(self.up(x + self.body(x)))


@plain(x(2, 3, 12, 12))
class SpaceToDepth(nn.Module):
    """Unshuffle inside the network: each channel becomes four neighbours."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 3, padding=1)
        self.mix = nn.Conv2d(28, 15, 1)
        self.head = nn.Linear(15, 4)

    def forward(self, x):
        x = self.mix(F.pixel_unshuffle(F.relu(self.stem(x)), 2))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


# --- Convolutional -------------------------------------------------------------------------------


@plain(x(2, 1, 32, 32))
class LeNet(nn.Module):
    """Flattens by hard-coded numbers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 16 * 5 * 5)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


@plain(x(2, 21))
class TupleShape(nn.Module):
    """The shape between linear and convolution is a tuple attribute."""

    def __init__(self):
        super().__init__()
        self.shape = (9, 4, 4)
        self.fc = nn.Linear(21, math.prod(self.shape))
        self.conv = nn.Conv2d(9, 14, 3)
        self.flat = (-1, 14 * 2 * 2)
        self.head = nn.Linear(56, 5)

    def forward(self, x):
        x = torch.relu(self.conv(self.fc(x).reshape(-1, *self.shape)))
        return self.head(x.reshape(self.flat))


@plain(x(2, 18))
class UnflattenModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(18, 40),
            nn.Unflatten(1, (10, 4)),
            nn.Conv1d(10, 13, 3, padding=1),
            nn.Flatten(),
            nn.Linear(52, 7),
        )

    def forward(self, x):
        return self.net(x)


class OptionABlock(nn.Module):
    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.stride, self.extra = stride, o - i

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            half = self.extra // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.extra - half))
        return F.relu(y + x)


@plain(x(2, 3, 16, 16))
class OptionAResNet(nn.Module):
    """Parameter-free shortcuts: missing channels are zeros."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.blocks = nn.Sequential(
            OptionABlock(8, 8, 1), OptionABlock(8, 14, 2), OptionABlock(14, 23, 2)
        )
        self.head = nn.Linear(23, 10)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        x = F.avg_pool2d(x, x.size(3))
        return self.head(x.view(x.size(0), -1))


@plain(x(2, 3, 8, 8))
class PreActResNet(nn.Module):
    """Norms sit before the convolutions and read the running sum."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 11, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(11), nn.ReLU(), nn.Conv2d(11, 13 + i, 3, padding=1),
                nn.BatchNorm2d(13 + i), nn.ReLU(), nn.Conv2d(13 + i, 11, 3, padding=1),
            )
            for i in range(2)
        )  # fmt: skip
        self.norm, self.head = nn.BatchNorm2d(11), nn.Linear(11, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(F.relu(self.norm(x)).amax((2, 3)))


@plain(x(2, 3, 8, 8))
class DenseBlock(nn.Module):
    """Every layer reads the concatenation of all before it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 5 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 5 * i, 5, 3, padding=1) for i in range(3))
        self.head = nn.Linear(23, 7)

    def forward(self, x):
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return self.head(torch.cat(features, 1).mean((2, 3)))


class ShuffleUnit(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            conv_bn(half, inner, 1), conv_bn(inner, inner, 3, groups=inner), conv_bn(inner, half, 1)
        )

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.branch(b)), dim=1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


@plain(x(2, 3, 8, 8))
class ShuffleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 12)
        self.units = nn.Sequential(ShuffleUnit(12, 9), ShuffleUnit(12, 7))
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        return self.head(self.units(self.stem(x)).mean([2, 3]))


@plain(x(2, 3, 8, 8))
class GroupShuffle(nn.Module):
    """Grouped convolutions around the channel shuffle of the first ShuffleNet."""

    def __init__(self):
        super().__init__()
        self.groups = 3
        self.stem = conv_bn(3, 12)
        self.reduce = nn.Conv2d(12, 15, 1, groups=3)
        self.shuffle = nn.ChannelShuffle(3)
        self.expand = nn.Conv2d(15, 12, 1, groups=3)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x + self.expand(self.shuffle(self.reduce(x))))
        return self.head(x.mean((2, 3)))


class InvertedResidual(nn.Module):
    def __init__(self, i: int, o: int, hidden: int):
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(i, hidden, 1),
            conv_bn(hidden, hidden, 3, groups=hidden),
            nn.Conv2d(hidden, o, 1, bias=False),
            nn.BatchNorm2d(o),
        )
        self.use_res = i == o

    def forward(self, x):
        return x + self.body(x) if self.use_res else self.body(x)


@plain(x(2, 3, 12, 12))
class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 8, stride=2)
        self.blocks = nn.Sequential(
            InvertedResidual(8, 11, 18), InvertedResidual(11, 11, 25), conv_bn(11, 21, 1)
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(21, 6))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


@plain(x(2, 3, 12, 12))
class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 10)
        self.one, self.three = conv_bn(10, 6, 1), nn.Sequential(conv_bn(10, 7, 1), conv_bn(7, 9))
        self.five = nn.Sequential(conv_bn(10, 4, 1), conv_bn(4, 8, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(10, 5, 1))
        self.head = nn.Linear(28, 3)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)
        return self.head(x.mean((-1, -2)))


@plain(x(2, 3, 10, 10))
class Res2Net(nn.Module):
    """Channel slices feed one another before they are joined."""

    def __init__(self):
        super().__init__()
        self.width, self.scale = 5, 3
        self.stem, self.down = nn.Conv2d(3, 11, 1), conv_bn(11, 15, 1)
        self.convs = nn.ModuleList(nn.Conv2d(5, 5, 3, padding=1) for _ in range(2))
        self.up, self.head = nn.Conv2d(15, 11, 1), nn.Linear(11, 4)

    def forward(self, x):
        x = self.stem(x)
        parts = torch.split(self.down(x), self.width, 1)
        y, outs = parts[0], [parts[0]]
        for conv, part in zip(self.convs, parts[1:], strict=True):
            y = F.relu(conv(y + part))
            outs.append(y)
        return self.head((x + self.up(torch.cat(outs, 1))).mean((2, 3)))


@plain(x(2, 3, 12, 12))
class CrossStage(nn.Module):
    """Unequal split, one part through a residual, joined with spatial pyramid pooling."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16)
        self.body = ScaledResidual(10, 7)
        self.join, self.head = conv_bn(16 + 2 * 10, 13, 1), nn.Conv2d(13, 5, 1)

    def forward(self, x):
        a, b = torch.split(self.stem(x), [6, 10], dim=1)
        b = self.body(b)
        pools = [F.max_pool2d(b, k, 1, k // 2) for k in (3, 5)]
        return self.head(self.join(torch.cat([a, b, *pools], 1)))


@plain(x(2, 3, 8, 8))
class GhostNet(nn.Module):
    """Cheap depthwise copies are appended and the surplus is cut off."""

    def __init__(self):
        super().__init__()
        self.out = 13
        self.primary = conv_bn(3, 7, 1)
        self.cheap = conv_bn(7, 7, 3, groups=7)
        self.head = nn.Linear(self.out, 4)

    def forward(self, x):
        x = self.primary(x)
        x = torch.cat([x, self.cheap(x)], dim=1)[:, : self.out]
        return self.head(x.mean((2, 3)))


@plain(x(2, 3, 8, 8))
class RepVGG(nn.Module):
    """Three parallel branches, one of them only a norm."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.dense = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12))
        self.point = nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.identity = nn.BatchNorm2d(12)
        self.head = nn.Conv2d(12, 5, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(F.relu(self.dense(x) + self.point(x) + self.identity(x)))


@plain(x(2, 4, 20))
class Conv1dNet(nn.Module):
    """Grouped, depthwise, transposed in one dimension; a depth multiplier of two."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(4, 12, 3, groups=2),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Conv1d(12, 24, 3, groups=12),
            nn.ConvTranspose1d(24, 15, 4, 2, groups=3),
            nn.ConvTranspose1d(15, 15, 3, groups=15),
            nn.Conv1d(15, 5, 1),
        )

    def forward(self, x):
        return self.net(x)


@plain(x(2, 6, 9, 9))
class Conv2dNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(6, 15, 3, groups=3)
        self.regrouped = nn.Conv2d(15, 20, 3, groups=5)
        self.depthwise = nn.Conv2d(20, 20, 3, padding=1, groups=20, padding_mode="reflect")
        self.up = nn.ConvTranspose2d(20, 14, 3, 2, groups=2)
        self.up_depthwise = nn.ConvTranspose2d(14, 28, 3, groups=14)
        self.out = nn.Conv2d(28, 3, 3, dilation=2)

    def forward(self, x):
        x = F.relu(self.depthwise(F.relu(self.regrouped(self.grouped(x)))))
        return self.out(self.up_depthwise(F.relu(self.up(x))))


@plain(x(2, 2, 6, 8, 8))
class Conv3dNet(nn.Module):
    """(2+1)D factors, groups and transposition in three dimensions."""

    def __init__(self):
        super().__init__()
        self.space = nn.Conv3d(2, 9, (1, 3, 3), padding=(0, 1, 1))
        self.time = nn.Conv3d(9, 12, (3, 1, 1), padding=(1, 0, 0))
        self.norm = nn.BatchNorm3d(12)
        self.grouped = nn.Conv3d(12, 16, 3, 2, 1, groups=4)
        self.depthwise = nn.Conv3d(16, 16, 3, padding=1, groups=16)
        self.up = nn.ConvTranspose3d(16, 10, 2, 2, groups=2)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.time(self.space(x))))
        return self.head(self.up(self.depthwise(self.grouped(x))).mean((2, 3, 4)))


@plain(x(2, 1, 24))
class WaveNet(nn.Module):
    """Gated dilated convolutions with separate residual and skip paths."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(1, 9, 1)
        self.filters = nn.ModuleList(nn.Conv1d(9, 11 + k, 2, dilation=2**k) for k in range(3))
        self.gates = nn.ModuleList(nn.Conv1d(9, 11 + k, 2, dilation=2**k) for k in range(3))
        self.res = nn.ModuleList(nn.Conv1d(11 + k, 9, 1) for k in range(3))
        self.skip = nn.ModuleList(nn.Conv1d(11 + k, 15, 1) for k in range(3))
        self.out = nn.Conv1d(15, 8, 1)

    def forward(self, x):
        x, total = self.stem(x), 0
        for k in range(3):
            padded = F.pad(x, (2**k, 0))
            y = torch.tanh(self.filters[k](padded)) * torch.sigmoid(self.gates[k](padded))
            total = total + self.skip[k](y)
            x = x + self.res[k](y)
        return self.out(F.relu(total))


class Chomp(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x[:, :, : -self.size].contiguous()


@plain(x(2, 5, 20))
class TemporalConvNet(nn.Module):
    """Causal by padding both sides and chomping the right one."""

    def __init__(self):
        super().__init__()
        widths, blocks = [5, 8, 13, 10], []
        for k, (i, o) in enumerate(pairwise(widths)):
            pad = 2 * 2**k
            conv = parametrizations.weight_norm(nn.Conv1d(i, o, 3, padding=pad, dilation=2**k))
            blocks.append(nn.Sequential(conv, Chomp(pad), nn.ReLU(), nn.Dropout(0.1)))
        self.blocks = nn.ModuleList(blocks)
        self.downs = nn.ModuleList(nn.Conv1d(i, o, 1) for i, o in pairwise(widths))
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        for block, down in zip(self.blocks, self.downs, strict=True):
            x = F.relu(block(x) + down(x))
        return self.head(x[:, :, -1])


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, dim: int, hidden_tokens: int, hidden: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.across = nn.Sequential(
            nn.Linear(tokens, hidden_tokens), nn.GELU(), nn.Linear(hidden_tokens, tokens)
        )
        self.within = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x):
        x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.within(self.norm2(x))


@plain(x(2, 3, 12, 12))
class MLPMixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 14, 4, 4)
        self.blocks = nn.Sequential(MixerBlock(9, 14, 11, 23), MixerBlock(9, 14, 12, 25))
        self.norm, self.head = nn.LayerNorm(14), nn.Linear(14, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


@plain(x(2, 3, 10, 10))
class ConvNeXt(nn.Module):
    """Channels-last inside the block, layer scale before the sum."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, 2)
        self.depthwise = nn.Conv2d(12, 12, 5, padding=2, groups=12)
        self.norm = nn.LayerNorm(12, eps=1e-6)
        self.up, self.down = nn.Linear(12, 31), nn.Linear(31, 12)
        self.gamma = nn.Parameter(0.5 * torch.ones(12))
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(x.mean([-2, -1]))


# --- Gates and channel attention -----------------------------------------------------------------


@plain(x(2, 15))
class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(15, 19)
        self.plain = nn.ModuleList(nn.Linear(19, 19) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(19, 19) for _ in range(2))
        self.head = nn.Linear(19, 6)

    def forward(self, x):
        x = self.stem(x)
        for plain, gate in zip(self.plain, self.gates, strict=True):
            g = torch.sigmoid(gate(x))
            x = g * F.relu(plain(x)) + (1 - g) * x
        return self.head(x)


@plain(x(2, 3, 10, 10))
class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv_bn(3, 16)
        self.fc = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16), nn.Sigmoid())
        self.out = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.conv(x)
        b, c, _, _ = x.size()
        gate = self.fc(F.adaptive_avg_pool2d(x, 1).view(b, c)).view(b, c, 1, 1)
        return self.out(x * gate.expand_as(x))


@plain(x(2, 3, 10, 10))
class CBAM(nn.Module):
    """Channel gate from mean and max through one MLP, then a spatial gate over both."""

    def __init__(self):
        super().__init__()
        self.conv = conv_bn(3, 14)
        self.mlp = nn.Sequential(nn.Conv2d(14, 5, 1), nn.ReLU(), nn.Conv2d(5, 14, 1))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.out = nn.Conv2d(14, 6, 1)

    def forward(self, x):
        x = self.conv(x)
        mean, peak = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        x = x * torch.sigmoid(self.mlp(mean) + self.mlp(peak))
        maps = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return self.out(x * torch.sigmoid(self.spatial(maps)))


@plain(x(2, 3, 10, 10))
class EfficientChannelAttention(nn.Module):
    """A 1-D convolution slides along the channels, so neighbours matter."""

    def __init__(self):
        super().__init__()
        self.conv = conv_bn(3, 13)
        self.eca = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.out = nn.Conv2d(13, 4, 1)

    def forward(self, x):
        x = self.conv(x)
        y = self.eca(x.mean((2, 3)).unsqueeze(1)).sigmoid()
        return self.out(x * y.transpose(1, 2).unsqueeze(-1))


@plain(x(2, 3, 10, 10))
class SelectiveKernel(nn.Module):
    """A softmax over branches, per channel."""

    def __init__(self):
        super().__init__()
        self.small, self.large = conv_bn(3, 12, 3), conv_bn(3, 12, 5)
        self.reduce, self.select = nn.Linear(12, 7), nn.Linear(7, 24)
        self.out = nn.Conv2d(12, 5, 1)

    def forward(self, x):
        paths = torch.stack([self.small(x), self.large(x)], 1)
        z = self.reduce(paths.sum(1).mean((2, 3))).relu()
        weight = self.select(z).view(x.size(0), 2, -1).softmax(1)
        return self.out((paths * weight[..., None, None]).sum(1))


@plain(x(2, 3, 6, 6))
class NonLocal(nn.Module):
    """Every position attends to every other, with a residual around it."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 12)
        self.theta, self.phi = nn.Conv2d(12, 5, 1), nn.Conv2d(12, 5, 1)
        self.g, self.back = nn.Conv2d(12, 7, 1), nn.Conv2d(7, 12, 1)
        self.gamma = nn.Parameter(torch.tensor(0.3))
        self.head = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        b, _, h, w = x.shape
        weights = torch.bmm(self.theta(x).flatten(2).transpose(1, 2), self.phi(x).flatten(2))
        y = torch.bmm(self.g(x).flatten(2), weights.softmax(-1).transpose(1, 2))
        return self.head(x + self.gamma * self.back(y.view(b, -1, h, w)))


@plain(x(2, 12))
class GatedUnits(nn.Module):
    """GLU and SwiGLU by module, by function and by hand."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 34), nn.Linear(17, 26), nn.Linear(13, 22)
        self.glu, self.head = nn.GLU(dim=-1), nn.Linear(11, 5)

    def forward(self, x):
        x = self.glu(self.a(x))
        x = F.glu(self.b(x), -1)
        value, gate = self.c(x).chunk(2, -1)
        return self.head(F.silu(gate) * value)


@plain(x(2, 3, 10, 10), x(2, 8))
class FiLM(nn.Module):
    """Scale and shift predicted from a second input."""

    def __init__(self):
        super().__init__()
        self.conv, self.film = nn.Conv2d(3, 11, 3), nn.Linear(8, 22)
        self.norm, self.head = nn.BatchNorm2d(11, affine=False), nn.Linear(11, 4)

    def forward(self, image, condition):
        scale, shift = torch.split(self.film(condition), 11, dim=1)
        x = self.norm(self.conv(image)) * scale[:, :, None, None] + shift[:, :, None, None]
        return self.head(F.relu(x).mean((2, 3)))


@plain(x(2, 14))
class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.pieces = 3
        self.fc, self.head = nn.Linear(14, 33), nn.Linear(11, 5)

    def forward(self, x):
        return self.head(self.fc(x).view(x.size(0), -1, self.pieces).max(-1).values)


# --- Norms and parametrised weights --------------------------------------------------------------


@plain(x(2, 3, 10, 10))
class NormZoo(nn.Module):
    """Group, instance, local-response and layer norms in a row."""

    def __init__(self):
        super().__init__()
        self.c1, self.group = nn.Conv2d(3, 12, 3), nn.GroupNorm(4, 12)
        self.c2, self.instance = nn.Conv2d(12, 15, 3), nn.InstanceNorm2d(15, affine=True)
        self.c3, self.local = nn.Conv2d(15, 10, 3), nn.LocalResponseNorm(3)
        self.c4, self.layer = nn.Conv2d(10, 14, 3), nn.LayerNorm([14, 2, 2])
        self.c5, self.tracked = nn.Conv2d(14, 9, 1), nn.InstanceNorm2d(9, track_running_stats=True)
        self.head = nn.Linear(36, 5)

    def forward(self, x):
        x = F.relu(self.group(self.c1(x)))
        x = F.relu(self.instance(self.c2(x)))
        x = F.relu(self.local(self.c3(x)))
        x = F.relu(self.layer(self.c4(x)))
        return self.head(self.tracked(self.c5(x)).flatten(1))


@plain(x(2, 3, 8, 8))
class WeightNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv2d(3, 12, 3))
        self.fc = parametrizations.weight_norm(nn.Linear(12, 17))
        self.head = nn.Linear(17, 4)

    def forward(self, x):
        return self.head(F.relu(self.fc(F.relu(self.conv(x)).mean((2, 3)))))


@plain(x(2, 3, 8, 8))
class SpectralNormed(nn.Module):
    """The norm couples every entry of a weight: removing a row rescales the rest."""

    def __init__(self):
        super().__init__()
        self.conv1 = parametrizations.spectral_norm(nn.Conv2d(3, 11, 3))
        self.conv2 = parametrizations.spectral_norm(nn.Conv2d(11, 14, 3))
        self.head = parametrizations.spectral_norm(nn.Linear(14, 2))

    def forward(self, x):
        x = F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), 0.1)), 0.1)
        return self.head(x.sum((2, 3)))


@plain(x(2, 3, 8, 8))
class StandardisedConv(nn.Module):
    """The weight is standardised per output channel inside forward."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 9, 3)
        self.norm, self.head = nn.GroupNorm(3, 12), nn.Linear(9, 4)

    def forward(self, x):
        for conv, after in ((self.conv1, self.norm), (self.conv2, F.relu)):
            mean = conv.weight.mean((1, 2, 3), keepdim=True)
            std = conv.weight.std((1, 2, 3), keepdim=True)
            x = after(F.conv2d(x, (conv.weight - mean) / (std + 1e-5), conv.bias))
        return self.head(x.mean((2, 3)))


@plain(x(2, 3, 10, 10))
class PReLUNet(nn.Module):
    """A slope per channel, a slope for all, and a slope per feature."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 13, 3, 2),
            nn.PReLU(13),
            nn.Conv2d(13, 10, 3),
            nn.PReLU(),
            nn.Flatten(),
            nn.Linear(40, 18),
            nn.PReLU(18),
            nn.Linear(18, 5),
        )

    def forward(self, x):
        return self.net(x)


# --- Functional code, raw parameters, in-place writes --------------------------------------------


@plain(x(2, 3, 8, 8))
class Functional(nn.Module):
    """No submodules: weights in a `ParameterDict`, statistics in buffers."""

    def __init__(self):
        super().__init__()
        self.p = nn.ParameterDict(
            {
                "conv": torch.randn(11, 3, 3, 3) * 0.2,
                "scale": torch.ones(11),
                "shift": torch.zeros(11),
                "fc1": torch.randn(18, 11) * 0.2,
                "fc2": torch.randn(18, 5) * 0.2,
                "bias": torch.zeros(5),
            }
        )
        self.register_buffer("mean", torch.zeros(11))
        self.register_buffer("var", torch.ones(11))

    def forward(self, x):
        x = F.conv2d(x, self.p["conv"])
        x = F.batch_norm(x, self.mean, self.var, self.p["scale"], self.p["shift"], self.training)
        x = F.gelu(F.linear(x.relu().mean((2, 3)), self.p["fc1"]))
        return torch.addmm(self.p["bias"], x, self.p["fc2"])


@plain(x(2, 10))
class StackedParameter(nn.Module):
    """All layers live in one 3-D parameter; an index picks each."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(10, 16)
        self.weight = nn.Parameter(torch.randn(3, 16, 16) * 0.2)
        self.bias = nn.Parameter(torch.randn(3, 16) * 0.2)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        for w, b in zip(self.weight, self.bias, strict=True):
            x = x + torch.tanh(x @ w + b)
        return self.head(x)


@plain(x(2, 3, 8, 8))
class InPlace(nn.Module):
    """`add_`, `mul_`, `+=` and slices written into a preallocated tensor."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(3, 10, 3, padding=1)
        self.c = nn.Conv2d(10, 7, 3, padding=1)
        self.scale = nn.Parameter(torch.rand(10, 1, 1))
        self.head = nn.Linear(17, 4)

    def forward(self, x):
        y = self.a(x)
        y.add_(self.b(x)).relu_()
        y.mul_(self.scale)
        y += 0.5
        z = self.c(y)
        out = y.new_zeros(y.size(0), 17, *y.shape[2:])
        out[:, :10] = y
        out[:, 10:] = z
        return self.head(out.mean((2, 3)))


@plain(x(2, 4, 9, 9))
class ShiftNet(nn.Module):
    """Channel groups shift in different directions by writing into slices."""

    def __init__(self):
        super().__init__()
        self.expand, self.mix = nn.Conv2d(4, 15, 1), nn.Conv2d(15, 8, 1)
        self.fold = 5
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x, g = self.expand(x), self.fold
        out = torch.zeros_like(x)
        out[:, :g, :-1] = x[:, :g, 1:]
        out[:, g : 2 * g, :, 1:] = x[:, g : 2 * g, :, :-1]
        out[:, 2 * g :] = x[:, 2 * g :]
        return self.head(self.mix(F.relu(out)).mean((2, 3)))


@plain(x(2, 3, 8, 8))
class UnfoldFold(nn.Module):
    """Convolution by `unfold`, then overlapping patches summed back by `fold`."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.mix, self.back = nn.Linear(6 * 9, 13), nn.Linear(13, 5 * 9)
        self.out = nn.Conv2d(5, 4, 1)

    def forward(self, x):
        cols = F.unfold(self.stem(x), 3, padding=1).transpose(1, 2)
        cols = self.back(F.relu(self.mix(cols))).transpose(1, 2)
        return self.out(F.fold(cols, x.shape[-2:], 3, padding=1))


@plain(x(2, 3, 8, 8))
class DynamicConv(nn.Module):
    """Kernels generated from the input, one set per sample (involution)."""

    def __init__(self):
        super().__init__()
        self.channels, self.groups, self.k = 12, 4, 3
        self.stem = conv_bn(3, self.channels)
        self.reduce = nn.Conv2d(self.channels, 7, 1)
        self.span = nn.Conv2d(7, self.k**2 * self.groups, 1)
        self.head = nn.Conv2d(self.channels, 5, 1)

    def forward(self, x):
        x = self.stem(x)
        b, _, h, w = x.shape
        kernel = self.span(F.relu(self.reduce(x))).view(b, self.groups, 1, self.k**2, h, w)
        cols = F.unfold(x, self.k, padding=1)
        cols = cols.view(b, self.groups, self.channels // self.groups, self.k**2, h, w)
        return self.head((kernel * cols).sum(3).view(b, self.channels, h, w))


@plain(x(2, 3, 10, 10))
class DeformableNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 10)
        self.offset, self.mask = nn.Conv2d(10, 18, 3, padding=1), nn.Conv2d(10, 9, 3, padding=1)
        self.deform = DeformConv2d(10, 13, 3, padding=1)
        self.head = nn.Linear(13, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.deform(x, self.offset(x), torch.sigmoid(self.mask(x)))
        return self.head(F.relu(y).mean((2, 3)))


@plain(x(2, 3, 12, 12))
class SpatialTransformer(nn.Module):
    """Features are resampled on a grid the network predicts."""

    def __init__(self):
        super().__init__()
        self.locate = nn.Sequential(nn.Conv2d(3, 6, 5, 2), nn.ReLU(), nn.Flatten())
        self.theta = nn.Linear(96, 6)
        self.conv, self.head = nn.Conv2d(3, 10, 3), nn.Linear(10, 5)

    def forward(self, x):
        eye = torch.tensor([1.0, 0, 0, 0, 1, 0], device=x.device)
        theta = (self.theta(self.locate(x)).tanh() * 0.1 + eye).view(-1, 2, 3)
        x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), False), align_corners=False)
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


# --- Embeddings, pairs and heads -----------------------------------------------------------------


@plain(ids(39, 14), const([0, 5, 9]))
class BagOfWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(39, 12, mode="mean")
        self.fc = nn.Sequential(nn.Linear(12, 18), nn.ReLU(), nn.Linear(18, 4))

    def forward(self, text, offsets):
        return self.fc(self.bag(text, offsets))


@plain(x(2, 9), x(2, 7))
class BilinearPair(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(9, 12), nn.Linear(7, 10)
        self.bilinear, self.head = nn.Bilinear(12, 10, 14), nn.Linear(14, 3)

    def forward(self, a, b):
        return self.head(torch.relu(self.bilinear(self.left(a).relu(), self.right(b).relu())))


@plain(x(2, 3, 8, 8))
class CosineHead(nn.Module):
    """Logits are cosines to class prototypes: both sides are normalised over the width."""

    def __init__(self):
        super().__init__()
        self.body = conv_bn(3, 13)
        self.embed = nn.Linear(13, 16, bias=False)
        self.prototypes = nn.Parameter(torch.randn(6, 16))

    def forward(self, x):
        z = self.embed(self.body(x).mean((2, 3)))
        return F.cosine_similarity(z[:, None], self.prototypes[None], dim=-1) * 10


@plain(x(3, 3, 8, 8), ids(33, 3, 6))
class TwoTower(nn.Module):
    """Image and text towers meet in one matrix of scaled cosines."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(conv_bn(3, 10), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.image_out = nn.Linear(10, 14)
        self.text, self.text_out = nn.Embedding(33, 11, padding_idx=0), nn.Linear(11, 14)
        self.logit_scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, image, text):
        a = F.normalize(self.image_out(self.image(image)), dim=-1)
        b = F.normalize(self.text_out(self.text(text).mean(1)), dim=-1)
        return self.logit_scale.exp() * a @ b.t()


@plain(ids(19, 2, 4), x(2, 5))
class FactorizationMachine(nn.Module):
    """Square of sum minus sum of squares over a shared embedding, beside a deep part."""

    def __init__(self):
        super().__init__()
        self.first, self.embed = nn.Embedding(19, 1), nn.Embedding(19, 8)
        self.deep = nn.Sequential(nn.Linear(4 * 8 + 5, 15), nn.ReLU(), nn.Linear(15, 1))

    def forward(self, fields, dense):
        v = self.embed(fields)
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1, keepdim=True)
        deep = self.deep(torch.cat([v.flatten(1), dense], 1))
        return self.first(fields).sum(1) + pairs + deep


@plain(image=x(2, 3, 8, 8), text={"ids": ids(21, 2, 5), "scale": x(2, 1)})
class NestedKwargs(nn.Module):
    """Inputs arrive nested, by keyword; outputs leave as a dict of lists."""

    def __init__(self):
        super().__init__()
        self.conv, self.embed = conv_bn(3, 9), nn.Embedding(21, 12)
        self.fuse, self.labels, self.box = nn.Linear(21, 17), nn.Linear(17, 5), nn.Linear(17, 4)

    def forward(self, *, image, text):
        words = self.embed(text["ids"]).mean(1) * text["scale"]
        z = torch.relu(self.fuse(torch.cat([self.conv(image).mean((2, 3)), words], -1)))
        return {"labels": self.labels(z), "boxes": [self.box(z)], "features": {"words": words}}


@dataclass
class Prediction:
    logits: Tensor
    features: Tensor


@plain(x(2, 11), x(2, 6))
class DataclassOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(11, 16), nn.Linear(6, 16)
        self.body, self.head = nn.Linear(16, 13), nn.Linear(13, 3)

    def forward(self, a, b):
        features = torch.relu(self.body(torch.relu(self.a(a) + self.b(b))))
        return Prediction(self.head(features), features)


class Depth(NamedTuple):
    near: Tensor
    far: Tensor | None


@plain(x(2, 3, 8, 8))
class NamedTupleOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.near = nn.Sequential(conv_bn(3, 10), conv_bn(10, 12)), nn.Conv2d(12, 1, 1)

    def forward(self, x):
        return Depth(near=self.near(self.body(x)), far=None)


@plain(x(2, 3, 8, 8))
class AuxiliaryHead(nn.Module):
    """The auxiliary classifier runs only in training."""

    def __init__(self):
        super().__init__()
        self.one, self.two = conv_bn(3, 9), conv_bn(9, 14)
        self.aux, self.head = nn.Linear(9, 5), nn.Linear(14, 5)

    def forward(self, x):
        x = self.one(x)
        aux = self.aux(x.mean((2, 3))) if self.training else None
        out = self.head(self.two(x).mean((2, 3)))
        return (out, aux) if self.training else out


@plain(x(2, 3, 8, 8))
class StochasticDepthNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 12)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_bn(12, 15 + k), nn.Conv2d(15 + k, 12, 1)) for k in range(2)
        )
        self.drop, self.head = StochasticDepth(0.2, "row"), nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + self.drop(block(x))
        return self.head(x.mean((2, 3)))


# --- Points, states, capsules, loops -------------------------------------------------------------


@plain(x(2, 3, 20))
class PointNet(nn.Module):
    """A predicted transform multiplies the points; the maximum forgets their order."""

    def __init__(self):
        super().__init__()
        self.t1, self.t2 = nn.Conv1d(3, 9, 1), nn.Linear(9, 9)
        self.c1, self.c2 = nn.Conv1d(3, 13, 1), nn.Conv1d(13, 18, 1)
        self.local = nn.Conv1d(13 + 18, 4, 1)

    def forward(self, points):
        t = self.t2(F.relu(self.t1(points)).amax(-1)).view(-1, 3, 3)
        x = torch.bmm(t, points)
        low = F.relu(self.c1(x))
        top = F.relu(self.c2(low)).max(dim=-1, keepdim=True)[0]
        return self.local(torch.cat([low, top.repeat(1, 1, points.size(-1))], 1))


def edge_features(x: Tensor, k: int) -> Tensor:
    """(B, C, N) to (B, 2C, N, k): each point beside its differences to k nearest ones."""
    b, c, n = x.shape
    index = torch.cdist(x.transpose(1, 2), x.transpose(1, 2)).topk(k, largest=False).indices
    index = index.view(b, 1, n * k).expand(-1, c, -1)
    near = torch.gather(x, 2, index).view(b, c, n, k)
    centre = x.unsqueeze(-1).expand(-1, -1, -1, k)
    return torch.cat([near - centre, centre], 1)


@plain(x(2, 3, 16))
class DGCNN(nn.Module):
    """Neighbours are found again in feature space, so widths feed distances."""

    def __init__(self):
        super().__init__()
        self.k = 4
        self.c1, self.c2 = conv_bn(6, 9, 1), conv_bn(18, 14, 1)
        self.join, self.head = nn.Conv1d(23, 17, 1), nn.Linear(34, 5)

    def forward(self, x):
        a = self.c1(edge_features(x, self.k)).max(-1).values
        b = self.c2(edge_features(a, self.k)).max(-1).values
        z = self.join(torch.cat([a, b], 1))
        return self.head(torch.cat([z.amax(-1), z.mean(-1)], 1))


@plain(x(2, 8, 6))
class StateSpace(nn.Module):
    """A diagonal recurrence with input-dependent steps, scanned in a loop."""

    def __init__(self):
        super().__init__()
        self.inner, self.state = 11, 4
        self.stem = nn.Linear(6, 2 * self.inner)
        self.conv = nn.Conv1d(self.inner, self.inner, 3, padding=2, groups=self.inner)
        self.params = nn.Linear(self.inner, 5 + 2 * self.state, bias=False)
        self.step = nn.Linear(5, self.inner)
        self.a_log = nn.Parameter(torch.rand(self.inner, self.state))
        self.d = nn.Parameter(torch.ones(self.inner))
        self.out = nn.Linear(self.inner, 6)

    def forward(self, x):
        b, n, _ = x.shape
        u, gate = self.stem(x).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., :n]).transpose(1, 2)
        step, left, right = self.params(u).split([5, self.state, self.state], -1)
        step = F.softplus(self.step(step))
        decay = torch.exp(-step[..., None] * self.a_log.exp())
        drive = step[..., None] * left[:, :, None] * u[..., None]
        h, ys = x.new_zeros(b, self.inner, self.state), []
        for t in range(n):
            h = decay[:, t] * h + drive[:, t]
            ys.append((h * right[:, t, None]).sum(-1))
        y = torch.stack(ys, 1) + self.d * u
        return self.out(y * F.silu(gate))


@plain(x(2, 1, 14, 14))
class CapsuleNet(nn.Module):
    """Votes by einsum, two rounds of routing by agreement."""

    def __init__(self):
        super().__init__()
        self.conv, self.primary = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 24, 5, 2)
        self.votes = nn.Parameter(torch.randn(54, 5, 4, 7) * 0.2)

    def squash(self, s):
        norm = s.norm(dim=-1, keepdim=True)
        return s * norm / (1 + norm**2)

    def forward(self, x):
        u = self.primary(F.relu(self.conv(x)))
        u = u.view(x.size(0), 6, 4, -1).permute(0, 1, 3, 2).reshape(x.size(0), -1, 4)
        votes = torch.einsum("bid,icde->bice", self.squash(u), self.votes)
        logits = votes.new_zeros(votes.shape[:-1])
        for _ in range(2):
            v = self.squash((logits.softmax(2)[..., None] * votes).sum(1))
            logits = logits + (votes * v[:, None]).sum(-1)
        return v.norm(dim=-1)


@plain(x(2, 9))
class NeuralODE(nn.Module):
    """The same small network steps a state many times, time appended each step."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(9, 12), nn.Linear(12, 4)
        self.f1, self.f2 = nn.Linear(13, 18), nn.Linear(18, 12)

    def slope(self, t, z):
        t = torch.full((z.size(0), 1), t, device=z.device)
        return self.f2(torch.tanh(self.f1(torch.cat([z, t], 1))))

    def forward(self, x):
        z, steps = self.stem(x), 3
        for k in range(steps):
            middle = z + 0.5 / steps * self.slope(k / steps, z)
            z = z + 1 / steps * self.slope((k + 0.5) / steps, middle)
        return self.head(z)


class HourglassLevel(nn.Module):
    def __init__(self, depth: int, width: int, hidden: int):
        super().__init__()
        self.skip, self.down = ScaledResidual(width, hidden), ScaledResidual(width, hidden + 2)
        self.inner = HourglassLevel(depth - 1, width, hidden + 3) if depth > 1 else nn.Identity()

    def forward(self, x):
        low = self.inner(self.down(F.max_pool2d(x, 2)))
        return self.skip(x) + F.interpolate(low, scale_factor=2, mode="bilinear")


@plain(x(2, 3, 16, 16))
class Hourglass(nn.Module):
    """Recursive; the first stack's heat maps are mapped back and added to its features."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 12)
        self.stacks = nn.ModuleList(HourglassLevel(2, 12, 7 + k) for k in range(2))
        self.heads = nn.ModuleList(nn.Conv2d(12, 5, 1) for _ in range(2))
        self.back = nn.Conv2d(5, 12, 1)

    def forward(self, x):
        x, heats = self.stem(x), []
        for stack, head in zip(self.stacks, self.heads, strict=True):
            y = stack(x)
            heats.append(head(y))
            x = x + y + self.back(heats[-1])
        return heats


@plain(x(2, 3, 16, 16))
class ContextPyramid(nn.Module):
    """Pooled at several scales, resized to the input and concatenated."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 14, stride=2)
        self.paths = nn.ModuleList(nn.Conv2d(14, 4 + k, 1) for k in range(3))
        self.atrous = nn.Conv2d(14, 8, 3, padding=2, dilation=2)
        self.head = nn.Conv2d(14 + 8 + 4 + 5 + 6, 3, 1)

    def forward(self, x):
        y = self.stem(x)
        size = y.shape[-2:]
        outs = [y, self.atrous(y)]
        for path, scale in zip(self.paths, (1, 2, 4), strict=True):
            pooled = path(F.adaptive_avg_pool2d(y, scale))
            outs.append(F.interpolate(pooled, size, mode="bilinear", align_corners=False))
        return F.interpolate(self.head(torch.cat(outs, 1)), x.shape[-2:], mode="bilinear")


@plain(x(2, 4, 8, 8))
class HighResolution(nn.Module):
    """Two resolutions run side by side and exchange features by summing."""

    def __init__(self):
        super().__init__()
        self.high, self.low = nn.Conv2d(4, 9, 3, 1, 1), nn.Conv2d(4, 13, 3, 2, 1)
        self.down, self.up = nn.Conv2d(9, 13, 3, 2, 1), nn.Conv2d(13, 9, 1)
        self.head = nn.Conv2d(22, 5, 1)

    def forward(self, x):
        h, w = F.relu(self.high(x)), F.relu(self.low(x))
        h, w = h + F.interpolate(self.up(w), scale_factor=2), w + self.down(h)
        return self.head(torch.cat([F.relu(h), F.interpolate(F.relu(w), scale_factor=2)], 1))


@plain(x(2, 3, 8, 8))
class CoordConv(nn.Module):
    """Constant channels join the input and, later, features."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(5, 11, 3, padding=1), nn.Conv2d(13, 14, 3, padding=1)
        self.head = nn.Linear(14, 4)

    def forward(self, x):
        b, _, h, w = x.shape
        ramp = torch.linspace(-1, 1, h)
        grid = torch.stack(torch.meshgrid(ramp, torch.linspace(-1, 1, w), indexing="ij"))
        grid = grid.expand(b, -1, -1, -1).to(x)
        x = F.relu(self.c1(torch.cat([x, grid], 1)))
        return self.head(self.c2(torch.cat([grid, x], 1)).mean((2, 3)))


@plain(x(2, 1, 40))
class SincFilterBank(nn.Module):
    """Filters are computed from two numbers each; the spectrum passes a log."""

    def __init__(self):
        super().__init__()
        self.low, self.band = nn.Parameter(torch.rand(10, 1)), nn.Parameter(torch.rand(10, 1))
        self.conv, self.head = nn.Conv1d(10, 14, 3), nn.Linear(14, 5)

    def forward(self, x):
        t = torch.arange(-4, 5, device=x.device) * 0.5
        high = self.low.abs() + self.band.abs()
        bank = torch.sinc(high * t) * high - torch.sinc(self.low * t) * self.low.abs()
        x = torch.log1p(F.conv1d(x, bank.unsqueeze(1)).abs())
        return self.head(F.relu(self.conv(x)).mean(-1))


@plain(x(2, 12, 7))
class FourierMixer(nn.Module):
    """Tokens and channels are mixed by a transform without weights."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Linear(7, 16), nn.LayerNorm(16)
        self.up, self.down, self.head = nn.Linear(16, 23), nn.Linear(23, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        x = self.norm(x + torch.fft.fft2(x, dim=(1, 2), norm="ortho").real)
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


@plain(x(5, 6), const([[0.0, 1, 0, 0, 1], [1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 1],
                       [1, 0, 0, 1, 0]]))  # fmt: skip
class DenseGraphNet(nn.Module):
    """Message passing by a dense adjacency matrix, with additive attention between nodes."""

    def __init__(self):
        super().__init__()
        self.embed, self.left, self.right = nn.Linear(6, 13), nn.Linear(13, 1), nn.Linear(13, 1)
        self.update, self.head = nn.Linear(26, 10), nn.Linear(10, 3)

    def forward(self, x, adjacency):
        h = self.embed(x)
        score = F.leaky_relu(self.left(h) + self.right(h).t(), 0.2)
        weight = score.masked_fill(adjacency == 0, -1e9).softmax(-1)
        return self.head(F.elu(self.update(torch.cat([h, weight @ h], -1))))


@plain(x(2, 4, 11), x(2, 3, 5))
class SlotMemory(nn.Module):
    """Reads a learned memory by content and writes a gated blend of it."""

    def __init__(self):
        super().__init__()
        self.memory = nn.Parameter(torch.randn(6, 14))
        self.key, self.query, self.gate = nn.Linear(14, 8), nn.Linear(11, 8), nn.Linear(14, 14)
        self.context, self.head = nn.Linear(5, 14), nn.Linear(14, 3)

    def forward(self, x, context):
        memory = self.memory + self.context(context).mean(1, keepdim=True)
        read = (self.query(x) @ self.key(memory).mT).softmax(-1) @ memory
        gate = torch.sigmoid(self.gate(read))
        return self.head(torch.lerp(read, memory.mean(1, keepdim=True), gate))


@plain(x(2, 10))
class BufferedStatistics(nn.Module):
    """Inputs are standardised by buffers; a frozen random projection sits in the middle."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(10) * 0.1)
        self.register_buffer("std", torch.rand(10) + 0.5)
        self.register_buffer("projection", torch.randn(10, 15) * 0.3)
        self.fc, self.head = nn.Linear(15, 19), nn.Linear(19, 4)

    def forward(self, x):
        x = torch.cos(((x - self.mean) / self.std) @ self.projection)
        return self.head(torch.where(self.fc(x) > 0, self.fc(x), 0.01 * self.fc(x)))


@plain(x(2, 9), x(2, 9))
class EarlyExit(nn.Module):
    """List comprehension over layers, every layer's output collected and averaged."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(9, 14), nn.Linear(14, 17), nn.Linear(17, 11)])
        self.exits = nn.ModuleList([nn.Linear(14, 5), nn.Linear(17, 5), nn.Linear(11, 5)])

    def forward(self, x, noise):
        x, exits = x + noise, []
        for layer, leave in zip(self.layers, self.exits, strict=True):
            x = F.relu(layer(x))
            exits.append(leave(x))
        return torch.stack(exits).mean(0), exits


@plain(x(2, 6, 5, 9))
class AxisJuggler(nn.Module):
    """Channels move through every position by transposes, moveaxis, flatten and unflatten."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(9, 14), nn.Linear(70, 22), nn.Conv1d(11, 13, 1)
        self.head = nn.Linear(13, 4)

    def forward(self, x):
        x = torch.relu(self.a(x)).transpose(-1, -2)
        x = torch.tanh(self.b(x.flatten(-2)))
        x = x.unflatten(-1, (2, 11)).movedim(-1, 1)
        return self.head(self.c(x.flatten(2)).swapaxes(1, 2).amax(1))


@plain(x(4, 6))
class HamiltonianNet(nn.Module):
    """Answers with the gradient of an energy, taken inside the forward."""

    def __init__(self):
        super().__init__()
        self.inside, self.middle = nn.Linear(6, 17), nn.Linear(17, 14)
        self.energy = nn.Linear(14, 1)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            energy = self.energy(torch.tanh(self.middle(torch.sin(self.inside(x)))))
            (slope,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        moved, pushed = slope.chunk(2, dim=-1)
        return torch.cat([pushed, -moved], dim=-1), energy


def shares(width: int, heads: int) -> int:
    return int(width / heads)


@plain(x(2, 7, 10))
class ConvertedWidths(nn.Module):
    """Widths become floats and whole numbers again, in methods, free functions and NumPy."""

    def __init__(self):
        super().__init__()
        self.heads, self.share = 3, 0.5
        self.up, self.down = nn.Linear(10, 34), nn.Linear(17, 21)
        self.query, self.key, self.head = nn.Linear(21, 21), nn.Linear(21, 21), nn.Linear(21, 4)

    def forward(self, x):
        u = self.up(x)
        half = int(u.shape[-1] * self.share)
        x = self.down(u[..., :half] * torch.sigmoid(u[..., half:]))
        shape = (*x.shape[:2], self.heads, shares(x.shape[-1], self.heads))
        q, k, v = (y.reshape(shape).transpose(1, 2) for y in (self.query(x), self.key(x), x))
        weights = (q @ k.mT / np.sqrt(float(q.shape[-1]))).softmax(-1)
        y = (weights @ v).transpose(1, 2)
        y = y.reshape(-1, int(np.prod(y.shape[2:])))
        return self.head(F.elu(y)).view(x.shape[0], -1, 4)


@plain(x(5, 6))
class HyperNetwork(nn.Module):
    """One network makes the weights of another from a learned code."""

    def __init__(self):
        super().__init__()
        self.width, self.code = 11, nn.Parameter(torch.randn(5))
        self.trunk, self.first = nn.Linear(5, 13), nn.Linear(13, 6 * 11)
        self.bias, self.second = nn.Linear(13, 11), nn.Linear(13, 11 * 4)

    def forward(self, x):
        t = torch.tanh(self.trunk(self.code))
        x = torch.relu(F.linear(x, self.first(t).view(self.width, 6), self.bias(t)))
        return F.linear(x, self.second(t).view(4, self.width))


class SplineLinear(nn.Module):
    """A learned function on every edge: B-splines on a grid of knots, beside a plain layer."""

    def __init__(self, inputs: int, outputs: int, cells: int = 5, order: int = 3):
        super().__init__()
        self.inputs, self.outputs, self.order = inputs, outputs, order
        knots = torch.arange(-order, cells + order + 1) * (2 / cells) - 1
        self.register_buffer("grid", knots.expand(inputs, -1).contiguous())
        self.base = nn.Parameter(torch.randn(outputs, inputs))
        self.spline = nn.Parameter(torch.randn(outputs, inputs, cells + order) * 0.3)
        self.scale = nn.Parameter(torch.randn(outputs, inputs))

    def bases(self, x):
        x, grid = x.unsqueeze(-1), self.grid
        basis = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)])
            right = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:-k])
            basis = left * basis[:, :, :-1] + right * basis[:, :, 1:]
        return basis

    def forward(self, x):
        weight = (self.spline * self.scale.unsqueeze(-1)).view(self.outputs, -1)
        curved = F.linear(self.bases(x).view(x.size(0), -1), weight)
        return F.linear(F.silu(x), self.base) + curved


@plain(x(7, 6))
class SplineNetwork(nn.Module):
    """Kolmogorov-Arnold layers; noise that only training adds."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([SplineLinear(6, 13), SplineLinear(13, 9), SplineLinear(9, 4)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            if self.training:
                x = x + 0.01 * torch.randn_like(x)
        return x
