"""Take out whole units that masks have left without effect: exactly, and physically."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sentei.criteria.inputs import Use, observe
from sentei.graph.blueprint import without_cache
from sentei.graph.capture import tensors_in, unwrap
from sentei.graph.errors import PruneError
from sentei.graph.groups import Group, Groups, Slice, analyze, call_arguments
from sentei.graph.surgery import _Transaction, keep_masks, remove
from sentei.graph.verify import silenced_outputs
from sentei.structures.weights import prunable

__all__ = ["Shrunk", "shrink"]

_TOLERANCE = 1e-6
# Folding a constant can starve the layer before it, and so on back: no network is deeper.
_ROUNDS = 1000

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Shrunk:
    """What `shrink` did.

    removed: group -> how many of its units went; folded: bias -> how many constant units went
    into it; error: largest difference of the outputs before and after, in float64, relative to the
    largest output; left: group -> why units without effect had to stay.
    """

    removed: Mapping[str, int]
    folded: Mapping[str, int]
    error: float
    left: Mapping[str, str]


def shrink(
    model: nn.Module, example_inputs: Any, *, optimizer: torch.optim.Optimizer | None = None
) -> Shrunk:
    """Remove every unit that has no effect, in place; the outputs stay what they are.

    A unit has none if
    - all weights that read it are zero, or
    - all weights that make it are zero, so that its value is a constant c (a bias gone through the
      activation): what reads it then adds W[:, unit] c, which goes into that layer's bias. Where
      it cannot (a convolution that pads with zeros sees c or 0; there is no bias), it stays.
    What starves when others go is taken, too. Units of normalised widths stay, since layer norms
    count them. Constants are read off the model in eval mode, on the example inputs and on noise.

    Args:
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        optimizer: its state follows the parameters.
    Raises:
        PruneError: the outputs (on noise, in float64) would change by more than 1e-6, relative.
            The model is as before.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> with torch.no_grad():
    ...     _ = net[0].weight[0].zero_(), net[2].weight[:, 2].zero_()
    >>> shrink(net, torch.ones(1, 2)).removed, net[0].out_features
    ({'0': 2}, 1)
    """
    model = unwrap(model)
    call = without_cache(model, *call_arguments(example_inputs, None, None))
    noises = [_noise(call, seed) for seed in (1, 2)]
    before = _precise(model, noises)
    removed: dict[str, int] = {}
    folded: dict[str, int] = {}
    left: dict[str, str] = {}
    with _Transaction(model, optimizer) as transaction:
        for _ in range(_ROUNDS):
            groups = analyze(model, args=call[0], kwargs=call[1])
            uses = _uses(model, [call, *noises])
            for bias, units in _fold_(model, groups, uses, left).items():
                folded[bias] = folded.get(bias, 0) + units
            keep = _harmless(model, groups, _unread(model, groups, uses, left), call, left)
            if not keep:
                break
            remove(model, groups, keep, call, optimizer=optimizer, verify=False)
            for name, kept in keep.items():
                removed[name] = removed.get(name, 0) + groups[name].size - len(kept)
        error = _difference(before, _precise(model, noises))
        if not error <= _TOLERANCE:
            raise PruneError(
                f"removing units without effect changed the outputs by {error:.1e} (relative, "
                f"float64; allowed {_TOLERANCE:.0e}); the model is as before. Please report this"
            )
        transaction.commit()
    return Shrunk(removed, folded, error, {n: w for n, w in left.items() if n in groups})


# -- who makes a unit, who reads it -----------------------------------------------------------
def _uses(model: nn.Module, calls: list[Call]) -> dict[str, list[Use]]:
    """Every product of every weight on these calls."""
    found: dict[str, list[Use]] = {}
    try:
        weights = prunable(model)
    except PruneError:
        return found
    seen: set[str] = set()
    batch = [({"args": a, "kwargs": k}) for a, k in calls]
    runner = _Runner(model)

    def see(use: Use) -> None:
        seen.add(use.name)
        found.setdefault(use.name, []).append(use)

    observe(runner, weights, batch, see, strict=False)
    return found


class _Runner(nn.Module):
    """Calls the model with positional and keyword arguments of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, args: Any, kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


