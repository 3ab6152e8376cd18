"""`sentei.json`: what to do to a freshly built model so that the stored weights fit.

The file is read as something a stranger wrote: it is bounded before it is parsed, parsed into
plain values by a schema that takes nothing else, and whatever it names is looked up in the model,
never resolved, imported or run. Sizes are compared with the model's own tensors before anything is
allocated for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import from_json
from torch import Tensor

from sentei.graph.errors import PruneError
from sentei.graph.history import Gone, Put
from sentei.graph.layers.plain import Plain
from sentei.storage.files import RECIPE, quoted, read

if TYPE_CHECKING:
    from sentei.sources import Source

__all__ = [
    "VERSION",
    "Built",
    "Edit",
    "Origin",
    "Recipe",
    "Removed",
    "Selection",
    "StandIn",
    "Stored",
    "Weights",
    "decode",
    "encode",
    "parse",
    "schema",
]

VERSION = 3
# What each version added to the one before; older folders are read as if it were empty.
_ADDED = {2: ("source", "masks", "layers"), 3: ("zeros",)}
_PUT_IN = 3  # the first version in which layers may be put in
_BY_ROW = 3  # the first version in which a selection may list positions by row
# Text, and things in it, at most: beyond what the largest models need, below what hurts to read.
_BYTES, _THINGS = 256 << 20, 4_000_000

_Name = Annotated[str, Field(max_length=4096)]
_Size = Annotated[int, Field(ge=0, le=2**53)]
_FEW = Field(max_length=1000)
_RUNS = re.compile(r"\d{1,15}(-\d{1,15})?( \d{1,15}(-\d{1,15})?)*", re.ASCII)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Selection(_Strict):
    """Positions kept of one dimension: runs such as `0-3 5 8-11`, ascending, ends included.

    kept: one text; or where rows keep other positions (the inputs of a grouped convolution) a list
        of texts that keep equally many, each for an equal share of what is kept of dimension 0.
    """

    size: _Size
    kept: str | Annotated[list[str], Field(min_length=2)]


class Stored(_Strict):
    """One tensor of the file.

    shape: before pruning. dtype: as the model holds it (complex128 is stored as pairs of float64).
    kept: for each dimension an index into `Recipe.selections`, or None for all of it; empty for a
        tensor that is whole.
    aliases: its other names in a model that ties parameters.
    """

    kind: Literal["parameter", "buffer", "attribute"]
    dtype: _Name
    shape: Annotated[list[_Size], Field(max_length=64)]
    kept: Annotated[list[_Size | None], Field(max_length=64)] = []
    aliases: list[_Name] = []


class Edit(_Strict):
    """An integer of the model's Python: a module, the path from there, and its new value."""

    module: _Name
    path: Annotated[list[int | _Name], Field(min_length=1, max_length=8)]
    # Widths, or what code computes from them; nothing that could not be a size.
    value: Annotated[int, Field(ge=-(2**40), le=2**40)]


class Weights(_Strict):
    """The file with the numbers: always the one beside the recipe."""

    file: Literal["model.safetensors"]
    bytes: _Size
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class StandIn(_Strict):
    """What took the place of a module of a branch: zeros, or what it was given.

    steps: how each tensor or value it returns is made: `["zeros", [input, shared, [sizes]]]` (null
        for a size that the input has at the same place), `["input", number]` or
        `["constant", value]`.
    outputs: the structure it returns: a number of a step, or `{"tuple": [...]}`,
        `{"list": [...]}`, `{"dict": {...}}` of such.
    """

    module: _Name
    steps: Annotated[list[Annotated[list[JsonValue], Field(min_length=2, max_length=2)]], _FEW]
    outputs: JsonValue


