"""Scores of single weights serve units, too."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei.criteria.weights import SALIENCIES


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip


@pytest.mark.parametrize("name", SALIENCIES)
def test_every_saliency_is_a_criterion_for_channels(name):
    data = torch.randn(12, 1, 6, 6), torch.randint(0, 3, (12,))
    kept = []
    for _ in range(2):
        model = network()
        result = sentei.prune(
            model, data[0][:1], target=sentei.Target(macs=0.5), criterion=name,
            data=data, loss=F.cross_entropy,
        )  # fmt: skip
        assert result.after.macs <= 0.5 * result.before.macs
        kept.append({n: units.tolist() for n, units in result.keep.items()})
    assert kept[0] == kept[1]
