from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, mlp, setting
from sentei.methods.lottery.controls import retrain, starts
from sentei.methods.lottery.rounds import Ticket, path, search
from sentei.recovery.train import Recipe

RECIPE = Recipe(epochs=25, lr=0.05)
LEFT = {0.173: 8, 0.031: 16, 0.014: 20, 0.006: 24}
EARLY = 3 * 22  # steps of three epochs


def tickets(seed: int) -> tuple[object, Ticket]:
    """24 layerwise rounds of 20 % (10 % of the last layer) at H0 with 25 epochs each."""
    given = setting(seed, None, starts="initial", recipe=RECIPE)
    shapes = {n: tuple(w.shape) for n, w in given.weights.items()}
    last = list(shapes)[-1]
    sizes = {n: w.numel() for n, w in given.weights.items()}
    kept = sum(k * (0.9 if n == last else 0.8) ** 24 for n, k in sizes.items())
    densities = path(shapes, kept / sum(sizes.values()), rate=0.2, output_rate=0.1)
    return given, search(given, densities)


@claim(
    "C1",
    statement="Winning tickets learn as well as the dense network and faster; re-initialised they "
    "get worse the sparser they are",
    paper="Frankle and Carbin 2019: tickets of 10-20 % of the size or less match the test accuracy "
    "in as many iterations (abstract)",
    checks={
        "at 3 % the ticket beats reinit by at least 2 points at the end": lambda f: (
            f["ticket 0.031"] - f["reinit 0.031"] >= 2
        ),
        "at 3 % the ticket beats reinit by at least 40 points after 3 epochs": lambda f: (
            f["ticket 0.031, 3 epochs"] - f["reinit 0.031, 3 epochs"] >= 40
        ),
        "at 3 % the ticket is within 1.5 points of dense": lambda f: (
            f["dense"] - f["ticket 0.031"] <= 1.5
        ),
    },
)
def c1(seed: int) -> dict[str, float]:
    given, found = tickets(seed)
    given.rewind(found.dense)
    figures = {"dense": accuracy(given.model)}
    for density, rounds in LEFT.items():
        at = Ticket(found.history[rounds - 1], found.start, 0, found.dense, found.history[:rounds])
        fresh = mlp(seed + 100).state_dict()
        for name, (masks, start) in starts(at, seed, fresh).items():
            figures[f"{name} {density}"] = accuracy(retrain(given, masks, start))
            if name in ("ticket", "reinit"):
                early = retrain(given, masks, start, stop=EARLY)
                figures[f"{name} {density}, 3 epochs"] = accuracy(early)
    return figures
