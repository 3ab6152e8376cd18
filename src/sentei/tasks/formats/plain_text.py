"""Plain text for language models: the bytes of one file, or of all text files of a folder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sentei.graph.errors import PruneError
from sentei.tasks.dataset import METRICS, Dataset, next_token_loss
from sentei.tasks.opening import Wanted

__all__ = ["fits", "read"]

_ENDINGS = {".txt", ".md", ".rst", ".text"}
BYTES = 256


def fits(path: Path) -> bool:
    return bool(_files(path))


def read(path: Path, wanted: Wanted) -> Dataset:
    """Windows of `length` bytes; the end of the text is the test, what comes before validation.

    A token is a byte, whatever tokenizer a model had: 256 of them.

    Raises:
        PruneError: there is no text, too little of it, or the model knows fewer than 256 tokens.
    """
    if wanted.vocabulary is not None and wanted.vocabulary < BYTES:
        raise PruneError(
            f"text is read as bytes, {BYTES} of them; this model knows {wanted.vocabulary} tokens"
        )
    files = _files(path) or ([path] if path.is_file() else [])
    if not files:
        raise PruneError(f"{path} holds no text files ({', '.join(sorted(_ENDINGS))})")
    try:
        text = b"\n".join(file.read_bytes() for file in files)
    except OSError as error:
        raise PruneError(f"cannot read {error.filename}: {error.strerror}") from None
    least = 10 * (wanted.length + 1)
    if len(text) < least:
        raise PruneError(
            f"{path} holds {len(text):,} bytes of text; windows of {wanted.length} need at least "
            f"{least:,}"
        )
    # Shares count from the end: what is tested on comes after everything trained on.
    test = max(round(wanted.validation * len(text)), wanted.length + 1)
    cuts = [0, len(text) - 2 * test, len(text) - test, len(text)]
    parts = [_windows(text[a:b], wanted.length) for a, b in itertools.pairwise(cuts)]
    if wanted.keywords:
        train, validation, held = (
            DataLoader(part[0], wanted.batch_size, shuffle=i == 0, collate_fn=_keywords)
            for i, part in enumerate(parts)
        )
        example: Any = {"input_ids": parts[0][0][:1]}
        loss = None
    else:
        train, validation, held = parts
        example, loss = parts[0][0][:1], next_token_loss
    return Dataset(
        path.name,
        train,
        validation,
        held,
        example,
        loss=loss,
        metric=METRICS["perplexity"],
        notes=(f"{len(text):,} bytes in windows of {wanted.length}; tested on the last {test:,}",),
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in _ENDINGS else []
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in _ENDINGS and p.is_file())


def _windows(text: bytes, length: int) -> tuple[Tensor, Tensor]:
    """(inputs, next bytes), each (N, length); windows do not overlap."""
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    n = (len(tokens) - 1) // length
    return tokens[: n * length].view(n, length), tokens[1 : n * length + 1].view(n, length)


def _keywords(rows: list[Tensor]) -> Mapping[str, Tensor]:
    x = torch.stack(rows)
    return {"input_ids": x, "labels": x.clone()}
