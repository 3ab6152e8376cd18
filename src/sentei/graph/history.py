"""What a model has lost: every module remembers the surgery done to its own tensors.

The record lies on the module it speaks of, as a plain attribute. So it follows the module through
copies, pickles and into other models, it goes when the module is replaced, and pruning twice
composes by itself: positions kept by the second surgery number those kept by the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sentei.graph.capture import named_tensors
from sentei.graph.capture.settings import INTERNAL, holds_settings, settings
from sentei.graph.rows import chosen, remaining
from sentei.graph.tape import AttributeKey

if TYPE_CHECKING:
    from sentei.graph.surgery import Surgery

__all__ = [
    "Gone", "History", "Past", "Put", "compose", "forget_past", "history", "integers", "remember",
    "remember_gone",
    "remember_integers",
]  # fmt: skip

_KEY = "_sentei_past"
_GONE = "_sentei_gone"
_DEEPEST = 4  # attribute, settings inside settings, a list there: as capture looks
# dimension -> (width before any pruning, kept positions of it: a vector, or a matrix by rows)
Kept = dict[int, tuple[int, Tensor]]


# Slots: without a `__dict__` this is no settings object whose integers capture would follow.
@dataclass(frozen=True, slots=True)
class Past:
    """One module's share of what was done, relative to the unpruned model.

    kept: local tensor name -> {dimension: (original size, kept positions)}.
    rewritten: local names of tensors whose values were changed, kept or scaled.
    attributes: path from the module -> integer.
    stand_in: the class the module was given, or "".
    """

    kept: dict[str, Kept] = field(default_factory=dict)
    rewritten: frozenset[str] = frozenset()
    attributes: dict[tuple[Any, ...], int] = field(default_factory=dict)
    stand_in: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """A layer or branch that was taken out, enough to take it out of a fresh model.

    name: in the model as it was then. stand_ins: of a branch, for each module that was replaced its
    name, how its outputs are made, and the structure of those (`Silent`); empty for a whole layer.
    numbers: attribute -> numbers of layers that are free since (`layer_idx`).
    elements: of a list of experts, those that stayed; then `name` is the list's.
    """

    name: str
    stand_ins: tuple[tuple[str, list[tuple[str, Any]], Any], ...] = ()
    numbers: dict[str, list[int]] = field(default_factory=dict)
    elements: tuple[int, ...] = ()

    def within(self, prefix: str) -> Gone:
        """The same, named from a module around."""
        dot = f"{prefix}." if prefix else ""
        moved = tuple((dot + name, steps, outputs) for name, steps, outputs in self.stand_ins)
        return Gone(dot + self.name, moved, self.numbers, self.elements)


@dataclass(frozen=True, slots=True)
class Put:
    """A module that was put into a model.

    name: in the model as it was then: of what it stands behind, or `instead` of.
    plain: how the module is built (`sentei.graph.layers.plain.Plain`), or a text: why not.
    """

    name: str
    instead: bool
    plain: Any

    def within(self, prefix: str) -> Put:
        """The same, named from a module around."""
        dot = f"{prefix}." if prefix else ""
        return Put(dot + self.name, self.instead, self.plain)


@dataclass(frozen=True)
class History:
    """What was done to a model since it was built; the same things by qualified name.

    gone: layers and branches that went, and modules that were put in, in that order.
    """

    kept: dict[str, Kept]
    rewritten: frozenset[str]
    attributes: dict[AttributeKey, int]
    swapped: dict[str, str]
    gone: tuple[Gone | Put, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kept or self.rewritten or self.attributes or self.swapped or self.gone)


def compose(first: Past, second: Past) -> Past:
    """The one surgery that does what `first`, then `second` do.

    Where the second starts from another width than the first left, the tensor was replaced in
    between, and only the second speaks of it.

    >>> import torch
    >>> first = Past({"weight": {0: (8, torch.tensor([1, 3, 5, 7]))}})
    >>> second = Past({"weight": {0: (4, torch.tensor([0, 2]))}})
    >>> compose(first, second).kept["weight"][0]
    (8, tensor([1, 5]))
    """
    kept = {name: dict(dims) for name, dims in first.kept.items()}
    for name, dims in second.kept.items():
        kept[name] = _one_after_other(kept.get(name, {}), dims)
    return Past(
        kept,
        first.rewritten | second.rewritten,
        {**first.attributes, **second.attributes},
        second.stand_in or first.stand_in,
    )


def _one_after_other(first: Kept, second: Kept) -> Kept:
    own = dict(first)
    if 0 in second:
        size, stay = second[0]
        for dim, (original, before) in first.items():
            if before.dim() == 2 and size % len(before) == 0:
                own[dim] = original, remaining(before, size, stay)
            elif before.dim() == 2:
                del own[dim]
    for dim, (size, positions) in second.items():
        if dim in own and own[dim][1].shape[-1] == size:
            original, before = own[dim]
            own[dim] = original, chosen(before, positions)
        else:
            own[dim] = size, positions
    return own


def remember(model: nn.Module, surgery: Surgery) -> None:
    """Note a surgery on the modules it is about to change. Call it before the tensors shrink.

    >>> import torch
    >>> from sentei.graph.surgery import Surgery
    >>> net = nn.Linear(3, 4)
    >>> remember(net, Surgery({"weight": {0: torch.tensor([0, 2])}}, {}, {}, {}, {}))
    >>> history(net).kept
    {'weight': {0: (4, tensor([0, 2]))}}
    """
    tensors = named_tensors(model)
    modules = dict(model.named_modules())
    news: dict[int, tuple[nn.Module, Past]] = {}

    def past(module: nn.Module) -> Past:
        return news.setdefault(id(module), (module, Past()))[1]

    rewritten: dict[int, set[str]] = {}
    homes = _homes(model)
    for name in {**surgery.kept, **surgery.scaled}:
        if name not in tensors:
            continue  # surgery itself says so
        tensor = tensors[name][1]
        dims = {
            dim: (int(tensor.shape[dim]), positions.cpu())
            for dim, positions in surgery.kept.get(name, {}).items()
        }
        # Tied tensors are noted in every module that holds them: one may outlive the other.
        for module, local in homes[id(tensor)]:
            rewritten.setdefault(id(module), set()).add(local)
            if dims:
                past(module).kept[local] = dims
            else:
                past(module)
    for key, value in surgery.attributes.items():
        if key.path and key.module in modules:
            past(modules[key.module]).attributes[key.path] = int(value)
    for name in surgery.swapped:
        past(modules[name])
    stand_ins = {id(modules[name]): kind for name, kind in surgery.swapped.items()}
    for key_, (module, new) in news.items():
        new = Past(
            new.kept,
            frozenset(rewritten.get(key_, ())),
            new.attributes,
            stand_ins.get(key_, ""),
        )
        vars(module)[_KEY] = compose(vars(module).get(_KEY, Past()), new)


def integers(model: nn.Module) -> dict[AttributeKey, int]:
    """Every integer that modules hold, also inside tuples, lists, mappings and settings.

    >>> net = nn.Linear(3, 4)
    >>> {str(key): value for key, value in integers(net).items()}
    {'in_features': 3, 'out_features': 4}
    """
    found: dict[AttributeKey, int] = {}
    seen: set[int] = set()

    def visit(value: Any, module: str, path: tuple[Any, ...]) -> None:
        if type(value) is int:
            found[AttributeKey(module, path)] = value
        elif isinstance(value, (list, tuple)):
            steps: Any = enumerate(value)
        elif type(value) is dict:
            steps = value.items()
        elif not isinstance(value, (Tensor, nn.Module)) and holds_settings(value):
            # Modules share their settings: what changes there is noted once.
            attributes, items = settings(value)
            steps = () if id(value) in seen else (items | attributes).items()
            seen.add(id(value))
        else:
            return
        if type(value) is not int and len(path) < _DEEPEST:
            for step, inside in steps:
                visit(inside, module, (*path, step))

    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key not in INTERNAL:
                visit(value, name, (key,))
    return found


def remember_integers(model: nn.Module, before: Mapping[AttributeKey, int]) -> None:
    """Note what integers became since `before`, where something else than surgery changed them.

    >>> net = nn.Linear(3, 4)
    >>> before = integers(net)
    >>> net.heads = 2
    >>> remember_integers(net, before)
    >>> history(net).attributes
    {AttributeKey(module='', path=('heads',)): 2}
    """
    modules = dict(model.named_modules())
    for key, value in integers(model).items():
        if before.get(key) != value:
            state = modules[key.module].__dict__
            new = Past(attributes={key.path: value})
            state[_KEY] = compose(state.get(_KEY, Past()), new)


def remember_gone(model: nn.Module, gone: Gone | Put) -> None:
    """Note on a model that a layer or branch of it is gone, or that a module was put into it."""
    state = model.__dict__
    state[_GONE] = (*state.get(_GONE, ()), gone)


def history(model: nn.Module) -> History:
    """Everything done to this model, by qualified name."""
    modules = dict(model.named_modules())
    kept: dict[str, Kept] = {}
    rewritten: set[str] = set()
    tensors: Mapping[str, Any] = named_tensors(model)
    attributes: dict[AttributeKey, int] = {}
    swapped: dict[str, str] = {}
    gone: list[Gone | Put] = []
    for name, module in modules.items():
        gone += [g.within(name) for g in vars(module).get(_GONE, ())]
        past = vars(module).get(_KEY)
        if past is None:
            continue
        dot = f"{name}." if name else ""
        # Of tied tensors only the first name counts, as everywhere.
        kept |= {dot + n: dict(dims) for n, dims in past.kept.items() if dot + n in tensors}
        rewritten |= {dot + n for n in past.rewritten if dot + n in tensors}
        attributes |= {AttributeKey(name, path): n for path, n in past.attributes.items()}
        if past.stand_in:
            swapped[name] = past.stand_in
    return History(kept, frozenset(rewritten), attributes, swapped, tuple(gone))


def forget_past(module: nn.Module) -> None:
    """The module is new where it is: it is described as it is now, not as it once was."""
    for part in module.modules():
        vars(part).pop(_KEY, None)
        vars(part).pop(_GONE, None)


def _homes(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """id(tensor) -> every module that holds it, with its name there."""
    homes: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers, vars(module)):
            for name, value in store.items():
                if isinstance(value, Tensor):
                    homes.setdefault(id(value), []).append((module, name))
    return homes
