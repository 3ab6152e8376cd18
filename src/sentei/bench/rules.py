"""Is a comparison fit to be published? Blalock et al. 2020's checklist as code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentei.bench.curves import Curve, methods
from sentei.bench.findings import GLOBAL, LAYERWISE, RANDOM
from sentei.bench.runs import DENSE

__all__ = ["Rule", "rules"]

# Bytes of an unpruned network that is large: some ten million parameters.
_LARGE = 40e6


@dataclass(frozen=True)
class Rule:
    """One line of the checklist: does it hold, and what was found."""

    id: str
    statement: str
    held: bool
    found: str


def rules(found: Sequence[Curve]) -> list[Rule]:
    """The checklist, for all curves of a store together.

    Source: Blalock et al. 2020, arXiv:2003.03033, app. B.
    """
    pairs = sorted({c.pair for c in found})
    names = methods(found)
    points = [p for c in found for p in c.points]
    pruned = [c for c in found if c.method != DENSE]
    seeds = min((len(p.seeds) for p in points), default=0)
    targets = min((len(c.points) for c in pruned), default=0)
    same = len({p.seeds for p in points}) == 1
    dense = [(c, p) for c in found if c.method == DENSE for p in c.points]
    large = any(p.bytes >= _LARGE for _, p in dense)
    sizes: dict[str, set[float]] = {}
    for c, p in dense:
        sizes.setdefault(c.task, set()).add(p.bytes)
    several = sorted(task for task, found_bytes in sizes.items() if len(found_bytes) > 1)
    structured = any(n.startswith("channel-") for n in names)
    masked = any(not n.startswith("channel-") for n in names)
    baselines = ([RANDOM, GLOBAL, LAYERWISE] if masked else []) + (
        ["channel-random", "channel-l2"] if structured else []
    )
    missing = [b for b in baselines if b not in names]
    controls = {c.pair for c in found if c.method == DENSE}
    classes = any(p.top5 is not None for p in points)
    return [
        Rule("R1", "At least three pairs of data set and network, one of them large-scale",
             len(pairs) >= 3 and large,
             f"{len(pairs)}: {', '.join(pairs)}" + ("" if large else "; none is large-scale")),
        Rule("R2", "Compression ratio and theoretical speed-up at every point", True,
             "every record has both"),
        Rule("R3", "Top-1, and top-5 where there are more than five classes",
             True, "with top-5" if classes else "five classes or fewer"),
        Rule("R4", "The unpruned control of the same run", set(pairs) == controls,
             f"controls of {len(controls)} of {len(pairs)} networks"),
        Rule("R5", "At least five operating points a curve", targets >= 5,
             f"the shortest curve has {targets}"),
        Rule("R6", "At least three seeds, the same for all methods", seeds >= 3 and same,
             f"{seeds} at least; {'the same everywhere' if same else 'not the same everywhere'}"),
        Rule("R7", "Curves, not single points", targets >= 2, f"{targets} points at least"),
        Rule("R8", "The same pre-trained networks, data and budget for all methods", True,
             "dense networks are shared by key; a store that mixes trainings is refused"),
        Rule("R9", "The plain baselines are there", not missing,
             f"missing: {', '.join(missing)}" if missing else "random, global and layerwise"),
        Rule("R10", "Hyper-parameters are chosen on validation data, never on the test set", True,
             "options are set beforehand; `search` looks at held-out training examples alone"),
        Rule("R11", "Dense networks of another size are there to compare with", bool(several),
             f"on {', '.join(several)}" if several else "one network a task"),
        Rule("R12", "Which layers are pruned is stated", True,
             "all weights but embeddings, first and last layers included; norms and biases never"),
    ]  # fmt: skip
