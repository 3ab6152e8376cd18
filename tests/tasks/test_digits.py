"""The digits task is the same everywhere, normalised by its training half only."""

import sys

import pytest
import torch

from sentei.tasks import digits as exported
from sentei.tasks.digits import TEST, TRAIN, _load, digits


def test_shapes_and_split():
    task = digits()
    (train_x, train_y), (test_x, test_y) = task.train, task.test
    assert train_x.shape == (TRAIN, 1, 8, 8)
    assert test_x.shape == (TEST, 1, 8, 8)
    assert train_x.dtype == torch.float32
    assert train_y.dtype == torch.int64
    assert task.example.shape == (1, 1, 8, 8)
    # Stratified: each class has its quarter in the test set, give or take one image.
    share = test_y.bincount() / (test_y.bincount() + train_y.bincount())
    assert (share - TEST / (TRAIN + TEST)).abs().max() < 1 / 170
    assert task.classes == len(train_y.unique()) == 10


def test_normalised_by_the_training_half():
    task = digits()
    x = task.train[0].double()
    assert x.mean().abs() < 1e-6
    assert (x.std(correction=0) - 1).abs() < 1e-6
    raw = task.test[0] * task.std + task.mean
    torch.testing.assert_close(raw * 16, (raw * 16).round(), atol=1e-4, rtol=0)
    assert (raw * 16).round().max() == 16


def test_the_two_halves_share_no_image():
    task = digits()
    seen = {tuple(x.flatten().tolist()) for x in task.train[0]}
    assert not any(tuple(x.flatten().tolist()) in seen for x in task.test[0])


def test_the_same_every_time_and_nobody_can_spoil_it():
    first = digits()
    kept = first.train[0].clone()
    first.train[0].zero_()
    assert torch.equal(exported().train[0], kept)
    # Fixed by random_state=0: the first ten training labels.
    assert digits().train[1][:10].tolist() == FIRST_TEN


FIRST_TEN = [7, 3, 6, 6, 7, 6, 7, 9, 2, 9]


def test_without_scikit_learn_it_names_the_extra(monkeypatch):
    _load.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sentei\[data\]'"):
        digits()
    monkeypatch.undo()
    assert len(digits().train[1]) == TRAIN
