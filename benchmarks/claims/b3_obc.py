import torch

from benchmarks.claims import claim
from sentei.allocation.weights import top
from sentei.recovery.layer_obs import (
    cheapest,
    damped_inverse,
    greedy,
    least_squares,
    one_pass,
)
from sentei.recovery.sparse_obs import solve

ROWS, COLUMNS, INPUTS = 32, 64, 512


def errors(seed: int, correlation: float, sparsity: float) -> dict[str, float]:
    """‖(W' - W) X‖² of one random layer, relative to magnitude's."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    distance = (torch.arange(COLUMNS)[:, None] - torch.arange(COLUMNS)).abs()
    root = torch.linalg.cholesky(correlation ** distance.double())
    x = root @ torch.randn(COLUMNS, INPUTS, generator=generator, dtype=torch.float64)
    hessian, drop = 2 / INPUTS * x @ x.T, round(sparsity * ROWS * COLUMNS)
    inverse, _ = damped_inverse(hessian, 0.01)
    trace = greedy(weight, inverse)
    mask = trace.mask(cheapest(trace, drop), COLUMNS)
    made = {
        "magnitude": weight * top(weight.abs(), weight.numel() - drop),
        "SparseGPT": solve(weight, hessian, drop=drop, damping=0.01).weight,
        "L-OBS": one_pass(weight, inverse, drop)[0],
        "OBC": least_squares(weight, inverse, mask),
    }
    cost = {n: ((w - weight) @ x).square().sum().item() for n, w in made.items()}
    return {n: c / cost["magnitude"] for n, c in cost.items() if n != "magnitude"}


@claim(
    "B3",
    statement="OBC beats SparseGPT beats magnitude by the correlation of inputs",
    paper="Frantar et al. 2022 (arXiv 2208.11580), figure 1 and table 1: ResNet-50 layers",
    checks={
        "OBC at most 0.2 of magnitude's error at 50 %, correlation 0.9": lambda f: (
            f["OBC 50 % 0.9"] <= 0.2
        ),
        "SparseGPT at most 0.5 there": lambda f: f["SparseGPT 50 % 0.9"] <= 0.5,
        "OBC at most SparseGPT everywhere": lambda f: all(
            f[n] <= f[n.replace("OBC", "SparseGPT")] for n in f if n.startswith("OBC")
        ),
    },
)
def b3(seed: int) -> dict[str, float]:
    cases = [(0.5, r) for r in (0.0, 0.5, 0.9, 0.99)] + [(0.8, 0.9)]
    return {
        f"{name} {round(100 * s)} % {r:g}": value
        for s, r in cases
        for name, value in errors(seed, r, s).items()
    }
