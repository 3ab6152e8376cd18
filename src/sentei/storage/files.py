"""Folders that change all at once, and files that are read only when they are what they seem.

A folder is written beside its place and moved there when it is complete, so a kill or a full disk
at any moment leaves the old folder or the new one. The stage is a hidden sibling,
`.NAME.saving-XXXX`, with the folders `new` (being written) and, where the system cannot exchange
two folders in one step, `old` (moved out of the way); its owner holds a lock on it, so that the
next save can tell a dead one and clear it away.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from sentei.graph.errors import PruneError

try:
    import fcntl
except ImportError:  # Windows: stages of dead processes stay until someone deletes them
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "RECIPE",
    "WEIGHTS",
    "few",
    "is_artefact",
    "locate",
    "quoted",
    "read",
    "regular",
    "replace",
    "sha256",
]

WEIGHTS, RECIPE = "model.safetensors", "sentei.json"
# What may be in an artefact: all of it speaks of the model that is replaced, and goes with it.
_OURS = {WEIGHTS, RECIPE, "model.onnx", "model.pt2", "report.html", "report.json"}
_STAGE = re.compile(r"\..+\.saving-.+")  # what a killed writer of a file in it left
# Two processes that save to one place take turns; each turn, one of them gets through.
_TURNS = 100


def replace(
    folder: str | os.PathLike[str],
    fill: Callable[[Path], None],
    strangers: Callable[[Path, set[str]], Iterable[str]] | None = None,
) -> Path:
    """Let `fill` write files into a new folder, then put that in the place of `folder`.

    Args:
        strangers: given the folder that is there and its names, those that we did not write and
            must not replace; by default, what belongs in no artefact.
    Returns:
        the folder, links resolved.
    Raises:
        PruneError: the place is taken by something that is no artefact, or writing failed (full
            disk, no permission). What was there is there still.

    >>> with tempfile.TemporaryDirectory() as home:
    ...     made = replace(home + "/it", lambda new: (new / RECIPE).touch() or None)
    ...     os.listdir(home), os.listdir(made)
    (['it'], ['sentei.json'])
    """
    target = Path(os.path.realpath(folder))
    _check_free(target, strangers or _foreign)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in _stages(target):
            _clear(left, target)
        stage, lock = _stage(target)
    except OSError as error:
        raise PruneError(f"cannot write beside {target}: {_words(error)}") from error
    try:
        new = stage / "new"
        new.mkdir()
        fill(new)
        for file in new.iterdir():
            _sync(file)
        _sync(new)
        _swap(stage, target)
    except (OSError, SafetensorError) as error:
        raise PruneError(
            f"could not write {target}: {_words(error)}; "
            f"{'what was there is untouched' if target.exists() else 'nothing was written'}"
        ) from error
    finally:
        # Also after Ctrl-C between the two renames, where the only copies are in the stage.
        _settle(stage, target)
        if lock is not None:
            os.close(lock)
    return target


def locate(folder: str | os.PathLike[str]) -> Path:
    """Where an artefact is to be read: its folder, or the stage if a save was cut off in the swap.

    Nothing is moved: reading works on a disk that cannot be written.

    Raises:
        PruneError: there is no such folder, or it is not a folder.
    """
    target = Path(os.path.realpath(folder))
    if target.is_dir():
        # The folder of a run of `sentei prune` stands for the model in it.
        inner = target / "model"
        return inner if is_artefact(inner) and not is_artefact(target) else target
    if target.exists():
        raise PruneError(f"{target} is a file; an artefact is a folder with {RECIPE} in it")
    for stage in _stages(target):
        if _cut_off(stage):
            return stage / "new"
    raise PruneError(f"there is no folder {target}")


def is_artefact(folder: Path) -> bool:
    """Whether a folder holds a recipe."""
    return (folder / RECIPE).is_file()


def regular(path: Path) -> int:
    """The size of a plain file, in bytes.

    Raises:
        PruneError: it is missing, a link (which could lead anywhere), a pipe or a device.
    """
    try:
        found = os.lstat(path)
    except OSError as error:
        raise PruneError(f"{path.parent} has no {path.name}: {_words(error)}") from None
    if stat.S_ISLNK(found.st_mode):
        raise PruneError(f"{path} is a link, and an artefact holds plain files only")
    if not stat.S_ISREG(found.st_mode):
        raise PruneError(f"{path} is not a plain file")
    return found.st_size


def read(path: Path, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes."""
    size = regular(path)
    if size > limit:
        raise PruneError(f"{path} has {size:,} bytes; more than {limit:,} are not read")
    with _reading(path), open(path, "rb") as file:
        return file.read(limit)


