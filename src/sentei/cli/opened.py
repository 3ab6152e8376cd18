"""A model with the data it is pruned on: opened together, and checked that they fit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from sentei.batches import to_device
from sentei.cli.config import Config
from sentei.cli.folder import ANSWERS, MODEL
from sentei.graph.errors import PruneError
from sentei.sources import Source
from sentei.storage.checkpoint import load_checkpoint
from sentei.tasks import Dataset, Wanted, open_data, rehearse

__all__ = ["Opened", "check_trust", "device_of", "example_of", "open_all", "shaped", "shapes"]


@dataclass(frozen=True)
class Opened:
    """What a command works on.

    model: in eval mode, on `device`. source: what rebuilds it. example: inputs of one example.
    data: None where none was given. notes: what people should know, a sentence each.
    """

    model: nn.Module = field(repr=False)
    source: Source
    example: Any = field(repr=False)
    data: Dataset | None
    device: torch.device
    notes: tuple[str, ...] = ()

    def call(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The example as positional and keyword arguments."""
        from sentei.graph.groups import call_arguments

        return call_arguments(self.example, None, None)

    def inputs(self) -> dict[str, Any]:
        """The same, as the functions of `sentei` take it: `analyze(model, **opened.inputs())`."""
        args, kwargs = self.call()
        return {"args": args, "kwargs": kwargs}

    def before(self) -> nn.Module:
        """The model as it was given, its weights of no matter."""
        return (self.source.build() if self.source.kind == "sentei" else self.fresh()).to(
            self.device
        )

    def fresh(self) -> nn.Module:
        """The unpruned model once more, its weights of no matter."""
        origin = self.source.origin()
        if origin is None:
            raise PruneError(f"{self.source} does not say how its model is built")
        return origin.skeleton().to(self.device)


def open_all(config: Config, *, need_data: bool = False, example: Any = None) -> Opened:
    """Build the model, read the data, and run the one on the other once.

    Args:
        example: inputs to use where the configuration names neither data nor a shape.
    Raises:
        PruneError: either cannot be had, the inputs of the model are not known, or the two do not
            fit together; says what to try.
    """
    if need_data and config.data is None:
        raise PruneError("this needs data: give --data, such as --data digits")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = device_of(config.device)
    torch.manual_seed(config.seed)
    source = Source.of(config.model, **config.model_options)
    if source.kind == "sentei":
        origin = source.origin()
        check_trust(config.model, origin.kind if origin is not None else "", config.trust)
        source = replace(source, options={"trust": True}) if config.trust else source
    model, known = source.open(config.weights, batch=1)
    example = known if example is None else example
    if config.input is not None:
        example = shaped(config.input)
    data = None
    if config.data is not None:
        data = open_data(config.data, _wanted(config, source, model, example))
        example = data.example
    if example is None:
        example = example_of(config.model)
    if example is None:
        raise PruneError(
            f"what inputs does {source} take? Give --input, such as --input 1x3x32x32, or --data, "
            "or let the function return (model, example_inputs)"
        )
    model = model.to(device)
    example = to_device(example, device)
    opened = Opened(model, source, example, data, device)
    if source.origin() is None:
        raise PruneError(
            f"{source} does not say how its model is built; prune it from Python, with "
            "sentei.load(folder, model=...)"
        )
    opened = replace(opened, notes=_check_fit(opened))
    if data is not None:
        with torch.random.fork_rng():  # loaders draw their order
            rehearse(model, data)
    return opened


def check_trust(folder: str | os.PathLike[str], kind: str, trust: bool) -> None:
    """Whether the model of a folder may be built: that runs code, where its source is a file.

    Raises:
        PruneError: it may not; says how to allow it.
    """
    if kind == "file" and not trust:
        raise PruneError(f"{folder} is built by a Python file; if you trust it, add --trust")


def example_of(folder: str | os.PathLike[str]) -> Any:
    """The inputs that an earlier run was made with, as `example_inputs=` takes them.

    The folder is the run's, or that of the model in it. None where there are none, or positional
    and keyword ones.
    """
    home = Path(os.path.abspath(folder))
    home = home.parent if home.name == MODEL else home
    path = home / ANSWERS
    if not path.is_file():
        return None
    args, kwargs = load_checkpoint(path)["inputs"]
    return dict(kwargs) if kwargs and not args else tuple(args) if not kwargs else None


def device_of(text: str) -> torch.device:
    """`auto` is the accelerator, where there is one.

    >>> device_of("cpu")
    device(type='cpu')
    """
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise PruneError(f"--device {text}: {reason}") from None
    return device


def shaped(text: str) -> Tensor:
    """Inputs of a shape, and of a dtype where one is given; whole numbers are 0 and 1, which are
    tokens of any vocabulary.

    >>> shaped("2x3").shape, shaped("1x4:int64").dtype
    (torch.Size([2, 3]), torch.int64)
    """
    sizes, colon, kind = text.partition(":")
    dtype = getattr(torch, kind, None) if colon else torch.float32
    if not re.fullmatch(r"[0-9]+([x,][0-9]+)*", sizes) or not isinstance(dtype, torch.dtype):
        raise PruneError(
            "--input wants a shape such as 1x3x32x32, or a shape and a dtype such as 1x16:int64; "
            f"got {text!r}"
        )
    shape = [int(n) for n in re.split("[x,]", sizes)]
    draw = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=draw).to(dtype)
    return torch.randint(2, shape, generator=draw).to(dtype)


