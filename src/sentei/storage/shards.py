"""safetensors files that need not fit into memory: read where they lie, written tensor by tensor.

A file is eight bytes of length, a JSON header, and the tensors one after the other. Reading is the
library's own: it maps the file, so that a tensor takes memory only where it is looked at. Writing
is done here, because the library wants all tensors of a file at once.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sentei.graph.errors import PruneError
from sentei.storage.files import few, quoted

__all__ = ["INDEX", "TYPES", "Form", "Shards", "nothing_stored", "write_shard"]

INDEX = "model.safetensors.index.json"
# Names of types in the header, as https://github.com/huggingface/safetensors has them.
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
TYPES = {name: dtype for dtype, name in _NAMES.items()}


class Form(NamedTuple):
    """A tensor without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class Shards(Mapping[str, Tensor]):
    """The tensors of one safetensors file, or of a folder of them, by name.

    A tensor lies in the file until it is looked at, and what was looked at can be forgotten again
    by the system: nothing is copied.

    Args:
        path: a file; or a folder with an index, as large checkpoints have it, or with one file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     form = Form((2,), torch.float32)
    ...     _ = write_shard(Path(home, "a.safetensors"), {"w": form}, lambda name: torch.ones(2))
    ...     with Shards(home) as stored:
    ...         stored.form("w").shape, stored["w"].tolist()
    ((2,), [1.0, 1.0])
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.files = _files(self.path)
        self._open = ExitStack()
        self._holders: dict[str, Any] = {}
        self.where: dict[str, str] = {}
        """Name of a tensor -> name of its file."""
        self.metadata: dict[str, dict[str, str]] = {}
        try:
            for file in self.files:
                holder = self._open.enter_context(safe_open(str(file), "pt"))
                self._holders[file.name] = holder
                self.metadata[file.name] = holder.metadata() or {}
                for name in holder.keys():  # noqa: SIM118
                    if name in self.where:
                        raise PruneError(
                            f"{self.path}: {quoted(name)} is in {self.where[name]} and {file.name}"
                        )
                    self.where[name] = file.name
        except (SafetensorError, OSError) as error:
            self.close()
            raise PruneError(f"{file} is no whole safetensors file: {error}") from None
        except PruneError:
            self.close()
            raise

    def __getitem__(self, name: str) -> Tensor:
        return self._holders[self.where[name]].get_tensor(name)

    def __contains__(self, name: object) -> bool:
        return name in self.where

    def __iter__(self) -> Iterator[str]:
        return iter(self.where)

    def __len__(self) -> int:
        return len(self.where)

    def form(self, name: str) -> Form:
        """Shape and type, without looking at the values."""
        part = self._holders[self.where[name]].get_slice(name)
        kind = part.get_dtype()
        if kind not in TYPES:
            raise PruneError(f"{self.path}: {quoted(name)} is of type {kind}, which is not read")
        return Form(tuple(part.get_shape()), TYPES[kind])

    def close(self) -> None:
        self._holders = {}
        self._open.close()

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_shard(
    path: Path,
    forms: Mapping[str, Form],
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
    wrote: Callable[[int], None] = lambda count: None,
) -> str:
    """Write one safetensors file, with one tensor in memory at a time.

    Args:
        forms: name -> shape and type of each tensor, in the order in which they are asked for as
            far as their types allow. tensor: gives the values.
        wrote: told how many bytes have been written since it was last told.
    Returns:
        the SHA-256 of the file, in hex.
    Raises:
        PruneError: a tensor is not of the shape and type that was said.
        OSError: it cannot be written.
    """
    # Wide types first, as the library does, so that every tensor starts at a multiple of its type.
    order = sorted(forms, key=lambda name: -forms[name].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name in order:
        form = forms[name]
        end = start + form.bytes
        header[name] = {
            "dtype": _NAMES[form.dtype], "shape": list(form.shape), "data_offsets": [start, end],
        }  # fmt: skip
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for part in (struct.pack("<Q", len(text)), text):
            file.write(part)
            digest.update(part)
        for name in order:
            values = tensor(name)
            if (tuple(values.shape), values.dtype) != forms[name]:
                raise PruneError(
                    f"{name} came as {list(values.shape)} of {values.dtype}, and "
                    f"{list(forms[name].shape)} of {forms[name].dtype} was to be written"
                )
            data = values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
            file.write(data)
            digest.update(data)
            wrote(len(data))
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise PruneError(f"there is no file or folder {path}")
    index = path / INDEX
    if index.is_file():
        try:
            names = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PruneError(f"{index} is no index of safetensors files: {error!r}") from None
        # A stranger's index must not lead out of the folder.
        odd = [n for n in names if not isinstance(n, str) or Path(n).name != n]
        if odd:
            raise PruneError(f"{index} names {quoted(str(odd[0]))}, which is no file beside it")
        missing = [n for n in names if not (path / n).is_file()]
        if missing:
            raise PruneError(f"{path} lacks {few(missing)}, which its index names")
        return [path / name for name in names]
    found = sorted(path.glob("*.safetensors"))
    if not found:
        raise nothing_stored(path)
    return found


def nothing_stored(folder: Path | str) -> PruneError:
    """What is said of a folder without safetensors."""
    return PruneError(
        f"{folder} has no *.safetensors; pickled weights (*.bin, *.pt) are not read. "
        "Convert once, where you trust them: model.save_pretrained(folder)"
    )
