"""One record a run, in a folder that only grows.

    STORE/runs/<key>.json      one finished run; never written twice
    STORE/failed/<key>.json    why a run failed, last time it was tried
    STORE/dense/<key>.safetensors   trained networks that several runs start from
    STORE/locks/<key>          held (flock) by the process that works on it, freed when it dies

A record is complete or absent: it is written beside its place and moved there. A kill loses the
run under way and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentei.graph.errors import PruneError
from sentei.storage.atomic import write_file

try:
    import fcntl
except ImportError:  # Windows has no flock: two runners may do a run twice there, to one record
    fcntl = None  # type: ignore[assignment]

__all__ = ["Store"]


class Store:
    """A folder of records.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     store = Store(home)
    ...     store.add("abc", {"accuracy": 0.5})
    ...     "abc" in store, store["abc"]["accuracy"], len(store)
    (True, 0.5, 1)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        for part in ("runs", "failed", "dense", "locks"):
            try:
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PruneError(f"cannot keep results in {self.folder}: {error}") from error

    def _file(self, key: str) -> Path:
        return self.folder / "runs" / f"{key}.json"

    def __contains__(self, key: str) -> bool:
        return self._file(key).exists()

    def __getitem__(self, key: str) -> dict[str, Any]:
        return dict(json.loads(self._file(key).read_text()))

    def __len__(self) -> int:
        return sum(1 for _ in (self.folder / "runs").glob("*.json"))

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Keep a record; one that is there already stays as it is."""
        if key not in self:
            write_file(self._file(key), json.dumps(record, indent=1, sort_keys=True) + "\n")
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "failed" / f"{key}.json").unlink()

    def fail(self, key: str, record: dict[str, Any]) -> None:
        """Note why a run failed."""
        write_file(self.folder / "failed" / f"{key}.json", json.dumps(record, indent=1) + "\n")

    def failures(self) -> dict[str, dict[str, Any]]:
        """The runs that failed last time, by key."""
        files = sorted((self.folder / "failed").glob("*.json"))
        return {f.stem: json.loads(f.read_text()) for f in files}

    def records(self) -> list[dict[str, Any]]:
        """All records, in the order of their keys.

        Raises:
            PruneError: a file is no record; names it.
        """
        out = []
        for file in sorted((self.folder / "runs").glob("*.json")):
            try:
                out.append(json.loads(file.read_text()))
            except ValueError as error:
                raise PruneError(
                    f"{file} is no record ({error}); delete it and run again"
                ) from error
        return out

    @contextlib.contextmanager
    def claim(self, key: str, *, wait: bool = False) -> Iterator[bool]:
        """Whether this process may work on `key`: nobody else is on it. Held while inside.

        wait: wait for whoever holds it.
        """
        if fcntl is None:
            yield True
            return
        handle = os.open(self.folder / "locks" / key, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)