def sha256(path: Path) -> str:
    """The digest of a plain file, in hex."""
    regular(path)
    with _reading(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quoted(text: str, most: int = 80) -> str:
    r"""A name from a file, safe to print: no control characters, no novel.

    >>> quoted("a\x1b[31m")
    "'a\\x1b[31m'"
    """
    return repr(text if len(text) <= most else text[:most] + "…")


def few(items: Iterable[str], most: int = 3) -> str:
    """The first few, and how many more.

    >>> few("abcde")
    'a; b; c; and 2 more'
    """
    items = list(items)
    more = f"; and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + more


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PruneError(f"cannot read {path}: {_words(error)}") from error


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _foreign(folder: Path, names: set[str]) -> Iterable[str]:
    """What is not part of an artefact; everything, where there is no recipe."""
    return names - _OURS if RECIPE in names else names


def _check_free(target: Path, foreign: Callable[[Path, set[str]], Iterable[str]]) -> None:
    """Refuse to replace what Sentei did not write."""
    if not target.exists():
        return
    if not target.is_dir():
        raise PruneError(f"{target} is a file; give a folder")
    try:
        there = set(os.listdir(target))
    except OSError as error:
        raise PruneError(f"cannot read {target}: {_words(error)}") from error
    strangers = sorted(foreign(target, {n for n in there if not _STAGE.fullmatch(n)}))
    if strangers:
        raise PruneError(
            f"{target} holds other files ({few(map(quoted, strangers))}), and writing replaces a "
            "folder as a whole; give a folder that is new, empty or written by Sentei before"
        )


# -- the stage ----------------------------------------------------------------------------------
def _prefix(target: Path) -> str:
    return f".{target.name}.saving-"


def _stages(target: Path) -> list[Path]:
    prefix = _prefix(target)
    try:
        with os.scandir(target.parent) as entries:
            return sorted(
                Path(e.path)
                for e in entries
                if e.name.startswith(prefix) and e.is_dir(follow_symlinks=False)
            )
    except OSError:
        return []


def _stage(target: Path) -> tuple[Path, int | None]:
    """A stage of our own, and the lock on it."""
    while True:
        stage = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        lock = _lock(stage)
        if stage.is_dir():  # else someone took it for a dead one before it was locked
            return stage, lock
        if lock is not None:
            os.close(lock)


def _lock(stage: Path) -> int | None:
    """A lock on a folder that ends with its process; None where it is held or cannot be had."""
    if fcntl is None:
        return None
    try:
        handle = os.open(stage, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _clear(stage: Path, target: Path) -> None:
    """Finish what a dead save left; leave a living one alone."""
    lock = _lock(stage)
    if lock is None:
        return
    _settle(stage, target)
    os.close(lock)


def _exchange(a: Path, b: Path) -> bool:
    """Let two folders change places in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def _swap(stage: Path, target: Path) -> None:
    # Where this works there is no moment without a folder, so other readers than ours see none.
    if _exchange(stage / "new", target):
        _sync_name(target)
        return
    for turn in range(_TURNS):
        old = stage / f"old{turn}"
        # Only a complete new folder moves the old one: `old` says that `new` is whole.
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, old)
        try:
            os.rename(stage / "new", target)
        except OSError:
            if target.exists():
                continue  # another process was faster; its folder is replaced in the next turn
            if old.exists():
                os.rename(old, target)
            raise
        _sync_name(target)
        return
    raise PruneError(f"{target} is being written by too many processes at once")


def _cut_off(stage: Path) -> bool:
    return (stage / "new").is_dir() and any(stage.glob("old*"))


def _settle(stage: Path, target: Path) -> None:
    """Finish a swap that was cut off, then clear the stage away."""
    if _cut_off(stage) and not target.exists():
        try:
            os.rename(stage / "new", target)
        except OSError:
            return  # the only copies are here: they stay, and `locate` finds them
    shutil.rmtree(stage, ignore_errors=True)


def _sync_name(target: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems do not sync folders
        _sync(target.parent)


def _sync(path: Path) -> None:
    """Onto the disk, so that a power cut does not leave a name without its contents."""
    if path.is_dir() and fcntl is None:
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
