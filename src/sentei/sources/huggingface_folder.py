"""`hf:FOLDER`: a local Hugging Face folder: its configuration and safetensors, nothing else.

No code of the folder is run (`trust_remote_code=False`), no pickle is read, nothing is fetched.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

from torch import nn

from sentei.graph.errors import PruneError, closest
from sentei.sources.library import need, noise, tokens
from sentei.sources.source import Opened, Source
from sentei.storage.shards import nothing_stored

__all__ = ["build", "describe", "example", "inputs_for", "skeleton"]

# Settings that make transformers fetch, import or convert something. A configuration can come from
# a stranger's artefact; what it may say is widths.
_NOT_READ = re.compile(r"auto_map|custom_pipelines|quantization_config|_?\w*_implementation.*")
_HARMLESS = {("attn_implementation", "eager"), ("attn_implementation", "sdpa")}
_LENGTH = 17  # token positions of an example; odd, so that no width equals it by accident


def describe(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Options: `architecture`, a class of transformers; others change the configuration."""
    folder = Path(os.path.abspath(name))
    library = need("transformers", "text", f"hf:{name}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise PruneError(
            f"{folder} is no Hugging Face folder: config.json: {error.strerror or error}"
        ) from None
    except ValueError as error:
        raise PruneError(f"{folder / 'config.json'} is no JSON: {error}") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise PruneError(f"{folder / 'config.json'} names no model_type")
    kind = config["model_type"]
    if kind not in library.CONFIG_MAPPING:
        raise PruneError(
            f"{folder / 'config.json'}: transformers has no model type {kind!r}, and code in the "
            f"folder is not run; {closest(str(kind), library.CONFIG_MAPPING)}"
        )
    named = options.get("architecture") or next(iter(config.get("architectures") or ()), None)
    if named is not None and not _is_model(getattr(library, named, None)):
        known = [n for n in dir(library) if n.startswith(str(named)[:3])]
        raise PruneError(f"transformers has no model class {named!r}; {closest(named, known)}")
    if named is None:
        found = library.MODEL_MAPPING[library.CONFIG_MAPPING[kind]]
        named = (found[0] if isinstance(found, tuple) else found).__name__
    return str(folder), {"architecture": named, "config": config}


def build(source: Source) -> Opened:
    kind = _class_of(source)
    if not Path(source.name).is_dir():
        raise PruneError(f"there is no folder {source.name}")
    if not any(Path(source.name).glob("*.safetensors")):
        raise nothing_stored(source.name)
    config = _config(source)
    try:
        model, found = kind.from_pretrained(
            source.name,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are looked at below
            output_loading_info=True,
        )
    except Exception as error:  # whatever transformers objects to
        raise PruneError(
            f"transformers could not read {source.name} as {kind.__name__}: "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from error
    for name, stored, wanted in sorted(found.get("mismatched_keys", ())):
        # A head for other classes is drawn anew, as is usual; nothing else is.
        if "num_labels" in source.options and (*stored[1:], wanted[0]) == (
            *wanted[1:],
            source.options["num_labels"],
        ):
            continue
        raise PruneError(
            f"{name} has shape {tuple(stored)} in {source.name} and {tuple(wanted)} by the options "
            f"({', '.join(source.options) or 'none'}); only the classes of a head (num_labels) may "
            "differ from the folder's"
        )
    return Opened(model, None)


def skeleton(source: Source) -> nn.Module:
    """Built from the configuration alone: the folder may be gone."""
    need("transformers", "text", str(source))
    kind, config = _class_of(source), _config(source)
    try:
        return kind(config)
    except Exception as error:
        raise PruneError(
            f"transformers could not build {kind.__name__} from its configuration: "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from error


def example(source: Source, model: nn.Module, batch: int) -> dict[str, Any] | None:
    """Keyword arguments that `forward` asks for, at the sizes the configuration gives."""
    return inputs_for(model, batch)


def inputs_for(model: nn.Module, batch: int) -> dict[str, Any] | None:
    """As `example`, for any model of transformers; None where nothing known is asked for."""
    config = model.config
    names = inspect.signature(model.forward).parameters
    text = getattr(config, "text_config", None) or config
    vision = getattr(config, "vision_config", None) or config
    found: dict[str, Any] = {}
    if "input_ids" in names:
        # Some families spend two positions on padding.
        most = (getattr(text, "max_position_embeddings", None) or 512) - 2
        vocabulary = getattr(text, "vocab_size", None) or 2
        found["input_ids"] = tokens(vocabulary, batch, max(1, min(_LENGTH, most)))
        if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in names:
            found["decoder_input_ids"] = found["input_ids"].clone()
    if "pixel_values" in names and hasattr(vision, "image_size"):
        size = vision.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        channels = getattr(vision, "num_channels", 3)
        found["pixel_values"] = noise(batch, channels, height, width)
    if "input_values" in names and "input_ids" not in names:
        found["input_values"] = noise(batch, 16_000)
    if "input_features" in names and "input_ids" not in names:
        bins = getattr(config, "num_mel_bins", 80)
        frames = 2 * getattr(config, "max_source_positions", 1500)
        found["input_features"] = noise(batch, bins, frames)
        if "decoder_input_ids" in names:
            found["decoder_input_ids"] = tokens(config.vocab_size, batch, _LENGTH)
    return found or None


def _config(source: Source) -> Any:
    library = need("transformers", "text", str(source))
    stored = _without_code(source.facts.get("config", {}))
    if stored.get("model_type") not in library.CONFIG_MAPPING:
        raise PruneError(f"transformers has no model type {stored.get('model_type')!r}")
    kind = library.CONFIG_MAPPING[stored["model_type"]]
    changes = {k: v for k, v in source.options.items() if k != "architecture"}
    config = kind.from_dict(stored)
    for name, value in changes.items():
        if _NOT_READ.fullmatch(name) and (name, value) not in _HARMLESS:
            raise PruneError(f"{name}={value!r} could fetch or run code; it is not taken")
        name = "_attn_implementation" if name == "attn_implementation" else name
        if not hasattr(config, name):
            raise PruneError(
                f"{kind.__name__} has no option {name!r}; {closest(name, config.to_dict())}"
            )
        setattr(config, name, value)
    return config


def _without_code(config: Any) -> Any:
    """The configuration without the settings of `_NOT_READ`, inside its parts too."""
    if isinstance(config, list):
        return [_without_code(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {k: _without_code(v) for k, v in config.items() if not _NOT_READ.fullmatch(k)}


def _class_of(source: Source) -> Any:
    library = need("transformers", "text", str(source))
    named = source.facts.get("architecture", "")
    kind = getattr(library, named, None) if isinstance(named, str) else None
    if not _is_model(kind):
        raise PruneError(f"transformers has no model class {named!r}")
    return kind


def _is_model(kind: Any) -> bool:
    library = need("transformers", "text", "a Hugging Face model")
    return isinstance(kind, type) and issubclass(kind, library.PreTrainedModel)
