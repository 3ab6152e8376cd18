"""What is known of an operator before it runs."""

from __future__ import annotations

from typing import Any

import torch

from sentei.graph.tape import operator_name

__all__ = ["CONTENTS", "MASK", "MORE", "OperatorFacts", "facts_of"]

# These stand, among the forms of an operator's arguments, for what the forms do not tell.
MASK, CONTENTS, MORE = "what a mask holds", "what a tensor holds", "what anything else is"


class OperatorFacts:
    """What is asked of an operator at every call.

    predictable: its one output is its first argument, changed in place, or depends in form on the
        forms of its arguments and on what `looks_at` names.
    """

    __slots__ = ("func", "looks_at", "mutable", "predictable")

    def __init__(self, func: Any) -> None:
        self.func = func
        schema, name = func._schema, operator_name(func)
        written = [a.alias_info is not None and a.alias_info.is_write for a in schema.arguments]
        self.mutable = bool(schema.is_mutable)
        self.predictable = (
            schema.name.startswith("aten::")
            and len(schema.returns) == 1
            and not any(written[1:])
            and self.mutable == name.endswith("_")
            and name not in ("_local_scalar_dense", "is_nonzero", "equal", "masked_select")
        )
        self.looks_at = frozenset({MORE, MASK, CONTENTS})
        if torch.Tag.pointwise in func.tags:
            self.looks_at = frozenset({MORE})
        elif name in ("index", "index_select", "embedding", "gather"):
            self.looks_at = frozenset({MORE, MASK})


_FACTS: dict[int, OperatorFacts] = {}


def facts_of(func: Any) -> OperatorFacts:
    """The facts of an operator, worked out once."""
    facts = _FACTS.get(id(func))  # an operator's own hash is Python
    if facts is None:
        facts = _FACTS[id(func)] = OperatorFacts(func)
    return facts
