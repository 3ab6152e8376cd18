from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, mlp, setting
from sentei.diagnostics import distance
from sentei.methods.lottery.controls import retrain
from sentei.methods.lottery.rounds import path, search
from sentei.recovery.train import Recipe

RECIPE = Recipe(epochs=25, lr=0.1)
SIZES = (64, 100, 100, 100, 100, 10)
STEPS = (0, 22, 220)


@claim(
    "C2",
    statement="A shallow network needs no late rewinding: tickets of any early step win at 3.2 %",
    paper="Frankle et al. 2019: deep networks have tickets only at small k > 0; digits cannot show "
    "that part (see the card)",
    checks={
        "every ticket beats reinit by at least 40 points": lambda f: all(
            f[f"ticket k={k}"] - f[f"reinit k={k}"] >= 40 for k in STEPS
        ),
        "the tickets lie within 3 points": lambda f: (
            max(f[f"ticket k={k}"] for k in STEPS) - min(f[f"ticket k={k}"] for k in STEPS) <= 3
        ),
    },
)
def c2(seed: int) -> dict[str, float]:
    figures = {}
    for step in STEPS:
        given = setting(seed, 0.032, starts="initial", recipe=RECIPE, sizes=SIZES)
        shapes = {n: tuple(w.shape) for n, w in given.weights.items()}
        ticket = search(given, path(shapes, 0.032), scope="global", step=step)
        figures[f"ticket k={step}"] = accuracy(given.model)
        figures[f"distance from dense k={step}"] = distance(
            given.state(), ticket.dense, ticket.masks
        )
        fresh = mlp(seed + 100, SIZES).state_dict()
        figures[f"reinit k={step}"] = accuracy(retrain(given, ticket.masks, fresh, step=step))
    return figures
