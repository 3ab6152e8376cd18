"""Data sets in the folders torchvision makes: CIFAR, MNIST and its like. Never downloaded here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from sentei.graph.errors import PruneError
from sentei.tasks.dataset import Dataset
from sentei.tasks.formats.parts import split_tensors, to_channels
from sentei.tasks.opening import Wanted

__all__ = ["Halves", "home", "read"]

Halves = Callable[[Path, bool], tuple[Tensor, Tensor]]


def home(path: Path, inner: str) -> Path | None:
    """What torchvision calls root: the folder that holds `inner`; also where `inner` was given.

    >>> home(Path("/nowhere"), "MNIST/raw") is None
    True
    """
    if (path / inner).is_dir():
        return path
    for tail in (inner, inner.partition("/")[0]):
        if path.name == Path(tail).name and path.is_dir():
            root = path.resolve()
            for _ in Path(tail).parts:
                root = root.parent
            if (root / inner).is_dir():
                return root
    return None


def read(
    kind: str, inner: str, path: Path, wanted: Wanted, classes: int, halves: Halves
) -> Dataset:
    """Both halves in memory, normalised by the training images' own mean and deviation.

    Args:
        halves: (root, train) -> uint8 images (N, C, H, W) and int64 classes (N,).
    Raises:
        PruneError: the folder is not there, incomplete or damaged.
    """
    root = home(path, inner)
    if root is None:
        raise PruneError(f"{path} holds no {inner}/, which is where torchvision keeps {kind}")
    found: list[tuple[Tensor, Tensor]] = []
    for train in (True, False):
        try:
            x, y = halves(root, train)
            if not len(x) or len(x) != len(y) or not 0 <= int(y.min()) <= int(y.max()) < classes:
                raise ValueError(f"{len(x)} images and {len(y)} classes of {classes}")
        except Exception as error:  # whatever a damaged file makes its reader do
            reason = str(error).partition(". You can use")[0] or type(error).__name__
            raise PruneError(
                f"{kind} in {root / inner} is incomplete or damaged: {reason[:200]}"
            ) from None
        found.append((x, y))
    pixels = found[0][0].float() / 255
    axes = (0, 2, 3)
    mean, std = pixels.mean(axes), pixels.std(axes).clamp_min(1e-6)

    def ready(half: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x = half[0].float() / 255
        x = to_channels((x - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1), wanted.channels)
        if wanted.size is not None and wanted.size != tuple(x.shape[2:]):
            x = F.interpolate(x, wanted.size, mode="bilinear", align_corners=False, antialias=True)
        return x, half[1]

    train, validation = split_tensors(ready(found[0]), wanted.validation, wanted.seed, kind)
    return Dataset(
        kind,
        train,
        validation,
        ready(found[1]),
        train[0][:1],
        classes=classes,
        notes=(f"validation: {len(validation[0])} of the training images",),
    )
