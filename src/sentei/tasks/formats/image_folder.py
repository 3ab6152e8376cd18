"""Images in folders, one for each class: `FOLDER/train/cat/1.jpg`, or `FOLDER/cat/1.jpg`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentei.graph.errors import PruneError
from sentei.sources.library import need
from sentei.storage.files import few
from sentei.tasks.dataset import Dataset
from sentei.tasks.formats.parts import IMAGENET, collect, split
from sentei.tasks.opening import Wanted

__all__ = ["fits", "read"]

_ENDINGS = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
_TRAIN, _VALIDATION, _TEST = ("train", "training"), ("val", "valid", "validation"), ("test",)


def fits(path: Path) -> bool:
    if not path.is_dir():
        return False
    folders = [p for p in path.iterdir() if p.is_dir()]
    return any(
        _is_image(file)
        for folder in folders
        for inner in (folder, *(p for p in folder.iterdir() if p.is_dir()))
        for file in inner.iterdir()
    )


def read(path: Path, wanted: Wanted) -> Dataset:
    """Train, validation and test folders; what is missing is held out of train by lot.

    Raises:
        PruneError: a class has no images, a part lacks a class or has another, an image is damaged.
    """
    if not path.is_dir():
        raise PruneError(f"{path} is a file; images come in a folder with a folder for each class")
    found = {
        part: next((path / name for name in names if (path / name).is_dir()), None)
        for part, names in (("train", _TRAIN), ("validation", _VALIDATION), ("test", _TEST))
    }
    root = found["train"] or path
    if found["train"] is None and (found["validation"] or found["test"]):
        raise PruneError(f"{path} has no folder train/ beside {_names(found)}")
    classes = _classes(root)
    for part in ("validation", "test"):
        folder = found[part]
        if folder is not None and (there := _classes(folder)) != classes:
            missing = [c for c in classes if c not in there]
            extra = [c for c in there if c not in classes]
            raise PruneError(
                f"{folder} must have the classes of {root}"
                + (f"; it has no folder {few(missing)}" if missing else "")
                + (f"; {root} has no folder {few(extra)}" if extra else "")
            )
    train = _rows(root, wanted, train=True)
    plain = _rows(root, wanted, train=False)
    kept: list[int] | None = None
    notes = []
    parts: dict[str, Any] = {}

    def gather(rows: Any, indices: list[int] | None, training: bool = False) -> Any:
        return collect(
            rows,
            indices,
            batch_size=wanted.batch_size,
            train=training,
            lazy=training and wanted.augment,
            workers=wanted.workers,
        )

    # A single extra folder is what the numbers are reported on.
    if found["test"] is None:
        found["test"], found["validation"] = found["validation"], None
    kept = list(range(len(plain)))
    for part, share in (("test", wanted.held_out), ("validation", wanted.validation)):
        folder = found[part]
        if folder is not None:
            parts[part] = gather(_rows(folder, wanted, train=False), None)
        else:
            rest, drawn = split(len(kept), share, wanted.seed, str(root))
            parts[part] = gather(plain, [kept[i] for i in drawn])
            kept = [kept[i] for i in rest]
            notes.append(f"{part}: {len(drawn)} of the images in {root.name or root}/, by lot")
    example, _ = plain[0]
    return Dataset(
        path.name or str(path),
        gather(train, kept, training=True),
        parts["validation"],
        parts["test"],
        example[None],
        classes=len(classes),
        notes=tuple(notes),
    )


def _names(found: dict[str, Path | None]) -> str:
    return " and ".join(f"{p.name}/" for p in found.values() if p is not None)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _ENDINGS


def _classes(root: Path) -> list[str]:
    """Folder names, sorted; each must hold an image."""
    try:
        names = sorted(p.name for p in root.iterdir() if p.is_dir())
        empty = [
            n for n in names if not any(_is_image(f) for f in (root / n).rglob("*") if f.is_file())
        ]
    except OSError as error:
        raise PruneError(f"cannot read {error.filename}: {error.strerror}") from None
    if not names:
        raise PruneError(f"{root} has no class folders; images go into a folder for each class")
    if empty:
        raise PruneError(f"the class folder {root / empty[0]} holds no images")
    if len(names) < 2:
        raise PruneError(f"{root} has one class folder, {names[0]!r}; at least two are needed")
    return names


def _rows(root: Path, wanted: Wanted, *, train: bool) -> Any:
    folder = need("torchvision.datasets", "vision", "a folder of images")
    return folder.ImageFolder(
        str(root),
        transform=_transform(wanted, augment=train and wanted.augment),
        loader=_Loader("L" if wanted.channels == 1 else "RGB"),
    )


class _Loader:
    """Decodes an image, or says which one cannot be."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __call__(self, path: str) -> Any:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                return image.convert(self.mode)
        except UnidentifiedImageError:
            raise PruneError(f"{path} is no image, or is damaged") from None
        except (OSError, SyntaxError, ValueError) as error:  # what decoders raise
            raise PruneError(f"{path} cannot be read as an image: {error}") from None


def _transform(wanted: Wanted, *, augment: bool) -> Any:
    v2 = need("torchvision.transforms.v2", "vision", "a folder of images")
    import torch

    height, width = wanted.size or wanted.model_size or (224, 224)
    grey = wanted.channels == 1
    mean = wanted.mean or ((0.5,) if grey else IMAGENET[0])
    std = wanted.std or ((0.5,) if grey else IMAGENET[1])
    if augment:
        shape = [v2.RandomResizedCrop((height, width), antialias=True), v2.RandomHorizontalFlip()]
    else:
        shape = [v2.Resize((height, width), antialias=True)]
        if height == width:
            shape = [v2.Resize(height, antialias=True), v2.CenterCrop(height)]
    return v2.Compose(
        [
            v2.ToImage(),
            *shape,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )
