"""The one list all zoo files add to, and the helper that makes fresh weights worth pruning."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import nn


@dataclass(frozen=True)
class Example:
    """A model in eval mode with inputs its forward accepts."""

    model: nn.Module
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One architecture; ``build`` makes a fresh, reproducible, randomly initialised example."""

    name: str
    family: str
    build: Callable[[], Example]


REGISTRY: dict[str, Entry] = {}
SKIPPED: dict[str, str] = {}
"""Zoo modules that could not be imported, with the package each one misses."""


def register(name: str, family: str) -> Callable[[Callable[[], Example]], Callable[[], Example]]:
    """Add the decorated zero-argument builder to the registry under a unique name."""

    def decorate(builder: Callable[[], Example]) -> Callable[[], Example]:
        if name in REGISTRY:
            raise ValueError(f"zoo entry {name!r} is registered twice")

        def build() -> Example:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(zlib.crc32(name.encode()))
                example = builder()
            example.model.eval()
            return example

        REGISTRY[name] = Entry(name, family, build)
        return builder

    return decorate


_PREFIXES = {
    "tv": "torchvision/", "timm_models": "timm/", "pyg": "pyg/", "plain": "plain/",
    "hf_text": "hf/", "hf_vision": "hf/", "hf_other": "hf/", "hf_multimodal": "hf/",
    "hf_dense": "hf/", "hf_speech": "hf/",
    "diffusers_models": "diffusers/", "segmentation": "smp/", "medical": "monai/",
    "audio": "torchaudio/", "clip": "open_clip/", "yolo": "ultralytics/",
}  # fmt: skip


def load(match: str = "*", family: str = "*") -> list[Entry]:
    """Import all zoo modules and return the entries whose name and family match the globs."""
    package = importlib.import_module(__package__)
    for info in pkgutil.iter_modules(package.__path__):
        module = f"{__package__}.{info.name}"
        if info.name.startswith("_") or module == __name__ or module in SKIPPED:
            continue
        prefix = _PREFIXES.get(info.name)
        if prefix is None or not (match.startswith(("*", "?", "[")) or match.startswith(prefix)):
            continue  # importing a library takes seconds
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] == __package__:
                raise
            SKIPPED[module] = str(error.name)
            warnings.warn(f"{module} is skipped: {error.name} is not installed", stacklevel=2)
    return [
        entry
        for entry in REGISTRY.values()
        if fnmatchcase(entry.name, match) and fnmatchcase(entry.family, family)
    ]


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Replace degenerate weights in place, so that the output depends on every unit.

    Fresh models have zero biases, zero heads, norm weights of one and layer scales of 1e-6: with
    those, removing a unit can leave the output unchanged and hide a wrong result. Only constant
    (or not finite) floating parameters and batch statistics change; all other buffers, such as
    masks and position tables, are part of the architecture and stay.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.empty(like.shape).uniform_(low, high, generator=generator)

    def normal(like: torch.Tensor, std: float) -> torch.Tensor:
        return torch.empty(like.shape).normal_(0.0, std, generator=generator)

    def fresh(value: torch.Tensor) -> torch.Tensor | None:
        """New values for a degenerate tensor, None for one that is fine as it is."""
        if not value.is_floating_point() or value.is_meta or value.numel() == 0:
            return None
        low, high = value.min().item(), value.max().item()
        finite = bool(value.isfinite().all())
        if finite and (high - low > 1e-4 or (value.numel() == 1 and abs(low) > 0.01)):
            return None
        if not finite or (high - low > 0 and abs(low) <= 1e-4) or low == 0:
            fan_in = value[0].numel() if value.dim() > 1 else 100
            return normal(value, min(0.2, max(0.05, fan_in**-0.5)))
        if abs(low) <= 0.05:
            return uniform(value, 0.3, 0.9) * (1.0 if low > 0 else -1.0)
        return low * uniform(value, 0.5, 1.5)

    with torch.no_grad():
        for parameter in model.parameters():
            if isinstance(parameter, nn.parameter.UninitializedTensorMixin):
                continue
            values = fresh(parameter)
            if values is not None:
                parameter.copy_(values)
        for module in model.modules():
            buffers = dict(module.named_buffers(recurse=False))
            if "running_mean" not in buffers or "running_var" not in buffers:
                continue
            buffers["running_mean"].copy_(normal(buffers["running_mean"], 0.1))
            buffers["running_var"].copy_(uniform(buffers["running_var"], 0.5, 1.5))
            for name in ("weight", "bias"):  # frozen batch norms keep these as buffers
                values = fresh(buffers[name]) if name in buffers else None
                if values is not None:
                    buffers[name].copy_(values)
    return model
