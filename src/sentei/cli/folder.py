"""The folder of a run: its configuration, its journal, and what each stage left behind.

    OUT/config.yaml        every option; `sentei prune --config OUT/config.yaml` repeats the run
    OUT/journal.json       the stages that are done, with what they found
    OUT/work/              states in the middle of work; gone when the run is done
    OUT/model/             the pruned model: what `sentei.load` and MODEL take
    OUT/answers.safetensors  an example's inputs, and what the pruned model answers to them
    OUT/masks.safetensors  which weights stayed, for methods that keep zeros
    OUT/result.json        all figures
    OUT/report.html        the same for people

Each file changes all at once, and a stage is written down after its files are there. A kill at any
moment therefore leaves a state to go on from.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentei.cli.config import Config, read_config
from sentei.cli.team import Team
from sentei.graph.errors import PruneError
from sentei.storage.atomic import write_file

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not told apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["ANSWERS", "CONFIG", "JOURNAL", "MODEL", "RESULT", "Run", "read_result", "resuming"]

CONFIG, JOURNAL, MODEL, RESULT, WORK, ANSWERS = (
    "config.yaml", "journal.json", "model", "result.json", "work", "answers.safetensors",
)  # fmt: skip
Facts = dict[str, Any]
_FIGURES = (
    "model", "data", "notes", "metric", "config", "asked", "reached", "baseline", "pruned",
    "final", "cost", "masks", "latency", "layer_seconds", "network", "stored", "groups", "pinned",
    "held", "layers", "units", "verification", "training", "seconds", "machine",
)  # fmt: skip
"""What `sentei.cli.pruning.figures.result_of` puts into `result.json`."""


class Run:
    """An open run; only one process has it, with its team. Use as a context manager.

    Only the team's main process writes; the others are told what it found.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        stages: dict[str, Facts],
        lock: int | None,
        team: Team | None = None,
    ) -> None:
        self.folder, self.config, self.stages, self._lock = folder, config, stages, lock
        self.team = team or Team()

    @staticmethod
    def start(folder: str | os.PathLike[str], config: Config) -> Run:
        """Begin a run in a folder that is new or empty.

        Raises:
            PruneError: there is a run in it already, or other files, or it cannot be written.
        """
        path = Path(folder)
        if (path / JOURNAL).exists():
            raise PruneError(
                f"{path} holds a run already; go on with --resume, or give another --out"
            )
        if path.exists() and not path.is_dir():
            raise PruneError(f"{path} is a file; --out is a folder")
        try:
            # A config.yaml alone, or what was to become one, is of a run that was killed at once.
            there = os.listdir(path) if path.exists() else []
            strangers = [f for f in there if f != CONFIG and not f.startswith(".")]
            if strangers:
                raise PruneError(
                    f"{path} is not empty ({sorted(strangers)[0]!r}); give a new folder as --out"
                )
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PruneError(f"cannot use {path} as --out: {error.strerror or error}") from None
        run = Run(path, config, {}, _lock(path))
        try:
            write_file(path / CONFIG, config.to_yaml())
            run._write()
        except BaseException:
            run.close()
            raise
        return run

    @staticmethod
    def configuration(folder: str | os.PathLike[str]) -> Config:
        """Of a run that is there.

        Raises:
            PruneError: there is none, or it is damaged.
        """
        path = Path(folder)
        if not (path / CONFIG).is_file():
            raise PruneError(f"{path} holds no run to go on with")
        return Config.of(read_config(path / CONFIG))

    @staticmethod
    def resume(folder: str | os.PathLike[str]) -> Run:
        """Go on with the run in a folder.

        Raises:
            PruneError: there is none, its files are damaged, or it is running in another process.
        """
        path, config = Path(folder), Run.configuration(folder)
        lock = _lock(path)
        try:
            return Run(path, config, _journal(path), lock)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise

    def told(self) -> Facts:
        """What the others of a team need to follow; see `following`."""
        return {
            "folder": str(self.folder),
            "config": self.config.model_dump(mode="json"),
            "stages": self.stages,
        }

    @staticmethod
    def following(told: Facts) -> Run:
        """The same run in a process that does not lead."""
        return Run(Path(told["folder"]), Config.of(told["config"]), told["stages"], None)

    def __enter__(self) -> Run:
        if "done" in self:
            self._clear()  # a kill may have come between that word and this
        else:
            (self.folder / WORK).mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def undo(self) -> None:
        """Take back what `start` did: nothing has been found out that is worth keeping."""
        if not self.team.main:
            return
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        for name in (JOURNAL, CONFIG, ".lock"):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it was there before, with other hidden files
            self.folder.rmdir()

    def close(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __contains__(self, stage: str) -> bool:
        return stage in self.stages

    def work(self, name: str) -> Path:
        """Where a stage keeps its state."""
        return self.folder / WORK / name

    def record(self, stage: str, facts: Facts) -> Facts:
        """Write down that a stage is done. Its files must be there."""
        self.stages[stage] = facts
        self._write()
        return facts

    def once(self, stage: str, do: Callable[[], Facts]) -> Facts:
        """What a stage found: from the journal, or by doing it now, in the main process."""
        if stage not in self.stages:
            self.stages[stage] = self.team.lead(lambda: self.record(stage, do()))
        return self.stages[stage]

    def drop(self, *names: str) -> None:
        """Remove states that are no longer needed."""
        if not self.team.main:
            return
        for name in names:
            path = self.work(name)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def conclude(self, result: Facts) -> None:
        """Write the figures."""
        write_file(self.folder / RESULT, json.dumps(result, indent=1) + "\n")

    def finish(self) -> None:
        """All is there: clear the work away."""
        self.record("done", {})
        self._clear()

    def _clear(self) -> None:
        if self.team.main:
            shutil.rmtree(self.folder / WORK, ignore_errors=True)

    def _write(self) -> None:
        if not self.team.main:
            return
        journal = {"format": "sentei-run", "version": 1, "stages": self.stages}
        write_file(self.folder / JOURNAL, json.dumps(journal, indent=1) + "\n")


def resuming(folder: str | os.PathLike[str]) -> str:
    """The command that goes on with a run, as a shell takes it.

    >>> resuming("runs/my model")
    "sentei prune --resume --out 'runs/my model'"
    """
    return f"sentei prune --resume --out {shlex.quote(os.fspath(folder))}"


def read_result(folder: str | os.PathLike[str]) -> Facts:
    """The figures of a finished run.

    Raises:
        PruneError: there is no run, or it is not finished; says how to go on with it.
    """
    path = Path(folder)
    if not path.exists():
        raise PruneError(f"there is no folder {path}")
    if (path / JOURNAL).is_file() and not (path / RESULT).is_file():
        raise PruneError(f"the run in {path} is not finished; go on with: {resuming(path)}")
    found = _json(path / RESULT, f"{path} holds no run of `sentei prune`")
    if not isinstance(found, dict) or found.get("format") != "sentei-result":
        raise PruneError(f"{path / RESULT} is not what `sentei prune` writes")
    lost = [name for name in _FIGURES if name not in found]
    if lost:
        raise PruneError(f"{path / RESULT} lacks {lost[0]!r}: edited, or of another version")
    return found


def _journal(path: Path) -> dict[str, Facts]:
    if (path / CONFIG).exists() and not (path / JOURNAL).exists():
        return {}  # killed before its first stage
    found = _json(path / JOURNAL, f"{path} holds no run to go on with")
    if not isinstance(found, dict) or found.get("format") != "sentei-run":
        raise PruneError(f"{path / JOURNAL} is no journal of a run")
    stages = found.get("stages")
    if found.get("version") != 1 or not isinstance(stages, dict):
        raise PruneError(f"{path / JOURNAL} is of another version of Sentei")
    if not all(isinstance(f, dict) for f in stages.values()) or (
        stages and not {"inputs", "began"} <= stages.get("start", {}).keys()
    ):
        raise PruneError(f"{path / JOURNAL} is damaged; begin anew in another --out")
    return stages


def _json(path: Path, missing: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PruneError(missing) from None
    except OSError as error:
        raise PruneError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise PruneError(f"{path} is no JSON: {error}") from None


def _lock(path: Path) -> int | None:
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    except BlockingIOError:
        with contextlib.suppress(OSError):
            if handle is not None:
                os.close(handle)
        raise PruneError(f"another process is working in {path}") from None
    except OSError as error:
        raise PruneError(f"cannot write in {path}: {error.strerror or error}") from None