def _wanted(config: Config, source: Source, model: nn.Module, example: Any) -> Wanted:
    """How the model likes its data."""
    origin = source.origin() or source
    size = (config.image_size, config.image_size) if config.image_size else None
    keywords = origin.kind == "hf"
    facts: dict[str, Any] = {}
    image = example
    if isinstance(example, Mapping):
        image = example.get("pixel_values")
    if isinstance(image, Tensor) and image.dim() == 4:
        facts["channels"] = image.shape[1]
        facts["model_size"] = tuple(image.shape[2:])
        facts |= _normalisation(origin, model)
    if keywords:
        inner = model.config
        text = getattr(inner, "text_config", None) or inner
        most = getattr(text, "max_position_embeddings", None)
        facts["vocabulary"] = getattr(text, "vocab_size", None)
        facts["pad"] = getattr(text, "pad_token_id", None) or 0
        facts["tokenizer"] = origin.name
        facts["length"] = min(config.length, most) if most else config.length
    return Wanted(
        size=size,
        keywords=keywords,
        batch_size=config.batch_size,
        augment=config.augment,
        workers=config.workers,
        **({"length": config.length} | facts),
    )


def _normalisation(source: Source, model: nn.Module) -> dict[str, Any]:
    """Mean and deviation the published weights were trained with."""
    if source.kind == "timm":
        known = getattr(model, "pretrained_cfg", None) or {}
        if known.get("mean") and known.get("std"):
            return {"mean": tuple(known["mean"]), "std": tuple(known["std"])}
    return {}


def _check_fit(opened: Opened) -> tuple[str, ...]:
    """One forward pass, so that what does not fit is said before anything long begins."""
    notes = [] if opened.data is None else list(opened.data.notes)
    args, kwargs = opened.call()
    try:
        with torch.inference_mode():
            outputs = opened.model.eval()(*args, **kwargs)
    except torch.OutOfMemoryError:
        raise PruneError("out of memory in one forward pass of the model") from None
    except Exception as error:  # whatever a model objects to
        reason = re.sub(r"\s+", " ", str(error))[:200]
        origin = "the data's example" if opened.data is not None else "its example inputs"
        hint = "; --input gives others: 1x3x32x32, or 1x16:int64 for tokens"
        if opened.data is not None:
            hint = ""
        if opened.data is not None and isinstance(opened.example, Tensor):
            hint = "; --image-size N may fit them" if opened.example.dim() == 4 else ""
            if hint and opened.source.kind == "timm":
                hint = "; --image-size N, or --set in_chans=N, may fit them"
        hint = _other_dtype(opened) or hint
        raise PruneError(
            f"{opened.source} does not run on {origin} {shapes(opened.example)}: "
            f"{type(error).__name__}: {reason}{hint}"
        ) from error
    logits = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
    classes = None if opened.data is None else opened.data.classes
    if opened.data is not None and classes and isinstance(logits, Tensor) and logits.dim() >= 2:
        name = (
            "num_labels"
            if (opened.source.origin() or opened.source).kind == "hf"
            else "num_classes"
        )
        if logits.shape[1] < classes:
            raise PruneError(
                f"{opened.source} tells {logits.shape[1]} classes apart and {opened.data.name} "
                f"has {classes}; try --set {name}={classes}"
            )
        if logits.shape[1] > classes:
            notes.append(
                f"the model tells {logits.shape[1]:,} classes apart, {opened.data.name} has "
                f"{classes}; --set {name}={classes} would fit"
            )
    return tuple(notes)


def _other_dtype(opened: Opened) -> str:
    """What to try where inputs and parameters are floats of other kinds; else nothing."""
    ours = next((p.dtype for p in opened.model.parameters() if p.is_floating_point()), None)
    leaves = [t for t in _pytree.tree_leaves(opened.example) if isinstance(t, Tensor)]
    theirs = next((t.dtype for t in leaves if t.is_floating_point()), None)
    if ours is None or theirs is None or ours == theirs:
        return ""
    return f"; the model's parameters are {ours}, its inputs {theirs}".replace("torch.", "")


def shapes(tree: Any) -> str:
    """The shapes of inputs, short.

    >>> shapes({"ids": torch.zeros(1, 8), "mask": None})
    'ids 1×8'
    """
    if isinstance(tree, Tensor):
        return "×".join(str(n) for n in tree.shape) or "()"
    if isinstance(tree, Mapping):
        return ", ".join(f"{k} {shapes(v)}" for k, v in tree.items() if isinstance(v, Tensor))
    if isinstance(tree, (list, tuple)):
        return ", ".join(shapes(v) for v in tree)
    return type(tree).__name__
