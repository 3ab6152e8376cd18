"""One file that changes all at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sentei.graph.errors import PruneError

__all__ = ["write_file"]


def write_file(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write a file so that a kill or a full disk at any moment leaves the old one or the new one.

    Raises:
        PruneError: the file cannot be written; what was there is there still.

    >>> with tempfile.TemporaryDirectory() as home:
    ...     write_file(f"{home}/a.txt", "new").read_text()
    'new'
    """
    target = Path(os.path.realpath(path))
    data = content.encode() if isinstance(content, str) else content
    stage = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, stage = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner reads; a plain file follows the umask.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(stage, 0o666 & ~umask)
        os.replace(stage, target)
        stage = None
    except OSError as error:
        raise PruneError(
            f"could not write {target}: {error.strerror or error}; "
            f"{'what was there is untouched' if target.exists() else 'nothing was written'}"
        ) from error
    finally:
        if stage is not None and os.path.exists(stage):
            os.unlink(stage)
    return target