def _role(piece: Slice, uses: Mapping[str, list[Use]]) -> str:
    """ "reads" or "makes" for a dimension of a weight; "" for what passes units through."""
    known = uses.get(piece.parameter)
    if not known or known[0].groups > 1 or known[0].spread:
        return ""
    makes = 1 if known[0].transposed else 0
    return "makes" if piece.dim == makes else "reads" if piece.dim == 1 - makes else ""


def _lines(tensor: Tensor, piece: Slice) -> Tensor:
    """(units, …): the entries of a parameter at each unit's positions."""
    positions = piece.positions
    rows = tensor.detach().movedim(piece.dim, 0)
    return rows[positions.to(tensor.device)].flatten(1)


def _silent(model: nn.Module, group: Group, uses: Mapping[str, list[Use]], role: str) -> Tensor:
    """(units,): every entry in that role is zero, and there is one at all."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    zero = [
        (_lines(tensors[s.parameter], s) == 0).all(1).cpu()
        for s in group.slices
        if _role(s, uses) == role
    ]
    if not zero:
        return torch.zeros(group.size, dtype=torch.bool)
    return torch.stack(zero).all(0)


def _unread(
    model: nn.Module, groups: Groups, uses: Mapping[str, list[Use]], left: dict[str, str]
) -> dict[str, Tensor]:
    """Group -> units to keep, where some are read by nothing."""
    drop: dict[str, Tensor] = {}
    for name, group in groups.items():
        dead = _silent(model, group, uses, "reads")
        if not dead.any():
            continue
        if group.normalised:
            left[name] = "its width is counted by a normalisation"
            continue
        drop[name] = dead.nonzero().flatten()
    for members in groups.classes():
        # Tied groups lose equal shares: what the one with the fewest idle units can give.
        shares = min(len(drop.get(g.name, ())) // g.step for g in members)
        for group in members:
            gone = drop.get(group.name)
            if gone is None:
                continue
            count = min(shares * group.step, group.size - group.step)
            if count < len(gone):
                left[group.name] = "a unit must stay, or others are tied to its width"
            if count:
                drop[group.name] = gone[:count]
            else:
                del drop[group.name]
    return {
        name: torch.tensor([u for u in range(groups[name].size) if u not in set(gone.tolist())])
        for name, gone in drop.items()
    }


def _harmless(
    model: nn.Module,
    groups: Groups,
    keep: dict[str, Tensor],
    call: Call,
    left: dict[str, str],
) -> dict[str, Tensor]:
    """Those of the plan whose silencing changes nothing, as the axes have it."""
    if not keep or not _moves(model, groups, keep, call):
        return keep
    good = {}
    for members in groups.classes():
        part = {g.name: keep[g.name] for g in members if g.name in keep}
        if part and not _moves(model, groups, part, call):
            good |= part
        else:
            left.update(dict.fromkeys(part, "something else reads it"))
    return good


def _moves(model: nn.Module, groups: Groups, keep: dict[str, Tensor], call: Call) -> bool:
    silenced = silenced_outputs(model, groups.analysis, keep_masks(groups, keep), call)
    if silenced is None:
        raise PruneError("the model is on the meta device: there are no zeros to find")
    if not silenced.moved:
        return False
    plain = _outputs(model, [call])
    return _difference(plain, [t for _, t in silenced.outputs]) > _TOLERANCE


# -- constants ----------------------------------------------------------------------------------
def _fold_(
    model: nn.Module, groups: Groups, uses: Mapping[str, list[Use]], left: dict[str, str]
) -> dict[str, int]:
    """Move constant units into the biases of what reads them, and stop reading them."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    folded: dict[str, int] = {}
    for name, group in groups.items():
        still = _silent(model, group, uses, "makes")
        if not still.any() or group.normalised:
            continue
        readers = [s for s in group.slices if _role(s, uses) == "reads"]
        for unit in still.nonzero().flatten().tolist():
            plan = [_constant(tensors, uses, s, unit) for s in readers]
            if not readers or any(p is None for p in plan):
                left[name] = "it is constant, but what reads it has no bias or pads with zeros"
                continue
            for piece, constant in zip(readers, plan, strict=True):
                assert constant is not None
                weight = tensors[piece.parameter]
                use = uses[piece.parameter][0]
                columns = _columns(weight, use, piece, unit)
                matrix = use.matrix(weight.detach())[0]
                if not matrix[:, columns].any():
                    continue
                added = matrix[:, columns].double() @ constant.double()
                if added.any():
                    bias = _bias(piece.parameter)
                    # New tensors: the transaction holds on to the old ones.
                    tensors[bias].data = tensors[bias].data + added.to(tensors[bias].dtype)
                    folded[bias] = folded.get(bias, 0) + 1
                matrix = matrix.clone()
                matrix[:, columns] = 0
                weight.data = use.weight(matrix[None], weight.shape).contiguous()
    return folded


