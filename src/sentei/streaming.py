"""Prune a checkpoint that need not fit into memory: from safetensors to safetensors.

The network is built without weights, recorded and cut; scores are summed over the weights where
they lie on the disk; then each tensor is read, cut and written, one after the other. What is in
memory at once is the plan and one tensor, and time goes into reading the weights twice.

Where a Hugging Face configuration can state the result, that is what comes out: a folder for plain
`from_pretrained`. Otherwise it is a folder for `sentei.load`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sentei import huggingface
from sentei.allocation import Target
from sentei.criteria import Criterion, Evidence, needs_of
from sentei.criteria.evidence import Some
from sentei.graph.blueprint import weightless, without_cache
from sentei.graph.errors import PruneError
from sentei.graph.groups import analyze, call_arguments
from sentei.graph.history import history
from sentei.pruning import Result
from sentei.pruning.job import Job, timed
from sentei.storage.files import WEIGHTS, few
from sentei.storage.files import replace as replace_folder
from sentei.storage.shards import INDEX, Form, Shards, write_shard

if TYPE_CHECKING:
    from sentei.sources import Source
    from sentei.sources.assembly import Part

__all__ = ["Streamed", "prune_checkpoint"]


@dataclass(frozen=True)
class Streamed:
    """What was written. Prints as a table.

    result: as of `sentei.prune`; its model has the new shapes, and no values.
    folder: the pruned checkpoint. loads: the call that reads it.
    read, written: bytes of weights, each counted once.
    ignored: tensors of the checkpoint that the model does not have; they were left behind.
    """

    result: Result = field(repr=False)
    folder: Path
    loads: str
    read: int
    written: int
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            str(self.result),
            f"{self.read:,} bytes of weights became {self.written:,}, in {self.folder}; values "
            "were cut, not compared.",
            f"Read it with {self.loads}.",
        ]
        if self.ignored:
            lines.append(f"Left behind, for the model has no such tensors: {few(self.ignored)}.")
        return "\n".join(lines)


def prune_checkpoint(
    source: Source | str,
    folder: str | os.PathLike[str],
    *,
    target: Target,
    weights: str | os.PathLike[str] | None = None,
    example_inputs: Any = None,
    criterion: str | Criterion = "l2",
    allocation: str = "global",
    normalise: str = "none",
    granularity: str = "auto",
    protect: Iterable[str] = (),
    round_to: int | None = None,
    min_units: int = 1,
    min_fraction: float = 0.05,
    uniform: bool | None = None,
    seed: int = 0,
    wrote: Callable[[int, int], None] | None = None,
) -> Streamed:
    """Prune weights on disk, with one tensor of them in memory at a time.

    No data is looked at and nothing is trained: for that the network has to run, and then it fits
    into memory and `sentei.prune` is the better call. The network's code is recorded before and
    after, without arithmetic, and every shape and number in it compared; values are cut as `prune`
    cuts them, and are not compared.

    Args:
        source: how the network is built, as `sentei.Source` takes it: "hf:FOLDER", whose weights
            are in the folder; or "timm:NAME", "torchvision:NAME" or "file.py:function" with
            `weights`.
        folder: where the result goes: new, empty, or one that Sentei wrote before.
        weights: a safetensors file, or a folder of them with or without an index.
        example_inputs: as in `prune`; by default those that the source knows.
        criterion: one that looks at weights only, such as "l1", "l2", "random" or "magnitude".
        allocation, normalise, granularity, protect, round_to, min_units, min_fraction, seed: as in
            `prune`.
        uniform: all layers of a kind alike, and a Hugging Face folder as the result. By default
            where the network has a configuration that says its widths; otherwise the result is for
            `sentei.load`.
        wrote: told the bytes written since it was last told, and the bytes to be written in all.
    Returns:
        what was written, and what went.
    Raises:
        PruneError: the target cannot be met, the weights are not of this network, or writing
            failed; what was at `folder` is there still.

    >>> import tempfile
    >>> from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
    >>> net = LlamaForCausalLM(LlamaConfig(
    ...     vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
    ...     num_attention_heads=4, num_key_value_heads=2))
    >>> with tempfile.TemporaryDirectory() as home:
    ...     net.save_pretrained(home + "/whole")
    ...     done = prune_checkpoint(
    ...         f"hf:{home}/whole", home + "/small", target=Target(params=0.8))
    ...     small = AutoModelForCausalLM.from_pretrained(done.folder)
    >>> small.num_parameters() <= 0.8 * net.num_parameters()
    True
    """
    from sentei.sources import Source

    source = Source.of(source) if isinstance(source, str) else source
    _check_blind(target, criterion, allocation)
    seconds: dict[str, float] = {}
    with Shards(_place(source, weights)) as stored:
        with timed(seconds, "build"):
            model, example = _skeleton(source)
            held = _Weights(model, stored)
            _take_types(model, held)
        if example_inputs is None and example is None:
            raise PruneError(f"{source} does not say what it takes: give example_inputs")
        call = call_arguments(example if example_inputs is None else example_inputs, None, None)
        call = without_cache(model, *_of_type(call, model))
        with timed(seconds, "analyse"):
            groups = analyze(model, args=call[0], kwargs=call[1], protect=protect)
        stated = huggingface.configured(model) and uniform is not False
        words: huggingface.Wording | None = None
        if stated:
            with timed(seconds, "configuration"):
                words = huggingface.wording(model, groups, call, granularity)
                groups = words.groups
        evidence = Evidence.of(model, groups, seed=seed, example=call)
        evidence = replace(evidence, tensors=Some(held, evidence.tensors))
        options = {
            "allocation": allocation, "normalise": normalise, "round_to": round_to,
            "min_units": min_units, "min_fraction": min_fraction, "granularity": granularity,
            "uniform": bool(stated or uniform),
        }  # fmt: skip
        job = Job(model, groups, call, evidence, criterion, words, options, seconds)
        planned, surgery = job.carry_out(model, target, verify=False)
        assert surgery is not None
        result = Result(
            model, groups, planned, surgery, planned.before, planned.after, dict(job.held), seconds,
            seed,
        )  # fmt: skip
        writer = _Writer(result, source, held, wrote or (lambda count, total: None))
        with timed(seconds, "write"):
            done = writer.pretrained(folder) if stated else writer.artefact(folder)
        known = {name for part in held.parts.values() for name in part.stored}
        return Streamed(
            result,
            done,
            f"{type(model).__name__}.from_pretrained({str(done)!r})"
            if stated
            else f"sentei.load({str(done)!r})",
            sum(stored.form(s).bytes for s in known),
            writer.written,
            tuple(n for n in stored if n not in known),
        )


def _check_blind(target: Target, criterion: str | Criterion, allocation: str) -> None:
    """What is asked for can be had from weights alone."""
    if target.latency is not None:
        raise PruneError("a checkpoint on disk takes no time: a target for latency needs prune()")
    if allocation in ("sensitivity", "fastest"):
        raise PruneError(f"the allocation {allocation!r} runs the network, which prune() does")
    if needs_of(criterion):
        raise PruneError(
            f"the criterion {criterion!r} looks at data, for which the network has to run: "
            "prune() does that. Of weights alone: l1, l2, bn-scale, random, magnitude, lamp"
        )


def _place(source: Source, weights: str | os.PathLike[str] | None) -> Path:
    if weights is not None:
        return Path(weights)
    if source.kind != "hf":
        raise PruneError(f"{source} says how to build a network; where are the weights=?")
    return Path(source.name)


def _skeleton(source: Source) -> tuple[nn.Module, Any]:
    """The network without memory for its parameters, and example inputs."""
    if source.kind == "sentei":
        raise PruneError(f"{source} has been pruned before: give the unpruned checkpoint")
    with weightless():
        if source.kind == "file":  # whose function may give both
            return source.open()
        model = source.skeleton()
    return model, source.example(model, batch=1)


class _Weights(Mapping[str, Tensor]):
    """The model's tensors by name, made of what is stored when they are asked for."""

    def __init__(self, model: nn.Module, stored: Shards) -> None:
        self.stored = stored
        self.parts = {name: part for part in _parts(model, stored) for name in part.names}
        self._latest: tuple[Part | None, dict[str, Tensor]] = None, {}

    def __getitem__(self, name: str) -> Tensor:
        part = self.parts[name]
        if self._latest[0] is not part:
            self._latest = part, part.gather(self.stored)
        return self._latest[1][name]

    def __contains__(self, name: object) -> bool:
        return name in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def forms(self) -> dict[str, Form]:
        """Shapes and types of all, without looking at values."""
        forms = {}
        for part in dict.fromkeys(self.parts.values()):
            made = part.gather({name: _hollow(self.stored.form(name)) for name in part.stored})
            forms |= {name: Form(tuple(t.shape), t.dtype) for name, t in made.items()}
        return forms


