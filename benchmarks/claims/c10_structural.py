import torch

from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, setting
from sentei.methods.lottery.controls import retrain
from sentei.methods.lottery.rounds import path, search
from sentei.methods.lottery.structural_tickets import row_scores
from sentei.recovery.train import Recipe
from sentei.structures import Masks
from sentei.structures.refill import PARTITIONERS, refill, regroup


@claim(
    "C10",
    statement="Whole rows from a ticket's mask train nearly as well as the ticket",
    paper="Chen et al. 2022, figure 2: structured tickets beat other structured pruning on CIFAR "
    "and ImageNet; digits cannot show the ranking (see the card)",
    checks={
        "refilling by magnitude loses at most 1.5 points to the ticket": lambda f: (
            f["ticket"] - f["refill, magnitude"] <= 1.5
        ),
        "refilling by what remains loses at most 1.5 points to the ticket": lambda f: (
            f["ticket"] - f["refill, remain"] <= 1.5
        ),
        "refilling keeps no more than the ticket": lambda f: (
            f["density, refill"] <= f["density, ticket"]
        ),
    },
)
def c10(seed: int) -> dict[str, float]:
    given = setting(seed, 0.17, starts="initial", recipe=Recipe(epochs=25, lr=0.05))
    shapes = {n: tuple(w.shape) for n, w in given.weights.items()}
    ticket = search(given, path(shapes, 0.17, output_rate=0.1))
    figures = {"ticket": accuracy(given.model), "density, ticket": ticket.masks.density}
    inner = ticket.masks.only(list(shapes)[:-1])
    chance = torch.Generator().manual_seed(seed)
    scores = {
        "magnitude": row_scores(given, inner, "magnitude"),
        "remain": row_scores(given, inner, "remain"),
        "random": {n: torch.rand(len(m), generator=chance) for n, m in inner.items()},
    }
    shaped = {f"refill, {w}": {n: refill(m, s[n]) for n, m in inner.items()}
              for w, s in scores.items()}  # fmt: skip
    for how in PARTITIONERS:
        shaped[f"regroup, {how}"] = {n: regroup(m, partitioner=how) for n, m in inner.items()}
    for name, part in shaped.items():
        masks = Masks({**ticket.masks, **part})
        figures[name] = accuracy(retrain(given, masks, ticket.start))
        label = name if name.startswith("regroup") else name.partition(",")[0]
        figures[f"density, {label}"] = masks.density
    return figures