def _columns(weight: Tensor, use: Use, piece: Slice, unit: int) -> Tensor:
    """Columns of the weight's matrix that read a unit; a kernel has several a channel."""
    width = 1 if use.transposed else weight[0, 0].numel()
    starts = piece.positions[unit] * width
    return (starts[:, None] + torch.arange(width)).flatten()


def _constant(
    tensors: Mapping[str, Tensor], uses: Mapping[str, list[Use]], piece: Slice, unit: int
) -> Tensor | None:
    """The value of each column that reads the unit, if it is one and can be folded."""
    weight = tensors[piece.parameter]
    columns = _columns(weight, uses[piece.parameter][0], piece, unit)
    seen = torch.cat([u.inputs[0][:, columns] for u in uses[piece.parameter]])
    value = seen[0]
    if not torch.equal(seen, value.expand_as(seen)):
        return None
    if value.any() and _bias(piece.parameter) not in tensors:
        return None
    return value.to(weight.device)


def _bias(weight: str) -> str:
    owner, _, name = weight.rpartition(".")
    return f"{owner}.{name.replace('weight', 'bias')}".lstrip(".")


# -- before and after ---------------------------------------------------------------------------
def _noise(call: Call, seed: int) -> Call:
    """The same call with other numbers in its floating-point tensors."""
    generator = torch.Generator().manual_seed(seed)

    def other(value: Any) -> Any:
        if isinstance(value, Tensor):
            if not value.is_floating_point():
                return value
            return torch.randn(value.shape, generator=generator).to(value)
        if isinstance(value, Mapping):
            return {k: other(v) for k, v in value.items()}
        if isinstance(value, (tuple, list)):
            return type(value)(other(v) for v in value)
        return value

    return tuple(other(a) for a in call[0]), other(call[1])


def _precise(model: nn.Module, calls: list[Call]) -> list[Tensor]:
    """Outputs of a double-precision copy."""
    twin = copy.deepcopy(model).double()

    def double(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.double() if value.is_floating_point() else value
        if isinstance(value, Mapping):
            return {k: double(v) for k, v in value.items()}
        if isinstance(value, (tuple, list)):
            return type(value)(double(v) for v in value)
        return value

    return _outputs(twin, [(tuple(double(a) for a in args), double(k)) for args, k in calls])


def _outputs(model: nn.Module, calls: list[Call]) -> list[Tensor]:
    flags = {m: m.training for m in model.modules()}
    try:
        model.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            return [t for args, kw in calls for _, t in tensors_in(model(*args, **kw))]
    finally:
        for module, flag in flags.items():
            module.training = flag


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    worst = 0.0
    for a, b in zip(before, after, strict=True):
        if a.shape != b.shape:
            return float("inf")
        a, b = a.double(), b.double()
        scale = max(a.abs().max().item(), 1e-12) if a.numel() else 1.0
        gap = (a - b).abs().max().item() / scale if a.numel() else 0.0
        worst = max(worst, gap if gap == gap else float("inf"))
    return worst
