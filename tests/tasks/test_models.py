"""The small networks run and have the size they say; the papers' networks have their counts."""

import pytest
import torch
from torch import nn

from sentei.graph.groups import analyze
from sentei.graph.surgery import remove
from sentei.tasks.models import digits_resnet, digits_vgg, digits_vit, lenet5, lenet_300_100
from sentei.tasks.papers import (
    VGG16_A,
    VGG19,
    cifar_resnet,
    cifar_vgg,
    conv_linear_macs,
    conv_linear_weights,
)

IMAGE = torch.zeros(1, 3, 32, 32)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "build, count",
    [
        (digits_resnet, 174_970),
        (lenet_300_100, 50_610),
        (lenet5, 131_080),
        (digits_vgg, 72_666),
        (digits_vit, 202_186),
    ],
)
def test_small_networks_run_and_learn_something(build, count):
    model = build()
    assert parameters(model) == count
    out = model(torch.randn(4, 1, 8, 8))
    assert out.shape == (4, 10)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_same_seed_builds_the_same_network():
    first, second = ((torch.manual_seed(5), digits_vit())[1].state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_mnist_counts():
    assert parameters(lenet_300_100(784)) == 266_610
    assert parameters(lenet5(image=28, padding=0)) == 431_080


def test_h0_prunable_weights():
    model = lenet_300_100()
    assert conv_linear_weights(model) == 50_200
    assert conv_linear_macs(model, torch.zeros(1, 64)) == 50_200


def test_impossible_shapes_say_so():
    with pytest.raises(ValueError, match="try padding=2"):
        lenet5(image=8, padding=0)
    with pytest.raises(ValueError, match="multiple of patch"):
        digits_vit(patch=3)
    with pytest.raises(ValueError, match="blocks"):
        digits_resnet(blocks=())
    with pytest.raises(ValueError, match="at most five"):
        cifar_vgg([8, *"MMMMMM"])
    with pytest.raises(ValueError, match="6n"):
        cifar_resnet(54)
    with pytest.raises(ValueError, match="9 blocks, but inner names 2"):
        cifar_resnet(20, inner=[16, 16])


# Li et al. 2017, arXiv:1608.08710, Table 1: networks before and after, "conv + fc" weights
# without biases and batch-norm, MACs, and all parameters.
PRUNED_56_A = [14] * 7 + [16, 14] + [32] + [28] * 8 + [64] + [57] * 7 + [64]
PRUNED_56_B = [6] * 7 + [16, 16] + [32] + [22] * 6 + [32, 22] + [64] + [57] * 7 + [64]
PRUNED_110_A = [8] * 17 + [16] + [32] * 18 + [64] * 18
PRUNED_110_B = [8] * 17 + [16] + [32] + [19] * 17 + [64] + [44] * 17
TABLE = {
    "VGG-16": (lambda: cifar_vgg(), 14_977_728, 313_463_808, 14_987_722),
    "VGG-16 A": (lambda: cifar_vgg(VGG16_A), 5_390_176, 206_279_680, 5_397_034),
    "ResNet-20": (lambda: cifar_resnet(20), 268_336, 40_551_040, 269_722),
    "ResNet-56": (lambda: cifar_resnet(56), 848_944, 125_485_696, 853_018),
    "ResNet-56 A": (lambda: cifar_resnet(56, PRUNED_56_A), 769_456, 112_435_840, 773_336),
    "ResNet-56 B": (lambda: cifar_resnet(56, PRUNED_56_B), 732_016, 90_907_264, 735_712),
    "ResNet-110": (lambda: cifar_resnet(110), 1_719_856, 252_887_680, 1_727_962),
    "ResNet-110 A": (lambda: cifar_resnet(110, PRUNED_110_A), 1_680_688, 212_779_648, 1_688_522),
    "ResNet-110 B": (lambda: cifar_resnet(110, PRUNED_110_B), 1_161_712, 155_124_352, 1_168_424),
    # Liu et al. 2017, arXiv:1708.06519.
    "VGG-19 slim": (lambda: cifar_vgg(VGG19, None), 20_024_000, 398_136_320, 20_035_018),
}


# Published architectures of the same paper: percent pruned -> widths, weights, MACs. (What its own
# table prints for 30 and 70 % its widths do not give; these are recounted.)
SLIMMED = {
    10: ("60 64 M 128 128 M 256 255 253 245 M 436 417 425 462 M 463 465 472 424",
         15_881_680, 348_930_244),
    30: ("56 64 M 128 128 M 256 254 249 227 M 284 239 244 351 M 369 364 384 255",
         9_216_066, 274_362_114),
    50: ("52 64 M 128 128 M 256 254 245 214 M 179 117 116 229 M 228 220 210 111",
         4_607_121, 231_604_302),
    60: ("51 64 M 128 128 M 256 254 245 213 M 165 85 92 153 M 83 86 87 111",
         3_135_288, 221_911_158),
    70: ("49 64 M 128 128 M 256 254 234 198 M 114 41 24 11 M 14 13 19 104",
         2_363_288, 208_326_092),
}  # fmt: skip


@pytest.mark.parametrize("percent", SLIMMED)
def test_counts_of_slimmed_networks(percent):
    words, weights, macs = SLIMMED[percent]
    widths = [w if w == "M" else int(w) for w in words.split()]
    # What is above sorted(|gamma|)[int(total · p)] stays.
    assert sum(w for w in widths if w != "M") == 5504 - 5504 * percent // 100 - 1
    model = cifar_vgg(widths, None)
    assert conv_linear_weights(model) == weights
    assert conv_linear_macs(model, IMAGE) == macs


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Dense(nn.Module):
    def __init__(self, inputs, growth=12):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), conv(inputs, growth, 3)

    def forward(self, x):
        return torch.cat([x, self.conv(self.norm(x).relu())], 1)