class Built(_Strict):
    """A module that was put into the model: a type of torch.nn, and arguments of its constructor;
    of a Sequential its elements instead."""

    type: Annotated[str, Field(max_length=100)]
    options: Annotated[dict[_Name, JsonValue], _FEW] = {}
    children: Annotated[dict[_Name, Built], _FEW] = {}

    def plain(self) -> Plain:
        """As the engine has it."""
        children = {name: child.plain() for name, child in self.children.items()}
        return Plain(self.type, dict(self.options), children)

    @classmethod
    def of(cls, plain: Plain) -> Built:
        """As the file has it."""
        return cls(
            type=plain.type,
            options={
                name: list(value) if isinstance(value, tuple) else value
                for name, value in plain.options.items()
            },
            children={name: cls.of(child) for name, child in plain.children.items()},
        )


class Removed(_Strict):
    """A layer that was taken out of its list or, where there are stand-ins, a branch; where there
    are elements, a list of experts of which these stayed; where `put` says so, a module that was
    put behind this one, or instead of it.

    name: in the model as it was when all those before it were gone. Behind a list's name with a
        dot: first in that list.
    numbers: attribute -> numbers of layers (`layer_idx`) that became free with a branch.
    """

    name: _Name
    stand_ins: Annotated[list[StandIn], _FEW] = []
    numbers: dict[_Name, list[_Size]] = {}
    elements: Annotated[list[_Size], _FEW] = []
    put: Literal["behind", "instead"] | None = None
    module: Built | None = None

    @model_validator(mode="after")
    def _whole(self) -> Removed:
        if (self.put is None) != (self.module is None):
            raise ValueError("put and module belong together")
        if self.put is not None and (self.stand_ins or self.numbers or self.elements):
            raise ValueError("a module that is put in takes nothing out")
        return self

    def gone(self) -> Gone:
        """As the engine has it.

        Raises:
            PruneError: a stand-in is described in a way that makes no sense.
        """
        return Gone(
            self.name,
            tuple(
                (s.module, _steps(s), _structure(s.outputs, len(s.steps))) for s in self.stand_ins
            ),
            {key: list(numbers) for key, numbers in self.numbers.items()},
            tuple(self.elements),
        )

    @classmethod
    def of(cls, gone: Gone | Put) -> Removed:
        """As the file has it.

        Raises:
            PruneError: a branch returned something, or a module was put in, that plain data cannot
                describe.
        """
        if isinstance(gone, Put):
            if isinstance(gone.plain, str):
                where = "instead of" if gone.instead else "behind"
                raise PruneError(
                    f"a module was put {where} {gone.name.rstrip('.')}, and {gone.plain}, so that "
                    "no folder can tell how to build it. Give it to the code that builds the "
                    "model, prune that, and save it; or put in modules of torch.nn "
                    "(Linear, convolutions, norms, activations, pooling, Sequential of such)"
                )
            put: Any = "instead" if gone.instead else "behind"
            return cls(name=gone.name, put=put, module=Built.of(gone.plain))
        return cls(
            name=gone.name,
            stand_ins=[
                StandIn(
                    module=name,
                    steps=[
                        [what, [*value[:2], list(value[2])] if what == "zeros" else value]
                        for what, value in steps
                    ],
                    outputs=_described(name, outputs),
                )
                for name, steps, outputs in gone.stand_ins
            ],
            numbers=gone.numbers,
            elements=list(gone.elements),
        )


def _steps(stand_in: StandIn) -> list[tuple[str, Any]]:
    steps: list[tuple[str, Any]] = []
    for what, value in stand_in.steps:
        match what, value:
            case "constant", None | bool() | int() | float() | str():
                steps.append(("constant", value))
            case "input", int(number) if 0 <= number < 10_000:
                steps.append(("input", number))
            case "zeros", [int(number), int(shared), [*sizes]] if all(
                type(n) is int and 0 <= n <= 2**40
                for n in (number, shared, *(n for n in sizes if n is not None))
            ):
                steps.append(("zeros", (number, shared, tuple(sizes))))
            case _:
                raise PruneError(
                    f"the stand-in of {quoted(stand_in.module)} is made by {quoted(str(what))}, "
                    "which makes no sense"
                )
    return steps


