"""Least squares: every layer refitted to what the original computed there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from sentei.batches import Data, batches
from sentei.graph.surgery import Surgery
from sentei.recovery.pairs import Pair, in_order, inputs, outputs, pairs, passing, watching
from sentei.recovery.train import check_data

__all__ = ["Refit", "reconstruct"]


@dataclass(frozen=True)
class Refit:
    """What refitting a layer gave: its relative error on batches that were not fitted.

    before, after: ||y' - y||² / ||y - mean y||²; used: were the new weights better and taken?
    kept_norm: were they brought back to the lengths they had, for the batch norm behind the layer?
    """

    layer: str
    before: float
    after: float
    used: bool
    kept_norm: bool = False


@torch.no_grad()
def reconstruct(
    original: nn.Module,
    pruned: nn.Module,
    surgery: Surgery,
    data: Data,
    *,
    batch_size: int = 64,
    ridge: float = 1e-3,
    positions: int = 4096,
    keep_norms: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> list[Refit]:
    """Refit linear layers and convolutions, first to last, in place. Needs no labels.

    W' = argmin ||W' X' - Y||² + λ ||W' - W||²,   λ = ridge · mean diag(X' X'ᵀ)

    X' are the layer's inputs in the *pruned* network with all earlier layers already refitted, Y
    what the original computes for the kept outputs on the same data. Biases are part of W where the
    layer has one. The last quarter of the batches is not fitted, and judges: weights that are no
    better there are not taken.

    Fewer inputs that do the work of all have larger weights: two to four times as long where much
    was removed. In front of a batch norm length changes nothing, except that it divides what a
    training step does: gradients shrink with it, and the weights that they move have grown. With
    `keep_norms` each output's weights are brought back to the length they had before the refit, and
    the mean and variance of the batch norm follow; the network computes the same, and its layers
    learn as fast as those of one that was not refitted. Take it together with `soften`: alone it
    lets a last layer whose weights have grown, too, push the others around (at an eighth of the
    multiply-adds training ended lower with it than without; `benchmarks/recovery.py`).

    Args:
        surgery: `result.surgery` of the pruning that led from `original` to `pruned`.
        positions: of a convolution's output positions, at most so many a batch are looked at.
        keep_norms: in front of batch norms, keep the lengths that the weights had before.
    Returns:
        what each layer's refit gave, in the order of execution.
    Raises:
        ValueError: no data. PruneError: the networks do not belong together.
    Source: He et al. 2017, Channel Pruning, arXiv:1707.06168, sec. 3.1 (reconstruction of feature
        maps, with the pruned network's own inputs as in their eq. 5), here for every layer.
    """
    check_data(data)
    whole = list(batches(data, batch_size))
    found = pairs(original, pruned, surgery)
    ordered = in_order(found, pruned, whole[0])
    if not surgery.kept:
        return []
    first = next((i for i, p in enumerate(ordered) if _touched(p, surgery)), len(ordered))
    judging = whole[-max(1, len(whole) // 4) :]
    fitting = whole[: len(whole) - len(judging)] or judging
    norms = _norms_behind(ordered, pruned, whole[0]) if keep_norms else {}
    out = []
    for pair in track(
        ordered[first:], description="refitting layers", disable=not progress, transient=True
    ):
        fit = _Sums(pair, fitting, original, pruned, positions, seed)
        held = fit if fitting is judging else _Sums(
            pair, judging, original, pruned, positions, seed
        )  # fmt: skip
        old = _matrix(pair.after).double()
        damp = ridge * fit.xx.diagonal().mean().clamp(min=1e-30)
        left = fit.xx + damp * torch.eye(len(fit.xx), dtype=torch.float64)
        new = torch.linalg.solve(left, fit.xy + damp * old.T).T
        before, after = held.error(old), held.error(new)
        used = after < before
        if used:
            _write(pair.after, new)
        norm = norms.get(pair.name) if used else None
        kept = norm is not None and _keep_lengths(pair.after, norm, old, pruned, whole[0])
        out.append(Refit(pair.name, before, after, used, kept))
    return out


def _norms_behind(ordered: list[Pair], pruned: nn.Module, batch) -> dict[str, _BatchNorm]:
    """The batch norm that takes a layer's output as it is, by the layer's name."""
    after = {pair.name: pair.after for pair in ordered}
    norms = {m: m for m in pruned.modules() if isinstance(m, _BatchNorm) and m.track_running_stats}
    made: dict[int, tuple[str, Tensor]] = {}  # tensors are held, so that an id stays one tensor's
    found: dict[str, _BatchNorm] = {}

    def see(key: str | _BatchNorm, x: Tensor, y: Tensor) -> None:
        if isinstance(key, str):
            made[id(y)] = key, y
        elif id(x) in made:
            found[made[id(x)][0]] = key

    with watching({**after, **norms}, see):
        passing(pruned, batch)
    return found


@torch.no_grad()
def _keep_lengths(
    layer: nn.Module, norm: _BatchNorm, old: Tensor, pruned: nn.Module, batch
) -> bool:
    """Each row of the weights as long as in `old`, with a batch norm that undoes it.

    Where the network's outputs differ after that (somebody else looks at the layer's output, too),
    it is taken back.
    """
    held = [t.clone() for t in (layer.weight, norm.running_mean, norm.running_var)]
    bias = layer.bias.clone() if layer.bias is not None else None
    answers = _numbers(passing(pruned, batch))
    columns = layer.weight[0].numel()
    was, now = (m[:, :columns].norm(dim=1) for m in (old, _matrix(layer).double()))
    factor = torch.where((was > 0) & (now > 0), was / now, 1.0).to(layer.weight)
    layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))
    if bias is not None:
        layer.bias.mul_(factor)
    norm.running_mean.mul_(factor)
    # The norm divides by sqrt(variance + eps): all of that takes the factor.
    norm.running_var.add_(norm.eps).mul_(factor.square()).sub_(norm.eps).clamp_(min=0)
    same = all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()))
        for a, b in zip(answers, _numbers(passing(pruned, batch)), strict=True)
    )
    if not same:
        for tensor, value in zip((layer.weight, norm.running_mean, norm.running_var), held,
                                 strict=True):  # fmt: skip
            tensor.copy_(value)
        if bias is not None:
            layer.bias.copy_(bias)
    return same


def _numbers(outputs) -> list[Tensor]:
    """All floating-point tensors of an answer."""
    leaves = tree_leaves(dict(outputs) if hasattr(outputs, "keys") else outputs)
    return [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point() and t.numel()]


class _Sums:
    """X'ᵀX', X'ᵀY and YᵀY of one layer over some batches, in float64 on the CPU."""

    def __init__(
        self,
        pair: Pair,
        data: list,
        original: nn.Module,
        pruned: nn.Module,
        positions: int,
        seed: int,
    ) -> None:
        width = _matrix(pair.after).shape[1]
        rows = len(pair.rows)
        self.xx = torch.zeros(width, width, dtype=torch.float64)
        self.xy = torch.zeros(width, rows, dtype=torch.float64)
        self.yy = torch.zeros(rows, dtype=torch.float64)
        self.y = torch.zeros(rows, dtype=torch.float64)
        self.count = 0
        for i, batch in enumerate(data):
            x = [inputs(pair, t) for t in _seen(pair.after, pruned, batch, want_input=True)]
            y = [outputs(pair, t) for t in _seen(pair.before, original, batch, want_input=False)]
            self._add(torch.cat(x), torch.cat(y), pair.after.bias is not None, positions, seed + i)

    def _add(self, x: Tensor, y: Tensor, bias: bool, positions: int, seed: int) -> None:
        if len(x) > positions:
            some = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
            x, y = (t[some[:positions].to(t.device)] for t in (x, y))
        x, y = x.double().cpu(), y.double().cpu()
        if bias:
            x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += y.square().sum(0)
        self.y += y.sum(0)
        self.count += len(x)

    def error(self, weight: Tensor) -> float:
        """||X'Wᵀ - Y||² over the variance of Y."""
        gap = ((weight @ self.xx) * weight).sum(1) - 2 * (weight * self.xy.T).sum(1) + self.yy
        spread = (self.yy - self.y.square() / max(self.count, 1)).sum().clamp(min=1e-30)
        return float(gap.sum().clamp(min=0) / spread)


def _seen(layer: nn.Module, model: nn.Module, batch, want_input: bool) -> list[Tensor]:
    """What went into a layer (or came out of it), each time it ran."""
    kept: list[Tensor] = []

    def see(_key, x: Tensor, y: Tensor) -> None:
        kept.append((x if want_input else y).detach())

    with watching({0: layer}, see):
        passing(model, batch)
    return kept


def _touched(pair: Pair, surgery: Surgery) -> bool:
    return f"{pair.name}.weight" in surgery.kept or "weight" in surgery.kept


def _matrix(layer: nn.Module) -> Tensor:
    weight = layer.weight.detach().flatten(1)
    if layer.bias is not None:
        weight = torch.cat([weight, layer.bias.detach()[:, None]], 1)
    return weight.cpu()


def _write(layer: nn.Module, matrix: Tensor) -> None:
    if layer.bias is not None:
        layer.bias.copy_(matrix[:, -1])
        matrix = matrix[:, :-1]
    layer.weight.copy_(matrix.reshape(layer.weight.shape))
