from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, data, setting
from sentei.diagnostics import linear_mode_connectivity
from sentei.methods.lottery.controls import retrain
from sentei.recovery.train import Recipe
from sentei.structures import Masks

DEEP = (64, 100, 100, 100, 100, 10)


def instability(seed: int, sizes: tuple[int, ...], lr: float, step: int) -> float:
    """In points of test error."""
    given = setting(seed, None, starts="initial", recipe=Recipe(epochs=25, lr=lr), sizes=sizes)
    full = Masks.full(given.weights)
    given.train(stop=step)
    start = given.state()
    one, two = (
        retrain(given, full, start, step=step, seed=noise).state_dict()
        for noise in (5000 + seed, 6000 + seed)
    )
    found = linear_mode_connectivity(
        given.model, one, two, lambda m: 100 - accuracy(m), statistics=data().train
    )
    return found.instability


@claim(
    "C3",
    statement="Small networks are stable to the order of the data from the start, deeper ones only "
    "after some training",
    paper="Frankle et al. 2020: LeNet is stable at step 0, ResNet-20 and VGG-16 after some 3 % of "
    "training (figure 3)",
    checks={
        "the small network is below 2 points at step 0": lambda f: f["small k=0"] < 2,
        "the deep one is above 5 points at a step up to 22": lambda f: (
            max(f["deep k=0"], f["deep k=22"]) > 5
        ),
        "the deep one is below 1 point at step 220": lambda f: f["deep k=220"] < 1,
    },
    why="This deep network is stable from the start here, where the card's calibration has a "
    "barrier of 10.5 ± 9.7 at step 0 and calls its spread heavy: digits are too easy for "
    "the point that the paper makes on ResNet-20.",
)
def c3(seed: int) -> dict[str, float]:
    small = (64, 300, 100, 10)
    return {
        **{f"small k={k}": instability(seed, small, 0.05, k) for k in (0, 220)},
        **{f"deep k={k}": instability(seed, DEEP, 0.1, k) for k in (0, 22, 44, 110, 220)},
    }
