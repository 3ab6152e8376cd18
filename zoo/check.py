"""Prune half of every group of one network and check everything that must hold afterwards."""

from __future__ import annotations

import copy
import json
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import sentei
import sentei.graph.groups as engine
from sentei.graph.capture import tensors_in
from sentei.graph.errors import PruneError, VerificationError
from sentei.graph.groups import Groups
from sentei.graph.surgery import Mismatch, remove
from sentei.graph.verify import doubled
from zoo.registry import Entry, Example, randomise


@dataclass
class Outcome:
    """status: pass, refused (nothing touched), wrong, error, timeout or not built."""

    name: str
    family: str
    status: str = "error"
    detail: str = ""
    params: tuple[int, int] = (0, 0)
    groups: int = 0
    pinned: int = 0
    unknown: list[str] = field(default_factory=list)
    error: float = float("nan")
    conclusive: bool = False
    precision: str = ""
    checks: dict[str, bool] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def json(self) -> str:
        return json.dumps(asdict(self))


def check(entry: Entry, seed: int = 0) -> Outcome:
    """Build, randomise, prune half of every group, verify."""
    out = Outcome(entry.name, entry.family)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    try:
        example = entry.build()
        randomise(example.model, seed)
        model, args, kwargs = _double(entry, example, seed)
        out.precision = (
            "float64" if next(iter(_dtypes(model)), None) is torch.float64 else "float32"
        )
    except Exception as error:
        out.status, out.detail = "not built", f"{type(error).__name__}: {error}"[:300]
        return out
    out.seconds["build"] = time.perf_counter() - start
    try:
        _prune(out, entry, model, args, kwargs, seed)
    except VerificationError as error:
        out.status, out.detail = "wrong", str(error)[:300]
    except PruneError as error:
        out.status, out.detail = "refused", str(error)[:300]
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        out.status = "error"
        out.detail = (
            f"{type(error).__name__}: {error} ({where.filename.split('/')[-1]}:{where.lineno})"[
                :300
            ]
        )
    return out


def _prune(out: Outcome, entry: Entry, model: nn.Module, args: Any, kwargs: Any, seed: int) -> None:
    start = time.perf_counter()
    groups = engine.analyze(model, args=args, kwargs=kwargs)
    out.seconds["analyze"] = time.perf_counter() - start
    out.groups, out.pinned = len(groups), len(groups.pinned)
    out.unknown = list(groups.unknown)[:5]
    if not len(groups):
        raise PruneError(
            "no prunable group: "
            + "; ".join(sorted({g.pinned or "" for g in groups.pinned.values()}))[:250]
        )
    count = sum(p.numel() for p in model.parameters())
    start = time.perf_counter()
    for attempt in range(12):
        try:
            surgery = remove(model, groups, _half(groups, seed), (args, kwargs))
            break
        except Mismatch as error:
            if attempt == 11 or isinstance(error, VerificationError):
                raise
            groups = groups.without(error.dims, str(error))
            out.detail = f"[{attempt + 1}] {error}"[:200]
            if not len(groups):
                raise
    out.seconds["remove"] = time.perf_counter() - start
    report = surgery.verification
    assert report is not None
    out.error, out.conclusive = report.error, report.conclusive
    out.groups = len(groups)
    after = sum(p.numel() for p in model.parameters())
    out.params = (count, after)
    out.checks["exact"] = report.passed
    out.checks["conclusive"] = report.conclusive
    out.checks["smaller"] = after < count
    out.checks["cost"] = (
        groups.cost({n: k.shape[-1] for n, k in _half(groups, seed).items()}).params == after
    )
    # Of the silenced original, not of the unpruned one: how many boxes a detector finds depends on
    # what it computes.
    out.checks["structure"] = _structure(model, args, kwargs) == _comparable(report.shapes)
    out.checks["saved"] = _saved(entry, model, args, kwargs)
    out.checks["train"] = _trains(entry, model, args, kwargs)
    bad = [name for name, good in out.checks.items() if not good]
    out.status = "pass" if not bad else "wrong" if "exact" in bad else "failed"
    if bad:
        out.detail = f"failed: {', '.join(bad)} {out.detail}"


