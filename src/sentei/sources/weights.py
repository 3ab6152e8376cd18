"""Weights into a model, from files that are data only: safetensors, or torch's `weights_only`."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sentei.graph.errors import PruneError
from sentei.storage.files import few, quoted

__all__ = ["load_weights", "read_weights"]

# Where training scripts put the state dict inside a checkpoint; the averaged weights first.
_INSIDE = ("model_ema", "state_dict_ema", "state_dict", "model_state_dict", "model", "module")
# What wrappers put before every name.
_WRAPPERS = ("module.", "_orig_mod.")


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Put the tensors of a file into the model: every one, and nothing else.

    Args:
        path: a safetensors file, or what `torch.save(model.state_dict(), path)` wrote, also inside
            a checkpoint under a usual name. It is read with `weights_only=True`: no code runs.
    Raises:
        PruneError: no such file, not of these formats, or of another model; says what differs.
            The model is as before.

    >>> import tempfile
    >>> a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as home:
    ...     torch.save(a.state_dict(), home + "/a.pt")
    ...     _ = load_weights(b, home + "/a.pt")
    >>> torch.equal(a.weight, b.weight)
    True
    """
    given = read_weights(path)
    ours = model.state_dict()
    for wrapper in _WRAPPERS:
        if given and all(name.startswith(wrapper) for name in given):
            given = {name.removeprefix(wrapper): t for name, t in given.items()}
    # safetensors cannot hold a tied tensor twice: one of its names says it all.
    shared: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        shared.setdefault(id(tensor), []).append(name)
    for names in shared.values():
        there = next((given[n] for n in names if n in given), None)
        if there is not None:
            given |= {n: there for n in names if n not in given}
    wrong = [f"it has no {quoted(n)}" for n in ours if n not in given]
    wrong += [f"the model has no {quoted(n)}" for n in given if n not in ours]
    wrong += [
        f"{quoted(n)} is {list(t.shape)}, the model has {list(ours[n].shape)}"
        for n, t in given.items()
        if n in ours and t.shape != ours[n].shape
    ]
    if wrong:
        raise PruneError(
            f"{path} holds the weights of another model than this {type(model).__name__}: "
            f"{few(wrong)}"
        )
    model.load_state_dict(given)
    return model


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The named tensors of a file; nothing in it is run.

    Raises:
        PruneError: it cannot be read, or is no such file.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise PruneError(f"cannot read weights from {path}: {error.strerror or error}") from None
    if not start:
        raise PruneError(f"{path} is empty; it holds no weights")
    # safetensors: eight bytes of length, then JSON.
    if path.suffix == ".safetensors" or start[8:] == b"{":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise PruneError(f"{path} is no safetensors file: {quoted(str(error), 200)}") from None
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise PruneError(
            f"{path} holds more than tensors (or is no torch file), and nothing in it is run; "
            "save the weights alone: torch.save(model.state_dict(), path), or as safetensors"
        ) from None
    except Exception as error:  # struct.error, IndexError, …: whatever a damaged file makes it do
        raise PruneError(f"{path} is no file of weights: {quoted(str(error), 200)}") from None
    found = _state_dict(data)
    if found is None:
        raise PruneError(
            f"{path} holds no state dict: {type(data).__name__}"
            + (f" with {few(quoted(str(k)) for k in data)}" if isinstance(data, Mapping) else "")
        )
    return found


def _state_dict(data: Any) -> dict[str, Tensor] | None:
    if not isinstance(data, Mapping):
        return None
    tensors = {k: v for k, v in data.items() if isinstance(v, Tensor)}
    if data and len(tensors) == len(data):
        return tensors
    for name in _INSIDE:
        if name in data:
            inside = _state_dict(data[name])
            if inside is not None:
                return inside
    return None
