"""The `torch.export` program of a model, with free sizes where the model allows them."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.modules import transformer
from torch.utils._pytree import tree_leaves, tree_map

from sentei.graph.errors import PruneError

__all__ = ["Program", "at_batch", "program"]

Call = tuple[tuple[Any, ...], dict[str, Any]]
_HINT = "_detect_is_causal_mask"


# Free sizes, and whether Python is traced symbol by symbol: that is slow and understands less, but
# it lets `len(x)` be free.
_ATTEMPTS: tuple[tuple[tuple[str, ...], bool], ...] = (
    (("batch", "sequence"), False),
    (("batch",), False),
    (("batch",), True),
    ((), False),
)


@dataclass(frozen=True)
class Program:
    """An exported program, and which sizes of its inputs are free.

    free: for each input tensor, in order, {dimension: name}.
    """

    exported: ExportedProgram
    call: Call
    free: tuple[dict[int, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for dims in self.free for name in dims.values()))

    def calls(self) -> dict[int, Call]:
        """What to compare on, by batch size: the example, and others where the batch is free."""
        first = next((t for t in tree_leaves(self.call) if isinstance(t, Tensor) and t.dim()), None)
        rows = 1 if first is None else len(first)
        sizes = (rows, 1, rows + 1) if "batch" in self.names else (rows,)
        return {n: self.call if n == rows else at_batch(self.call, n) for n in sizes}


def program(model: nn.Module, call: Call, *, dynamic: bool = True) -> Program:
    """Export the model: with free batch and sequence sizes, else with a free batch, else as it is.

    Raises:
        PruneError: the model cannot be exported at all; says why.

    >>> made = program(nn.Linear(3, 2).eval(), ((torch.randn(1, 3),), {}))
    >>> made.names
    ('batch',)
    """
    last: Exception | None = None
    for names, strict in _ATTEMPTS if dynamic else _ATTEMPTS[-1:]:
        # A size of one would be taken for a constant.
        shown = at_batch(call, 2) if "batch" in names and _batch(call) == 1 else call
        free = _free(shown, names)
        if names and {n for dims in free for n in dims.values()} != set(names):
            continue
        try:
            # What it warns of (attributes of RNNs, say) is settled by comparing the outputs; where
            # it fails it prints the graph, thousands of lines for a detector.
            aside = contextlib.redirect_stderr(io.StringIO())
            with warnings.catch_warnings(), torch.no_grad(), _plain_transformers(), aside:
                warnings.simplefilter("ignore")
                exported = torch.export.export(
                    model,
                    shown[0],
                    shown[1],
                    dynamic_shapes=_shapes(model, shown, free),
                    strict=strict,
                )
            return Program(exported, shown, free)
        except Exception as error:  # its errors have no common class
            last = error
    raise PruneError(
        f"torch.export cannot export this {type(model).__name__}: {type(last).__name__}: "
        f"{str(last).strip()[:400]}"
    ) from last


@contextlib.contextmanager
def _plain_transformers() -> Iterator[None]:
    """torch's own transformer layers as the operators they are made of.

    In eval mode each is one fused operator, which ONNX does not know and which hides from other
    runtimes what there is to fuse. And `nn.TransformerEncoder` looks whether its mask holds the
    causal values, which no exported program can; that is a hint only, the mask is used anyway.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    detect = getattr(transformer, _HINT, None)
    torch.backends.mha.set_fastpath_enabled(False)
    if detect is not None:
        setattr(transformer, _HINT, lambda mask, is_causal=None, size=None: bool(is_causal))
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        if detect is not None:
            setattr(transformer, _HINT, detect)


def at_batch(call: Call, size: int) -> Call:
    """The same call with another batch size: rows are repeated or left out."""

    def resized(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0:
            return leaf
        return leaf[torch.arange(size, device=leaf.device) % len(leaf)]

    return tree_map(resized, call)


def _batch(call: Call) -> int | None:
    """The size that the first dimensions of all inputs share."""
    tensors = [leaf for leaf in tree_leaves(call) if isinstance(leaf, Tensor)]
    sizes = {t.shape[0] if t.dim() else None for t in tensors}
    return sizes.pop() if len(sizes) == 1 else None


def _free(call: Call, names: tuple[str, ...]) -> tuple[dict[int, str], ...]:
    """{dimension: name} of each tensor of the call."""
    tensors = [leaf for leaf in tree_leaves(call) if isinstance(leaf, Tensor)]
    tokens = [t for t in tensors if not t.is_floating_point() and t.dim() == 2]
    length = {t.shape[1] for t in tokens}
    found = []
    for tensor in tensors:
        dims = {}
        if "batch" in names and _batch(call) is not None:
            dims[0] = "batch"
        if "sequence" in names and len(length) == 1 and any(tensor is t for t in tokens):
            dims[1] = "sequence"
        found.append(dims)
    return tuple(found)


def _shapes(model: nn.Module, call: Call, free: tuple[dict[int, str], ...]) -> Any:
    """`dynamic_shapes` of torch.export: an entry an argument, by name where there are keywords."""
    names = {name for dims in free for name in dims.values()}
    symbols = {name: Dim(name) for name in names}
    each = iter(free)

    def entry(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return None
        return {dim: symbols[name] for dim, name in next(each).items()}

    args, kwargs = tree_map(entry, call)
    if not kwargs:
        return args
    parameters = list(inspect.signature(model.forward).parameters)
    return dict(zip(parameters, args, strict=False)) | kwargs
