"""From a folder to a model: check everything, then repeat the surgery on a fresh model."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sentei.batches import home_of
from sentei.graph.blueprint import is_config
from sentei.graph.capture import unwrap
from sentei.graph.capture.settings import INTERNAL, holds_settings
from sentei.graph.errors import PruneError
from sentei.graph.history import history
from sentei.graph.layers.change import all_or_nothing, put_in, submodule, take_out
from sentei.graph.layers.plain import build
from sentei.graph.literals import is_literal, read_literal
from sentei.graph.stock import STAND_INS
from sentei.graph.surgery import Surgery, _Transaction, apply, renew
from sentei.graph.tape import AttributeKey
from sentei.storage.files import RECIPE, WEIGHTS, few, locate, quoted, regular, sha256
from sentei.storage.saving import dtype_name, names_of, stored_names
from sentei.storage.shards import TYPES

if TYPE_CHECKING:  # pydantic waits until something is loaded: `import sentei` stays light
    from sentei.storage.recipe import Edit, Origin, Recipe, Removed
    from sentei.structures import Masks

__all__ = ["check", "fresh", "load", "masks"]


def load(
    folder: str | os.PathLike[str], model: nn.Module | None = None, *, trust: bool = False
) -> nn.Module:
    """The pruned model that was saved: a fresh, unpruned one is built, cut and filled.

    No example input is needed and no code of the folder is run: the tensors are cut to the kept
    positions, the model's integers and stand-in modules follow, and the stored weights are put in,
    strictly. The outputs are those of the saved model, bit for bit.

    Args:
        folder: what `sentei.save` wrote.
        model: built by the code that built the original, in the same dtype; its weights do not
            matter. Changed in place; device, train mode and `requires_grad` stay its own. Without
            it, the source in the folder builds one: a model of timm, torchvision or transformers
            (in eval mode, on the CPU), or the user's own file.
        trust: run the file that builds the model, where the source is `file.py:function`. It is
            run only if it is, byte for byte, the file that was used before.
    Returns:
        the pruned model: `model`, if that was given.
    Raises:
        PruneError: there is no such artefact, it is damaged or was tampered with, it is of
            another model (says what differs), or it does not say how its model is built and none
            was given. The model is as before.

    >>> import sentei, tempfile
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = sentei.delete_units(net, "0", [0, 5], torch.randn(3, 4))
    >>> with tempfile.TemporaryDirectory() as home:
    ...     _ = sentei.save(net, home + "/small")
    ...     load(home + "/small", nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    Sequential(
      (0): Linear(in_features=4, out_features=6, bias=True)
      (1): ReLU()
      (2): Linear(in_features=6, out_features=2, bias=True)
    )
    """
    from sentei.storage.recipe import parse

    place = locate(folder)
    recipe = parse(place)
    if model is None:
        model = fresh(_trusted(recipe, place, trust), recipe)
    root = unwrap(model)
    with all_or_nothing(root):
        _prune_and_fill(root, recipe, place)
    return model


@torch.inference_mode(False)
def _prune_and_fill(root: nn.Module, recipe: Recipe, place: Path) -> None:
    _make_room(recipe, root)
    positions = check(recipe, root)
    weights = _weights(recipe, place, [p.shape[-1] for p in positions])
    kept = {
        name: {d: positions[s] for d, s in enumerate(stored.kept) if s is not None}
        for name, stored in recipe.tensors.items()
    }
    surgery = Surgery(
        kept={name: dims for name, dims in kept.items() if dims},
        attributes={AttributeKey(e.module, tuple(e.path)): e.value for e in recipe.attributes},
        swapped=recipe.swapped,
        scaled={},
        units={},
    )
    with _Transaction(root, None) as transaction:
        apply(root, surgery, transaction)
        _fill(root, weights)
        transaction.commit()
    for module in root.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # cuDNN wants the weights in one piece


def masks(folder: str | os.PathLike[str]) -> Masks:
    """The masks of an artefact, which its zeros show; weights that are zero and not pruned stay.

    Raises:
        PruneError: there is no such artefact, or it is damaged.
    """
    from sentei.storage.recipe import decode, parse
    from sentei.structures import Masks

    place = locate(folder)
    recipe = parse(place)
    path = place / WEIGHTS
    _check_bytes(recipe, path)
    found = {}
    try:
        with safe_open(path, framework="pt") as file:
            there = set(file.keys())
            for name in recipe.masks:
                if name not in there:
                    raise PruneError(f"{place / RECIPE}: masks names {quoted(name)}, not stored")
                found[name] = file.get_tensor(name) != 0
    except (SafetensorError, OSError) as error:
        raise PruneError(f"cannot read {path}: {quoted(str(error), 200)}") from error
    for name, kept in recipe.zeros.items():
        if name not in found:
            raise PruneError(f"{place / RECIPE}: zeros of {quoted(name)}, which has no mask")
        flat = found[name].view(-1)
        positions = decode(kept, len(flat))
        if flat[positions].any():
            raise PruneError(f"{place / RECIPE}: zeros of {quoted(name)} that are not zero")
        flat[positions] = True
    return Masks(found)


# -- the fresh model ------------------------------------------------------------------------------
def _trusted(recipe: Recipe, place: Path, trust: bool) -> Origin:
    if recipe.source is None:
        raise PruneError(
            f"{place} does not say how its model is built (save with source=): build a fresh "
            f"{quoted(recipe.model)}, as it was before pruning, and pass it as model="
        )
    if recipe.source.kind == "file" and not trust:
        raise PruneError(
            f"the model of {place} is built by running {quoted(recipe.source.name, 200)}; if you "
            "trust that file, load with trust=True, or build the model yourself and pass it as "
            "model="
        )
    return recipe.source


def fresh(origin: Origin, recipe: Recipe) -> nn.Module:
    """The unpruned model of the source, in the dtypes of the recipe.

    Raises:
        PruneError: it cannot be built.
    """
    from sentei.sources import Source

    model = Source(**origin.model_dump()).skeleton()
    known = _dtypes()
    for name, (_, tensor) in stored_names(unwrap(model), frozenset(recipe.tensors)).items():
        stored = recipe.tensors.get(name)
        if stored is not None and stored.dtype in known and tensor.is_floating_point():
            tensor.data = tensor.data.to(known[stored.dtype])
    return model


def check(recipe: Recipe, model: nn.Module) -> list[Tensor]:
    """Make sure that this fresh model is the one the recipe shrinks; take out its layers.

    Returns:
        the kept positions of every selection.
    Raises:
        PruneError: it is not; says what differs. Only layers may be gone, nothing else is touched.
    """
    if history(model):
        raise PruneError("this model is pruned already; build a fresh one and load into that")
    for removed in recipe.layers:
        try:
            if removed.put is None:
                take_out(model, removed.gone())
            else:
                _put_in(model, removed, recipe)
        except PruneError as error:
            raise PruneError(f"{RECIPE}: layers: {quoted(removed.name)}: {error}") from None
    _check_tensors(recipe, model)
    try:
        positions = recipe.positions()
    except PruneError as error:
        raise PruneError(f"{RECIPE}: {error}") from None
    _check_rows(recipe, positions)
    _check_python(recipe, model)
    return positions


def _put_in(model: nn.Module, removed: Removed, recipe: Recipe) -> None:
    """Build a module as the recipe describes it, and put it in; its weights come later.

    Raises:
        PruneError: it cannot be built, or is larger than what the file could hold of it.
    """
    assert removed.module is not None
    made = build(removed.module.plain())
    count = sum(t.numel() for t in (*made.parameters(), *made.buffers()))
    # It may have been pruned since, but not to next to nothing.
    if count > max(256 * recipe.weights.bytes, 1 << 20):
        raise PruneError(
            f"a module of {count:,} numbers is put in, and {WEIGHTS} has "
            f"{recipe.weights.bytes:,} bytes"
        )
    first = next(model.parameters(), torch.empty(0))
    try:
        made.to_empty(device=first.device)
    except RuntimeError as error:
        raise PruneError(f"no memory for a module of {count:,} numbers: {error}") from None
    kinds = {t.dtype for t in model.parameters() if t.is_floating_point()}
    if len(kinds) == 1:
        made.to(kinds.pop())
    place = submodule(model, removed.name) if removed.put == "instead" else model
    made.train(place.training)
    put_in(model, removed.name, made, instead=removed.put == "instead")


def _dtypes() -> dict[str, torch.dtype]:
    """PyTorch's types of numbers, by the names that a recipe has for them."""
    return {dtype_name(d): d for d in vars(torch).values() if isinstance(d, torch.dtype)}


# -- checks: the recipe against the model ---------------------------------------------------------
def _make_room(recipe: Recipe, model: nn.Module) -> None:
    """Where the model keeps a tensor from its first pass on, and has made none yet: put one there.

    It takes no memory, whatever shape the recipe asks for; the stored one takes its place.
    """
    known = _dtypes()
    modules = dict(model.named_modules())
    device = home_of(model)
    for name, stored in recipe.tensors.items():
        where, _, key = name.rpartition(".")
        state = vars(modules[where]) if where in modules else {}
        if stored.kind == "attribute" and key in state and state[key] is None:
            with suppress(KeyError, RuntimeError):  # said by the checks that follow
                one = torch.zeros((), dtype=known[stored.dtype], device=device)
                state[key] = one.expand(stored.shape)


def _check_tensors(recipe: Recipe, model: nn.Module) -> None:
    """Names, kinds, ties, shapes and dtypes of the fresh model are those of the original."""
    ours = stored_names(model, frozenset(recipe.tensors))
    if any(isinstance(t, nn.parameter.UninitializedTensorMixin) for _, t in ours.values()):
        raise PruneError("the model has parameters without a size; run it once before loading")
    if any(t.is_meta for _, t in ours.values()):
        raise PruneError("the model has no weights (meta device); build it on a real device")
    names = names_of(model)
    lasting = stored_names(model, frozenset())
    found: list[str] = []
    missing = [n for n in recipe.tensors if n not in ours]
    found += [
        f"the model has no {quoted(n)}"
        # A cache, such as the angles of rotary positions up to the longest sequence so far.
        + (" (its code makes it: run the model once first)" if made else "")
        for n in missing
        for made in [recipe.tensors[n].kind == "attribute"]
    ]
    found += [f"the artefact has no {quoted(n)}" for n in ours if n not in recipe.tensors]
    for name, stored in recipe.tensors.items():
        if name not in ours:
            continue
        kind, tensor = ours[name]
        aliases = [n for n in names.get(id(tensor), ()) if n != name]
        if kind != stored.kind:
            found.append(f"{name} is a {kind}, was a {stored.kind}")
        elif list(tensor.shape) != stored.shape and not (
            # A table that code makes anew for the inputs it meets: the stored one takes its place.
            name not in lasting and tensor.dim() == len(stored.shape)
        ):
            found.append(f"{name} has shape {list(tensor.shape)}, was {stored.shape[:8]}")
        elif dtype_name(tensor.dtype) != stored.dtype:
            found.append(
                f"{name} is {dtype_name(tensor.dtype)}, was {quoted(stored.dtype)} "
                "(use model.to(dtype) first)"
            )
        elif aliases != stored.aliases:
            found.append(
                f"{name} is tied to {aliases or 'nothing'}, was tied to "
                f"{few(map(quoted, stored.aliases)) or 'nothing'}"
            )
        else:
            found += _check_selections(name, stored.kept, tensor, recipe)
    # Of what no tensor has, nothing bounds the size.
    used = {index for stored in recipe.tensors.values() for index in stored.kept}
    found += [
        f"no tensor keeps selection {i}" for i in range(len(recipe.selections)) if i not in used
    ]
    if found:
        ours_name = f"{type(model).__module__}.{type(model).__qualname__}"
        raise PruneError(
            f"the artefact is of another model ({quoted(recipe.model)}; this is {ours_name!r}): "
            f"{few(found)}"
        )


def _check_selections(
    name: str, kept: list[int | None], tensor: Tensor, recipe: Recipe
) -> Iterator[str]:
    if kept and len(kept) != tensor.dim():
        yield f"{name} has {tensor.dim()} dimensions, the recipe lists {len(kept)}"
        return
    for dim, index in enumerate(kept):
        if index is None:
            continue
        if index >= len(recipe.selections):
            yield f"{name} refers to selection {index} of {len(recipe.selections)}"
        elif recipe.selections[index].size != tensor.shape[dim]:
            yield (
                f"{name} has {tensor.shape[dim]} along dimension {dim}, "
                f"was {recipe.selections[index].size}"
            )
        elif isinstance(rows := recipe.selections[index].kept, list) and (
            dim == 0 or len(rows) > len(tensor)
        ):
            yield f"{name} has no {len(rows)} rows that could differ along dimension {dim}"


def _check_rows(recipe: Recipe, positions: list[Tensor]) -> None:
    """Positions by row are for equal shares of the rows that are kept."""
    for name, stored in recipe.tensors.items():
        for index in stored.kept:
            if index is None or positions[index].dim() == 1:
                continue
            first, count = stored.kept[0], len(positions[index])
            rows = stored.shape[0] if first is None else len(positions[first])
            if rows % count:
                raise PruneError(
                    f"{RECIPE}: {name} keeps {rows} rows, and lists positions for {count} shares "
                    "of them; they must be equal shares"
                )


def _check_python(recipe: Recipe, model: nn.Module) -> None:
    """Stand-ins take the place of what they stand for; edits find plain integers."""
    modules = dict(model.named_modules())
    stand_ins = {kind.__name__: (stock, kind) for stock, kind in STAND_INS.items()}
    states = {name: vars(module) for name, module in modules.items()}
    for name, wanted in recipe.swapped.items():
        if wanted not in stand_ins:
            raise PruneError(
                f"the recipe swaps {quoted(name)} for {quoted(wanted)}, which is no stand-in of "
                f"this Sentei; known: {few(stand_ins)}"
            )
        stock, kind = stand_ins[wanted]
        if name not in modules or type(modules[name]) is not stock:
            raise PruneError(
                f"the recipe swaps {quoted(name)} for {wanted}, but the model has "
                f"{type(modules[name]).__name__ if name in modules else 'no such module'} there"
            )
        twin = copy.copy(modules[name])  # its own attributes, shared tensors
        kind.adopt(twin)
        states[name] = vars(twin)
    for edit in recipe.attributes:
        if is_literal(tuple(edit.path)):
            _check_number(edit, modules)
        else:
            _check_edit(edit, states)


def _check_number(edit: Edit, modules: dict[str, nn.Module]) -> None:
    """The code of the model has the number that the recipe replaces."""
    where = AttributeKey(edit.module, tuple(edit.path))
    if edit.module not in modules:
        raise PruneError(f"the recipe edits {quoted(edit.module)}, which the model does not have")
    if type(edit.path[1]) is not int or type(edit.path[2]) is not int:
        raise PruneError(f"the recipe edits {quoted(str(where))}, which is no number")
    try:
        read_literal(modules[edit.module], where.path)
    except LookupError as error:
        raise PruneError(f"the recipe edits {quoted(str(where))}: {error}") from None


def _check_edit(edit: Edit, states: dict[str, dict[str, Any]]) -> None:
    where = quoted(".".join([edit.module, *map(str, edit.path)]).lstrip("."))
    if edit.module not in states:
        raise PruneError(f"the recipe edits {where}, but the model has no module of that name")
    value: Any = states[edit.module]
    if edit.path[0] in INTERNAL:
        raise PruneError(f"the recipe edits {where}, which belongs to torch")
    for step in edit.path:
        if isinstance(value, (nn.Module, Tensor)):
            raise PruneError(f"the recipe edits {where}, past a {type(value).__name__}")
        if type(value) in (list, dict) or isinstance(value, tuple):
            inside = value
        elif holds_settings(value):
            inside = vars(value)
        else:
            raise PruneError(f"the recipe edits {where}, which leads through a {_kind(value)}")
        if isinstance(step, str) and step.startswith("__"):
            raise PruneError(f"the recipe edits {where}, which is not Sentei's to edit")
        if isinstance(inside, dict):
            # A configuration may state a width that it left to its class before.
            known = step in inside or (is_config(value) and type(step) is str)
            missing = inside.get(step) is None
        else:
            known = type(step) is int and 0 <= step < len(inside)
            missing = False
        if not known:
            raise PruneError(f"the recipe edits {where}, but the model has no such attribute")
        stated, value = is_config(value) and missing, None if missing else inside[step]
    if type(value) is not int and not (value is None and stated):
        raise PruneError(
            f"the recipe sets {where} to {edit.value}, but that is a {_kind(value)} "
            "and only plain integers are edited"
        )


def _kind(value: Any) -> str:
    return "function" if callable(value) and not isinstance(value, type) else type(value).__name__


# -- the weights ----------------------------------------------------------------------------------
def _weights(recipe: Recipe, place: Path, widths: list[int]) -> dict[str, Tensor]:
    """The stored tensors, in the dtypes of the model, after the file has passed every check."""
    path = place / WEIGHTS
    _check_bytes(recipe, path)
    try:
        with safe_open(path, framework="pt") as file:
            _check_file(recipe, path, file, widths)
            out = {name: file.get_tensor(name) for name in recipe.tensors}
    except (SafetensorError, OSError) as error:
        raise PruneError(f"cannot read {path}: {quoted(str(error), 200)}") from error
    return {
        name: torch.view_as_complex(t) if recipe.tensors[name].dtype == "complex128" else t
        for name, t in out.items()
    }


def _check_bytes(recipe: Recipe, path: Path) -> None:
    """The file is the one that the recipe speaks of."""
    size = regular(path)
    if size != recipe.weights.bytes:
        raise PruneError(
            f"{path} has {size:,} bytes, the recipe says {recipe.weights.bytes:,}: "
            f"{'it was cut short' if size < recipe.weights.bytes else 'it was changed'}"
        )
    if sha256(path) != recipe.weights.sha256:
        raise PruneError(f"{path} was changed or damaged: its SHA-256 is not the recipe's")


def _check_file(recipe: Recipe, path: Path, file: Any, widths: list[int]) -> None:
    strange = [n for n in (*recipe.masks, *recipe.zeros) if n not in recipe.tensors]
    if strange:
        raise PruneError(f"{path.parent / RECIPE}: masks names {quoted(strange[0])}, not stored")
    there = set(file.keys())
    if there != set(recipe.tensors):
        found = [f"{quoted(n)} is missing" for n in recipe.tensors if n not in there]
        found += [f"{quoted(n)} is not in the recipe" for n in sorted(there - set(recipe.tensors))]
        raise PruneError(f"{path} does not hold what the recipe says: {few(found)}")
    for name, stored in recipe.tensors.items():
        selected = stored.kept or [None] * len(stored.shape)
        expected = [
            n if s is None else widths[s] for n, s in zip(stored.shape, selected, strict=True)
        ]
        dtype = stored.dtype
        if dtype == "complex128":
            expected, dtype = [*expected, 2], "float64"
        one = file.get_slice(name)
        kind = TYPES.get(one.get_dtype())
        if one.get_shape() != expected or kind is None or dtype_name(kind) != dtype:
            raise PruneError(
                f"{path}: {name} is {one.get_dtype()} {one.get_shape()[:8]}, "
                f"the recipe says {dtype} {expected}"
            )


def _fill(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put the weights in; buffers are replaced, not written to, so that a rollback finds them."""
    tensors = stored_names(model, frozenset(weights))
    new: dict[int, Tensor] = {}
    for name, stored in weights.items():
        kind, tensor = tensors[name]
        # A tensor that was never cut keeps the memory layout it was built with.
        like = tensor if tensor.shape == stored.shape else stored
        value = torch.empty_like(like.detach(), device=tensor.device).copy_(stored)
        if kind == "parameter":
            renew(tensor, value)
        else:
            new[id(tensor)] = value
    for module in model.modules():
        for store in (module._buffers, vars(module)):
            for key, there in store.items():
                if id(there) in new:
                    store[key] = new[id(there)]
