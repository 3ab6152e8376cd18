"""`timm:NAME`: models of timm, without downloads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sentei.graph.errors import PruneError, closest
from sentei.sources.library import need, noise
from sentei.sources.source import Opened, Source

__all__ = ["build", "describe", "example", "skeleton"]


# Options that read files or fetch weights.
_WEIGHTS = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir",
    "pretrained_strict",
)  # fmt: skip


def describe(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    _check(name)
    return name, {}


def build(source: Source) -> Opened:
    return Opened(_create(source, {"pretrained": False} | source.options), None)


def skeleton(source: Source) -> nn.Module:
    options = {k: v for k, v in source.options.items() if k not in _WEIGHTS}
    return _create(source, options | {"pretrained": False})


def example(source: Source, model: nn.Module, batch: int) -> Tensor:
    """Images of the size the model's own `pretrained_cfg` gives."""
    data = need("timm.data", "vision", str(source))
    channels, height, width = data.resolve_model_data_config(model)["input_size"]
    # The configuration is that of the published weights: options may have changed the model.
    channels = source.options.get("in_chans", channels)
    size = source.options.get("img_size", (height, width))
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return noise(batch, channels, height, width)


def _check(name: str) -> Any:
    """Names of timm's own registry only: `hf-hub:` and `local-dir:` would fetch or read."""
    timm = need("timm", "vision", f"timm:{name}")
    if ":" in name or not timm.is_model(name.partition(".")[0]):
        raise PruneError(f"timm has no model {name!r}; {closest(name, timm.list_models())}")
    return timm


def _create(source: Source, options: dict[str, Any]) -> nn.Module:
    timm = _check(source.name)
    try:
        return timm.create_model(source.name, **options)
    except Exception as error:  # whatever its constructor objects to
        raise PruneError(
            f"timm could not build {source.name!r} with {options}: {type(error).__name__}: {error}"
        ) from error
