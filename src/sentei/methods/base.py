"""A method: a paper as a function of a setting, with the facts that tables and maps show."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sentei.graph.errors import PruneError, closest

__all__ = ["FAMILIES", "Method", "method"]

FAMILIES = (
    "magnitude", "gradient", "lottery", "cnn-structured", "transformer", "dynamic",
    "automation", "hardware",
)  # fmt: skip
_TIMINGS = ("before", "during", "after")
_STARTS = ("initial", "trained")
_NEEDS = ("data", "labels", "gradients", "training", "initial weights", "batch norm", "graph")


@dataclass(frozen=True)
class Method:
    """One published method. Build with the decorator `method`.

    id: what the command line and the bench call it.
    title, authors, venue, year, arxiv: the paper; `authors` as in a citation, shortened by et al.
    family: one of `FAMILIES`.
    structure: what is removed: "weight", "n:m", "block", "channel", "head", "layer", …
    timing: "before", "during" or "after" training.
    starts: the model it wants: "initial" (untrained) or "trained".
    needs: of "data", "labels", "gradients", "training", "initial weights"; "batch norm" in the
        model, a "graph" in the data.
    card: section of the method cards, such as "A4".
    lineage: ids of the methods it builds on.
    run: (setting, **options) -> Masks or Result; the model of the setting is pruned in place.
    """

    id: str
    title: str
    authors: str
    venue: str
    year: int
    family: str
    structure: str
    timing: str
    starts: str
    run: Callable[..., Any] = field(repr=False)
    arxiv: str | None = None
    needs: tuple[str, ...] = ()
    card: str | None = None
    lineage: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.family, FAMILIES, "family"),
            (self.timing, _TIMINGS, "timing"),
            (self.starts, _STARTS, "start"),
            *((need, _NEEDS, "need") for need in self.needs),
        ):
            if value not in known:
                raise ValueError(f"method {self.id!r}: unknown {what} {value!r}; known: {known}")

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0]

    @property
    def masks(self) -> bool:
        """Does it keep zeros, so that its budget is a share of weights, not a `Target`?

        Filters count as such: what makes tickets of whole rows counts the weights in them.
        """
        return self.structure in ("weight", "n:m", "block", "filter")

    @property
    def options(self) -> dict[str, Any]:
        """Option name -> default."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raises PruneError for an option that the method does not have."""
        for name in options:
            if name not in self.options:
                raise PruneError(
                    f"method {self.id!r} has no option {name!r}; {closest(name, self.options)}"
                )


def method(id: str, **facts: Any) -> Callable[[Callable[..., Any]], Method]:
    """A decorator that makes a `Method` of a function (setting, *, options) -> Masks or Result.

    >>> @method("nothing", title="-", authors="-", venue="-", year=1989, family="magnitude",
    ...         structure="weight", timing="after", starts="trained")
    ... def nothing(setting, *, rounds=1):
    ...     "Keep everything."
    >>> nothing.summary, nothing.options
    ('Keep everything.', {'rounds': 1})
    """

    def wrap(function: Callable[..., Any]) -> Method:
        return Method(id=id, run=function, **facts)

    return wrap
