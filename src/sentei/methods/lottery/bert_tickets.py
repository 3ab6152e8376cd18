import fnmatch
from collections.abc import Iterable

from sentei.graph.errors import PruneError, closest
from sentei.hooks import Hook
from sentei.methods.base import method
from sentei.methods.lottery.rounds import search
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["bert_tickets"]


def linear_path(names: Iterable[str], density: float, drop: float) -> list[dict[str, float]]:
    """Densities that fall by `drop` of the whole each round: 1/(1/drop - r) of what is left.

    >>> [round(d["w"], 2) for d in linear_path(["w"], 0.65, 0.1)]
    [0.9, 0.8, 0.7, 0.65]
    """
    names, found, rounds = list(names), [], 1
    while 1 - drop * rounds > density + 1e-9:
        found.append(dict.fromkeys(names, 1 - drop * rounds))
        rounds += 1
    return [*found, dict.fromkeys(names, density)] if density < 1 else []


@method(
    "bert-tickets",
    title="The Lottery Ticket Hypothesis for Pre-trained BERT Networks",
    authors="Chen, Frankle, Chang, Liu, Zhang, Wang, Carbin",
    venue="NeurIPS",
    year=2020,
    arxiv="2007.12223",
    family="lottery",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data", "labels", "training"),
    card="C11",
    lineage=("lth-rewind",),
)
def bert_tickets(
    setting: Setting, *, drop: float = 0.1, head: str | tuple[str, ...] | None = None
) -> Masks:
    """Fine-tune, drop a tenth of the pre-trained weights, rewind to their pre-trained values.

    θ_0 are the weights the model comes with, pre-trained but for the task's head. Rounds of
    fine-tuning by the setting's `tuning`, each dropping the share `drop` of the original number by
    global magnitude, until the density is reached; after round r it is 1 - r · drop. The head is
    neither pruned nor counted, nor are embeddings, norms and biases. For the "universal" ticket,
    give the pre-training's data and loss.

    Args:
        drop: of all prunable weights, a round.
        head: names or patterns of the task's weights or modules; the last weight by default.

    Source: section 3; masks of the head say that all of it stays.
    """
    if not 0 < drop < 1:
        raise PruneError(f"the share to drop a round must lie in (0, 1); got {drop!r}")
    weights = setting.weights
    patterns = (head,) if isinstance(head, str) else head
    if patterns is None:
        patterns = (list(weights)[-1],)
    task = [n for n in weights if any(_under(n, p) for p in patterns)]
    if not task:
        raise PruneError(f"no weight of a head {patterns!r}; {closest(patterns[0], weights)}")
    names = [n for n in weights if n not in task]
    if not names:
        raise PruneError("all weights belong to the head: nothing is left to prune")

    def tune(own: Setting, hooks: list[Hook], masks: Masks | None, start: int) -> None:
        own.train(hooks, recipe=own.tuning, masks=masks)

    ticket = search(
        setting, linear_path(names, setting.keep, drop), scope="global", names=names, trainer=tune
    )
    return Masks({**ticket.masks, **Masks.full({n: weights[n] for n in task})})


def _under(name: str, pattern: str) -> bool:
    module = name.rpartition(".")[0]
    return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(module, pattern)
