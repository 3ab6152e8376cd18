from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, run
from sentei.recovery.train import Recipe

LONG = Recipe(epochs=60, lr=0.05)


@claim(
    "C14",
    statement="Growing by gradients beats growing at random, which beats not moving, the more so "
    "the sparser",
    paper="Evci et al. 2020, figure 2: ResNet-50 at 80 %: static 70.6, SET 72.9, RigL 74.6",
    checks={
        "at 2 % RigL is at least 1 point above SET": lambda f: f["rigl 0.02"] >= f["set 0.02"] + 1,
        "at 2 % RigL is at least 8 points above static": lambda f: (
            f["rigl 0.02"] >= f["static 0.02"] + 8
        ),
        "at 1 % RigL is at least 20 points above SET": lambda f: (
            f["rigl 0.01"] >= f["set 0.01"] + 20
        ),
        "at 1 % RigL is at least 40 points above static": lambda f: (
            f["rigl 0.01"] >= f["static 0.01"] + 40
        ),
    },
)
def c14(seed: int) -> dict[str, float]:
    return accuracies(seed, ("rigl", "set", "static"))


@claim(
    "C13",
    statement="A sparse network whose connections move at random beats one whose connections stay",
    paper="Mocanu et al. 2018, figures 2 to 4: SET above fixed sparse and dense networks",
    checks={
        "at 2 % SET is at least 5 points above static": lambda f: (
            f["set 0.02"] >= f["static 0.02"] + 5
        ),
        "at 1 % SET is at least 10 points above static": lambda f: (
            f["set 0.01"] >= f["static 0.01"] + 10
        ),
    },
)
def c13(seed: int) -> dict[str, float]:
    return accuracies(seed, ("set", "static"))


def accuracies(seed: int, chosen: tuple[str, ...]) -> dict[str, float]:
    kinds = {
        "rigl": ("rigl", {"interval": 20}),
        "set": ("set", {"interval": 20}),
        "static": ("set", {"fraction": 0.0}),
    }
    return {
        f"{name} {density}": accuracy(
            run(kinds[name][0], seed, density, recipe=LONG, options=kinds[name][1]).model
        )
        for density in (0.05, 0.02, 0.01)
        for name in chosen
    }
