"""Widths that a Hugging Face configuration can state.

`save_pretrained` writes weights and a configuration, and `from_pretrained` builds the network that
the configuration describes. So a pruned network can be read without Sentei if, and only if, some
configuration describes it. Which widths a configuration can state differs from family to family
(Llama has `head_dim`; BERT computes it as `hidden_size // num_attention_heads`), so it is found by
trying:

1. build `type(model)(config)` without weights, with one integer of the configuration changed, and
   see which dimensions of which parameters follow;
2. a **move** is a set of fields and a set of groups that say the same: fields scaled by r give the
   shapes that groups scaled by r leave. Sets of up to three fields are tried;
3. each move is proved on a network without weights: prune it for real, build the one that the
   configuration describes, record both, and compare operator by operator, with all numbers, and
   all buffers that are not saved. (Rotary frequencies are computed from the width of a head: after
   pruning that width, a network built anew would turn by other angles. Shapes alone miss that.)

The groups of a move are tied to equal shares, what is in no move is pinned with the reason, and
then planning goes on as ever. After surgery the configuration is written, the network it describes
is built, given the weights, and must compute what the pruned one computes.
"""

from __future__ import annotations

import copy
import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from sentei.allocation.movable import togethers
from sentei.graph.axis import Dim
from sentei.graph.blueprint import (
    ABSENT,
    Path,
    blueprint,
    changed,
    configured,
    follow,
    followed,
    get_field,
    read_back,
    saved_shapes,
    weightless,
)
from sentei.graph.capture import capture, named_tensors, unwrap
from sentei.graph.errors import PruneError
from sentei.graph.groups import Groups
from sentei.graph.history import integers, remember_integers
from sentei.graph.surgery import Call, _plan, apply, keep_masks
from sentei.graph.tape import Node, Tape, Value, flatten
from sentei.graph.ties import Poly, _attributes, size_of
from sentei.graph.verify import Reference, _run, compare

__all__ = ["Move", "Wording", "blueprint", "configured", "wording"]

Found = tuple[tuple[Path, ...], frozenset[int]]  # fields, and numbers of atoms
# Fields that a class reads although they may be None or absent; others of that kind are flags.
_SIZE_NAMES = re.compile(r"dim|size|width|head|inner|channel|ffn|kv|rank|^d_|n_embd")
# Never widths. (Fields that only reach pinned dimensions drop out by themselves.)
_NO_WIDTHS = re.compile(
    r"_ids?$|vocab|position|layers?$|length|seed|dropout|window|beams?$|labels?"
)
_MOST_FIELDS = 3
_MOST_BUILDS = 240
_MOST_TRIALS = 6


# -- fields of a configuration --------------------------------------------------------------------
def _fields(config: Any, path: Path = ()) -> dict[Path, int | None]:
    """The integers of a configuration and of those inside it, by path; None where one may go."""
    found: dict[Path, int | None] = {}
    for key, value in vars(config).items():
        here = (*path, key)
        if key.startswith("_") or _NO_WIDTHS.search(key) or not _one_for_all(config, key):
            continue
        if (type(value) is int and value > 1) or (value is None and _SIZE_NAMES.search(key)):
            found[here] = value
        elif type(value) in (list, tuple) and 0 < len(value) <= 8:
            found |= {(*here, i): n for i, n in enumerate(value) if type(n) is int and n > 1}
        elif type(value) is dict:
            found |= {(*here, k): n for k, n in value.items() if type(n) is int and n > 1}
        elif callable(getattr(value, "to_dict", None)):
            found |= _fields(value, here)
    return found


def _one_for_all(config: Any, key: str) -> bool:
    """Whether a field may be read: one that differs from layer to layer refuses to answer."""
    try:
        getattr(config, key)
    except Exception:  # transformers' own, and no AttributeError
        return False
    return True


def _spelled(path: Path) -> str:
    return ".".join(map(str, path))


