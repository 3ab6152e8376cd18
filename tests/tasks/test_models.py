"""The small networks run and have the size they say; the papers' networks have their counts."""

import pytest
import torch

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
