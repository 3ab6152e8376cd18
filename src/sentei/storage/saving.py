"""From a pruned model to a folder: the weights, and the recipe by which a fresh one fits them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from sentei.graph.capture import named_tensors, unwrap
from sentei.graph.errors import PruneError, closest
from sentei.graph.history import History, history
from sentei.graph.surgery import Surgery
from sentei.storage.files import RECIPE, WEIGHTS, few, replace, sha256
from sentei.structures.edges import keeps_edges

if TYPE_CHECKING:  # pydantic waits until something is saved: `import sentei` stays light
    from sentei.methods.apply import Outcome
    from sentei.pruning import Result
    from sentei.sources import Source
    from sentei.storage.recipe import Origin, Recipe

__all__ = ["dtype_name", "names_of", "recipe_of", "save", "stored_names",
           "write_recipe"]  # fmt: skip


def save(
    what: Result | Outcome | Surgery | nn.Module,
    folder: str | os.PathLike[str],
    *,
    model: nn.Module | None = None,
    source: Source | str | None = None,
    masks: Mapping[str, Tensor] | Iterable[str] = (),
) -> Path:
    """Write a pruned model as a folder: `model.safetensors` and `sentei.json`. No pickle.

    The folder holds all parameters and persistent buffers, and whatever other tensors pruning
    changed; and the recipe, relative to the unpruned model however often it was pruned since.
    Buffers that are not persistent and that pruning left alone come from the model's own code,
    as with `state_dict`.

    Args:
        what: the result of `prune` or `delete_units`, before or after more training (that of a
            method brings its masks along); or a surgery, with `model=`; or the pruned model itself.
        folder: new, empty, or an artefact, which is replaced at once: after a kill or a full disk
            at any moment it is the old one or the new one.
        model: the pruned model, where `what` does not hold it (a surgery, or a copy that was
            trained elsewhere).
        source: how the unpruned model is built, so that `sentei.load(folder)` needs nothing else:
            a `sentei.Source` or its text, such as "timm:resnet18". Models built by a source or by
            `sentei.load` know theirs.
        masks: which weights stay, such as the `masks` of a method's outcome: `sentei.storage.masks`
            gives them back. Or names of tensors whose zeros, all of them, are pruned weights.
    Returns:
        the folder.
    Raises:
        PruneError: nothing was pruned, the model was changed in ways the recipe cannot tell (or
            keeps to edges of a graph, see `sentei.structures.edges.take_edges`), the source builds
            another model, the folder holds other files, or writing failed. What was there is
            there still.

    >>> import sentei, tempfile
    >>> def build():
    ...     return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.randn(3, 4)
    >>> result = sentei.prune(build(), x, target=sentei.Target(macs=0.5))
    >>> with tempfile.TemporaryDirectory() as home:
    ...     folder = sentei.save(result, home + "/small")
    ...     again = sentei.load(folder, model=build())
    >>> torch.equal(again(x), result.model(x))
    True
    """
    from sentei.methods.apply import Outcome

    if isinstance(what, Outcome):
        masks = masks or what.masks or ()
        if what.result is not None:
            what = what.result
        else:
            what, model = what.model if model is None else model, None
    root = unwrap(_model_of(what, model))
    past = history(root)
    _check_known(what, past)
    if keeps_edges(root):
        raise PruneError(
            "this model keeps to some edges of one graph, which are no part of it and which the "
            "folder cannot hold: take them off with "
            "kept = sentei.structures.edges.take_edges(model), save the model, and "
            "kept.save(path) beside it; after loading, KeptEdges.load(path).attach(model)"
        )
    tensors = _tensors_to_store(root, past)
    recipe = recipe_of(root, past, tensors, what, masks)
    recipe = recipe.model_copy(update={"source": _origin(recipe, root, source)})

    def fill(new: Path) -> None:
        file = new / WEIGHTS
        save_file(_stored_forms(tensors), file, {"format": "pt"})
        write_recipe(new, recipe, sha256(file))
        file.chmod((new / RECIPE).stat().st_mode)  # safetensors lets nobody else read it

    return replace(folder, fill)


def write_recipe(folder: Path, recipe: Recipe, digest: str) -> None:
    """Put the recipe beside the weights that lie there, whose SHA-256 is `digest`."""
    from sentei.storage.recipe import Weights

    size = (folder / WEIGHTS).stat().st_size
    weights = Weights(file=WEIGHTS, bytes=size, sha256=digest)
    text = recipe.model_copy(update={"weights": weights}).model_dump_json(
        indent=1, exclude_defaults=True
    )
    (folder / RECIPE).write_text(text + "\n", encoding="utf-8")


def names_of(model: nn.Module) -> dict[int, list[str]]:
    """id(tensor) -> all names of a parameter or buffer; more than one where it is tied."""
    names: dict[int, list[str]] = {}
    for name, tensor in _all_named(model):
        names.setdefault(id(tensor), []).append(name)
    return names


def stored_names(model: nn.Module, rewritten: frozenset[str]) -> dict[str, tuple[str, Tensor]]:
    """name -> (kind, tensor) of what belongs in the file, each tensor once."""
    lasting = {
        id(buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    }
    return {
        name: (kind, tensor)
        for name, (kind, tensor) in named_tensors(model).items()
        if kind == "parameter" or id(tensor) in lasting or name in rewritten
    }


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def _stored_forms(tensors: dict[str, tuple[str, Tensor]]) -> dict[str, Tensor]:
    """As the file holds them: dense, contiguous, each in memory of its own, complex128 as pairs."""
    forms: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, (_, tensor) in tensors.items():
        tensor = tensor.detach().resolve_conj().resolve_neg()
        if tensor.dtype is torch.complex128:  # safetensors has no name for it
            tensor = torch.view_as_real(tensor)
        tensor = tensor.cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        # Parameters cut from one flat tensor: safetensors refuses what overlaps.
        forms[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return forms


def _all_named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _model_of(what: Result | Surgery | nn.Module, model: nn.Module | None) -> nn.Module:
    from sentei.pruning import Result

    if isinstance(what, Result):
        if what.surgery is None:
            raise PruneError("this result is of a dry run: nothing was removed, so nothing to save")
        return what.model if model is None else model
    if isinstance(what, nn.Module):
        if model is not None:
            raise PruneError("save got two models; give the pruned one only")
        return what
    if isinstance(what, Surgery):
        if model is None:
            raise PruneError("a surgery does not hold its model; give the pruned one as model=")
        return model
    raise PruneError(
        f"cannot save a {type(what).__name__}; give the result of prune(), or the pruned model"
    )


def _check_known(what: Result | Surgery | nn.Module, past: History) -> None:
    """The model must have been through the surgery that is to be saved."""
    if isinstance(what, nn.Module):
        return
    surgery = what if isinstance(what, Surgery) else what.surgery
    missing = [] if surgery is None else [n for n in surgery.kept if n not in past.kept]
    if missing:
        raise PruneError(
            "this model has not been through that surgery (it has all positions of "
            f"{few(missing)}); with inplace=False the pruned one is result.model"
        )


def _tensors_to_store(model: nn.Module, past: History) -> dict[str, tuple[str, Tensor]]:
    tensors = stored_names(model, past.rewritten)
    for name, (_, tensor) in tensors.items():
        if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
            raise PruneError(f"{name} has no size yet; run the model once")
        if tensor.is_meta:
            raise PruneError(f"{name} has no values (it is on the meta device)")
        if tensor.layout is not torch.strided or is_traceable_wrapper_subclass(tensor):
            raise PruneError(
                f"{name} is no dense tensor ({type(tensor).__name__}, {tensor.layout}); "
                "save before converting it"
            )
        for dim, (_, kept) in past.kept.get(name, {}).items():
            count, rows = kept.shape[-1], len(kept) if kept.dim() == 2 else 1
            if tensor.dim() <= dim or tensor.shape[dim] != count or len(tensor) % rows:
                raise PruneError(
                    f"{name} has shape {list(tensor.shape)}, but pruning left {count} along "
                    f"dimension {dim}; it was changed since, in a way the recipe cannot tell"
                )
    return tensors


def _origin(recipe: Recipe, model: nn.Module, given: Source | str | None) -> Origin | None:
    """The source to write down, once it is known to build what this recipe shrinks."""
    from sentei.sources import Source, source_of
    from sentei.storage.loading import check, fresh
    from sentei.storage.recipe import Origin

    source = Source.of(given) if isinstance(given, str) else given or source_of(model)
    source = None if source is None else source.origin()
    if source is None:
        return None
    origin = Origin.of(source)
    if source.kind == "file":
        return origin  # building would run the user's file once more; loading checks as well
    try:
        check(recipe, fresh(origin, recipe))
    except PruneError as error:
        if given is None:
            return None  # changed since it was built (a new head, say): whoever loads brings it
        raise PruneError(f"source={str(source)!r} does not build this model: {error}") from None
    return origin


def recipe_of(
    model: nn.Module,
    past: History,
    tensors: dict[str, tuple[str, Tensor]],
    what: Result | Surgery | nn.Module,
    masks: Mapping[str, Tensor] | Iterable[str],
) -> Recipe:
    """The recipe of a pruned model; where its weights are is filled in when they are written."""
    from sentei.storage.recipe import (
        VERSION,
        Edit,
        Recipe,
        Removed,
        Selection,
        Stored,
        Weights,
        encode,
    )

    names = names_of(model)
    # One residual width is kept by hundreds of tensors.
    table: dict[tuple[int, str | tuple[str, ...]], int] = {}

    def selection(size: int, positions: Tensor) -> int:
        one = positions.dim() == 1
        text = encode(positions) if one else tuple(encode(row) for row in positions)
        return table.setdefault((size, text), len(table))

    stored = {}
    for name, (kind, tensor) in tensors.items():
        shape: list[int] = list(tensor.shape)
        kept: list[int | None] = [None] * tensor.dim() if name in past.kept else []
        for dim, (size, positions) in past.kept.get(name, {}).items():
            shape[dim], kept[dim] = size, selection(size, positions)
        aliases = [n for n in names.get(id(tensor), ()) if n != name]
        stored[name] = Stored(
            kind=kind, dtype=dtype_name(tensor.dtype), shape=shape, kept=kept, aliases=aliases
        )
    for key in past.attributes:
        if not all(type(step) in (int, str) for step in key.path):
            raise PruneError(f"{key} is reached by a key that is no name or number; cannot save it")
    facts = {}
    if not isinstance(what, (Surgery, nn.Module)):
        facts = {"asked": what.asked, "reached": what.reached, "seed": what.seed}
        for costs in ("asked", "reached"):
            facts[costs] = {k: float(v) for k, v in facts[costs].items()}
    return Recipe(
        format="sentei",
        version=VERSION,
        model=f"{type(model).__module__}.{type(model).__qualname__}",
        weights=Weights(file=WEIGHTS, bytes=0, sha256="0" * 64),
        selections=[
            Selection(size=size, kept=kept if isinstance(kept, str) else list(kept))
            for size, kept in table
        ],
        tensors=stored,
        layers=[Removed.of(gone) for gone in past.gone],
        masks=_masked(masks, tensors),
        zeros=_zeros(masks, tensors),
        attributes=[
            Edit(module=key.module, path=list(key.path), value=value)
            for key, value in past.attributes.items()
        ],
        swapped=dict(past.swapped),
        versions={
            "sentei": _version("sentei"),
            "torch": str(torch.__version__),
            "safetensors": _version("safetensors"),
            "python": platform.python_version(),
        },
        **facts,
    )


def _masked(names: Iterable[str], tensors: dict[str, tuple[str, Tensor]]) -> list[str]:
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in tensors:
            raise PruneError(f"masks: no tensor {name!r} to store; {closest(name, tensors)}")
    return names


def _zeros(
    masks: Mapping[str, Tensor] | Iterable[str], tensors: dict[str, tuple[str, Tensor]]
) -> dict[str, str]:
    """Of masks that are given: the weights that stay and happen to be zero."""
    from sentei.storage.recipe import encode

    if not isinstance(masks, Mapping):
        return {}
    found = {}
    for name, mask in masks.items():
        weights = tensors[name][1].detach()
        if mask.dtype is not torch.bool or mask.shape != weights.shape:
            raise PruneError(
                f"masks: {name!r} wants booleans of shape {list(weights.shape)}; got {mask.dtype} "
                f"of {list(mask.shape)}"
            )
        mask = mask.to(weights.device)
        if weights[~mask].count_nonzero():
            raise PruneError(f"masks: weights of {name!r} that are masked are not zero")
        kept = (mask & (weights == 0)).flatten().nonzero().flatten()
        if len(kept):
            found[name] = encode(kept)
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