def _half(groups: Groups, seed: int) -> dict[str, Tensor]:
    """Random units of every group: others for each outer index where the group is free in one."""
    generator = torch.Generator().manual_seed(seed)
    keep: dict[str, Tensor] = {}
    for members in groups.classes():
        shares = max(1, members[0].size // members[0].step // 2)
        for g in members:
            rows = g.dim.outer.size if g.dim.outer is not None else 1
            order = torch.rand(rows, g.size, generator=generator).argsort(dim=1)
            kept = order[:, : shares * g.step].sort(dim=1).values
            keep[g.name] = kept if g.outer else kept[0]
    return keep


def _double(entry: Entry, example: Example, seed: int) -> tuple[nn.Module, Any, Any]:
    """In float64 where the model's own code allows it: some compute masks in float32 with the
    lowest number of the type they were given, and answer NaN."""
    model, args, kwargs = example.model, example.args, example.kwargs
    try:
        wide = copy.deepcopy(model).double()
    except RuntimeError:  # tensors that were computed from parameters are not copied: weight norms
        wide = randomise(entry.build().model, seed).double()
    wide_args, wide_kwargs = doubled(args), doubled(kwargs)
    try:
        with torch.no_grad():
            finite = _finite(wide(*wide_args, **wide_kwargs))
    except Exception:
        return model, args, kwargs
    if not finite:
        with torch.no_grad():
            if _finite(model(*args, **kwargs)):
                return model, args, kwargs
    return wide, wide_args, wide_kwargs


def _finite(outputs: Any) -> bool:
    return not any(t.isnan().any() for _, t in tensors_in(outputs) if t.is_floating_point())


def _dtypes(model: nn.Module) -> list[torch.dtype]:
    return [p.dtype for p in model.parameters() if p.is_floating_point()]


def _structure(model: nn.Module, args: Any, kwargs: Any) -> list[tuple[str, tuple[int, ...]]]:
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = model.eval()(*args, **kwargs)
    return _comparable((path, tuple(t.shape)) for path, t in tensors_in(outputs))


def _comparable(shapes: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Without caches, which hold keys and values of pruned widths."""
    return [
        (path, shape)
        for path, shape in shapes
        if "past_key_values" not in path and "cache" not in path
    ]


def _fresh(entry: Entry, model: nn.Module, args: Any, kwargs: Any) -> nn.Module:
    """The unpruned model, built anew, in the types that `model` has by now."""
    fresh = entry.build().model
    if torch.float64 in _dtypes(model) and torch.float64 not in _dtypes(fresh):
        fresh = fresh.double()
    # Some models cast parts of themselves when they run: a router to float32.
    if len(set(_dtypes(model))) > 1:
        with torch.no_grad():
            fresh.eval()(*args, **kwargs)
    return fresh


def _saved(entry: Entry, model: nn.Module, args: Any, kwargs: Any) -> bool:
    """Written to disk and loaded into a fresh network, it computes the same, bit for bit."""
    fresh = _fresh(entry, model, args, kwargs)
    with tempfile.TemporaryDirectory() as home:
        sentei.load(sentei.save(model, f"{home}/small"), fresh)
    pair = []
    for network in (model, fresh):
        torch.manual_seed(0)
        with torch.no_grad():
            pair.append([t for _, t in tensors_in(network.eval()(*args, **kwargs))])
    return len(pair[0]) == len(pair[1]) and all(
        a.shape == b.shape and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(*pair, strict=True)
    )  # fmt: skip


def _trains(entry: Entry, model: nn.Module, args: Any, kwargs: Any) -> bool:
    """A forward and a backward pass in eval mode, then in train mode.

    Where the unpruned model stops at the same line (for want of targets, or of a larger batch),
    none is possible.
    """
    for training in (False, True):
        failure = _step(model, args, kwargs, training)
        if failure is not None:
            original = _step(_fresh(entry, model, args, kwargs), args, kwargs, training)
            if original is None or _place(original) != _place(failure):
                raise failure
    return True


def _step(model: nn.Module, args: Any, kwargs: Any, training: bool) -> Exception | None:
    """What one forward and backward pass raises."""
    model.train(training)
    try:
        outputs = model(*args, **kwargs)
        terms = [t.float().square().mean() for _, t in tensors_in(outputs) if t.requires_grad]
        if terms:
            torch.stack([t.nan_to_num() for t in terms]).sum().backward()
        for name, p in model.named_parameters():
            if p.grad is not None and p.grad.shape != p.shape:
                raise AssertionError(f"gradient of {name} has another shape")
    except Exception as error:
        return error
    finally:
        model.eval()
        model.zero_grad()
    return None


def _place(error: Exception) -> tuple[type, str, int | None]:
    """What was raised, and by which line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return type(error), where.filename, where.lineno
