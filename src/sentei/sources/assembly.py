"""How transformers makes a model's tensors of those in a checkpoint.

Checkpoints of one family may have names of long ago, and one tensor for each expert where the model
has one for all of them. `from_pretrained` renames and assembles on reading, `save_pretrained` takes
apart again on writing; here the same is done for a few tensors at a time, by transformers' own
rules.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sentei.graph.errors import PruneError

__all__ = ["Part", "parts"]

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Part:
    """Tensors of a checkpoint that become tensors of the model together.

    stored: their names in the checkpoint. names: of the tensors they become.
    gather: stored tensors by name -> the model's by name. scatter: the way back.
    """

    stored: tuple[str, ...]
    names: tuple[str, ...]
    gather: Callable[[Tensors], dict[str, Tensor]] = field(repr=False)
    scatter: Callable[[Tensors], dict[str, Tensor]] = field(repr=False)

    @staticmethod
    def renamed(stored: str, name: str) -> Part:
        """One tensor under another name, or under the same."""
        return Part((stored,), (name,), lambda t: {name: t[stored]}, lambda t: {stored: t[name]})


def parts(model: nn.Module, stored: Mapping[str, Tensor]) -> list[Part]:
    """The parts that a checkpoint falls into, for a model of transformers.

    Args:
        model: without values. stored: name -> shape and type, as tensors without values.
    Returns:
        parts; what does not belong to the model is in none.
    """
    try:
        from transformers import conversion_mapping, core_model_loading
    except ImportError:  # an older transformers: names are what they are
        return [Part.renamed(name, name) for name in stored]
    rules = conversion_mapping.get_model_conversion_mapping(model)
    renamings = [r for r in rules if isinstance(r, core_model_loading.WeightRenaming)]
    converters = [r for r in rules if isinstance(r, core_model_loading.WeightConverter)]
    by_pattern = {p: c for c in converters for p in c.source_patterns}
    ours = model.state_dict()
    prefix = getattr(model, "base_model_prefix", None)

    def renamed(name: str, renamings: list[Any], converters: list[Any]) -> tuple[str, str | None]:
        return core_model_loading.rename_source_key(name, renamings, converters, prefix, ours)

    found: list[Part] = []
    gathered: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    # As the library does: experts are collected in the order of their numbers.
    for name in sorted(stored, key=core_model_loading.dot_natural_key):
        target, pattern = renamed(name, renamings, converters)
        if target not in ours and name in ours:
            target, pattern = renamed(name, [], [])
        if target not in ours:
            continue
        if pattern is None:
            found.append(Part.renamed(name, target))
        else:
            _, sources = gathered.setdefault(target, (by_pattern[pattern], {}))
            sources.setdefault(pattern, []).append(name)
    for target, (converter, sources) in gathered.items():
        found.append(_assembled(model, target, converter, sources, stored, core_model_loading))
    return found


def _assembled(
    model: Any,
    target: str,
    converter: Any,
    sources: Mapping[str, list[str]],
    stored: Mapping[str, Tensor],
    library: Any,
) -> Part:
    def gather(tensors: Tensors) -> dict[str, Tensor]:
        fresh = copy.deepcopy(converter)
        for pattern, names in sources.items():
            for name in names:
                fresh.add_tensor(target, name, pattern, tensors[name])
        made = fresh.convert(target, model=model, config=model.config)
        return {n: t[0] if isinstance(t, list) else t for n, t in made.items()}

    def scatter(tensors: Tensors) -> dict[str, Tensor]:
        return dict(library.revert_weight_conversion(model, dict(tensors)))

    names = tuple(n for own in sources.values() for n in own)
    try:
        made = gather({n: stored[n] for n in names})
        back = scatter(made)
    except Exception as error:
        raise PruneError(
            f"transformers makes {target} of {len(names)} stored tensors ({names[0]}, …) in a way "
            f"that cannot be done tensor by tensor ({type(error).__name__}: {error})"
        ) from error
    if {n: t.shape for n, t in back.items()} != {n: stored[n].shape for n in names}:
        raise PruneError(
            f"transformers makes {target} of {len(names)} stored tensors ({names[0]}, …), and does "
            "not take it apart into the same again"
        )
    return Part(names, tuple(made), gather, scatter)