def _structure(value: Any, steps: int) -> Any:
    match value:
        case int() if type(value) is int and 0 <= value < steps:
            return value
        case {"tuple": list(items)} if len(value) == 1:
            return tuple(_structure(item, steps) for item in items)
        case {"list": list(items)} if len(value) == 1:
            return [_structure(item, steps) for item in items]
        case {"dict": dict(items)} if len(value) == 1:
            return {key: _structure(item, steps) for key, item in items.items()}
    raise PruneError(f"a stand-in cannot return {quoted(str(value))}")


def _described(name: str, value: Any) -> Any:
    if type(value) is int:
        return value
    if type(value) in (tuple, list):
        return {type(value).__name__: [_described(name, item) for item in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _described(name, item) for key, item in value.items()}}
    raise PruneError(
        f"the branch {name} returned a {type(value).__name__}; an artefact describes tensors, "
        "tuples, lists and mappings only"
    )


class Origin(_Strict):
    """Where the unpruned model comes from: a `sentei.Source`, whose fields these are."""

    kind: Literal["timm", "torchvision", "hf", "file"]
    name: _Name
    options: dict[_Name, JsonValue] = {}
    facts: dict[_Name, JsonValue] = {}

    @classmethod
    def of(cls, source: Source) -> Origin:
        """As the file has it."""
        return cls(
            kind=source.kind, name=source.name, options=source.options, facts=source.facts
        )  # fmt: skip


class Recipe(_Strict):
    """Everything in `sentei.json`.

    model: qualified name of the class that was pruned; for messages, it is never imported.
    source: how the unpruned model is built, where that is known; without it, whoever loads the
        folder brings the model.
    layers: layers and branches that were taken out, in this order, before widths were cut.
    masks: names of tensors whose zeros are pruned weights, to be kept at zero by further training.
    zeros: tensor with a mask -> weights that are zero and not pruned, by number in the tensor as it
        is stored, row by row, as runs.
    asked, reached, seed: of the last pruning, for whoever reads the file.
    """

    format: Literal["sentei"]
    version: Literal[3]
    model: _Name
    source: Origin | None = None
    weights: Weights
    layers: Annotated[list[Removed], Field(max_length=10_000)] = []
    selections: list[Selection]
    tensors: dict[_Name, Stored]
    attributes: list[Edit]
    swapped: dict[_Name, _Name]
    asked: dict[_Name, float] = {}
    reached: dict[_Name, float] = {}
    masks: list[_Name] = []
    zeros: dict[_Name, str] = {}
    seed: int | None = None
    versions: dict[_Name, _Name] = {}

    def positions(self) -> list[Tensor]:
        """The kept positions of every selection: a vector, or a matrix where they differ by row.

        Sizes and numbers of rows must have been compared with a model.
        """
        return [_positions(s.kept, s.size) for s in self.selections]


def encode(positions: Tensor) -> str:
    """Ascending positions as runs.

    >>> encode(torch.tensor([0, 1, 2, 3, 5, 8, 9]))
    '0-3 5 8-9'
    """
    numbers = positions.cpu().numpy()
    if not len(numbers):
        return ""
    cuts = np.flatnonzero(np.diff(numbers) != 1)
    starts, stops = numbers[np.r_[0, cuts + 1]], numbers[np.r_[cuts, len(numbers) - 1]]
    pairs = zip(starts.tolist(), stops.tolist(), strict=True)
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)


