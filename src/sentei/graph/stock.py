"""The modules of torch.nn: what their documentation says of their sizes, and stand-ins for those
whose own code cannot express a pruned result.

A stand-in is a subclass with the same parameter names and the same function; what the stock
module derives from one number (`head_dim = embed_dim // num_heads`), it reads from attributes of
its own, so that they can change one by one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["STAND_INS", "MultiheadAttention", "documented_sizes"]

Size = tuple[str, int]
"""A tensor of the module, and which dimension of it."""

# What the documentation of torch.nn promises about these attributes.
_SIZES: list[tuple[type[nn.Module], dict[str, Size]]] = [
    (nn.Linear, {"out_features": ("weight", 0), "in_features": ("weight", 1)}),
    (
        nn.Bilinear,
        {
            "out_features": ("weight", 0),
            "in1_features": ("weight", 1),
            "in2_features": ("weight", 2),
        },
    ),
    (
        nn.modules.conv._ConvTransposeNd,
        {"in_channels": ("weight", 0), "out_channels": ("weight", 1)},
    ),
    (nn.modules.conv._ConvNd, {"out_channels": ("weight", 0), "in_channels": ("weight", 1)}),
    (nn.modules.batchnorm._NormBase, {"num_features": ("weight", 0)}),
    (nn.GroupNorm, {"num_channels": ("weight", 0)}),
    (nn.PReLU, {"num_parameters": ("weight", 0)}),
    (nn.Embedding, {"num_embeddings": ("weight", 0), "embedding_dim": ("weight", 1)}),
    (nn.EmbeddingBag, {"num_embeddings": ("weight", 0), "embedding_dim": ("weight", 1)}),
    (nn.LSTM, {"input_size": ("weight_ih_l0", 1)}),
    (nn.RNNBase, {"input_size": ("weight_ih_l0", 1), "hidden_size": ("weight_hh_l0", 1)}),
    (nn.RNNCellBase, {"input_size": ("weight_ih", 1), "hidden_size": ("weight_hh", 1)}),
    (
        nn.MultiheadAttention,
        {
            "embed_dim": ("out_proj.weight", 0),
            "kdim": ("k_proj_weight", 1),
            "vdim": ("v_proj_weight", 1),
        },
    ),
]


def documented_sizes(module: nn.Module) -> dict[str, tuple[str, int, int]]:
    """attribute -> (tensor of the module, its dimension, times how many), of a stock module.

    >>> documented_sizes(nn.Conv2d(4, 6, 3, groups=2))
    {'out_channels': ('weight', 0, 1), 'in_channels': ('weight', 1, 2)}
    """
    for kind, sizes in _SIZES:
        if isinstance(module, kind):
            groups = getattr(module, "groups", 1)
            return {
                attribute: (name, dim, int(groups) if dim and "channels" in attribute else 1)
                for attribute, (name, dim) in sizes.items()
                if attribute in vars(module)
            }
    return {}


class MultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with free head count, query–key width and value width.

    Attributes beside the stock ones: `qk_head_dim`, `v_head_dim` (widths inside a head), and
    `scale`, the factor on the scores, which stays what it was when widths change.
    """

    qk_head_dim: int
    v_head_dim: int
    scale: float

    @staticmethod
    def adopt(module: nn.Module) -> None:
        """Turn a stock module into this class, in place."""
        assert isinstance(module, nn.MultiheadAttention)
        state = vars(module)
        state["qk_head_dim"] = state["v_head_dim"] = int(module.head_dim)
        state["scale"] = float(module.head_dim) ** -0.5
        # The fused encoder layer reads the stock widths; this flag makes it take the slow path.
        state["separate_projections"] = not module._qkv_same_embed_dim
        state["_qkv_same_embed_dim"] = False
        module.__class__ = MultiheadAttention

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`.

        In eval mode `nn.TransformerEncoder` hands over sequences without their padding, as a nested
        tensor; they are answered in kind.
        """
        if query.is_nested:
            padded = query.to_padded_tensor(0.0)
            lengths = torch.tensor([len(row) for row in query.unbind()], device=padded.device)
            hidden = torch.arange(padded.shape[1], device=padded.device) >= lengths[:, None]
            out, attention = self.forward(
                padded, padded, padded, hidden, need_weights, attn_mask, average_attn_weights
            )
            return torch._nested_tensor_from_mask(out, ~hidden), attention
        batched = query.dim() == 3
        if not batched:
            query, key, value = (t.unsqueeze(0) for t in (query, key, value))
        elif not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        if not batched and key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        q, k, v = self._project(query, key, value)
        batch, length = query.shape[0], query.shape[1]
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(batch, -1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.expand(batch, -1, -1)], dim=1)
        q = q.reshape(batch, length, self.num_heads, self.qk_head_dim).transpose(1, 2)
        k = k.reshape(batch, -1, self.num_heads, self.qk_head_dim).transpose(1, 2)
        v = v.reshape(batch, -1, self.num_heads, self.v_head_dim).transpose(1, 2)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        source = k.shape[2]
        scores = torch.matmul(q * self.scale, k.transpose(-2, -1))
        mask = self._mask(attn_mask, key_padding_mask, is_causal, scores, source)
        if mask is not None:
            scores = scores + mask
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        mixed = torch.matmul(weights, v).transpose(1, 2)
        out = self.out_proj(mixed.reshape(batch, length, self.num_heads * self.v_head_dim))
        shown: Tensor | None = None
        if need_weights:
            shown = weights.mean(1) if average_attn_weights else weights
        if not batched:
            return out.squeeze(0), None if shown is None else shown.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), shown

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qk, vw = self.num_heads * self.qk_head_dim, self.num_heads * self.v_head_dim
        biases: Any = (None, None, None)
        if self.in_proj_bias is not None:
            biases = self.in_proj_bias.split([qk, qk, vw])
        weights: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if not self.separate_projections:
            weights = self.in_proj_weight.split([qk, qk, vw])
        q, k, v = (
            F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        return q, k, v

    def _mask(
        self, attn: Tensor | None, padding: Tensor | None, causal: bool, scores: Tensor, source: int
    ) -> Tensor | None:
        mask: Tensor | None = None
        if attn is not None:
            mask = _additive(attn, scores.dtype)
            if mask.dim() == 3:  # (batch * heads, target, source)
                mask = mask.view(-1, self.num_heads, *mask.shape[1:])
        if padding is not None:
            hidden = _additive(padding, scores.dtype)[:, None, None, :]
            mask = hidden if mask is None else mask + hidden
        if mask is not None and mask.shape[-1] < source:  # bias_k and the zero key are never masked
            mask = F.pad(mask, (0, source - mask.shape[-1]))
        return mask


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype is torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
            mask, float("-inf")
        )
    return mask.to(dtype)


STAND_INS: dict[type[nn.Module], type[MultiheadAttention]] = {
    nn.MultiheadAttention: MultiheadAttention
}
