"""CIFAR-10 as torchvision keeps it: `FOLDER/cifar-10-batches-py`."""

from __future__ import annotations

from pathlib import Path

from sentei.tasks.dataset import Dataset
from sentei.tasks.formats import torchvision_folders
from sentei.tasks.formats.cifar_files import images
from sentei.tasks.opening import Wanted

__all__ = ["fits", "read"]

_INNER = "cifar-10-batches-py"
_TRAIN, _TEST = (
    ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"),
    ("test_batch",),
)


def fits(path: Path) -> bool:
    return torchvision_folders.home(path, _INNER) is not None


def read(path: Path, wanted: Wanted) -> Dataset:
    def halves(root: Path, train: bool):
        return images([root / _INNER / n for n in (_TRAIN if train else _TEST)], b"labels")

    return torchvision_folders.read("CIFAR-10", _INNER, path, wanted, 10, halves)
