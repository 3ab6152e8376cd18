"""A data string such as `digits` or a folder, as a `Dataset`."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from sentei.graph.errors import PruneError, closest
from sentei.tasks.dataset import Dataset

__all__ = ["FORMATS", "Wanted", "open_data"]


@dataclass(frozen=True)
class Wanted:
    """How the data is to arrive: what the model takes, and how much of it.

    size: height and width of images; None: as they come, and of image folders `model_size`.
    channels: 1 or 3. mean, std: of image folders, a number for each channel;
        x = (pixel / 255 - mean) / std. Other data has its own.
    keywords: batches are keyword arguments, as Hugging Face models take them.
    tokenizer: a folder to load one from; None: bytes.
    vocabulary: how many tokens the model knows. length: tokens of an example, at most.
    pad: the token that fills up.
    batch_size: of data too large for memory.
    validation, held_out: shares of the training data that become validation, and test where the
        data brings none.
    augment: random crops and flips of training images.
    workers: processes that read images; 0 reads in this one.
    """

    size: tuple[int, int] | None = None
    model_size: tuple[int, int] | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    keywords: bool = False
    tokenizer: str | None = None
    vocabulary: int | None = None
    length: int = 128
    pad: int = 0
    batch_size: int = 64
    validation: float = 0.1
    held_out: float = 0.2
    augment: bool = False
    workers: int = 0
    seed: int = 0


class Format(Protocol):
    """What a module under `sentei.tasks.formats` offers.

    fits: whether a folder or file looks like this format.
    read: the data.
    """

    def fits(self, path: Path) -> bool: ...
    def read(self, path: Path, wanted: Wanted) -> Dataset: ...


# Tried in this order where no prefix says which.
FORMATS: dict[str, str] = {
    "cifar10": "sentei.tasks.formats.cifar10",
    "cifar100": "sentei.tasks.formats.cifar100",
    "mnist": "sentei.tasks.formats.mnist",
    "fashion-mnist": "sentei.tasks.formats.fashion_mnist",
    "hf": "sentei.tasks.formats.huggingface",
    "text": "sentei.tasks.formats.plain_text",
    "images": "sentei.tasks.formats.image_folder",
}
_FORMS = (
    "digits; a folder of images (a folder for each class), of CIFAR or MNIST as torchvision keeps "
    "them, of Hugging Face datasets, or of text files; or file.py:function"
)


def open_data(text: str | os.PathLike[str], wanted: Wanted | None = None) -> Dataset:
    """The dataset that a data string names.

    `digits` and the other tasks of `sentei.tasks.TASKS` are built in. A folder is looked at to
    find out what it holds; `KIND:FOLDER` with a kind of `FORMATS` says so. `file.py:function` runs
    the user's function. Nothing is downloaded.

    Raises:
        PruneError: there is no such data, or it is damaged; says where.

    >>> open_data("digits").counts
    (1212, 135, 450)
    """
    wanted = wanted or Wanted()
    text = os.fspath(text)
    _check_shares(wanted)
    if text == "digits":
        from sentei.tasks.formats import digits

        return digits.read(Path(), _plain(wanted, text))
    from sentei.tasks import TASKS, task

    if text in TASKS:
        return Dataset.of(task(text), _plain(wanted, text).validation, wanted.seed)
    head, colon, rest = text.partition(":")
    file, _, function = text.rpartition(":")
    if file.endswith(".py"):
        from sentei.tasks.formats import user_file

        return user_file.read(file, function, _plain(wanted, text))
    if text.endswith(".py"):
        raise PruneError(f"{text!r} needs the function that gives the data: {text}:FUNCTION")
    if colon and head in FORMATS:
        path = _there(Path(rest), text)
        return _format(head).read(path, wanted if head == "images" else _plain(wanted, text))
    if colon and head.isidentifier() and not Path(text).exists():
        raise PruneError(
            f"no kind of data {head!r} in {text!r}; {closest(head, FORMATS)}. Data is one of: "
            f"{_FORMS}"
        )
    path = _there(Path(text), text)
    for name in FORMATS:
        if _format(name).fits(path):
            return _format(name).read(path, wanted if name == "images" else _plain(wanted, text))
    what = "is empty" if path.is_dir() and not any(path.iterdir()) else "holds no data I know"
    raise PruneError(f"{text} {what}. Data is one of: {_FORMS}")


def _plain(wanted: Wanted, text: str) -> Wanted:
    """For data that is not augmented."""
    if wanted.augment:
        raise PruneError(f"only folders of images are augmented, and {text} is none")
    return wanted


def _format(name: str) -> Format:
    return cast(Format, importlib.import_module(FORMATS[name]))


def _there(path: Path, text: str) -> Path:
    try:
        path.stat()
        if path.is_dir():
            os.listdir(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise PruneError(f"there is no data {text!r}. Data is one of: {_FORMS}") from None
        raise PruneError(f"cannot read {path}: {error.strerror or error}") from None
    return path


def _check_shares(wanted: Wanted) -> None:
    for name in ("validation", "held_out"):
        value: Any = getattr(wanted, name)
        if not 0 < value < 1:
            raise PruneError(f"{name} is a share of the data, between 0 and 1; got {value!r}")
