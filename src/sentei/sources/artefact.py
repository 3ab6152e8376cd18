"""The folder of an earlier `sentei.save`, as a source."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from sentei.graph.errors import PruneError
from sentei.sources.source import Opened, Source

__all__ = ["build", "describe", "example", "origin", "skeleton"]


def describe(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if set(options) - {"trust"}:
        raise PruneError(
            f"{name} is built with the options it was saved with; got {sorted(options)}"
        )
    return os.path.abspath(name), {}


def build(source: Source) -> Opened:
    from sentei.storage import load

    return Opened(load(source.name, trust=bool(source.options.get("trust"))), None)


def skeleton(source: Source) -> nn.Module:
    raise PruneError(f"{source} is an artefact; the unpruned model is built by its origin()")


def example(source: Source, model: nn.Module, batch: int) -> Any:
    before = origin(source)
    return None if before is None else before.example(model, batch=batch)


def origin(source: Source) -> Source | None:
    """The source that the artefact was saved with."""
    from sentei.storage.files import locate
    from sentei.storage.recipe import parse

    stored = parse(locate(source.name)).source
    return None if stored is None else Source(**stored.model_dump())
