import copy

from benchmarks.claims import claim
from benchmarks.claims.c1_tickets import tickets
from benchmarks.claims.h0 import accuracy, mlp
from sentei.methods.lottery.controls import random_masks, retrain
from sentei.methods.lottery.values import kept_values

ROUNDS = {0.42: 4, 0.17: 8, 0.07: 12, 0.03: 16, 0.006: 24}
ACTIONS = (
    "rewind", "constant", "reinit-same-sign", "reshuffle-same-sign",
    "reinit", "reshuffle", "constant-random-sign",
)  # fmt: skip


@claim(
    "C6",
    statement="Signs are what matters about a ticket's initial values, and a mask lifts an "
    "untrained network far above chance",
    paper="Zhou et al. 2019: kept signs suffice (figure 4); supermasks reach 80 % on MNIST without "
    "training (abstract: 86 % MNIST, 41 % CIFAR-10)",
    checks={
        "untrained at 17 %: at least 75": lambda f: f["untrained 0.17"] >= 75,
        "untrained with a random mask: at most 20": lambda f: f["untrained, random mask"] <= 20,
        "constants of the kept sign: at least reinit + 1": lambda f: (
            f["constant"] >= f["reinit"] + 1
        ),
        "reinit of the kept sign: at least reinit + 1": lambda f: (
            f["reinit-same-sign"] >= f["reinit"] + 1
        ),
    },
)
def c6(seed: int) -> dict[str, float]:
    given, found = tickets(seed)

    def untrained(state, masks) -> float:
        model = copy.deepcopy(given.model)
        model.load_state_dict(state)
        masks.apply_(model)
        return accuracy(model)

    figures = {"untrained dense": accuracy(mlp(seed))}
    for density, rounds in ROUNDS.items():
        figures[f"untrained {density}"] = untrained(found.start, found.history[rounds - 1])
    figures["untrained, random mask"] = untrained(
        found.start, random_masks(found.history[ROUNDS[0.17] - 1], seed)
    )
    masks = found.history[ROUNDS[0.03] - 1]
    for action in ("constant", "constant-random-sign"):
        figures[f"untrained {action} 0.03"] = untrained(
            kept_values(action, found.start, masks, seed), masks
        )
    for action in ACTIONS:  # another order of the data than the one the masks were found with
        start = kept_values(action, found.start, masks, seed)
        figures[action] = accuracy(retrain(given, masks, start, seed=5000 + seed))
    return figures
