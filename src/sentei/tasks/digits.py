"""scikit-learn's digits as tensors: 1,797 grey images of 8×8 pixels, ten classes."""

from functools import cache

import torch
from torch import Tensor

from sentei.tasks import models
from sentei.tasks.base import Task

TRAIN, TEST = 1347, 450


def digits() -> Task:
    """The digits task; the same tensors on every call and every machine.

    Pixels are divided by 16, then by `x = (x - mean) / std` with the mean and the (population)
    standard deviation of all training pixels together. The split is stratified by class and
    fixed: 1,347 train, 450 test, `train_test_split(..., test_size=450, random_state=0)`. One
    test image is 0.22 points of accuracy; chance is 10 %.

    Returns:
        `Task` with x `(N, 1, 8, 8)` float32 and y `(N,)` int64. Each call returns fresh copies,
        so writing into them harms nobody.
    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), in the
        form scikit-learn ships (the UCI test set).

    >>> digits().train[0].shape
    torch.Size([1347, 1, 8, 8])
    """
    train_x, train_y, test_x, test_y, mean, std = _load()
    return Task(
        name="digits",
        train=(train_x.clone(), train_y.clone()),
        test=(test_x.clone(), test_y.clone()),
        example=train_x[:1].clone(),
        models={
            "mlp": models.lenet_300_100,
            "lenet5": models.lenet5,
            "vgg": models.digits_vgg,
            "resnet": models.digits_resnet,
            "vit": models.digits_vit,
        },
        classes=10,
        mean=mean,
        std=std,
    )


@cache
def _load() -> tuple[Tensor, Tensor, Tensor, Tensor, float, float]:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "the digits task comes from scikit-learn, which is not installed. "
            "Install it with: pip install 'sentei[data]'",
            name=missing.name,
        ) from missing

    raw, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        raw / 16.0, labels, test_size=TEST, random_state=0, stratify=labels
    )
    mean, std = float(train_x.mean()), float(train_x.std())

    def images(x) -> Tensor:
        return torch.tensor((x - mean) / std, dtype=torch.float32).reshape(-1, 1, 8, 8)

    def classes(y) -> Tensor:
        return torch.tensor(y, dtype=torch.int64)

    return images(train_x), classes(train_y), images(test_x), classes(test_y), mean, std
