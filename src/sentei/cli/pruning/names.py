"""What a module or group was called before layers of a list were taken out."""

from __future__ import annotations

from collections.abc import Iterable

import sentei

__all__ = ["original", "originals", "renumbering"]


def renumbering(result: sentei.Result) -> list[str]:
    """Of the layers a pruning took out, those after which the ones behind them are renumbered.

    A branch leaves a stand-in in its place, and no other name changes.
    """
    return [
        layer.name for layer in result.layers
        if layer.kind == "layer" and layer.name.rpartition(".")[2].isdigit()
    ]  # fmt: skip


def original(name: str, gone: Iterable[str]) -> str:
    """The name in the unpruned model.

    Args:
        name: as it is now. gone: the layers that went, in order, each as it was called then.

    >>> original("layers.1.fc", ["layers.0", "layers.1"])  # what were 0 and 2 have gone
    'layers.3.fc'
    >>> original("head", ["layers.0"])
    'head'
    """
    for layer in reversed([*gone]):
        place, _, number = layer.rpartition(".")
        head = f"{place}." if place else ""
        own, dot, rest = name.removeprefix(head).partition(".")
        digits = own.rstrip("]").partition("/")[0].partition("[")[0]
        if name.startswith(head) and digits.isdigit() and int(digits) >= int(number):
            name = f"{head}{int(digits) + 1}{own[len(digits) :]}{dot}{rest}"
    return name


def originals(
    layers: Iterable[str], renumbering: Iterable[str], gone: Iterable[str] = ()
) -> list[str]:
    """The layers that one pruning took out, by their names in the unpruned model.

    Args:
        layers, renumbering: of the facts of the pruning. gone: those that went before.

    >>> originals(["layers.0", "layers.1", "layers.1"], ["layers.0", "layers.1", "layers.1"])
    ['layers.0', 'layers.2', 'layers.3']
    """
    before, these, found = [*gone], set(renumbering), []
    for layer in layers:
        found.append(original(layer, before))
        if layer in these:
            before.append(layer)
    return found
