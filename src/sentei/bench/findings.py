"""Which findings of the literature hold in a store of results.

Blalock et al. 2020 (arXiv:2003.03033) and Gale et al. 2019 (arXiv:1902.09574) as statements that
records can confirm or refute. A statement whose runs are not there is left open, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sentei.bench.curves import Curve, Point, methods
from sentei.bench.runs import DENSE

__all__ = ["FINDINGS", "Finding", "check"]

GLOBAL, LAYERWISE, RANDOM = "han-magnitude", "han-magnitude (scope=uniform)", "random"


@dataclass(frozen=True)
class Finding:
    """A statement, and what the records say of it.

    verdict: "holds", "holds in part", "does not hold" or "open" (runs are missing).
    evidence: the figures, in words.
    """

    id: str
    statement: str
    source: str
    verdict: str
    evidence: tuple[str, ...]


def check(found: Sequence[Curve]) -> list[Finding]:
    """All findings, judged by these curves."""
    out = []
    for key, (statement, source, judge) in FINDINGS.items():
        answers = [(words, held) for words, held in judge(found)]
        held = sum(h for _, h in answers)
        verdict = (
            "open" if not answers
            else "holds" if held == len(answers)
            else "holds in part" if held
            else "does not hold"
        )  # fmt: skip
        out.append(Finding(key, statement, source, verdict, tuple(w for w, _ in answers)))
    return out


Judge = Callable[[Sequence[Curve]], list[tuple[str, bool]]]


def _points(found: Sequence[Curve], method: str) -> dict[str, dict[float, Point]]:
    return {c.pair: {p.target: p for p in c.points} for c in found if c.method == method}


def _percent(point: Point) -> str:
    return f"{100 * point.accuracy:.1f} ± {100 * point.accuracy_std:.1f}"


def _little_is_free(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    for pair, points in _points(found, GLOBAL).items():
        if 2.0 in points:
            p = points[2.0]
            words = f"{pair}: {_percent(p)} at 2x, dense {100 * p.control:.1f}"
            out.append((words, p.accuracy >= p.control - 0.003))
    return out


def _random_is_worse_at_large_amounts(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    chance = _points(found, RANDOM)
    for pair, points in _points(found, GLOBAL).items():
        shared = sorted(points.keys() & chance.get(pair, {}).keys())
        if len(shared) >= 2:
            few, many = shared[0], shared[-1]
            gaps = [points[t].accuracy - chance[pair][t].accuracy for t in (few, many)]
            words = (
                f"{pair}: magnitude - random {100 * gaps[0]:+.1f} points at {few:g}x, "
                f"{100 * gaps[1]:+.1f} at {many:g}x"
            )
            out.append((words, gaps[1] > gaps[0] and gaps[1] > 0))
    return out


def _uneven_beats_uniform(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    even = _points(found, LAYERWISE)
    uneven = {
        m: _points(found, m)
        for m in (GLOBAL, "lamp", "han-magnitude (scope=erk)")
        if m in methods(found)
    }
    for pair, points in even.items():
        target = max(points, default=0.0)
        best = {m: by[pair][target] for m, by in uneven.items() if target in by.get(pair, {})}
        if best:
            name = max(best, key=lambda m: best[m].accuracy)
            words = (
                f"{pair} at {target:g}x: {name} {_percent(best[name])}, uniform "
                f"{_percent(points[target])}"
            )
            out.append((words, best[name].accuracy > points[target].accuracy))
    return out


def _raw_global_is_not_always_better(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    layerwise = _points(found, LAYERWISE)
    for pair, points in _points(found, GLOBAL).items():
        shared = points.keys() & layerwise.get(pair, {}).keys()
        if shared:
            t = max(shared)
            words = f"{pair} at {t:g}x: global {_percent(points[t])}, layerwise " + _percent(
                layerwise[pair][t]
            )
            out.append((words, points[t].accuracy < layerwise[pair][t].accuracy))
    # One network where it is worse is enough for "not always".
    return [(w, any(h for _, h in out)) for w, _ in out]


def _better_architectures_beat_pruning(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    dense = {c.pair: c.points[0] for c in found if c.method == DENSE and c.points}
    tasks = {c.pair: c.task for c in found}
    for worse, big in dense.items():
        for better, small in dense.items():
            if (
                tasks[worse] != tasks[better]
                or small.bytes >= big.bytes
                or small.accuracy <= big.accuracy
            ):
                continue
            fits = [
                (p, c.method)
                for c in found
                if c.pair == worse and c.method != DENSE
                for p in c.points
                if p.bytes <= small.bytes
            ]
            if fits:
                best, method = max(fits, key=lambda f: f[0].accuracy)
                words = (
                    f"{worse} pruned to {best.bytes / 1e3:.0f} kB by {method}: {_percent(best)}; "
                    f"{better}, unpruned, {small.bytes / 1e3:.0f} kB: {_percent(small)}"
                )
                out.append((words, small.accuracy > best.accuracy))
    return out


def _ranking_depends_on_the_amount(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    for pair in sorted({c.pair for c in found}):
        here = [c for c in found if c.pair == pair and c.method != DENSE]
        targets = sorted({p.target for c in here for p in c.points})
        if len(here) < 3 or len(targets) < 2:
            continue
        first, last = targets[0], targets[-1]
        orders = []
        for t in (first, last):
            scored = [(c.at(t), c.method) for c in here if c.at(t) is not None]
            orders.append(
                [m for p, m in sorted(scored, key=lambda s: -s[0].accuracy if s[0] else 0.0)]
            )
        shared = [m for m in orders[0] if m in orders[1]]
        if len(shared) >= 3:
            best, now = shared[0], [m for m in orders[1] if m in shared]
            place = f"{now.index(best) + 1} of {len(now)} at {last:g}x"
            words = f"{pair}: best at {first:g}x is {best}, {place}"
            out.append((words, now != shared))
    return out


def _speed_is_not_compression(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    layerwise = _points(found, LAYERWISE)
    for pair, points in _points(found, GLOBAL).items():
        shared = points.keys() & layerwise.get(pair, {}).keys()
        if shared:
            t = max(shared)
            a, b = points[t], layerwise[pair][t]
            words = (
                f"{pair}: both {a.compression:.1f}x smaller, multiply-adds {a.speedup:.1f}x fewer "
                f"(global) and {b.speedup:.1f}x (layerwise)"
            )
            out.append((words, abs(a.speedup / b.speedup - 1) > 0.05))
    return out


def _gradual_beats_one_shot(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    gradual = _points(found, "agp")
    for pair, points in _points(found, LAYERWISE).items():
        shared = points.keys() & gradual.get(pair, {}).keys()
        if shared:
            t = max(shared)
            a, b = gradual[pair][t], points[t]
            words = f"{pair} at {t:g}x: gradual {_percent(a)}, one-shot {_percent(b)}"
            out.append((words, a.accuracy > b.accuracy))
    return out


def _zeros_are_not_time(found: Sequence[Curve]) -> list[tuple[str, bool]]:
    out = []
    for pair, points in _points(found, GLOBAL).items():
        if points:
            p = points[max(points)]
            words = (
                f"{pair}: {p.speedup:.1f}x fewer multiply-adds by mask, measured time "
                f"{p.latency:.2f}x"
            )
            out.append((words, p.latency < 1.2))
    return out


FINDINGS: dict[str, tuple[str, str, Judge]] = {
    "F2": (
        "Pruning a little costs nothing: half the size within 0.3 points of the dense network",
        "Blalock et al. 2020, sec. 3.2", _little_is_free,
    ),
    "F3": (
        "Random pruning falls behind magnitude as more is pruned",
        "Blalock et al. 2020, sec. 3.2", _random_is_worse_at_large_amounts,
    ),
    "F4": (
        "Uneven allocation over layers beats uniform at high compression",
        "Blalock et al. 2020, sec. 3.2", _uneven_beats_uniform,
    ),
    "F4b": (
        "Raw global magnitude is not always better than layerwise",
        "the method cards; layers differ in scale", _raw_global_is_not_always_better,
    ),
    "F6": (
        "A better and smaller architecture, unpruned, beats a worse one pruned to its bytes",
        "Blalock et al. 2020, sec. 3.3", _better_architectures_beat_pruning,
    ),
    "F7": (
        "The ranking of methods depends on how much is pruned",
        "Blalock et al. 2020, sec. 7.3", _ranking_depends_on_the_amount,
    ),
    "F9": (
        "Equal compression is not equal theoretical speed-up",
        "Blalock et al. 2020, sec. 5.2", _speed_is_not_compression,
    ),
    "G1": (
        "Tuned gradual magnitude pruning is the baseline to beat: better than one-shot",
        "Gale et al. 2019, sec. 4", _gradual_beats_one_shot,
    ),
    "Z1": (
        "Zeros alone do not save time on dense kernels (less than 1.2x measured)",
        "measured with every run", _zeros_are_not_time,
    ),
}  # fmt: skip
