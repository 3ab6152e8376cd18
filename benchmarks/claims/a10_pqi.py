import torch

from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, setting
from sentei.allocation.pqi import keep_at_least, pq_index
from sentei.methods.parts import ranked
from sentei.structures import Masks

ROUNDS = 29  # of 20 % each: down to 0.2 % of the weights


@claim(
    "A10",
    statement="The PQ index falls while pruning regularises, rises when nothing is left to spare",
    paper="Diao et al. 2023, figure 2: falls, rises, falls along iterative pruning",
    checks={
        "it falls to half by a density of 30 %": lambda f: (
            f["index at density 0.3"] <= f["index at density 1"] / 2
        ),
        "it rises by 10 % from its least, once the accuracy is 3 points lower": lambda f: (
            f["largest index after 3 points lost"] >= 1.1 * f["least index before"]
        ),
    },
)
def a10(seed: int) -> dict[str, float]:
    given = setting(seed, starts="initial")
    masks = Masks.full(given.weights)
    rows = []
    for _ in range(ROUNDS):
        given.rewind(masks=masks)
        given.train(masks=masks)
        left = torch.cat([w.detach()[masks[n]] for n, w in given.weights.items()])
        rows.append((masks.density, pq_index(left), accuracy(given.model), len(left)))
        masks = ranked(given, "magnitude", 0.8 * masks.density, "global", masks)
    at = {f"index at density {d:g}": next(i for x, i, _, _ in rows if x <= d + 1e-3)
          for d in (1, 0.3, 0.14, 0.02)}  # fmt: skip
    before = [i for _, i, a, _ in rows if a >= rows[0][2] - 3]
    after = [i for _, i, a, _ in rows if a < rows[0][2] - 3]
    return {
        **at,
        "least index before": min(before),
        # Without a loss of 3 points there is nothing to see: 0, which no check takes for a rise.
        "largest index after 3 points lost": max(after, default=0.0),
        "accuracy at density 1": rows[0][2],
        "accuracy at the end": rows[-1][2],
        "share that SAP would prune at first, in %": 100
        * (1 - keep_at_least(rows[0][3], rows[0][1]) / rows[0][3]),
        "share that SAP would prune at last, in %": 100
        * (1 - keep_at_least(rows[-1][3], rows[-1][1]) / rows[-1][3]),
    }
