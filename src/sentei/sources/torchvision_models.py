"""`torchvision:NAME`: models of torchvision, without downloads."""

from __future__ import annotations

from typing import Any

from torch import nn

from sentei.graph.errors import PruneError, closest
from sentei.sources.library import need, noise
from sentei.sources.source import Opened, Source

__all__ = ["build", "describe", "example", "skeleton"]


def describe(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    _check(name)
    return name, {}


def build(source: Source) -> Opened:
    return Opened(_create(source, source.options), None)


def skeleton(source: Source) -> nn.Module:
    options = {k: v for k, v in source.options.items() if k not in ("weights", "weights_backbone")}
    return _create(source, options)


def example(source: Source, model: nn.Module, batch: int) -> Any:
    """Inputs of the size at which torchvision evaluates its own weights; by task."""
    models = _check(source.name)
    weights = getattr(models.get_model_weights(source.name), "DEFAULT", None)
    settings = getattr(getattr(weights, "transforms", None), "keywords", {})
    size = settings.get("crop_size", 224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    task = models.get_model_builder(source.name).__module__.removeprefix("torchvision.models.")
    if task.startswith("video"):
        frames = 32 if "swin3d" in source.name else 16
        return noise(batch, 3, frames, height, width)
    if task.startswith("optical_flow"):
        return noise(batch, 3, 256, 256), noise(batch, 3, 256, 256).flip(0)
    if task.startswith("detection"):
        return (list(noise(batch, 3, height, width).sigmoid()),)
    return noise(batch, 3, height, width)


def _check(name: str) -> Any:
    models = need("torchvision.models", "vision", f"torchvision:{name}")
    known = models.list_models()
    if name not in known:
        raise PruneError(f"torchvision has no model {name!r}; {closest(name, known)}")
    return models


def _create(source: Source, options: dict[str, Any]) -> nn.Module:
    models = _check(source.name)
    builder = models.get_model_builder(source.name)
    # Detectors and segmenters fetch a backbone unless told not to.
    if ".detection." in builder.__module__ or ".segmentation." in builder.__module__:
        options = {"weights_backbone": None} | options
    if source.name in ("googlenet", "inception_v3"):
        options = {"init_weights": True} | options  # without it, a warning and a slow default
    try:
        return models.get_model(source.name, **({"weights": None} | options))
    except Exception as error:  # whatever its constructor objects to
        raise PruneError(
            f"torchvision could not build {source.name!r} with {options}: "
            f"{type(error).__name__}: {error}"
        ) from error
