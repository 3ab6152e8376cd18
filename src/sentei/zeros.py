"""Will zeros run faster here? Measured, layer shape by layer shape.

A masked weight is a zero in a matrix of the old shape. Dense kernels multiply it like any other
number, so nothing is saved unless a sparse kernel takes over: compressed rows (CSR), which pays
from some sparsity on that depends on the machine, or 2:4 on recent NVIDIA GPUs. Which of them, if
any, is faster on the machine at hand is timed here; for convolutions and others PyTorch has none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentei.allocation.stopwatch import Stopwatch, WallClock
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest

__all__ = ["ZeroRow", "ZerosReport", "break_even", "zeros_report"]

_MARGIN = 0.95  # less than this share of the dense time is faster; the rest is noise
_FEW_ZEROS = 0.01  # weights with fewer are dense
_DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class ZeroRow:
    """Linear layers of one shape and (about) one density.

    density: share of weights that are not zero. seconds: kernel -> time of one layer, "dense" among
    them. refused: kernel -> why it cannot run.
    """

    layers: tuple[str, ...]
    shape: tuple[int, int]
    density: float
    seconds: Mapping[str, float]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The fastest kernel; "dense" unless another is faster by more than noise."""
        fastest = min(self.seconds, key=lambda kernel: self.seconds[kernel])
        enough = self.seconds[fastest] < _MARGIN * self.seconds["dense"]
        return fastest if enough else "dense"

    @property
    def speedup(self) -> float:
        """Dense time over that of the fastest other kernel; below 1 it is slower."""
        others = [s for kernel, s in self.seconds.items() if kernel != "dense"]
        return self.seconds["dense"] / min(others) if others else 0.0


@dataclass(frozen=True)
class ZerosReport:
    """What zeros are worth on this machine. Prints as a table with a verdict.

    rows: linear layers with zeros. unsupported: other weights with zeros: no kernel skips them.
    break_even: density below which CSR is faster for the largest shape, None where it is nowhere.
    """

    rows: tuple[ZeroRow, ...]
    unsupported: tuple[str, ...]
    batch: int
    device: str
    threads: int
    break_even: float | None

    @property
    def faster(self) -> tuple[ZeroRow, ...]:
        """Where a sparse kernel is faster than the dense one."""
        return tuple(row for row in self.rows if row.best != "dense")

    @property
    def speedup(self) -> float:
        """Of all linear layers with zeros together, each on its best kernel; 1 where none is."""
        dense = sum(len(r.layers) * r.seconds["dense"] for r in self.rows)
        best = sum(len(r.layers) * r.seconds[r.best] for r in self.rows)
        return dense / best if best else 1.0

    @property
    def verdict(self) -> str:
        """One paragraph."""
        where = f"on this machine ({self.device}, {self.threads} threads, {self.batch} rows)"
        if not self.rows and not self.unsupported:
            return "No weight has zeros worth speaking of."
        parts = []
        if self.faster:
            names = ", ".join(f"{r.shape[0]}x{r.shape[1]} as {r.best}" for r in self.faster[:4])
            parts.append(
                f"Zeros run faster {where} in {sum(len(r.layers) for r in self.faster)} of "
                f"{sum(len(r.layers) for r in self.rows)} linear layers ({names}), "
                f"{self.speedup:.2f} times over all of them."
            )
        elif self.rows:
            best = max(self.rows, key=lambda r: r.speedup)
            parts.append(
                f"Zeros run no faster {where}: the best sparse kernel reaches {best.speedup:.2f} "
                f"times the speed of the dense one ({best.shape[0]}x{best.shape[1]} at density "
                f"{best.density:.2f})."
                if best.speedup
                else f"Zeros run no faster {where}: no sparse kernel can run these layers."
            )
        if self.rows and not self.faster:
            parts.append(
                f"For the largest shape CSR pays from a density of {self.break_even:g} down."
                if self.break_even is not None
                else f"For the largest shape CSR pays at none of {_DENSITIES[0]:g} to "
                f"{_DENSITIES[-1]:g}."
            )
        if self.unsupported:
            count = len(self.unsupported)
            belong = "tensor with zeros belongs" if count == 1 else "tensors with zeros belong"
            parts.append(
                f"{count} {belong} to other layers than linear ones; PyTorch has no kernel that "
                "skips them."
            )
        if not self.faster:
            parts.append(
                "A file holds zeros as it does other numbers, until it is compressed; to run "
                "faster, remove whole units."
            )
        return " ".join(parts)

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table()
        kernels = list(dict.fromkeys(k for r in self.rows for k in (*r.seconds, *r.refused)))
        table.add_column("shape")
        for name in ("layers", "density", *(f"{k} µs" for k in kernels), "best"):
            table.add_column(name, justify="right")
        for row in self.rows:
            times = [f"{1e6 * row.seconds[k]:.1f}" if k in row.seconds else "–" for k in kernels]
            shape = f"{row.shape[0]}x{row.shape[1]}"
            table.add_row(shape, str(len(row.layers)), f"{row.density:.3f}", *times, row.best)
        console = Console(width=100, color_system=None, highlight=False)
        with console.capture() as captured:
            if self.rows:
                console.print(table)
            for kernel, why in {k: w for r in self.rows for k, w in r.refused.items()}.items():
                console.print(f"{kernel}: {why}")
            console.print(self.verdict)
        return captured.get().rstrip()


