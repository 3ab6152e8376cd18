"""Pairs of towers of open_clip: an image and a text are embedded side by side."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.coca_model import CoCa, MultimodalCfg
from open_clip.model import CLIP, CustomTextCLIP
from torch import nn

from .registry import Example, register

WORDS = 53
LENGTH = 13
WIDTH = 36
IMAGE = {"image_size": 32, "patch_size": 8, "layers": 2, "width": 48, "head_width": 12}
TEXT = {"context_length": LENGTH, "vocab_size": WORDS, "width": 40, "heads": 5, "layers": 2}


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and texts that end in the highest token, where they are pooled."""
    text = torch.randint(5, WORDS - 1, (3, LENGTH))
    text[:, -2] = WORDS - 1
    return torch.randn(3, 3, 32, 32), text


def add(name: str, kind: type[nn.Module], image: dict[str, Any], text: dict[str, Any], **kwargs):
    @register(f"open_clip/{name}", "open_clip")
    def build() -> Example:
        model = kind(embed_dim=WIDTH, vision_cfg=image, text_cfg=text, **kwargs)
        return Example(model, pair())


add("vit", CLIP, IMAGE, TEXT)
add("vit-quick-gelu", CustomTextCLIP, IMAGE | {"mlp_ratio": 2.5, "ls_init_value": 0.5}, TEXT,
    quick_gelu=True)  # fmt: skip
add("resnet", CLIP, {"image_size": 32, "layers": (1, 1, 2, 1), "width": 12, "head_width": 32}, TEXT)
add("siglip", CustomTextCLIP, {
    "image_size": 32, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
    TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    init_logit_bias=-10.0)  # fmt: skip
add("qk-norm", CustomTextCLIP, IMAGE | {
    "qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "pool_type": "avg"},
    TEXT | {"scale_attn": True, "scale_fc": True})  # fmt: skip
add("coca", CoCa, IMAGE | {
    "attentional_pool": True, "attn_pooler_queries": 7, "attn_pooler_heads": 4,
    "output_tokens": True}, TEXT | {
    "embed_cls": True, "output_tokens": True, "width": WIDTH, "heads": 3},
    multimodal_cfg=MultimodalCfg(
        context_length=LENGTH, vocab_size=WORDS, width=WIDTH, heads=4, layers=2))  # fmt: skip
