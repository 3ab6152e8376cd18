"""Hugging Face folders that plain `from_pretrained` reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sentei.export.compare import agree, outputs
from sentei.export.export import Call, Exported
from sentei.graph.blueprint import blueprint, configured, read_back, saved_shapes
from sentei.graph.errors import PruneError
from sentei.graph.literals import originally
from sentei.sources import source_of
from sentei.sources.library import need
from sentei.storage.files import replace

__all__ = ["bring_companions", "list_files", "strangers", "write"]

_LIST = "sentei-export.json"  # which files are ours, so that a later export may replace them
# What belongs to a model besides weights and configuration; data, no code.
_COMPANIONS = (
    "tokenizer*.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.*",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.*",
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip


def write(
    model: nn.Module, call: Call | None, path: Path, *, dynamic: bool, tolerance: float
) -> Exported:
    """Check that the configuration describes the model, save, read back, compare, put in place."""
    transformers = need("transformers", "text", "export to 'hf'")
    if not configured(model) or not hasattr(model, "save_pretrained"):
        raise PruneError(
            f"a {type(model).__name__} is no transformers model; export to 'onnx' or 'pt2'"
        )
    _check_stated(model)
    if call is None:
        from sentei.sources.huggingface_folder import inputs_for

        made = inputs_for(model, 2)
        call = None if made is None else ((), made)
    errors: list[float] = []

    def fill(new: Path) -> None:
        with _quiet(transformers):
            model.save_pretrained(new)
            again = type(model).from_pretrained(new, local_files_only=True, use_safetensors=True)
        again = again.to(next(model.parameters()).device).eval()
        ours, theirs = model.state_dict(), again.state_dict()
        odd = [n for n in ours if n not in theirs or not torch.equal(ours[n], theirs[n])]
        if odd:
            raise PruneError(f"from_pretrained reads another {odd[0]!r} than the model has")
        if call is not None:
            with torch.no_grad():
                wanted, got = (outputs(m(*call[0], **call[1])) for m in (model, again))
            errors.append(agree(got, wanted, tolerance, "what from_pretrained reads"))
        bring_companions(model, new)
        list_files(new)

    done = replace(path, fill, strangers=strangers)
    return Exported(
        done,
        "hf",
        sum(f.stat().st_size for f in done.iterdir()),
        max(errors, default=0.0),
        tolerance,
        note=f"{type(model).__name__}.from_pretrained({str(done)!r})"
        + ("" if call is not None else "; weights compared, no inputs known to run it on"),
    )


def _check_stated(model: Any) -> None:
    """The configuration alone builds a model of these shapes."""
    hint = (
        "prune with uniform=True, so that all layers of a kind stay alike and the configuration "
        "follows, or export to 'onnx' or 'pt2'"
    )
    try:
        stated = saved_shapes(blueprint(type(model), read_back(model.config)))
    except Exception as error:  # whatever its class objects to
        raise PruneError(
            f"{type(model).__name__} cannot be built from its configuration "
            f"({type(error).__name__}: {str(error)[:200]}); {hint}"
        ) from error
    for name, module in model.named_modules():
        if originally(type(module)) is not type(module):
            raise PruneError(
                f"the configuration cannot say the numbers that changed in the code of "
                f"{name or 'the model'} ({type(module).__name__}); {hint}"
            )
    own = saved_shapes(model)
    if stated != own:
        name = next(n for n in {**own, **stated} if own.get(n) != stated.get(n))
        raise PruneError(
            f"the configuration cannot say these widths: {name} has shape {own.get(name)}, a model "
            f"built from the configuration {stated.get(name)}; {hint}"
        )


def bring_companions(model: nn.Module, new: Path) -> None:
    """Tokenizer and preprocessing of the folder the model came from, if it is still there."""
    source = source_of(model)
    if source is None or source.kind != "hf":
        return
    for pattern in _COMPANIONS:
        for file in Path(source.name).glob(pattern):
            if file.is_file() and not (new / file.name).exists():
                shutil.copyfile(file, new / file.name)


def list_files(new: Path) -> None:
    """Note in a folder which files are ours."""
    names = sorted({f.name for f in new.iterdir()} | {_LIST})
    content = {"by": f"sentei {version('sentei')}", "files": names}
    (new / _LIST).write_text(json.dumps(content, indent=1) + "\n")


def strangers(folder: Path, names: set[str]) -> Iterable[str]:
    """Which of these files we did not write, and must not replace."""
    try:
        ours = set(json.loads((folder / _LIST).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return names
    return names - ours


class _quiet:
    """No progress bars of transformers inside."""

    def __init__(self, transformers: Any) -> None:
        self.logging = transformers.utils.logging
        self.shown = self.logging.is_progress_bar_enabled()

    def __enter__(self) -> None:
        self.logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.logging.enable_progress_bar()
