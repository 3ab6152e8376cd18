"""Small pruned models that the tests of this folder hand to other libraries."""

import copy
import functools

import torch
import transformers
from torch import nn

import sentei
from sentei import Target


def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


@functools.cache
def _convnet():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 12, 12)
    model = convnet().eval()
    sentei.prune(model, x, target=Target(macs=0.5))
    return model, x


def pruned_convnet():
    """A pruned convolutional network in eval mode, and images."""
    model, x = _convnet()
    return copy.deepcopy(model), x


def llama():
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@functools.cache
def _llama():
    torch.manual_seed(0)
    ids = torch.randint(4, 64, (2, 9))
    model = llama()
    sentei.prune(model, {"input_ids": ids}, target=Target(params=0.7))
    return model, ids


def pruned_llama():
    """A pruned language model (grouped queries, rotary positions) in eval mode, and tokens."""
    model, ids = _llama()
    return copy.deepcopy(model), ids
