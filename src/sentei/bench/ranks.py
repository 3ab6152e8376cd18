"""Do methods differ over tasks, and which? Rank tests, as Demšar 2006 advises."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sentei.bench.curves import Curve, methods
from sentei.graph.errors import PruneError

__all__ = ["Ranking", "nemenyi", "rank"]


@dataclass(frozen=True)
class Ranking:
    """Mean ranks over networks at one target (1 is best), and what tests say of them.

    blocks: the networks (task/model) every method has a result on.
    ranks: method -> mean rank, best first. friedman: p value that all methods are alike; None with
        fewer than three methods or two networks.
    critical: mean ranks further apart than this differ at 5 % (Nemenyi); None as friedman.
    wilcoxon: (method, method) -> p value of the signed-rank test over networks and seeds, corrected
        by Holm for the number of pairs.
    """

    target: float
    blocks: tuple[str, ...]
    ranks: dict[str, float]
    friedman: float | None
    critical: float | None
    wilcoxon: dict[tuple[str, str], float]


def rank(found: Sequence[Curve], target: float) -> Ranking:
    """Rank all methods that have a result at `target` on every network.

    Raises:
        PruneError: SciPy is missing, or no two methods have results on the same network.
    Source: Demšar 2006, JMLR 7, sec. 3.2 (Friedman, Nemenyi; eq. for the critical difference).
    """
    try:
        from scipy import stats
    except ModuleNotFoundError as missing:
        raise PruneError("rank tests need SciPy: pip install 'sentei[bench]'") from missing
    scores: dict[str, dict[str, tuple[float, dict[int, float]]]] = {}
    for curve in found:
        point = curve.at(target)
        if point is not None:
            by_seed = dict(zip(point.seeds, point.values, strict=True))
            scores.setdefault(curve.method, {})[curve.pair] = (point.accuracy, by_seed)
    names = [m for m in methods(found) if m in scores]
    blocks = sorted({b for n in names for b in scores[n]})
    # A method that was not run everywhere cannot be ranked among those that were.
    names = [n for n in names if set(blocks) == set(scores[n])]
    if len(names) < 2:
        raise PruneError(
            f"fewer than two methods have results at {target:g}x on all of: {', '.join(blocks)}"
        )
    table = np.array([[scores[n][b][0] for n in names] for b in blocks])
    ranks = np.array([stats.rankdata(-row) for row in table]).mean(0)
    many = len(names) >= 3 and len(blocks) >= 2
    friedman = None
    if many:
        friedman = float(stats.friedmanchisquare(*table.T).pvalue)
    pairs = {}
    for a, b in itertools.combinations(range(len(names)), 2):
        gaps = np.array(
            [
                scores[names[a]][block][1][seed] - scores[names[b]][block][1][seed]
                for block in blocks
                for seed in scores[names[a]][block][1].keys() & scores[names[b]][block][1].keys()
            ]
        )
        p = 1.0 if not gaps.any() else float(stats.wilcoxon(gaps).pvalue)
        pairs[names[a], names[b]] = p
    order = np.argsort(ranks, kind="stable")
    return Ranking(
        target,
        tuple(blocks),
        {names[i]: float(ranks[i]) for i in order},
        friedman,
        nemenyi(len(names), len(blocks)) if many else None,
        _holm(pairs),
    )


def nemenyi(count: int, blocks: int, level: float = 0.05) -> float:
    """Critical difference of mean ranks of `count` methods over `blocks` networks.

    CD = q · sqrt(k (k + 1) / (6 N)),  q = studentised range at `level` over sqrt(2)

    >>> round(nemenyi(5, 30), 3)  # Demšar 2006: q = 2.728 for five classifiers
    1.114
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - level, count, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(count * (count + 1) / (6 * blocks)))


def _holm(pairs: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    out: dict[tuple[str, str], float] = {}
    largest = 0.0
    for i, (key, p) in enumerate(sorted(pairs.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(pairs) - i)))
        out[key] = largest
    return {key: out[key] for key in pairs}
