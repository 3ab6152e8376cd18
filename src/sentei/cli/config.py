"""`Config`: everything a run of `sentei prune` depends on, as one value that YAML can hold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentei.allocation import Target
from sentei.graph.errors import PruneError, closest

__all__ = ["Config", "absolute", "as_written", "key_values", "read_config", "target_of"]

_Share = Annotated[float, Field(gt=0, lt=1)]
_Count = Annotated[int, Field(ge=0)]
_Rate = Annotated[float, Field(gt=0)]


class Config(BaseModel):
    """What to prune, how far, how, and with which training.

    The fields are the options of `sentei prune`; see its help for what each means. The same
    configuration on the same machine gives the same model, on a CPU bit for bit.

    >>> Config(model="timm:resnet18", target={"macs": 0.5}).criterion
    'l2'
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str
    model_options: dict[str, Any] = {}
    weights: str | None = None
    input: str | None = None
    trust: bool = False

    data: str | None = None
    image_size: Annotated[int, Field(ge=1)] | None = None
    length: Annotated[int, Field(ge=2)] = 128
    augment: bool = False
    workers: _Count = 0

    target: dict[str, float | int | str] = {}
    sparsity: _Share | None = None
    protect: list[str] = []
    round_to: int | str | None = None
    min_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    uniform: bool = False
    granularity: str = "auto"
    depth: bool = False

    method: str | None = None
    method_options: dict[str, Any] = {}
    criterion: str = "l2"
    allocation: str = "global"
    rounds: Annotated[int, Field(ge=1)] = 1
    calibration: Annotated[int, Field(ge=1)] = 512
    heal: list[str] = []
    distill: bool = False
    distill_temperature: _Rate = 4.0
    distill_weight: Annotated[float, Field(ge=0)] = 1.0
    distill_features: list[str] = []

    train_epochs: _Count = 0
    train_lr: _Rate = 0.05
    epochs: _Count = 10
    round_epochs: _Count = 1
    lr: _Rate = 0.02
    batch_size: Annotated[int, Field(ge=1)] = 64
    optimizer: str = "sgd"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: str = "cosine"

    precision: Literal["no", "bf16", "fp16"] | None = None
    processes: Annotated[int, Field(ge=1)] = 1
    parallel: Literal["ddp", "fsdp"] | None = None
    checkpoint: Annotated[float, Field(ge=0)] = 10.0

    seed: int = 0
    device: str = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None

    @property
    def budget(self) -> Target | None:
        """The target; None where there is none."""
        return Target(**self.target) if self.target else None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Config:
        """Checked values.

        Raises:
            PruneError: an unknown option (names the closest), or a value that does not fit.
        """
        for name in values:
            if name not in cls.model_fields:
                raise PruneError(f"no option {name!r}; {closest(str(name), cls.model_fields)}")
        if "model" not in values:
            raise PruneError("which model? Give MODEL, or model: in the configuration file")
        try:
            config = cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(str(step) for step in first["loc"][:2])
            raise PruneError(
                f"option {place}: {_lower(first['msg'])}; got {first['input']!r}"[:300]
            ) from None
        _ = config.budget  # a target that makes no sense is refused here
        return config

    def to_yaml(self) -> str:
        """Every option, those left at their defaults too: a later default changes nothing."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options in a YAML file, not yet checked; each as YAML has it or as it is written on the
    command line.

    Raises:
        PruneError: there is no such file, or it is no mapping of options.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise PruneError(f"cannot read {path}: {reason}") from None
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise PruneError(f"{path}{line}: {getattr(error, 'problem', None) or 'no YAML'}") from None
    if not isinstance(found, Mapping):
        raise PruneError(f"{path} must hold options, such as `model: timm:resnet18`")
    return {name: as_written(name, value) for name, value in found.items()}


def as_written(name: str, value: Any) -> Any:
    """The value of an option, from the text that the command line takes where it is one.

    >>> as_written("target", "macs=50%,params=2M"), as_written("target", {"macs": "50%"})
    ({'macs': 0.5, 'params': 2000000}, {'macs': 0.5})
    >>> as_written("heal", "compensate,recalibrate"), as_written("round_to", "8")
    (['compensate', 'recalibrate'], 8)
    """
    texts = [value] if isinstance(value, str) else value
    several = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    if name == "target":
        if isinstance(value, Mapping):
            return {
                n: _amount(f"{n}={v}", v.strip()) if isinstance(v, str) else v
                for n, v in value.items()
            }
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return target_of([str(value)])
        return target_of(texts) if several else value
    if name in ("model_options", "method_options"):
        option = "--set" if name == "model_options" else "--option"
        return key_values(option, texts) if several and texts else value
    if name in ("heal", "distill_features") and several:
        return [part for text in texts for part in text.split(",")]
    if name == "protect" and isinstance(value, str):
        return texts
    if name == "round_to" and isinstance(value, str) and value.isdigit():
        return int(value)
    return value


def key_values(what: str, texts: Iterable[str]) -> dict[str, Any]:
    """`a=1,b=x` or several such texts, as a mapping; values are read as YAML reads them.

    >>> key_values("--set", ["num_classes=10", "global_pool=avg"])
    {'num_classes': 10, 'global_pool': 'avg'}
    >>> key_values("--set", ["sizes=[1, 2],flag=true"])
    {'sizes': [1, 2], 'flag': True}
    """
    found: dict[str, Any] = {}
    for text in texts:
        for part in re.split(r",(?=\s*\w+\s*=)", text):
            name, equals, value = part.partition("=")
            if not equals or not name.strip() or not value.strip():
                raise PruneError(f"{what} wants NAME=VALUE, such as num_classes=10; got {part!r}")
            try:
                found[name.strip()] = yaml.safe_load(value)
            except yaml.YAMLError:
                found[name.strip()] = value.strip()
    return found


_COUNT = re.compile(r"([0-9.]+)\s*([kKMGT])?")
_THOUSANDS = {"k": 3, "K": 3, "M": 6, "G": 9, "T": 12}


def target_of(texts: Iterable[str]) -> dict[str, float | int | str]:
    """What `--target` says: `macs=50%`, `params=2M`, `latency=10ms`, several with commas.

    A number with a point up to 1, or a percentage, is a share of what the model has now. A number
    above 1 is a count. Bytes and times have units.

    >>> target_of(["macs=50%,params=2M", "latency=10ms"])
    {'macs': 0.5, 'params': 2000000, 'latency': '10ms'}
    >>> target_of(["0.25"])  # of the multiply-adds
    {'macs': 0.25}
    """
    found: dict[str, float | int | str] = {}
    for text in texts:
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if not equals:
                name, value = "macs", part
            name, value = name.strip(), value.strip()
            if name not in Target.__dataclass_fields__:
                raise PruneError(
                    f"--target {part}: no budget {name!r}; "
                    f"{closest(name, Target.__dataclass_fields__)}"
                )
            found[name] = _amount(part, value)
    return found


def _amount(part: str, value: str) -> float | int | str:
    if value.endswith("%"):
        try:
            return round(float(value[:-1]) / 100, 12)
        except ValueError:
            raise PruneError(f"--target {part}: {value!r} is no percentage") from None
    match = _COUNT.fullmatch(value)
    if match is None:
        if not re.match(r"[0-9.]", value):
            raise PruneError(
                f"--target {part}: want a share such as 50% or an amount; got {value!r}"
            )
        return value  # a unit: of bytes, or of time
    try:
        number = float(match[1])
    except ValueError:
        raise PruneError(f"--target {part}: {value!r} is no number") from None
    if match[2]:
        return round(number * 10 ** _THOUSANDS[match[2]])
    if number > 1 and number != int(number):
        raise PruneError(
            f"--target {part}: an amount above 1 is a whole number, and a share is at most 1 or "
            f"has a %; got {value!r}"
        )
    return number if "." in match[1] and number <= 1 else int(number) if number > 1 else number


def absolute(text: str | None) -> str | None:
    """A model, data or file name with its path made absolute, so that it holds from anywhere."""
    if not text or text in _tasks():  # a folder of that name does not shadow what is built in
        return text
    for head in ("hf:", *(f"{kind}:" for kind in _kinds())):
        if text.startswith(head):
            return head + os.path.abspath(text.removeprefix(head))
    file, _, function = text.rpartition(":")
    if file.endswith(".py"):
        return f"{os.path.abspath(file)}:{function}"
    return os.path.abspath(text) if os.path.exists(text) else text


def _kinds() -> Iterable[str]:
    from sentei.tasks import FORMATS

    return FORMATS


def _tasks() -> Iterable[str]:
    from sentei.tasks import TASKS

    return TASKS


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