def _hollow(form: Form) -> Tensor:
    return torch.empty(form.shape, dtype=form.dtype, device="meta")


def _parts(model: nn.Module, stored: Shards) -> list[Part]:
    """What the checkpoint falls into, by the model's names for its tensors.

    A tied tensor is stored under one of its names.
    """
    from sentei.sources.assembly import Part, parts
    from sentei.storage.saving import names_of, stored_names

    if huggingface.configured(model):
        found = parts(model, {name: _hollow(stored.form(name)) for name in stored})
    else:
        found = [Part.renamed(name, name) for name in stored]
    known = {name: part for part in found for name in part.names}
    aliases = names_of(model)
    wanted: list[Part] = []
    missing: list[str] = []
    for name, (_, tensor) in stored_names(model, frozenset()).items():
        there = next((n for n in (name, *aliases[id(tensor)]) if n in known), None)
        if there is None:
            missing.append(name)
        elif there == name:
            wanted.append(known[name])
        elif len(known[there].names) == 1:
            wanted.append(Part.renamed(known[there].stored[0], name))
        else:
            raise PruneError(f"{name} is tied to {there}, which is assembled of others")
    if missing:
        used = {n for part in wanted for n in part.stored}
        spare = [n for n in stored if n not in used]
        raise PruneError(
            f"{stored.path} lacks {len(missing)} tensors of this {type(model).__name__}: "
            f"{few(missing)}" + (f". It has, beside what was found: {few(spare)}" if spare else "")
        )
    return list(dict.fromkeys(wanted))


