"""FashionMNIST as torchvision keeps it: `FOLDER/FashionMNIST/raw`."""

from __future__ import annotations

from pathlib import Path

from sentei.sources.library import need
from sentei.tasks.dataset import Dataset
from sentei.tasks.formats import torchvision_folders
from sentei.tasks.opening import Wanted

__all__ = ["fits", "read"]

_INNER = "FashionMNIST/raw"


def fits(path: Path) -> bool:
    return torchvision_folders.home(path, _INNER) is not None


def read(path: Path, wanted: Wanted) -> Dataset:
    datasets = need("torchvision.datasets", "vision", "FashionMNIST")

    def halves(root: Path, train: bool):
        rows = datasets.FashionMNIST(str(root), train=train, download=False)
        return rows.data[:, None], rows.targets.long()

    return torchvision_folders.read("FashionMNIST", _INNER, path, wanted, 10, halves)
