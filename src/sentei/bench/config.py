"""What to run, from one YAML file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sentei.bench.runs import DENSE, Run, code_of
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, by_name
from sentei.methods.own import is_file
from sentei.recovery.train import OPTIMIZERS, SCHEDULES, Recipe
from sentei.tasks import TASKS, task

__all__ = ["Config", "load_config"]


class Training(BaseModel):
    """How long and how networks are trained; see `sentei.recovery.Recipe`."""

    model_config = ConfigDict(extra="forbid")
    epochs: int = Field(10, ge=0)
    lr: float = Field(0.05, gt=0)
    batch_size: int = Field(64, ge=1)
    optimizer: str = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    schedule: str = "cosine"

    @field_validator("optimizer")
    @classmethod
    def _optimizer(cls, value: str) -> str:
        if value not in OPTIMIZERS:
            raise ValueError(f"known optimizers: {', '.join(OPTIMIZERS)}")
        return value

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str) -> str:
        if value not in SCHEDULES:
            raise ValueError(f"known schedules: {', '.join(SCHEDULES)}")
        return value

    def recipe(self) -> Recipe:
        return Recipe(**self.model_dump())


class TaskEntry(BaseModel):
    """A task and its networks, with a training of their own if given.

    task: a name in `sentei.tasks.TASKS`, or `file.py:function` that returns a `sentei.tasks.Task`.
    """

    model_config = ConfigDict(extra="forbid")
    task: str
    models: list[str]
    training: Training | None = None
    tuning: Training | None = None
    targets: list[float] | None = None

    @field_validator("task")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in TASKS and not is_file(value):
            raise ValueError(f"known tasks: {', '.join(TASKS)}; or file.py:function")
        return value


class MethodEntry(BaseModel):
    """A method with options; a bare string is one without.

    method: an id in `sentei.methods.METHODS`, or `file.py:name`; see `sentei.methods.own`.
    """

    model_config = ConfigDict(extra="forbid")
    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    targets: list[float] | None = None


class Config(BaseModel):
    """tasks × methods × targets × seeds.

    The control (dense) and the baselines (random, global and layerwise magnitude) are added where
    they are missing: a comparison without them says little (Blalock et al. 2020, rules 4 and 9).
    """

    model_config = ConfigDict(extra="forbid")
    tasks: list[TaskEntry]
    methods: list[MethodEntry]
    targets: list[float] = Field(default_factory=lambda: [2.0, 4.0, 8.0, 16.0, 32.0])
    axis: Literal["weights", "macs"] = "weights"
    seeds: list[int] = Field(default_factory=lambda: [0, 1, 2])
    training: Training = Field(default_factory=lambda: Training(epochs=40))
    tuning: Training = Field(default_factory=lambda: Training(epochs=20, lr=0.02))

    @field_validator("methods", mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [{"method": v} if isinstance(v, str) else v for v in value]
        return value

    @field_validator("methods")
    @classmethod
    def _known(cls, value: list[MethodEntry]) -> list[MethodEntry]:
        for entry in value:
            by_name(entry.method).check_options(entry.options)
        return value

    @field_validator("targets")
    @classmethod
    def _above_one(cls, value: list[float]) -> list[float]:
        if any(t < 1 for t in value):
            raise ValueError("a target is how many times smaller, at least 1")
        return value

    def entries(self) -> list[MethodEntry]:
        """The methods with the baselines that a comparison must have."""
        baselines = _MASK_BASELINES if self.axis == "weights" else _UNIT_BASELINES
        present = {(e.method, str(sorted(e.options.items()))) for e in self.methods}
        added = [
            MethodEntry(method=m, options=o)
            for m, o in baselines
            if m in METHODS and (m, str(sorted(o.items()))) not in present
        ]
        return [*added, *self.methods]

    def runs(self) -> list[Run]:
        """Every run, controls first, then by task, so that dense networks are shared soon."""
        out: list[Run] = []
        for entry in self.tasks:
            training = (entry.training or self.training).recipe()
            tuning = (entry.tuning or self.tuning).recipe()
            for model, seed in itertools.product(entry.models, self.seeds):
                given = {"task": code_of(entry.task)} if is_file(entry.task) else {}
                common = {
                    "task": entry.task, "model": model, "seed": seed, "training": training,
                    "tuning": tuning, "axis": self.axis,
                }  # fmt: skip
                out.append(Run(method=DENSE, target=1.0, code=given, **common))
                for chosen in self.entries():
                    code = given | (
                        {"method": code_of(chosen.method)} if is_file(chosen.method) else {}
                    )
                    for target in chosen.targets or entry.targets or self.targets:
                        out.append(
                            Run(
                                method=chosen.method,
                                options=chosen.options,
                                target=target,
                                code=code,
                                **common,
                            )
                        )
        return out


_MASK_BASELINES: list[tuple[str, dict[str, Any]]] = [
    ("random", {}),
    ("han-magnitude", {}),
    ("han-magnitude", {"scope": "uniform"}),
]
_UNIT_BASELINES: list[tuple[str, dict[str, Any]]] = [("channel-random", {}), ("channel-l2", {})]


def load_config(path: str | Path) -> Config:
    """Read and check a YAML file. Files named in it are looked for beside it, and are run.

    Raises:
        PruneError: the file cannot be read, or something in it is wrong; says what and where.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PruneError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise PruneError(f"{path}: want a mapping with tasks: and methods:; got {content!r:.60}")
    _resolve(content, Path(path).absolute().parent)
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise PruneError(f"{path}: {'; '.join(told[:4])}") from error
    for entry in config.tasks:
        known = task(entry.task).models
        for model in entry.models:
            if model not in known:
                raise PruneError(
                    f"{path}: task {entry.task!r} has no model {model!r}; known: {', '.join(known)}"
                )
    return config


def _resolve(content: dict[str, Any], folder: Path) -> None:
    """Put the folder in front of names in files; whatever else is wrong is said later."""
    for part, field in (("tasks", "task"), ("methods", "method")):
        entries = content.get(part)
        for i, entry in enumerate(entries) if isinstance(entries, list) else ():
            name = entry.get(field) if isinstance(entry, dict) else entry
            if isinstance(name, str) and is_file(name):
                found = str(folder / name)
                entries[i] = entry | {field: found} if isinstance(entry, dict) else found
