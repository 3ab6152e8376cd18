"""Turns one line per architecture into a registered transformers model of small, odd sizes.

Sizes that play different roles differ (width, MLP width, heads, vocabulary, positions, sequence,
batch), so that no two dimensions agree by accident and hide a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .registry import Example, register

BATCH = 5
LENGTH = 17
TARGET_LENGTH = 11
VOCAB = 131

Inputs = Callable[[PreTrainedModel], dict[str, Any]]

TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 96,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 20,
    "max_position_embeddings": 50,
    "num_labels": 7,
    "use_cache": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.1,
    "init_std": 0.1,
}
VISION: dict[str, Any] = {
    "hidden_size": 72,
    "intermediate_size": 108,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 7,
    "initializer_range": 0.1,
}
# Pyramids list their sizes by stage; a depth or width for all of them would mean something else.
PYRAMID: dict[str, Any] = {"image_size": 64, "num_labels": 7, "initializer_range": 0.1}


def merged(config_class: type[PreTrainedConfig], base: Mapping, own: Mapping) -> dict[str, Any]:
    """The base sizes that this configuration knows, under the architecture's own settings."""
    names = {entry.name for entry in fields(config_class)} | {"num_labels"}
    aliases = config_class.attribute_map or {}
    known = {k: v for k, v in base.items() if k in names or (k in aliases and aliases[k] in names)}
    known = {aliases.get(k, k): v for k, v in known.items()}
    own = {aliases.get(k, k): v for k, v in own.items()}
    for key, part in own.items():
        if key in config_class.sub_configs and isinstance(part, dict):
            own[key] = nested(config_class.sub_configs[key], key, part)
    return known | own


def nested(config_class: type[PreTrainedConfig], key: str, own: Mapping) -> PreTrainedConfig:
    """The configuration of a part, with the base sizes filled in there too."""
    if config_class is transformers.AutoConfig:
        config_class = transformers.CONFIG_MAPPING[own["model_type"]]
        own = {k: v for k, v in own.items() if k != "model_type"}
    if "text" in key or key in ("encoder", "decoder"):
        base = TEXT
    else:
        base = VISION if any(f.name == "hidden_size" for f in fields(config_class)) else PYRAMID
    return config_class(**merged(config_class, base, own))


def make(class_name: str, base: Mapping, own: Mapping) -> PreTrainedModel:
    """A randomly initialised model of the named class."""
    model_class = getattr(transformers, class_name)
    config_class = model_class.config_class
    return model_class(config_class(**merged(config_class, base, own)))


def enliven(model: PreTrainedModel) -> None:
    """Scale up weak weights of networks with batch norms, whose statistics nobody fitted.

    Batch norms in eval mode do not lift a fading signal back up as other norms do, so with the
    small initial weights of these models the output would not depend on the input.
    """
    modules = list(model.modules())
    norms = [m for m in modules if getattr(m, "running_var", None) is not None]
    if not norms:
        return
    # Around zero the smooth activations halve the signal, so convolutions must make up for more.
    smooth = any(isinstance(module, nn.SiLU | nn.Hardswish) for module in modules)
    with torch.no_grad():
        for module in modules:
            if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
                weight = module.weight
                gain = weight.pow(2).mean().sqrt().item() * weight[0].numel() ** 0.5
                if 0 < gain < 1:
                    weight.mul_((1.8 if smooth and weight.dim() > 2 else 1.3) / gain)
        for norm in norms:
            if norm.weight.abs().mean() < 0.3:
                norm.weight.uniform_(0.5, 1.5)


_AVAILABLE = frozenset(dir(transformers))  # once: the lazy module builds this list each time


def add(
    family: str, name: str, class_name: str, base: Mapping, own: Mapping, inputs: Inputs
) -> None:
    """Register one architecture, if the installed transformers has it."""
    if class_name not in _AVAILABLE:
        return

    @register(f"hf/{name}", family)
    def build() -> Example:
        model = make(class_name, base, own)
        enliven(model)
        return Example(model, kwargs=inputs(model))


def tokens(length: int = LENGTH, vocab: int = VOCAB, batch: int = BATCH) -> torch.Tensor:
    """Token numbers that avoid the special ones at the start of the vocabulary."""
    return torch.randint(5, vocab, (batch, length))


def pixels(size: int = 32, channels: int = 3, batch: int = BATCH) -> torch.Tensor:
    """A batch of random square images, whose mean colours differ as pooled noise would not."""
    return torch.randn(batch, channels, size, size) + torch.randn(batch, channels, 1, 1)
