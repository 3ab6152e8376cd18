"""scikit-learn's digits, the built-in data."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F

from sentei.graph.errors import PruneError
from sentei.tasks.dataset import Dataset
from sentei.tasks.digits import digits
from sentei.tasks.formats.parts import split_tensors, to_channels
from sentei.tasks.opening import Wanted

__all__ = ["read"]


def read(path: Path, wanted: Wanted) -> Dataset:
    """1,797 images; 8×8 and grey unless another size and number of channels is asked for."""
    try:
        task = digits()
    except ModuleNotFoundError as missing:
        raise PruneError(str(missing)) from None

    def fitted(data):
        x, y = data
        if wanted.size is not None and wanted.size != tuple(x.shape[2:]):
            x = F.interpolate(x, wanted.size, mode="bilinear", align_corners=False)
        return to_channels(x, wanted.channels), y

    train, validation = split_tensors(fitted(task.train), wanted.validation, wanted.seed, "digits")
    return Dataset(
        "digits",
        train,
        validation,
        fitted(task.test),
        train[0][:1],
        classes=task.classes,
        notes=(f"validation: {len(validation[0])} of the training images",),
    )
