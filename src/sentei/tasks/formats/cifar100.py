"""CIFAR-100 as torchvision keeps it: `FOLDER/cifar-100-python`."""

from __future__ import annotations

from pathlib import Path

from sentei.tasks.dataset import Dataset
from sentei.tasks.formats import torchvision_folders
from sentei.tasks.formats.cifar_files import images
from sentei.tasks.opening import Wanted

__all__ = ["fits", "read"]

_INNER = "cifar-100-python"
_TRAIN, _TEST = ("train",), ("test",)


def fits(path: Path) -> bool:
    return torchvision_folders.home(path, _INNER) is not None


def read(path: Path, wanted: Wanted) -> Dataset:
    def halves(root: Path, train: bool):
        return images([root / _INNER / n for n in (_TRAIN if train else _TEST)], b"fine_labels")

    return torchvision_folders.read("CIFAR-100", _INNER, path, wanted, 100, halves)