def zeros_report(
    model: nn.Module,
    *,
    batch: int = 32,
    masks: Iterable[str] | None = None,
    stopwatch: Stopwatch | None = None,
) -> ZerosReport:
    """Time each linear layer that keeps zeros, dense and with every sparse kernel there is.

    Args:
        batch: rows of the input (samples, or samples times tokens).
        masks: names of the weights to look at; by default all with at least 1 % zeros.
        stopwatch: where times come from; by default this machine.
    Raises:
        PruneError: a name in `masks` is no parameter.

    >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    >>> _ = nn.init.zeros_(net[0].weight[:, ::2].detach())
    >>> report = zeros_report(net)
    >>> report.rows[0].layers, report.rows[0].density, sorted(report.rows[0].seconds)
    (('0',), 0.5, ['csr', 'dense'])
    """
    if batch < 1:
        raise PruneError(f"batch must be at least 1; got {batch}")
    root = unwrap(model)
    parameters = dict(root.named_parameters())
    names = list(parameters) if masks is None else list(masks)
    for name in names:
        if name not in parameters:
            raise PruneError(f"masks: no parameter {name!r}; {closest(name, parameters)}")
    clock = stopwatch or WallClock()
    linear = {
        f"{n}.weight" if n else "weight": n
        for n, m in root.named_modules()
        if isinstance(m, nn.Linear)
    }
    found: dict[tuple[Any, ...], list[str]] = {}
    unsupported = []
    for name in names:
        weight = parameters[name]
        if weight.dim() < 2:
            continue
        density = (weight != 0).float().mean().item()
        if density > 1 - _FEW_ZEROS and masks is None:
            continue
        if name not in linear:
            unsupported.append(name)
            continue
        key = tuple(weight.shape), round(density, 2), _is_2_of_4(weight), weight.dtype
        found.setdefault(key, []).append(name)
    rows = tuple(
        _row(tuple(linear[n] for n in same), parameters[same[0]], batch, clock)
        for same in found.values()
    )
    device = next((p.device for p in parameters.values()), torch.device("cpu"))
    turning = None
    if rows and all(row.best == "dense" for row in rows):
        largest = max((row.shape for row in rows), key=lambda s: s[0] * s[1])
        turning = break_even(*largest, batch=batch, device=device, stopwatch=clock)
    return ZerosReport(
        rows, tuple(unsupported), batch, str(device), torch.get_num_threads(), turning
    )


def break_even(
    rows: int,
    columns: int,
    *,
    batch: int = 32,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> float | None:
    """The largest density, of 0.01 to 0.5, up to which CSR beats dense for this shape, measured.

    Returns:
        None where dense wins at every one of them.
    """
    clock = stopwatch or WallClock()
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, columns, generator=generator)
    chance = torch.rand(rows, columns, generator=generator)
    reached = None
    for density in _DENSITIES:
        sparse = torch.where(chance < density, weight, 0.0).to(device)
        if _row(("",), sparse, batch, clock, kernels=("csr",)).best != "csr":
            break
        reached = density
    return reached


def _row(
    layers: tuple[str, ...],
    weight: Tensor,
    batch: int,
    clock: Stopwatch,
    kernels: tuple[str, ...] = ("csr", "2:4"),
) -> ZeroRow:
    weight = weight.detach()
    x = torch.randn(batch, weight.shape[1], device=weight.device).to(weight.dtype)
    runs: dict[str, Callable[[], Tensor]] = {"dense": lambda: F.linear(x, weight)}
    refused: dict[str, str] = {}
    for kernel in kernels:
        try:
            # Sparse layouts say that they are young: they are measured, not trusted.
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                run = _KERNELS[kernel](weight, x)
                run()
            runs[kernel] = run
        except (RuntimeError, NotImplementedError, ValueError) as error:
            refused[kernel] = str(error).strip().splitlines()[0][:120]
    shape = f"{weight.shape[0]}x{weight.shape[1]}x{batch} {weight.dtype}"
    density = (weight != 0).float().mean().item()
    seconds = {k: clock.operator(f"linear {k} {shape} {density:.3f}", r) for k, r in runs.items()}
    return ZeroRow(layers, (weight.shape[0], weight.shape[1]), density, seconds, refused)


def _csr(weight: Tensor, x: Tensor) -> Callable[[], Tensor]:
    sparse = weight.to_sparse_csr()
    return lambda: (sparse @ x.t()).t()


def _semi_structured(weight: Tensor, x: Tensor) -> Callable[[], Tensor]:
    if not weight.is_cuda:
        raise ValueError("needs an NVIDIA GPU (compute capability 8 or newer)")
    if not _is_2_of_4(weight):
        raise ValueError("the zeros are not two of every four")
    sparse = torch.sparse.to_sparse_semi_structured(weight)
    return lambda: F.linear(x, sparse)


def _is_2_of_4(weight: Tensor) -> bool:
    """Whether of every four neighbours in a row at most two are not zero."""
    if weight.shape[1] % 4:
        return False
    return bool(((weight != 0).reshape(-1, 4).sum(1) <= 2).all())


_KERNELS: dict[str, Callable[[Tensor, Tensor], Callable[[], Tensor]]] = {
    "csr": _csr,
    "2:4": _semi_structured,
}
