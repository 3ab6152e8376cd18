"""Libraries that not everybody has, and inputs that are the same every time."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
from torch import Tensor

from sentei.graph.errors import PruneError

__all__ = ["need", "noise", "tokens"]


def need(library: str, extra: str, what: str) -> ModuleType:
    """Import a library, or say which extra brings it.

    Raises:
        PruneError: it is not installed.

    >>> need("json", "text", "this example").__name__
    'json'
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name is None or not library.startswith(error.name):
            raise  # the library is there, something it needs is not
        raise PruneError(
            f"{what} needs {library.partition('.')[0]}, which is not installed: "
            f"pip install 'sentei[{extra}]'"
        ) from None


def noise(*shape: int) -> Tensor:
    """Standard normal numbers, the same ones every time; the global state stays.

    >>> torch.equal(noise(2, 3), noise(2, 3))
    True
    """
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def tokens(vocabulary: int, *shape: int) -> Tensor:
    """Token numbers, the same ones every time; not the first four, which are often special."""
    first = min(4, vocabulary - 1)
    return torch.randint(first, vocabulary, shape, generator=torch.Generator().manual_seed(0))
