"""One file that changes all at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sentei.graph.errors import PruneError
from sentei.storage.files import _clear, _settle, _stage, _stages, _sync, _sync_name, _words

__all__ = ["replace_file", "write_file"]


def write_file(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write a file so that a kill or a full disk at any moment leaves the old one or the new one.

    Raises:
        PruneError: the file cannot be written; what was there is there still.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     write_file(f"{home}/a.txt", "new").read_text()
    'new'
    """
    data = content.encode() if isinstance(content, str) else content
    return replace_file(path, lambda new: new.write_bytes(data) and None)


def replace_file(path: str | os.PathLike[str], fill: Callable[[Path], None]) -> Path:
    """Let `fill` write a file beside `path`, then put that in its place.

    What a killed process left half written is cleared away by the next one that writes the same
    file; processes that write it at once do not disturb each other, the last one stays.

    Returns:
        the file, links resolved.
    Raises:
        PruneError: writing failed; what was there is there still.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise PruneError(f"{target} is a folder; give the name of a file")
    stage = lock = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in _stages(target):
            _clear(left, target)
        stage, lock = _stage(target)
        new = stage / "new"
        fill(new)
        # Writers of libraries may make files that only their owner reads; follow the umask.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(new, 0o666 & ~umask)
        _sync(new)
        os.replace(new, target)
        _sync_name(target)
    except OSError as error:
        raise PruneError(
            f"could not write {target}: {_words(error)}; "
            f"{'what was there is untouched' if target.exists() else 'nothing was written'}"
        ) from error
    finally:
        if stage is not None:
            _settle(stage, target)
        if lock is not None:
            os.close(lock)
    return target
