"""Measured times of operators, kept on disk for the next time.

One JSON file holds the times of one kind of machine: device, processor, number of threads and
version of PyTorch are in its name; operator, types and shapes are the keys inside. Files are
replaced whole, under a lock, and what another process wrote meanwhile is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from sentei.allocation.stopwatch import Neighbours, Stopwatch, WallClock

__all__ = ["LatencyTable", "cache_folder", "machine"]

_FORMAT = 1
# Fewer measurements than this are done before a bar could be read.
_WORTH_A_BAR = 40
# How often a time that looks wrong is measured again.
_AGAIN = 2

Runs = Mapping[str, Callable[[], Callable[[], Any]]]


def cache_folder() -> Path:
    """Where tables are kept: `$SENTEI_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("SENTEI_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("sentei")


def machine(device: torch.device) -> dict[str, Any]:
    """What times depend on, besides the operator and its shapes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "format": _FORMAT,
        "device": device.type,
        "processor": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class LatencyTable:
    """Seconds by operator signature, measured when first asked for.

    Args:
        device: where operators run.
        stopwatch: how to measure; real time if None.
        folder: where to keep the table; `cache_folder()` if None, nowhere if False.
        progress: show a bar while measuring.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        *,
        stopwatch: Stopwatch | None = None,
        folder: Path | str | bool | None = None,
        progress: bool = True,
    ) -> None:
        self.device = torch.device(device)
        self.stopwatch = stopwatch if stopwatch is not None else WallClock()
        self.machine = machine(self.device)
        self.progress = progress
        self._said: set[str] = set()
        self.path: Path | None = None
        if folder is not False:
            base = cache_folder() if folder is None or folder is True else Path(folder)
            key = json.dumps(self.machine, sort_keys=True).encode()
            self.path = base / "latency" / f"{hashlib.sha256(key).hexdigest()[:16]}.json"
        self.known: dict[str, float | None] = self._read() if self.path is not None else {}

    def measure(self, runs: Runs, doubted: Callable[[], Iterable[str]] = tuple) -> None:
        """Make sure the operators are known.

        Args:
            runs: signature -> a function that builds the operands and returns the run. An operator
                that cannot be run by itself is noted as None.
            doubted: signatures whose times look wrong in the light of the others. What has just
                been measured is then measured again, and the shorter time stays: somebody else may
                have been at work.
        """
        missing = [signature for signature in runs if signature not in self.known]
        if not missing:
            return
        real = isinstance(self.stopwatch, WallClock)
        neighbours = Neighbours()
        try:
            for signature in self._shown(missing):
                self.known[signature] = self._one(signature, runs[signature])
            for _ in range(_AGAIN):
                wrong = {*doubted()}
                for signature in (s for s in missing if s in wrong):
                    first, again = self.known[signature], self._one(signature, runs[signature])
                    if first is not None and again is not None:
                        self.known[signature] = min(first, again)
        finally:  # what was measured before an interruption is not measured again
            if real and neighbours.crowd(torch.get_num_threads()):
                self._say(
                    "is left as it was: other programs were using the processor, so these times "
                    "are too long, and hold for this run only. Come back when it is quiet"
                )
            else:
                self._write()

    def _one(self, signature: str, build: Callable[[], Callable[[], Any]]) -> float | None:
        try:
            return self.stopwatch.operator(signature, build())
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            return None  # such as indices out of range: data that only the model itself has

    def _shown(self, missing: list[str]) -> Iterable[str]:
        if not self.progress or len(missing) < _WORTH_A_BAR:
            yield from missing
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("measuring operators on this machine"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield from bar.track(missing)

    # -- on disk --------------------------------------------------------------------------------
    def _read(self) -> dict[str, float | None]:
        assert self.path is not None
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            self._say(f"cannot be read ({error}); measuring anew")
            return {}
        try:
            content = json.loads(text)
            if content["machine"] != self.machine:
                raise ValueError("it speaks of another machine")
            seconds = content["seconds"]
            for name, value in seconds.items():
                if value is not None and not (
                    isinstance(value, float) and isfinite(value) and value >= 0
                ):
                    raise ValueError(f"{value!r} is no time for {name}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._say(f"is damaged ({error}); measuring anew")
            return {}
        return dict(seconds)

    def _write(self) -> None:
        if self.path is None:
            return
        from filelock import FileLock, Timeout

        temporary = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=10):
                if self.path.exists():
                    self.known = {**self._read(), **self.known}
                content = {"machine": self.machine, "seconds": self.known}
                handle, temporary = tempfile.mkstemp(dir=self.path.parent, suffix=".part")
                with os.fdopen(handle, "w") as file:
                    json.dump(content, file, indent=0)
                os.replace(temporary, self.path)
        except (OSError, Timeout) as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            self._say(f"cannot be written ({error}); its times hold for this run only")

    def _say(self, what: str) -> None:
        if what in self._said:
            return
        self._said.add(what)
        from rich.console import Console

        Console(stderr=True, highlight=False).print(
            f"latency table {self.path} {what}", markup=False, soft_wrap=True
        )
