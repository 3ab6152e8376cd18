import torch

from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, dense, run, setting
from sentei.criteria.inputs import observe
from sentei.criteria.weights.wanda import Norms
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe

NOTHING = Recipe(epochs=0)
SECOND = "3.weight"


@claim(
    "A13",
    statement="Weights times input norms beat magnitudes with no training and no update",
    paper="Sun et al. 2024, table 2: LLaMA-7B at 50 %: perplexity 7.26, magnitude 17.29",
    checks={
        "2:4 is better than magnitude's": lambda f: f["wanda 2:4"] > f["magnitude 2:4"],
        "50 % is better than magnitude's": lambda f: f["wanda 0.5"] > f["magnitude 0.5"],
    },
    why="At 50 % the two are equal: input norms of this network differ little. A13-2 makes "
    "them differ without changing the function, and there the effect is clear.",
)
def a13(seed: int) -> dict[str, float]:
    figures = {}
    for label, density, ours, theirs in (
        ("2:4", 0.5, "2:4", "2:4"),
        ("0.5", 0.5, "rows", "uniform"),
        ("0.8", 0.2, "rows", "uniform"),
    ):
        done = run("wanda", seed, density, options={"scope": ours})
        figures[f"wanda {label}"] = accuracy(done.model)
        done = run("han-magnitude", seed, density, tuning=NOTHING, options={"scope": theirs})
        figures[f"magnitude {label}"] = accuracy(done.model)
    return figures


def rescaled(seed: int) -> torch.nn.Module:
    """The dense network with 100 hidden units scaled by 20, and what reads them by 1/20."""
    model = dense(seed)
    given = setting(seed)
    norms = Norms()
    observe(model, {SECOND: model[3].weight}, given.examples(512), norms)
    reach = norms.squares[SECOND][0].sqrt() * model[3].weight.detach().norm(dim=0)
    chosen = reach.topk(100).indices
    with torch.no_grad():
        model[1].weight[chosen] *= 20
        model[1].bias[chosen] *= 20
        model[3].weight[:, chosen] /= 20
    return model


@claim(
    "A13-2",
    statement="Rescaling features does not change Wanda's mask; it ruins magnitude's",
    paper="Sun et al. 2024, section 3: features of large norm in large language models",
    checks={
        "Wanda's mask is the same before and after": lambda f: f["masks equal"] == 1,
        "at least 8 points above row-wise magnitude": lambda f: (
            f["wanda, rescaled"] - f["row-wise magnitude, rescaled"] >= 8
        ),
    },
)
def a13_2(seed: int) -> dict[str, float]:
    figures, masks = {}, {}
    for label, build in (("as trained", dense), ("rescaled", rescaled)):
        for method, name, options in (
            ("wanda", "wanda", {"scope": "rows"}),
            ("row-wise magnitude", "han-magnitude", {"scope": "rows"}),
        ):
            given = setting(seed, 0.5, tuning=NOTHING, protect=("1", "5"))
            given.model.load_state_dict(build(seed).state_dict())
            done = apply(METHODS[name], given, **options)
            figures[f"{method}, {label}"] = accuracy(done.model)
            masks[method, label] = done.masks
    same = masks["wanda", "as trained"].equal(masks["wanda", "rescaled"])
    return figures | {"masks equal": float(same)}
