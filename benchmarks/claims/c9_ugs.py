import torch

from benchmarks.claims import claim
from sentei.methods import Setting
from sentei.methods.lottery.controls import random_masks
from sentei.methods.lottery.rounds import path
from sentei.methods.lottery.ugs import graph_ticket
from sentei.recovery.train import Recipe
from sentei.structures import Masks
from sentei.structures.edges import keep_edges, pairs_of
from sentei.tasks.graphs import IGNORED, block_graph

ROUNDS = {"edges 81 %, weights 41 %": 4, "edges 57 %, weights 8.6 %": 11,
          "edges 49 %, weights 4.4 %": 14}  # fmt: skip
RECIPE = Recipe(epochs=150, lr=8e-3, optimizer="adam", weight_decay=8e-5, schedule="constant")


def random_edges(edges: torch.Tensor, kept: int, seed: int) -> torch.Tensor:
    pairs = pairs_of(edges)
    draws = torch.rand(int(pairs.max()) + 1, generator=torch.Generator().manual_seed(9000 + seed))
    chosen = torch.zeros(len(draws), dtype=torch.bool)
    chosen[draws.argsort()[: kept // 2]] = True
    return chosen[pairs]


@claim(
    "C9",
    statement="Edges and weights pruned together keep the accuracy where random pruning loses it, "
    "and edges between classes go first",
    paper="Chen et al. 2021, figure 4: Cora, GCN: tickets at 18 % graph and 89 % weight sparsity "
    "match the baseline",
    checks={
        "at edges 57 %, weights 8.6 % at least 8 points above random": lambda f: (
            f["ugs, edges 57 %, weights 8.6 %"] >= f["random, edges 57 %, weights 8.6 %"] + 8
        ),
        "there the share of edges between classes falls by at least .04": lambda f: (
            f["between classes, whole"] - f["between classes, ugs, edges 57 %, weights 8.6 %"]
            >= 0.04
        ),
    },
)
def c9(seed: int) -> dict[str, float]:
    task = block_graph(seed=seed)
    (_, edges), unknown = task.test[0]
    y = torch.where(unknown != IGNORED, unknown, task.train[0][1])  # each node is in one of them
    g = torch.Generator().manual_seed(500 + seed)
    # Class means of length 2: with the task's own, of length 1, a dense GCN gets 80 points only.
    means = torch.nn.functional.normalize(torch.randn(3, 20, generator=g), dim=1)
    x = 2 * means[y] + torch.randn(len(y), 20, generator=g)
    judged = torch.rand(len(y), generator=g) < 0.3
    tested = (unknown != IGNORED) & ~judged
    # Masks are those of the best epoch on nodes that are neither trained on nor tested.
    validation = [((x, edges), torch.where((unknown != IGNORED) & judged, y, IGNORED))]
    data = [((x, edges), task.train[0][1])]
    given = Setting(task.build("gcn", seed), data, recipe=RECIPE, seed=seed, example=(x, edges))
    start = given.state()

    def trained(masks: Masks, kept: torch.Tensor) -> float:
        given.rewind(start)
        handle = keep_edges(given.model, edges, kept)
        given.train(masks=masks)
        with torch.no_grad():
            right = given.model.eval()(x, edges).argmax(1) == y
        handle.remove()
        return 100 * right[tested].float().mean().item()

    def between(kept: torch.Tensor) -> float:
        one, two = y[edges[:, kept]]
        return (one != two).float().mean().item()

    whole = torch.ones(edges.shape[1], dtype=torch.bool)
    figures = {
        "dense": trained(Masks.full(given.weights), whole),
        "between classes, whole": between(whole),
    }
    given.rewind(start)
    shapes = {n: tuple(w.shape) for n, w in given.weights.items()}
    ticket = graph_ticket(given, path(shapes, 0.8 ** max(ROUNDS.values())), validation=validation)
    for name, rounds in ROUNDS.items():
        masks, kept = ticket.history[rounds - 1]
        chance = random_edges(edges, int(kept.sum()), seed)
        figures[f"ugs, {name}"] = trained(masks, kept)
        figures[f"random, {name}"] = trained(random_masks(masks, seed), chance)
        figures[f"between classes, ugs, {name}"] = between(kept)
        figures[f"between classes, random, {name}"] = between(chance)
    return figures