def _take_types(model: nn.Module, weights: _Weights) -> None:
    """Parameters and buffers of the types that are stored, so that bytes count right.

    Raises:
        PruneError: shapes differ.
    """
    from sentei.storage.saving import stored_names

    forms = weights.forms()
    for name, (_, tensor) in stored_names(model, frozenset()).items():
        if forms[name].shape != tuple(tensor.shape):
            raise PruneError(
                f"{weights.stored.path} holds the weights of another network: {name} is "
                f"{list(forms[name].shape)} there, and {list(tensor.shape)} in this "
                f"{type(model).__name__}"
            )
        if tensor.dtype != forms[name].dtype:
            tensor.data = tensor.data.to(forms[name].dtype)


def _of_type(call: Any, model: nn.Module) -> Any:
    """Inputs of the type that the weights have, as whoever runs it will give them."""
    types = Counter(p.dtype for p in model.parameters() if p.is_floating_point())
    if not types:
        return call
    ((dtype, _),) = types.most_common(1)

    def cast(leaf: Any) -> Any:
        return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    return pytree.tree_map(cast, call)


class _Writer:
    """Cuts tensors and writes them, into as many files as the checkpoint has."""

    def __init__(
        self,
        result: Result,
        source: Source,
        weights: _Weights,
        wrote: Callable[[int, int], None],
    ) -> None:
        from sentei.storage.saving import stored_names

        assert result.surgery is not None
        self.result, self.source, self.weights = result, source, weights
        self.surgery, self.wrote = result.surgery, wrote
        self.tensors = stored_names(result.model, history(result.model).rewritten)
        self.written = self.total = 0
        self._latest: tuple[Part | None, dict[str, Tensor]] = None, {}

    def _form(self, name: str) -> Form:
        tensor = self.tensors[name][1]
        return Form(tuple(tensor.shape), tensor.dtype)

    def _values(self, name: str) -> Tensor:
        if name in self.weights:
            return self.surgery.shrink({name: self.weights[name]})[name]
        tensor = self.tensors[name][1]  # a buffer that is computed; it was cut with the network
        if tensor.is_meta:
            raise PruneError(f"{name} is not in the checkpoint, and the network does not make it")
        return tensor

    def _count(self, more: int) -> None:
        self.written += more
        self.wrote(more, self.total)

    def pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """A Hugging Face folder, its tensors under the names that they had."""
        from sentei.export.hf import bring_companions, list_files, strangers

        model: Any = self.result.model
        stored = self.weights.stored
        owner: dict[str, Part] = {}
        forms: dict[str, dict[str, Form]] = {file.name: {} for file in stored.files}
        for part in dict.fromkeys(self.weights.parts.values()):
            cut = part.scatter({name: _hollow(self._form(name)) for name in part.names})
            for name, tensor in cut.items():
                owner[name] = part
                forms[stored.where[name]][name] = Form(tuple(tensor.shape), tensor.dtype)
        used = {file: own for file, own in forms.items() if own}
        self.total = sum(form.bytes for own in used.values() for form in own.values())

        def values(name: str) -> Tensor:
            part = owner[name]
            if self._latest[0] is not part:
                self._latest = part, part.scatter({n: self._values(n) for n in part.names})
            return self._latest[1][name]

        def fill(new: Path) -> None:
            weight_map = {}
            for i, (file, own) in enumerate(used.items(), 1):
                at = f"model-{i:05}-of-{len(used):05}.safetensors" if len(used) > 1 else WEIGHTS
                about = {"format": "pt", **stored.metadata[file]}
                write_shard(new / at, own, values, about, self._count)
                weight_map |= dict.fromkeys(own, at)
            if len(used) > 1:
                about = {"total_size": self.total}
                index = {"metadata": about, "weight_map": dict(sorted(weight_map.items()))}
                (new / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(new)
            if getattr(model, "generation_config", None) is not None:
                model.generation_config.save_pretrained(new)
            bring_companions(model, new)
            list_files(new)

        return replace_folder(folder, fill, strangers=strangers)

    def artefact(self, folder: str | os.PathLike[str]) -> Path:
        """A folder for `sentei.load`."""
        from sentei.storage.recipe import Origin
        from sentei.storage.saving import recipe_of, write_recipe

        model = self.result.model
        recipe = recipe_of(model, history(model), self.tensors, self.result, ())
        recipe = recipe.model_copy(update={"source": Origin.of(self.source)})
        forms = {name: self._form(name) for name in self.tensors}
        self.total = sum(form.bytes for form in forms.values())

        def fill(new: Path) -> None:
            digest = write_shard(new / WEIGHTS, forms, self._values, {"format": "pt"}, self._count)
            write_recipe(new, recipe, digest)

        return replace_folder(folder, fill)
