"""The CIFAR networks that pruning papers print tables of, and how those tables are counted.

Built so that the counts agree with the papers to the last digit. Every convolution is followed by
batch-norm and has no bias. Each builder also takes the widths of the pruned network, so a table
can be checked with and without pruning anything.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
VGG19 = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4)
# Li et al. 2017: conv 1 and conv 8 to 13 halved.
VGG16_A = (32, 64, "M", 128, 128, "M", 256, 256, 256, "M", 256, 256, 256, "M", 256, 256, 256)


def cifar_vgg(
    widths: Sequence[int | str] = VGG16, hidden: int | None = 512, classes: int = 10
) -> nn.Module:
    """VGG for 3×32×32 images: 3×3 convolutions of the given widths, "M" for 2×2 max pooling.

    Args:
        widths: output channels, in order; `VGG16`, `VGG19`, `VGG16_A` are ready.
        hidden: width of the hidden linear layer (with batch-norm) before the classifier, as in
            Li et al.; None for a single classifier, as in Network Slimming.
        classes: number of logits.
    Raises:
        ValueError: the poolings do not divide 32.
    Source: Li et al. 2017, arXiv:1608.08710 (VGG-16); Liu et al. 2017, arXiv:1708.06519 (VGG-19).

    >>> conv_linear_weights(cifar_vgg())
    14977728
    """
    layers: list[nn.Module] = []
    inputs, side = 3, 32
    for width in widths:
        if isinstance(width, str):
            if width != "M" or side % 2:
                raise ValueError(
                    f"widths are ints and 'M' with at most five 'M'; got {list(widths)}"
                )
            layers.append(nn.MaxPool2d(2))
            side //= 2
        else:
            layers += [
                nn.Conv2d(inputs, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            inputs = width
    layers += [nn.AvgPool2d(side), nn.Flatten()]
    if hidden is not None:
        layers += [nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        inputs = hidden
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


def cifar_resnet(
    depth: int, inner: Sequence[int] | None = None, classes: int = 10
) -> "CifarResNet":
    """ResNet-20/32/44/56/110 for 3×32×32 images: stages 16-32-64, option A shortcuts.

    Args:
        depth: 6n + 2; n basic blocks a stage.
        inner: width of each block's first convolution, 3n numbers; the stage's width if None.
        classes: number of logits.
    Raises:
        ValueError: depth is not 6n + 2, or `inner` has the wrong length.
    Source: He et al. 2016, arXiv:1512.03385, section 4.2.

    >>> conv_linear_weights(cifar_resnet(56))
    848944
    """
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise ValueError(f"cifar_resnet: depth must be 6n + 2 (20, 32, 44, 56, 110); got {depth}")
    stages = [width for width in (16, 32, 64) for _ in range(n)]
    inner = stages if inner is None else list(inner)
    if len(inner) != 3 * n:
        raise ValueError(
            f"cifar_resnet: depth {depth} has {3 * n} blocks, but inner names {len(inner)} widths"
        )
    return CifarResNet(stages, inner, classes)


class CifarResNet(nn.Module):
    """See `cifar_resnet`. Names: `conv1`, `bn1`, `blocks.0.conv1`, …, `head`."""

    def __init__(self, outputs: Sequence[int], inner: Sequence[int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = [16, *outputs[:-1]]
        self.blocks = nn.Sequential(
            *(PaddedBlock(*widths) for widths in zip(inputs, inner, outputs, strict=True))
        )
        self.head = nn.Linear(outputs[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.head(self.blocks(x).mean((2, 3)))


class PaddedBlock(nn.Module):
    """A basic block whose shortcut has no parameters (option A).

    Where the width grows, the shortcut takes every second pixel and pads half of the missing
    channels with zeros on either side.
    """

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.grows = inputs != outputs
        self.padding = (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(
            inputs, inner, 3, stride=2 if self.grows else 1, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grows:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(y + x)


def conv_linear_weights(model: nn.Module) -> int:
    """Weights of convolutions and linear layers; no biases, no batch-norm: the papers' count."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def conv_linear_macs(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of all `nn.Conv2d` and `nn.Linear` calls in one forward pass, all told.

    conv:   C_in / groups · C_out · k_h · k_w · H_out · W_out
    linear: in · out, per position

    Bias, batch-norm, activation and pooling are not counted. FLOPs are twice this. It looks at
    modules, so it shares nothing with `sentei.graph.cost` and can check it.

    Returns:
        MACs of the whole batch given.

    >>> conv_linear_macs(cifar_resnet(20), torch.zeros(1, 3, 32, 32))
    40551040
    """
    total = 0

    def count(layer: nn.Conv2d | nn.Linear, _args, out: Tensor) -> None:
        nonlocal total
        # Each output value is one inner product with one row of the weight.
        total += out.numel() * layer.weight[0].numel()

    hooks = [
        m.register_forward_hook(count)
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    flags = {m: m.training for m in model.modules()}
    try:
        model.eval()  # a batch of one cannot go through batch-norm in training mode
        with torch.inference_mode():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for m, flag in flags.items():
            m.training = flag
    return total