def densenet_40():
    layers, width = [conv(3, 24, 3)], 24
    for block in range(3):
        for _ in range(12):
            layers.append(Dense(width))
            width += 12
        if block < 2:
            layers += [nn.BatchNorm2d(width), conv(width, width, 1), nn.AvgPool2d(2)]
    ends = [nn.BatchNorm2d(width), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers, *ends)


class Bottleneck(nn.Module):
    """Pre-activation."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, width, 1),
            nn.BatchNorm2d(width), nn.ReLU(), conv(width, width, 3, stride),
            nn.BatchNorm2d(width), nn.ReLU(), conv(width, 4 * width, 1),
        )  # fmt: skip
        wider = inputs != 4 * width
        self.short = conv(inputs, 4 * width, 1, stride) if wider else nn.Identity()

    def forward(self, x):
        return self.short(x) + self.body(x)


def pre_resnet_164():
    blocks, inputs = [conv(3, 16, 3)], 16
    for width in (16, 32, 64):
        for i in range(18):
            blocks.append(Bottleneck(inputs, width, 2 if i == 0 and width > 16 else 1))
            inputs = 4 * width
    ends = [nn.BatchNorm2d(inputs), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(inputs, 10)]
    return nn.Sequential(*blocks, *ends)


# The other baselines of Liu et al. 2017.
TABLE |= {
    "DenseNet-40": (densenet_40, 1_040_568, 282_917_328, 1_059_298),
    "pre-ResNet-164": (pre_resnet_164, 1_679_024, 247_646_720, 1_703_258),
}

# Li et al. 2017 on ImageNet: shares of the four stages; ids of 3×3 convolutions that stay whole.
WHOLE = {2, 8, 14, 16, 26, 28, 30, 32}


@pytest.mark.parametrize(
    "shares, weights, macs",
    [
        ((0.0, 0.0, 0.0, 0.0), 21_779_648, 3_663_761_408),
        ((0.3, 0.3, 0.3, 0.0), 20_134_592, 3_100_184_576),
        ((0.5, 0.6, 0.4, 0.0), 19_452_608, 2_782_269_440),
    ],
)
def test_resnet_34_is_pruned_to_the_counts_of_the_paper(shares, weights, macs):
    """With the 1×1 projections, which the published totals leave out."""
    from torchvision.models import resnet34

    with torch.device("meta"):
        model = resnet34()
    groups = analyze(model, torch.zeros(1, 3, 64, 64, device="meta"))
    keep, number = {}, 2
    for stage, share in enumerate(shares, 1):
        for block in range(len(getattr(model, f"layer{stage}"))):
            name = f"layer{stage}.{block}.conv1"
            if share and number not in WHOLE:
                size = groups[name].size
                keep[name] = torch.arange(int(size * (1 - share) + 1e-9))
            number += 2
    if keep:
        call = ((torch.zeros(1, 3, 64, 64, device="meta"),), {})
        remove(model, groups, keep, call, verify=False)
    assert conv_linear_weights(model) == weights
    assert conv_linear_macs(model, torch.zeros(1, 3, 224, 224, device="meta")) == macs


@pytest.mark.parametrize("name", TABLE)
def test_counts_of_the_papers(name):
    build, weights, macs, total = TABLE[name]
    model = build()
    assert conv_linear_weights(model) == weights
    assert conv_linear_macs(model, IMAGE) == macs
    assert parameters(model) == total


def test_counting_leaves_nothing_behind():
    model = cifar_resnet(20).train()
    model.bn1.eval()
    conv_linear_macs(model, IMAGE)
    assert model.training
    assert not model.bn1.training
    with pytest.raises(RuntimeError, match="channels"):
        conv_linear_macs(model, torch.zeros(1, 1, 32, 32))
    assert not any(m._forward_hooks for m in model.modules())


def test_option_a_shortcut_pads_in_the_middle():
    block = cifar_resnet(20).blocks[3].eval()  # 16 -> 32 channels, stride 2
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 16, 4, 4)
    want = torch.zeros(1, 32, 2, 2)
    want[:, 8:24] = x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), want)
