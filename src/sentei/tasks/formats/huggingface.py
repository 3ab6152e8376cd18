"""A folder that `datasets` saved (`save_to_disk`): text and its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sentei.graph.errors import PruneError
from sentei.sources.library import need
from sentei.tasks.dataset import METRICS, Dataset
from sentei.tasks.formats.parts import split
from sentei.tasks.opening import Wanted

__all__ = ["fits", "read"]

_TEXT = ("text", "sentence", "content", "review", "review_body", "question")
_LABEL = ("label", "labels", "class", "target")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model", "vocab.json")


def fits(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def read(path: Path, wanted: Wanted) -> Dataset:
    """Text classification: a column of text and a column of classes.

    Tokens come from the model's own tokenizer, where it has one in its folder; else a token is a
    byte. Splits named test and validation are used; what is missing is held out of train by lot.

    Raises:
        PruneError: no such folder, no such columns, no examples, or the folder is damaged.
    """
    if not wanted.keywords:
        raise PruneError(
            f"{path} holds text to classify, which goes to Hugging Face models (hf:FOLDER); for "
            "another model give data as file.py:function"
        )
    datasets = need("datasets", "text", f"the data in {path}")
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # arrow, JSON and file errors of many kinds
        raise PruneError(
            f"{path} is no folder of `datasets`, or is damaged: "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from None
    parts = dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
    if "train" not in parts:
        raise PruneError(f"{path} has no split 'train'; it has {', '.join(sorted(parts))}")
    whole = parts["train"]
    text, label = _column(path, whole, _TEXT, "text"), _column(path, whole, _LABEL, "classes")
    notes = []
    if "test" in parts and set(parts["test"][label]) == {-1}:
        del parts["test"]  # so that a contest can ask for them
        notes.append("test: the folder does not say its classes, so it is left out")
    parts["validation"] = parts.get("validation", parts.get("valid"))
    if parts.get("test") is None and parts["validation"] is not None:
        parts["test"], parts["validation"] = parts["validation"], None
    for part, share in (("test", wanted.held_out), ("validation", wanted.validation)):
        if parts.get(part) is None:
            rest, drawn = split(len(whole), share, wanted.seed, str(path))
            parts[part], whole = whole.select(drawn), whole.select(rest)
            notes.append(f"{part}: {len(drawn)} of the training examples, by lot")
    parts["train"] = whole
    encode, note = _encoder(wanted)
    notes.append(note)
    names = getattr(whole.features[label], "names", None)
    rows = {
        part: _rows(path, part, parts[part], text, label, encode)
        for part in ("train", "validation", "test")
    }
    classes = len(names) if names else 1 + max(y for part in rows.values() for _, y in part)
    collate = _Collate(wanted.pad)

    def loader(part: str) -> DataLoader:
        return DataLoader(
            rows[part],  # type: ignore[arg-type]
            wanted.batch_size,
            shuffle=part == "train",
            collate_fn=collate,
        )

    batch = collate([max(rows["train"], key=lambda row: len(row[0]))])
    return Dataset(
        path.name,
        loader("train"),
        loader("validation"),
        loader("test"),
        {k: v for k, v in batch.items() if k != "labels"},
        loss=None,
        metric=METRICS["accuracy"],
        classes=classes,
        notes=tuple(notes),
    )


def _column(path: Path, rows: Any, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in rows.column_names:
            return name
    raise PruneError(
        f"{path} has no column of {what} ({', '.join(names[:3])}, …); "
        f"it has {', '.join(rows.column_names)}"
    )


def _encoder(wanted: Wanted) -> tuple[Callable[[str], list[int]], str]:
    folder = Path(wanted.tokenizer) if wanted.tokenizer else None
    if folder is None or not any((folder / name).is_file() for name in _TOKENIZER):
        if wanted.vocabulary is not None and wanted.vocabulary < 256:
            raise PruneError(
                f"the model has no tokenizer, so text would be read as bytes, 256 of them; it "
                f"knows {wanted.vocabulary} tokens"
            )
        return lambda text: list(text.encode()[: wanted.length]), "a token is a byte"
    library = need("transformers", "text", f"the tokenizer in {folder}")
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise PruneError(
            f"transformers could not read the tokenizer in {folder}: {str(error)[:200]}"
        ) from None

    def encode(text: str) -> list[int]:
        return tokenizer(text, truncation=True, max_length=wanted.length)["input_ids"]

    return encode, f"tokens by the tokenizer in {folder.name}/"


def _rows(
    path: Path, part: str, rows: Any, text: str, label: str, encode: Callable[[str], list[int]]
) -> list[tuple[list[int], int]]:
    if not len(rows):
        raise PruneError(f"split {part!r} of {path} is empty")
    out = []
    for i, (words, y) in enumerate(zip(rows[text], rows[label], strict=True)):
        if not isinstance(words, str) or not isinstance(y, int) or y < 0:
            raise PruneError(
                f"{path}, split {part!r}, row {i}: want text and a class from 0; "
                f"got {str(words)[:40]!r} and {y!r}"
            )
        out.append((encode(words) or [0], y))
    return out


class _Collate:
    """Rows of tokens to one batch, filled up to the longest."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[tuple[list[int], int]]) -> Mapping[str, Tensor]:
        longest = max(len(tokens) for tokens, _ in rows)
        ids = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros_like(ids)
        for i, (tokens, _) in enumerate(rows):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            mask[i, : len(tokens)] = 1
        labels = torch.tensor([y for _, y in rows])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}
