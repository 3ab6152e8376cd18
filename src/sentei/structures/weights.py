"""Which parameters hold weights that may be pruned one by one."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from torch import nn

from sentei.graph.capture import named_modules, unwrap
from sentei.graph.errors import PruneError, closest

__all__ = ["prunable"]


def prunable(model: nn.Module, protect: Iterable[str] = ()) -> dict[str, nn.Parameter]:
    """The weight matrices and kernels of a model, by qualified name, a shared one once.

    Parameters with two or more dimensions whose own name says "weight", except those of embeddings.
    Biases, norms, position tables and class tokens are never among them.

    Args:
        protect: names or patterns (`"head*"`) of parameters or of their modules to leave out.
    Raises:
        PruneError: nothing is left, or a pattern matches nothing.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    >>> list(prunable(net)), list(prunable(net, protect=["2"]))
    (['0.weight', '2.weight'], ['0.weight'])
    """
    model = unwrap(model)
    protect = [protect] if isinstance(protect, str) else list(protect)
    found: dict[str, nn.Parameter] = {}
    embedded: set[int] = set()
    for path, module in named_modules(model):
        own = {n: p for n, p in module._parameters.items() if p is not None}
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            embedded.update(map(id, own.values()))
            continue
        for name, parameter in own.items():
            if parameter.dim() >= 2 and "weight" in name and parameter.is_floating_point():
                found[f"{path}.{name}" if path else name] = parameter
    shared: dict[int, str] = {}
    for name, parameter in list(found.items()):
        if id(parameter) in embedded or shared.setdefault(id(parameter), name) != name:
            del found[name]
    for pattern in protect:
        hit = [n for n in found if _matches(n, pattern)]
        if not hit:
            known = [*found, *(n for n, _ in model.named_modules() if n)]
            if not any(fnmatch.fnmatch(n, pattern) for n in known):
                raise PruneError(
                    f"protect: {pattern!r} is no weight or module; {closest(pattern, known)}"
                )
        for name in hit:
            del found[name]
    if not found:
        raise PruneError(
            f"{type(model).__name__} has no weights to prune one by one: no parameter with two or "
            f"more dimensions that is called weight, or all are protected"
        )
    return found


def _matches(name: str, pattern: str) -> bool:
    module = name.rpartition(".")[0]
    return any(fnmatch.fnmatch(part, pattern) for part in (name, module)) or (
        module.startswith(f"{pattern}.")
    )