def decode(text: str, size: int) -> Tensor:
    """The positions that runs name, of a dimension of `size`.

    Raises:
        PruneError: they are no runs, not ascending, twice the same, or beyond the dimension.

    >>> decode("0-3 5", 6).tolist()
    [0, 1, 2, 3, 5]
    """
    if not text:
        raise PruneError("no positions are kept; at least one must be")
    if not _RUNS.fullmatch(text):
        raise PruneError(f"kept positions must read like '0-3 5 8-11', got {quoted(text)}")
    bounds = [run.split("-") for run in text.split(" ")]
    runs = np.array([(int(b[0]), int(b[-1])) for b in bounds], dtype=np.int64)
    starts, stops = runs.T
    if (starts > stops).any() or (starts[1:] <= stops[:-1]).any():
        raise PruneError(f"kept positions must ascend, each once; got {quoted(text)}")
    if stops[-1] >= size:
        raise PruneError(f"kept position {stops[-1]} of a dimension of {size}")
    # Ascending and below `size`: the result is no longer than the dimension.
    chosen = np.zeros(size + 1, dtype=np.int8)
    np.add.at(chosen, starts, 1)
    np.add.at(chosen, stops + 1, -1)
    return torch.from_numpy(np.flatnonzero(np.cumsum(chosen[:-1], dtype=np.int8)))


def _positions(kept: str | list[str], size: int) -> Tensor:
    if isinstance(kept, str):
        return decode(kept, size)
    rows = [decode(row, size) for row in kept]
    counts = sorted({len(row) for row in rows})
    if len(counts) > 1:
        raise PruneError(f"every row must keep as many positions; got {counts[0]} and {counts[-1]}")
    return torch.stack(rows)


def parse(folder: Path) -> Recipe:
    """Read and check `sentei.json`, without any model.

    Raises:
        PruneError: it is missing, no plain file, too large, no JSON, of another format or version,
            or has anything in it that does not belong there; says where.
    """
    path = folder / RECIPE
    text = read(path, _BYTES)
    if sum(text.count(sign) for sign in (b",", b"[", b"{")) > _THINGS:
        raise PruneError(f"{path} lists more than {_THINGS:,} things; that is no recipe")
    try:
        data = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise PruneError(f"{path} is no JSON: {quoted(str(error), 200)}") from None
    if not isinstance(data, dict) or data.get("format") != "sentei":
        raise PruneError(f"{path} is not a Sentei recipe: it does not say 'format': 'sentei'")
    version = data.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        newer = type(version) is int and version > VERSION
        raise PruneError(
            f"{path} has format version {quoted(str(version))}, this Sentei reads 1 to {VERSION}"
            + ("; a newer Sentei wrote it" if newer else "")
        )
    for later, names in _ADDED.items():
        early = [name for name in names if name in data and version < later]
        if early:
            raise PruneError(f"{path}: {early[0]!r} does not belong in format version {version}")
    if version < _PUT_IN and _puts_in(data.get("layers")):
        raise PruneError(f"{path}: modules put in do not belong in format version {version}")
    if version < _BY_ROW and _lists_rows(data.get("selections")):
        raise PruneError(f"{path}: positions by row do not belong in format version {version}")
    try:
        return Recipe.model_validate(data | {"version": VERSION})
    except ValidationError as error:
        # By hand: the error's own text would repeat what a stranger wrote, at any length.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise PruneError(f"{path}: {_place(first['loc'])}: {first['msg'][:200]}") from None


def _puts_in(layers: Any) -> bool:
    some = layers if isinstance(layers, list) else []
    return any(isinstance(layer, dict) and "put" in layer for layer in some)


def _lists_rows(selections: Any) -> bool:
    some = selections if isinstance(selections, list) else []
    return any(isinstance(s, dict) and isinstance(s.get("kept"), list) for s in some)


def schema() -> dict[str, Any]:
    """The JSON schema of `sentei.json`, as in `docs/schema/`.

    >>> schema()["required"][:3]
    ['format', 'version', 'model']
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Recipe.model_json_schema()


def _place(steps: Sequence[Any]) -> str:
    return quoted(".".join(str(step)[:80] for step in steps[:6]), 200) if steps else "the recipe"
