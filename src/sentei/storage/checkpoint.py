"""States in the middle of work: nested dicts and lists of tensors and numbers, as one file.

Where an artefact is for others to read, a checkpoint is for the same program to go on from. It is
one safetensors file: the tensors, and in its header the nesting as JSON. No pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sentei.graph.errors import PruneError
from sentei.storage.atomic import write_file

__all__ = ["load_checkpoint", "save_checkpoint"]

# What stands for a tensor in the JSON; a dict with this key alone cannot be anything else.
_TENSOR, _DICT = "tensor:", "pairs:"


def save_checkpoint(path: str | os.PathLike[str], tree: Any) -> Path:
    """Write `tree` so that a kill at any moment leaves the old file or the new one.

    Args:
        tree: dicts (keys are text or whole numbers), lists, tuples (which come back as lists),
            tensors, numbers, text, None.
    Raises:
        PruneError: something else is in it, or the file cannot be written.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as home:
    ...     path = save_checkpoint(home + "/state", {"step": 3, "w": {0: torch.ones(2)}})
    ...     load_checkpoint(path)
    {'step': 3, 'w': {0: tensor([1., 1.])}}
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_packed(tree, tensors, ""))
    return write_file(path, save(tensors, {"tree": text}))


def load_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read what `save_checkpoint` wrote; tensors are on the CPU.

    Raises:
        PruneError: there is no such file, or it is damaged.
    """
    try:
        with safe_open(str(path), "pt") as file:
            text = (file.metadata() or {})["tree"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _unpacked(json.loads(text), tensors)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise PruneError(f"cannot read the checkpoint {path}: {error}") from error


def _packed(tree: Any, tensors: dict[str, Tensor], where: str) -> Any:
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        # A clone: safetensors refuses tensors that share memory, and tied ones do.
        tensors[name] = tree.detach().cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(tree, Mapping):
        return {
            _DICT: [
                [_key(key, where), _packed(value, tensors, f"{where}.{key}")]
                for key, value in tree.items()
            ]
        }
    if isinstance(tree, (list, tuple)):
        return [_packed(value, tensors, f"{where}[{i}]") for i, value in enumerate(tree)]
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise PruneError(
        f"a checkpoint holds tensors, numbers and text; {where.lstrip('.') or 'this'} is a "
        f"{type(tree).__name__}"
    )


def _key(key: Any, where: str) -> int | str:
    if not isinstance(key, (int, str)):
        raise PruneError(f"a key of {where.lstrip('.') or 'the checkpoint'} is {key!r}")
    return key


def _unpacked(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [_unpacked(value, tensors) for value in tree]
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return tensors[tree[_TENSOR]]
        return {key: _unpacked(value, tensors) for key, value in tree[_DICT]}
    return tree