def _read_but_missing(kind: Any, config: Any) -> set[str]:
    """Names that the class asks the configuration for and does not get, such as `head_dim`."""
    missing: set[str] = set()
    own = type(config)

    class Asked(own):  # type: ignore[misc,valid-type]
        def __getattr__(self, name: str) -> Any:
            missing.add(name)
            raise AttributeError(f"{own.__name__!r} object has no attribute {name!r}")

    recording = copy.deepcopy(config)
    try:
        recording.__class__ = Asked
        with weightless(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            kind(recording)
    except Exception:
        return set()  # a class that checks its configuration's type: no such names, then
    missing = {n for n in missing if not n.startswith("_") and not _NO_WIDTHS.search(n)}
    return {n for n in missing if _SIZE_NAMES.search(n)}


# -- moves ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Move:
    """Fields of the configuration that say together what these groups do together."""

    fields: tuple[Path, ...]
    groups: tuple[str, ...]

    def __str__(self) -> str:
        names = f"{', '.join(self.groups[:3])}{', …' if len(self.groups) > 3 else ''}"
        return f"{' and '.join(_spelled(f) for f in self.fields)}: {names}"


@dataclass
class Wording:
    """How a model's configuration states the widths of its groups.

    groups: with what belongs together tied, and what cannot be stated pinned with the reason.
    moves: which fields state which groups.
    """

    groups: Groups
    moves: list[Move]
    kind: Any = field(repr=False)
    base: Any = field(repr=False)
    optional: dict[Path, int | None] = field(default_factory=dict, repr=False)

    def config(self, widths: Mapping[str, int]) -> Any:
        """The configuration that states these widths; groups not named keep all their units.

        Raises:
            PruneError: no configuration does.
        """
        config = self._said(widths)
        stated = self._shapes_of(config)
        wanted = self._predicted(widths, stated)
        if stated != wanted:
            name = next((n for n in wanted if stated.get(n) != wanted[n]), "")
            raise PruneError(
                f"uniform=True: no configuration of {self.kind.__name__} found that states these "
                f"widths together: {name} needs shape {wanted.get(name)}, the nearest gives "
                f"{stated.get(name)}"
            )
        # What need not be said is left as it was: a reader may not know the field.
        for path, value in self.optional.items():
            if get_field(config, path) == get_field(self.base, path):
                shorter = changed(config, {path: value})
                with suppress(PruneError):
                    config = shorter if self._shapes_of(shorter) == wanted else config
        return config

    def fit(self, widths: Mapping[str, int]) -> dict[str, int]:
        """The widths, lowered as little as it takes for a configuration to accept them.

        Classes check their fields: Llama wants `hidden_size` to be a multiple of the heads.

        Raises:
            PruneError: no lower widths are accepted either.
        """
        found = dict(widths)
        why = self._refusal(found)
        # The finest steps first: they take least away.
        for move in sorted(self.moves, key=lambda m: -self._shares(m)):
            if why is None:
                break
            members = [self.groups[n] for n in move.groups if n in self.groups]
            if not members or members[0].name not in found:
                continue
            shares = self._shares(move)
            for k in range(found[members[0].name] * shares // members[0].size, 0, -1):
                lower = found | {g.name: k * g.size // shares for g in members}
                if self._refusal(lower) is None:
                    found, why = lower, None
                    break
        if why is not None:
            kind = type(self.base).__name__
            raise PruneError(f"uniform=True: {kind} refuses these widths: {why}")
        return found

    def _shares(self, move: Move) -> int:
        return gcd(*(self.groups[n].size for n in move.groups if n in self.groups))

    def _refusal(self, widths: Mapping[str, int]) -> str | None:
        try:
            read_back(self._said(widths))
        except Exception as error:
            return str(error).strip().rpartition("\n")[-1].strip()
        return None

    def _said(self, widths: Mapping[str, int]) -> Any:
        changes: dict[Path, Fraction] = {}
        for move in self.moves:
            group = self.groups.get(move.groups[0])
            if group is None or group.name not in widths:
                continue
            for path in move.fields:
                old = changes.get(path, Fraction(get_field(self.base, path)))
                changes[path] = old * Fraction(widths[group.name], group.size)
        for path, value in changes.items():
            if value.denominator != 1:
                raise PruneError(
                    f"uniform=True: {_spelled(path)} would have to become {value}, which is no "
                    "whole number"
                )
        return changed(self.base, {path: int(value) for path, value in changes.items()})

    def _shapes_of(self, config: Any) -> dict[str, tuple[int, ...]]:
        try:
            return saved_shapes(blueprint(self.kind, read_back(config)))
        except Exception as error:
            raise PruneError(
                f"uniform=True: {self.kind.__name__} cannot be built with these widths "
                f"({type(error).__name__}: {error})"
            ) from error

    def _predicted(self, widths: Mapping[str, int], names: Any) -> dict[str, tuple[int, ...]]:
        kept = {self.groups[name].dim: n for name, n in widths.items()}
        analysis = self.groups.analysis
        return {
            name: tuple(size_of(axis).value(lambda d: kept.get(d, d.size)) for axis in axes)
            for name, axes in analysis.parameters.items()
            if name in names
        }

    def settle(self, model: nn.Module, config: Any, call: Call, *, verify: bool = True) -> None:
        """Write `config` to the pruned model and make sure that it describes the model.

        Raises:
            PruneError: it does not; the model is left half changed, for a transaction to restore.
        """
        model = unwrap(model)
        fresh = blueprint(self.kind, read_back(config))
        stated, own = saved_shapes(fresh), saved_shapes(model)
        if stated != own:
            name = next((n for n, shape in own.items() if stated.get(n) != shape), "?")
            raise PruneError(
                f"uniform=True: a network built from the configuration has another shape at "
                f"{name} ({stated.get(name)}) than the pruned one ({own.get(name)})"
            )
        weightless = any(p.is_meta for p in model.parameters())
        before = None if weightless or not verify else _run(model, *call)
        _lend(model, fresh)
        before_integers = integers(model)
        follow(model, fresh)
        model.config = followed(model.config, config)
        remember_integers(model, before_integers)
        difference = _other_tensors(model, fresh)
        difference = difference or _difference(capture(model, *call), capture(fresh, *call))
        if difference:
            raise PruneError(
                f"uniform=True: a network built from the configuration differs: {difference}"
            )
        if before is None:
            return
        for network, who in ((fresh, "built from the configuration"), (model, "renewed")):
            report = compare(network, Reference(before, moved=True), call)
            if not report.passed:
                raise PruneError(
                    f"uniform=True: the network {who} differs from the pruned one by "
                    f"{report.error:.2e}"
                )


def _lend(model: nn.Module, fresh: nn.Module) -> None:
    """Let `fresh` use what `model` saves: the same tensors, shared where `model` shares them.

    Buffers that are not saved stay its own, at the types and devices of the model's.
    """
    saved = model.state_dict().keys()
    for path, module in model.named_modules():
        other = fresh.get_submodule(path)
        other._parameters.update(module._parameters)
        for name, buffer in module._buffers.items():
            if buffer is not None and (f"{path}.{name}" if path else name) in saved:
                other._buffers[name] = buffer
            elif buffer is not None and isinstance(other._buffers.get(name), Tensor):
                other._buffers[name] = other._buffers[name].to(buffer)


def wording(model: nn.Module, groups: Groups, call: Call, granularity: str = "auto") -> Wording:
    """Find out which of the groups the model's configuration can state, and how.

    Args:
        groups: from `analyze` on this model; what cannot be stated is pinned in them.
        granularity: where a field can state either of two nested groups, which one; as in `prune`.
    Raises:
        PruneError: the configuration does not describe the model as it is, or states no group.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> net = LlamaForCausalLM(LlamaConfig(
    ...     vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
    ...     num_attention_heads=4, num_key_value_heads=2))
    >>> from sentei.graph.groups import analyze
    >>> ids = torch.arange(6)[None]
    >>> print(*wording(net, analyze(net, ids), ((ids,), {})).moves, sep="\\n")
    hidden_size: model.layers.0.self_attn.o_proj
    intermediate_size: model.layers.0.mlp.gate_proj
    num_attention_heads: model.layers.0.self_attn.q_proj/1
    num_attention_heads and num_key_value_heads: model.layers.0.self_attn.q_proj/0
    """
    model = unwrap(model)
    return _Search(model, groups, call).run(granularity)


class _Search:
    """Tries fields of the configuration against groups of the model."""

    def __init__(self, model: nn.Module, groups: Groups, call: Call) -> None:
        self.kind, self.groups, self.call = type(model), groups, call
        self.base = copy.deepcopy(model.config)
        self.name = type(model.config).__name__
        self.whole = saved_shapes(model)
        self.builds = 0
        described = self._build({})
        if described is None or saved_shapes(described) != self.whole:
            ours = {} if described is None else saved_shapes(described)
            where = next((n for n, shape in self.whole.items() if ours.get(n) != shape), "?")
            raise PruneError(
                f"uniform=True: {self.kind.__name__}(config) does not have the shapes of this "
                f"model (first at {where}); was it changed without its configuration? "
                "Prune without uniform=True, or start from a model that its configuration describes"
            )
        self.atoms = togethers(groups.classes(), uniform=True)
        self.owner = {g.dim: i for i, atom in enumerate(self.atoms) for g in atom.members}
        analysis = groups.analysis
        self.entries = {
            (name, i): size_of(axis)
            for name, axes in analysis.parameters.items()
            if name in self.whole
            for i, axis in enumerate(axes)
        }
        self.why: dict[int, str] = {}

    # -- the search -------------------------------------------------------------------------------
    def run(self, granularity: str) -> Wording:
        optional = self._optional()
        fields = self._relevant()
        moves: list[Found] = []
        for path in fields:
            moves += [((path,), atoms) for atoms in self._atoms((path,), ())]
        alone = {f[0] for f, _ in moves}
        for size in range(2, _MOST_FIELDS + 1):
            for several in itertools.combinations(fields, size):
                if all(path in alone for path in several):
                    continue
                if any(len(f) > 1 and set(f) <= set(several) for f, _ in moves):
                    continue
                moves += [(several, atoms) for atoms in self._atoms(several, moves)]
        chosen = self._choose(moves, granularity)
        if not chosen:
            raise PruneError(
                f"uniform=True: no width of this {self.kind.__name__} can be stated by its "
                f"{self.name}. {'; '.join(dict.fromkeys(self.why.values()))}"
            )
        return self._restricted(chosen, optional)

    def _build(self, changes: Mapping[Path, int | None]) -> nn.Module | None:
        """The network of the changed configuration; None if there is no such network."""
        self.builds += 1
        try:
            return blueprint(self.kind, read_back(changed(self.base, changes)))
        except Exception:
            # Whatever its constructor objects to, this configuration is not an option.
            return None

    def _changed(self, changes: Mapping[Path, int]) -> dict[str, tuple[int, ...]] | None:
        """Shapes after a change; None if nothing is built, or something with other parameters."""
        network = self._build(changes)
        shapes = None if network is None else saved_shapes(network)
        if shapes is None or shapes.keys() != self.whole.keys():
            return None
        ranks = all(len(shapes[n]) == len(s) for n, s in self.whole.items())
        return shapes if ranks else None

    def _optional(self) -> dict[Path, int | None]:
        """Fill in fields that are None or absent with the values that change nothing.

        Returns what they were.
        """
        empty = {path: None for path, value in _fields(self.base).items() if value is None}
        known = {path[0] for path in _fields(self.base)}
        for name in sorted(_read_but_missing(self.kind, self.base) - known):
            empty[(name,)] = ABSENT
        filled: dict[Path, int | None] = {}
        for path, was in empty.items():
            probe = 12  # divides well
            shapes = self._changed({path: probe})
            if shapes is None:
                continue
            values = {
                Fraction(old * probe, new)
                for name in shapes
                for old, new in zip(self.whole[name], shapes[name], strict=True)
                if old != new
            }
            value = next(iter(values)) if len(values) == 1 else None
            if value is None or value.denominator != 1 or value <= 1:
                continue
            if self._changed({path: int(value)}) == self.whole:
                self.base = changed(self.base, {path: int(value)})
                filled[path] = was
        return filled

    def _relevant(self) -> list[Path]:
        """Fields that reach a width which may change, and none that may not."""
        read = {
            (key.module, key.path[0])
            for need in self.groups.analysis.facts.needs
            for key in _attributes(getattr(need.size, "expr", None))
        }
        read |= {(key.module, key.path[0]) for key in self.groups.analysis.solution.attributes}
        integers = self._integers(self._build({}))
        out = []
        for path, value in _fields(self.base).items():
            if value is None:
                continue
            network = self._build({path: value - value // _primes(value)[0]})
            if network is None:
                out.append(path)  # perhaps it must change with another
                continue
            shapes = saved_shapes(network)
            if shapes.keys() != self.whole.keys():
                continue
            touched = [
                (name, i)
                for name, shape in self.whole.items()
                for i, (a, b) in enumerate(itertools.zip_longest(shape, shapes[name]))
                if a != b
            ]
            if any(e not in self.entries or self.entries[e].is_constant for e in touched):
                continue
            changed = {key for key, n in self._integers(network).items() if integers.get(key) != n}
            if touched or changed & read:
                out.append(path)
        return out

    @staticmethod
    def _integers(network: nn.Module | None) -> dict[tuple[str, str], int]:
        return {
            (name, key): value
            for name, module in (network.named_modules() if network is not None else ())
            for key, value in vars(module).items()
            if type(value) is int
        }

    def _atoms(self, fields: tuple[Path, ...], known: Iterable[Found]) -> list[frozenset[int]]:
        """Sets of atoms that do what scaling the fields does; at most one, proved by trial.

        Those that contain a known move of some of the fields say nothing new.
        """
        parts = [atoms for some, atoms in known if set(some) <= set(fields)]
        for prime in _primes(gcd(*(get_field(self.base, path) for path in fields)))[:3]:
            if self.builds > _MOST_BUILDS:
                return []
            share = Fraction(prime - 1, prime)
            changes = {path: int(get_field(self.base, path) * share) for path in fields}
            shapes = self._changed(changes)
            if shapes is None or shapes == self.whole:
                continue
            found = (a for a in self._matching(shapes, share) if not any(p <= a for p in parts))
            for atoms in itertools.islice(found, _MOST_TRIALS):
                why = self._trial(atoms, share, changes)
                if why is None:
                    return [atoms]
                for i in atoms:
                    self.why.setdefault(i, why)
        return []

    def _matching(
        self, shapes: dict[str, tuple[int, ...]], share: Fraction
    ) -> Iterator[frozenset[int]]:
        """Sets of atoms which, kept to `share`, leave these shapes."""
        wanted: dict[Poly, int] = {}
        for (name, i), poly in self.entries.items():
            if wanted.setdefault(poly, shapes[name][i]) != shapes[name][i]:
                return
        changed = [p for p, n in wanted.items() if p.value(_whole) != n]
        steady = {i for p in wanted if p not in changed for i in self._in(p)}
        # An atom moves only if everything it is part of does.
        able = {
            i
            for p in changed
            for i in self._in(p)
            if i not in steady and (share * self.atoms[i].shares).denominator == 1
        }

        def kept(atoms: frozenset[int]) -> Callable[[Dim], int]:
            return lambda d: int(d.size * share) if self.owner.get(d) in atoms else d.size

        def grow(atoms: frozenset[int], banned: frozenset[int]) -> Iterator[frozenset[int]]:
            for poly in changed:
                now = poly.value(kept(atoms))
                if now < wanted[poly]:
                    return
                if now > wanted[poly]:
                    for i in self._in(poly):
                        if i in able and i not in atoms and i not in banned:
                            yield from grow(atoms | {i}, banned)
                            banned = banned | {i}
                    return
            yield atoms

        yield from grow(frozenset(), frozenset())

    def _in(self, poly: Poly) -> list[int]:
        return list(dict.fromkeys(self.owner[d] for d in poly.dims if d in self.owner))

    def _trial(
        self, atoms: frozenset[int], share: Fraction, changes: Mapping[Path, int]
    ) -> str | None:
        """Prune a network without weights and compare it with the one described; None if equal."""
        pruned = self._build({})
        described = self._build(changes)
        assert pruned is not None and described is not None
        keep = {
            g.name: torch.arange(int(g.size * share)) for i in atoms for g in self.atoms[i].members
        }
        said = " and ".join(_spelled(path) for path in changes)
        try:
            masks = keep_masks(self.groups, keep)
            apply(pruned, _plan(pruned, self.groups.analysis, masks, keep))
            difference = _other_tensors(pruned, described) or _difference(
                capture(pruned, *self.call), capture(described, *self.call)
            )
        except Exception as error:
            return f"{said}: {str(error).partition(chr(10))[0]}"
        return None if difference is None else f"{said} also changes {difference}"

    # -- what to do with it -----------------------------------------------------------------------
    def _choose(self, moves: list[Found], granularity: str) -> list[Found]:
        """Moves that share no group: of two that do, the one of the wanted granularity."""

        def order(move: Found) -> tuple[int, int, int]:
            inner = sum(g.kind == "block width" for i in move[1] for g in self.atoms[i].members)
            return (-inner if granularity == "width" else inner, len(move[0]), len(move[1]))

        taken: set[int] = set()
        out = []
        for move in sorted(moves, key=order):
            if taken.isdisjoint(move[1]):
                taken |= move[1]
                out.append(move)
            else:
                said = " and ".join(_spelled(path) for path in move[0])
                for i in move[1] - taken:
                    self.why[i] = f"{said} already states another width"
        return sorted(out, key=lambda m: (len(m[0]), m[0]))

    def _restricted(self, chosen: list[Found], optional: dict[Path, int | None]) -> Wording:
        facts = self.groups.analysis.facts
        moves = []
        for fields, atoms in chosen:
            members = [g for i in sorted(atoms) for g in self.atoms[i].members]
            said = " and ".join(_spelled(path) for path in fields)
            for other in members[1:]:
                facts.ties.append((members[0].dim, other.dim, f"{self.name} states them by {said}"))
            # A field is a whole number: of a ratio of 4 there are four to choose from.
            for path in fields:
                value = get_field(self.base, path)
                for group in members:
                    facts.aligned.append((group.dim, group.size // gcd(group.size, value)))
            moves.append(Move(fields, tuple(g.name for g in members)))
        stated = frozenset(i for _, atoms in chosen for i in atoms)
        for i, atom in enumerate(self.atoms):
            if i not in stated:
                why = self.why.get(i) or f"no field of {self.name} states this width"
                for group in atom.members:
                    group.dim.pinned = group.dim.pinned or f"uniform=True: {why}"
        groups = self.groups.without((), "")
        return Wording(groups, moves, self.kind, self.base, optional)


def _primes(n: int) -> list[int]:
    """The prime factors, ascending.

    >>> _primes(96), _primes(7), _primes(1)
    ([2, 3], [7], [])
    """
    out = []
    for p in range(2, n + 1):
        if n % p == 0:
            out.append(p)
        while n % p == 0:
            n //= p
        if n == 1:
            break
    return out


def _whole(dim: Dim) -> int:
    return dim.size


# -- are two networks one? ------------------------------------------------------------------------
def _other_tensors(a: nn.Module, b: nn.Module) -> str | None:
    """The first tensor that is computed at construction, not saved, and differs."""
    saved = a.state_dict().keys()
    mine, others = named_tensors(a), named_tensors(b)
    for name, (origin, tensor) in mine.items():
        if name in saved or origin == "parameter":
            continue
        other = others[name][1] if name in others else None
        if other is None or tensor.shape != other.shape:
            return name
        if tensor.is_meta or other.is_meta:
            continue
        if not torch.equal(tensor.to(other), other):
            return name
    return None


def _difference(a: Tape, b: Tape) -> str | None:
    """Where two recordings part: another operator, number, shape or operand; None if nowhere."""
    same: dict[int, Value] = {}

    def equal(x: Any, y: Any) -> bool:
        if isinstance(x, Value) and isinstance(y, Value):
            if x.shape != y.shape:
                return False
            if id(x) in same:
                return same[id(x)] is y
            same[id(x)] = y
            return (x.origin, x.name) == (y.origin, y.name)
        if isinstance(x, (Value, torch.device)) or isinstance(y, (Value, torch.device)):
            return type(x) is type(y)
        return bool(x == y)

    for old, new in zip(a.nodes, b.nodes, strict=False):
        where = f"{old.name.split('.')[1]} in {old.module or 'the model'}"
        if old.op is not new.op:
            return where
        left, right = (list(flatten((n.args, _options(n), n.outputs))) for n in (old, new))
        if len(left) != len(right):
            return where
        for x, y in zip(left, right, strict=True):
            if not equal(x, y):
                numbers = "" if isinstance(x, Value) or isinstance(y, Value) else f" ({x} and {y})"
                return where + numbers
    return None if len(a.nodes) == len(b.nodes) else "the number of operators"


def _options(node: Node) -> dict[str, Any]:
    # Attention shares key heads if there are fewer of them: the flag says nothing else.
    return {key: value for key, value in node.kwargs.items() if key != "enable_gqa"}
