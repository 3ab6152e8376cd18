"""`Source`: the model string of the command line as a value that rebuilds the model."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import nn

from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest
from sentei.sources.weights import load_weights
from sentei.storage.files import RECIPE, is_artefact, quoted

__all__ = ["KINDS", "Kind", "Opened", "Source", "source_of"]

_KEY = "_sentei_source"  # where a model remembers how it was built; copies remember it, too


class Opened(NamedTuple):
    """A model, and inputs to run it on: what `example_inputs=` takes; None where nobody knows."""

    model: nn.Module
    example: Any


class Kind(Protocol):
    """What a module under `sentei.sources` offers for one kind of source.

    describe: check name and options, and look up what rebuilding needs (`Source.facts`).
    build: the model with the weights that come with it; `example`, where the builder gives one.
    skeleton: the same model, its weights of no matter: nothing is read that a pruned model brings
        along itself.
    example: inputs guessed from the model's own metadata.
    """

    def describe(self, name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]: ...
    def build(self, source: Source) -> Opened: ...
    def skeleton(self, source: Source) -> nn.Module: ...
    def example(self, source: Source, model: nn.Module, batch: int) -> Any: ...


# Modules, imported when asked for: they import libraries that not everybody has.
KINDS: dict[str, str] = {
    "timm": "sentei.sources.timm_models",
    "torchvision": "sentei.sources.torchvision_models",
    "hf": "sentei.sources.huggingface_folder",
    "file": "sentei.sources.user_file",
    "sentei": "sentei.sources.artefact",
}


# Slots: without a `__dict__` this is no settings object whose integers capture would follow.
@dataclass(frozen=True, slots=True)
class Source:
    """How a model is built: by whom, its name there, and the options of the builder.

    kind: a key of `KINDS`. name: the model's name, folder, or `file.py:function`.
    options: keyword arguments of the builder; plain JSON values.
    facts: what rebuilding needs besides: the configuration of a Hugging Face folder, the hash of a
        user's file.

    >>> source = Source("timm", "resnet18", {"in_chans": 1})
    >>> Source.from_json(source.to_json()) == source
    True
    """

    kind: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PruneError(f"no kind of source {quoted(self.kind)}; {closest(self.kind, KINDS)}")
        if not isinstance(self.name, str) or not self.name:
            raise PruneError(f"a {self.kind} source needs a name")
        object.__setattr__(self, "options", _plain("options", self.options))
        object.__setattr__(self, "facts", _plain("facts", self.facts))

    @classmethod
    def of(cls, text: str | os.PathLike[str], **options: Any) -> Source:
        """The source that a MODEL string names; the builder's options as keywords.

        Raises:
            PruneError: no such form, name, folder or file, or the library is not installed; says
                what is nearest, or what to install. Nothing is built or run.

        >>> Source.of("torchvision:resnet18", num_classes=10)
        Source(kind='torchvision', name='resnet18', options={'num_classes': 10})
        """
        kind, name = _split(os.fspath(text))
        name, facts = _kind(kind).describe(name, _plain("options", options))
        return cls(kind, name, options, facts)

    def __str__(self) -> str:
        """The MODEL string.

        >>> str(Source("timm", "resnet18"))
        'timm:resnet18'
        """
        return self.name if self.kind in ("file", "sentei") else f"{self.kind}:{self.name}"

    def open(self, weights: str | os.PathLike[str] | None = None, *, batch: int = 2) -> Opened:
        """Build the model, and example inputs with it.

        Args:
            weights: a safetensors file or a torch state dict, read without running anything in it.
            batch: of the example inputs; a builder that gives its own is not asked for another.
        Raises:
            PruneError: the builder or the weights refuse; says why.

        >>> model, example = Source("torchvision", "resnet18", {"num_classes": 10}).open()
        >>> tuple(example.shape), model.fc.out_features
        ((2, 3, 224, 224), 10)
        """
        model, example = self._built(weights)
        if example is None:
            example = _kind(self.kind).example(self, model, batch)
        return Opened(model, example)

    def build(self, weights: str | os.PathLike[str] | None = None) -> nn.Module:
        """The model, in eval mode; as `open`, without the example."""
        return self._built(weights).model

    def _built(self, weights: str | os.PathLike[str] | None) -> Opened:
        made = _kind(self.kind).build(self)
        if weights is not None:
            load_weights(made.model, weights)
        if self.kind != "sentei":  # whose models know their own
            remember(made.model, self)
        made.model.eval()
        return made

    def example(self, model: nn.Module | None = None, *, batch: int = 2) -> Any:
        """Example inputs from the model's own metadata, as `example_inputs=` takes them.

        Returns:
            None where the model does not say what it takes.
        """
        if model is None or self.kind == "file":
            return self.open(batch=batch).example
        return _kind(self.kind).example(self, model, batch)

    def skeleton(self) -> nn.Module:
        """The model as it was built, its weights of no matter; the state of random numbers stays.

        This is what `sentei.load` shrinks and fills.
        """
        with torch.random.fork_rng(devices=[]):
            return remember(_kind(self.kind).skeleton(self).eval(), self)

    def origin(self) -> Source | None:
        """Where the unpruned model came from: of an artefact, its own source, if it has one."""
        if self.kind != "sentei":
            return self
        from sentei.sources import artefact

        return artefact.origin(self)

    def to_json(self) -> str:
        """The source as JSON text."""
        return json.dumps({k: v for k, v in asdict(self).items() if v})

    @classmethod
    def from_json(cls, text: str | Mapping[str, Any]) -> Source:
        """The source that `to_json` wrote; as text, or parsed."""
        data = json.loads(text) if isinstance(text, str) else dict(text)
        unknown = set(data) - {"kind", "name", "options", "facts"}
        if unknown or not {"kind", "name"} <= set(data):
            raise PruneError(f"a source has kind, name, options and facts; got {sorted(data)}")
        return cls(**data)


def remember(model: nn.Module, source: Source) -> nn.Module:
    """Note on a model how it was built."""
    vars(unwrap(model))[_KEY] = source
    return model


def source_of(model: nn.Module) -> Source | None:
    """How a model was built, if a `Source` or `sentei.load` built it.

    >>> source_of(Source("torchvision", "squeezenet1_1").build())
    Source(kind='torchvision', name='squeezenet1_1', options={})
    """
    return vars(unwrap(model)).get(_KEY)


def _kind(name: str) -> Kind:
    return cast(Kind, importlib.import_module(KINDS[name]))


_FORMS = (
    "timm:NAME, torchvision:NAME, hf:FOLDER (a local Hugging Face folder), file.py:function, "
    "or the folder of an earlier sentei.save"
)


def _split(text: str) -> tuple[str, str]:
    """(kind, name) of a MODEL string."""
    head, colon, rest = text.partition(":")
    if colon and head in ("timm", "torchvision", "hf"):
        if not rest:
            raise PruneError(f"{text!r} names no model; a model is one of {_FORMS}")
        return head, rest
    path, colon, function = text.rpartition(":")
    if colon and path.endswith(".py"):
        if not function.isidentifier():
            raise PruneError(f"{text!r}: {function!r} is no name of a function")
        return "file", text
    if text.endswith(".py"):
        raise PruneError(f"{text!r} needs the function that builds the model: {text}:FUNCTION")
    folder = Path(text)
    if is_artefact(folder):
        return "sentei", text
    if is_artefact(folder / "model"):  # of a run of `sentei prune`
        return "sentei", str(folder / "model")
    if (folder / "config.json").is_file():
        raise PruneError(f"{text!r} looks like a Hugging Face folder; write hf:{text}")
    if folder.is_dir():
        raise PruneError(f"{text!r} is a folder without {RECIPE}; a model is one of {_FORMS}")
    if colon and head.isidentifier():
        raise PruneError(f"no kind of model {head!r} in {text!r}; a model is one of {_FORMS}")
    raise PruneError(f"cannot tell what model {text!r} is; a model is one of {_FORMS}")


def _plain(what: str, value: Any, where: str = "") -> Any:
    """A copy of plain JSON values; tuples become lists."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(what, item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {k: _plain(what, v, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    raise PruneError(
        f"{what}: {where or 'the value'} is a {type(value).__name__}; only plain JSON values "
        "can be written down: numbers, text, true, false, null, lists and mappings of them"
    )
