"""The files of CIFAR: pickles, of which only plain values and arrays of numbers are read."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["images"]

# What the pickle of an array names, by old and new numpy and both Pythons; nothing of it can act.
_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ValueError(f"it names {module}.{name}, which is no array, and is not run")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def images(files: Sequence[Path], labels: bytes) -> tuple[Tensor, Tensor]:
    """uint8 images (N, 3, 32, 32) and int64 classes (N,) of several files.

    Raises:
        OSError, ValueError and others: a file is missing, or is something else.
    """
    pixels, classes = [], []
    for file in files:
        with open(file, "rb") as opened:
            content = _Plain(opened, encoding="bytes").load()
        data = np.asarray(content[b"data"])
        if data.dtype != np.uint8 or data.shape != (len(content[labels]), 3 * 32 * 32):
            raise ValueError(f"{file.name} has {data.dtype} images of shape {data.shape}")
        pixels.append(data)
        classes += content[labels]
    stacked = torch.from_numpy(np.concatenate(pixels)).view(-1, 3, 32, 32)
    return stacked, torch.tensor(classes, dtype=torch.int64)
