"""A user's own idea from a file: `file.py:name` wherever a method's id is taken.

The name stands for a `Method`, for a saliency (evidence -> scores of all weights), or for a
criterion ((group, evidence) -> scores of its units). Scores alone are made a method of the plainest
kind: prune the trained network once, train on.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentei.graph.errors import PruneError
from sentei.methods.base import Method
from sentei.methods.parts import one_shot
from sentei.methods.setting import Setting
from sentei.methods.units.channels import remove_units
from sentei.sources.user_file import value_of
from sentei.structures import Masks

__all__ = ["is_file", "own_method"]


def is_file(text: str) -> bool:
    """Whether a name is one in a file.

    >>> is_file("ideas/mine.py:score"), is_file("snip")
    (True, False)
    """
    return text.rpartition(":")[0].endswith(".py")


def own_method(text: str) -> Method:
    """The method that a name in a file stands for. This runs the file, as `python file.py` would.

    Raises:
        PruneError: the file or what it holds is no good; says where and why.
    """
    file, _, name = text.rpartition(":")
    found = value_of(Path(file).absolute(), name)
    if isinstance(found, Method):
        return found
    places = _places(found)
    if places not in (1, 2):
        raise PruneError(
            f"{text} must be a method (see sentei.methods.method), a saliency of (evidence) or a "
            f"criterion of (group, evidence); it is a {type(found).__name__}"
            + (f" of {places} arguments" if places is not None else "")
        )
    by_weight = places == 1
    facts: dict[str, Any] = {
        "id": f"{Path(file).name}:{name}",
        "title": (inspect.getdoc(found) or name).partition("\n")[0],
        "authors": "-",
        "venue": "-",
        "year": time.localtime().tm_year,
        "timing": "after",
        "starts": "trained",
        "needs": ("data", "labels", "training"),
    }
    if by_weight:
        run = _by_saliency(found)
        return Method(run=run, family="magnitude", structure="weight", **facts)
    return Method(run=_by_criterion(found), family="cnn-structured", structure="channel", **facts)


def _places(found: Any) -> int | None:
    """How many positional arguments a function takes without defaults; None for anything else."""
    if not callable(found):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(found).parameters.values()
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def _by_saliency(saliency: Callable[..., Any]) -> Callable[..., Masks]:
    def run(setting: Setting, *, scope: str = "global") -> Masks:
        masks = one_shot(setting, saliency, scope)
        setting.recover(masks)
        return masks

    run.__doc__ = f"{_words(saliency)}\n\nThe lowest weights go, ranked over `scope`; train on."
    return run


def _by_criterion(criterion: Callable[..., Any]) -> Callable[..., Any]:
    def run(setting: Setting, *, allocation: str = "global", normalise: str = "none") -> Any:
        result = remove_units(setting, criterion, allocation=allocation, normalise=normalise)
        setting.recover()
        return result

    run.__doc__ = f"{_words(criterion)}\n\nThe lowest units go, at once; train on."
    return run


def _words(function: Callable[..., Any]) -> str:
    return inspect.getdoc(function) or f"Remove what scores lowest by {function.__name__}."
