from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, dense, run, setting
from sentei.recovery.train import Recipe
from sentei.structures.codebook import clip_and_quantise

DENSE = Recipe(epochs=30, lr=0.05)
TUNING = Recipe(epochs=15, lr=0.01)


@claim(
    "A8",
    statement="Pruning and quantising together while fine-tuning undoes what both did at once",
    paper="Tung and Mori 2018: AlexNet 51x, GoogLeNet 10x, ResNet-50 15x, accuracy kept (abstract)",
    checks={
        "90 % clipped and 2 bits, tuned: within 1.5 points of dense": lambda f: (
            f["tuned p=0.9 b=2"] >= f["dense"] - 1.5
        ),
        "at most 4 values a layer at 2 bits": lambda f: f["values a layer p=0.9 b=2"] <= 4,
    },
)
def a8(seed: int) -> dict[str, float]:
    figures = {"dense": accuracy(dense(seed, DENSE))}
    for p, bits in ((0.9, 2), (0.95, 2), (0.5, 3)):
        once = setting(seed, recipe=DENSE)
        for weight in once.weights.values():
            drop = round(p * weight.numel())
            weight.data.copy_(clip_and_quantise(weight, drop, bits))
        figures[f"one-shot p={p} b={bits}"] = accuracy(once.model)
        done = run("clip-q", seed, 1 - p, recipe=DENSE, tuning=TUNING, options={"bits": bits})
        figures[f"tuned p={p} b={bits}"] = accuracy(done.model)
        values = [
            len(w.unique()) for n, w in done.model.named_parameters() if n in (done.masks or {})
        ]
        figures[f"values a layer p={p} b={bits}"] = float(max(values))
    return figures
