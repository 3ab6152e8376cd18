"""Small networks of each kind: residual, plain convolutional, fully connected, attention.

All take `(N, channels, image, image)` and give `(N, classes)` logits. The defaults fit the digits
task (1×8×8); none needs more than seconds of training there on one core. Weights come from
PyTorch's global random state: call `torch.manual_seed` first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def digits_resnet(
    width: int = 16, blocks: tuple[int, ...] = (2, 2, 2), channels: int = 1, classes: int = 10
) -> nn.Module:
    """A residual network in the shape of torchvision's: stem, stages, average pool, linear head.

    Stage s has `width * 2**s` channels and halves the image except the first; where the shape
    changes, the shortcut is a 1×1 convolution with batch-norm (option B). The default has
    174,970 parameters.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2, with option B shortcuts.

    >>> digits_resnet()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    return ResNet(width, blocks, channels, classes)


class ResNet(nn.Module):
    """See `digits_resnet`. Names: `conv1`, `bn1`, `layer1.0.conv1`, …, `head`."""

    def __init__(self, width: int, blocks: tuple[int, ...], channels: int, classes: int) -> None:
        super().__init__()
        if width < 1 or not blocks or min(blocks) < 1:
            raise ValueError(f"need width >= 1 and blocks >= 1 each; got {width=}, {blocks=}")
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = len(blocks)
        inputs = width
        for stage, n in enumerate(blocks):
            outputs = width * 2**stage
            layer = [BasicBlock(inputs, outputs, stride=1 if stage == 0 else 2)]
            layer += [BasicBlock(outputs, outputs) for _ in range(n - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
            inputs = outputs
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.head(x.mean((2, 3)))


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def lenet_300_100(inputs: int = 64, classes: int = 10) -> nn.Module:
    """The fully connected LeNet: inputs-300-100-classes, ReLU.

    Weights are drawn from N(0, 2 / fan_in), biases are 0. 50,610 parameters on digits
    (`inputs=64`), 266,610 on MNIST (`inputs=784`).

    Source: LeCun et al. 1998, Gradient-based learning applied to document recognition; the
        initialisation is He et al. 2015, arXiv:1502.01852, eq. 10.

    >>> sum(p.numel() for p in lenet_300_100(784).parameters())
    266610
    """
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


def lenet5(image: int = 8, padding: int = 2, channels: int = 1, classes: int = 10) -> nn.Module:
    """The convolutional LeNet that pruning papers use: 20-50-500-classes.

    Two 5×5 convolutions, each followed by 2×2 max pooling, then two linear layers with one ReLU
    between. `lenet5(image=28, padding=0)` is the MNIST network with 431,080 parameters; the
    default pads, so that 8×8 images survive.

    Raises:
        ValueError: nothing is left of the image after the second pooling.
    Source: Caffe's `lenet.prototxt`, after LeCun et al. 1998.

    >>> sum(p.numel() for p in lenet5(image=28, padding=0).parameters())
    431080
    """
    side = image
    for _ in range(2):
        side = (side + 2 * padding - 4) // 2
    if side < 1:
        raise ValueError(
            f"lenet5: a {image}×{image} image with padding={padding} is gone after two 5×5 "
            f"convolutions and poolings; try padding=2"
        )
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5, padding=padding),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5, padding=padding),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * side * side, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


def digits_vgg(width: int = 16, channels: int = 1, classes: int = 10) -> nn.Module:
    """A plain convolutional network: three stages of two 3×3 convolutions, then a linear head.

    Stages are `width`, `2·width` and `4·width` wide with batch-norm and ReLU after every
    convolution and 2×2 max pooling between stages; average pooling before the head.

    Source: Simonyan and Zisserman 2015, arXiv:1409.1556, shrunk.

    >>> digits_vgg()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    inputs = channels
    for stage in range(3):
        outputs = width * 2**stage
        if stage:
            layers.append(nn.MaxPool2d(2))
        for _ in range(2):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*layers)


def digits_vit(
    dim: int = 64,
    depth: int = 4,
    heads: int = 4,
    patch: int = 2,
    image: int = 8,
    channels: int = 1,
    classes: int = 10,
) -> nn.Module:
    """A small vision transformer: patches, a class token, learned positions, pre-norm blocks.

    Raises:
        ValueError: `image` is no multiple of `patch`, or `dim` none of `heads`.
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, shrunk.

    >>> digits_vit()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    if image % patch or dim % heads:
        raise ValueError(
            f"digits_vit: image must be a multiple of patch and dim of heads; "
            f"got {image=}, {patch=}, {dim=}, {heads=}"
        )
    return ViT(dim, depth, heads, patch, (image // patch) ** 2, channels, classes)


class ViT(nn.Module):
    """See `digits_vit`. Names: `patches`, `cls`, `positions`, `blocks.0.attn.qkv`, …, `head`."""

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        patch: int,
        tokens: int,
        channels: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, dim, patch, stride=patch)
        self.cls = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, tokens + 1, dim) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class TransformerBlock(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, dim: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(), nn.Linear(expansion * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, self.heads * self.head_dim))
