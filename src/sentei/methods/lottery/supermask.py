from sentei.methods.base import method
from sentei.methods.lottery.mask_criteria import mask_criterion
from sentei.methods.lottery.rounds import path, search
from sentei.methods.lottery.values import kept_values
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["supermask"]


@method(
    "supermask",
    title="Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask",
    authors="Zhou, Lan, Liu, Yosinski",
    venue="NeurIPS",
    year=2019,
    arxiv="1905.01067",
    family="lottery",
    structure="weight",
    timing="after",
    starts="initial",
    needs=("data", "labels", "training"),
    card="C6",
    lineage=("lth-imp",),
)
def supermask(
    setting: Setting,
    *,
    criterion: str = "large_final_same_sign",
    kept: str = "constant",
    retrain: bool = False,
    rate: float = 0.2,
    rounds: int | None = None,
) -> Masks:
    """Masks that make a network classify before any of its weights is trained.

    A ticket's search with one of `MASK_CRITERIA` M(w_i, w_f) per layer; then what is kept gets one
    of the values of `KEPT`, and nothing is trained unless asked for.

    Args:
        criterion: "large_final" is the lottery ticket's; the default drops weights that changed
            their sign first, which the paper found best untrained (figure 5).
        kept: "constant" is ± the layer's standard deviation with the initial signs.
        retrain: train what is kept, for the experiments of sections 3 and 4.
        rate, rounds: as for lth-imp.

    Source: sections 2 to 5.
    """
    shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
    densities = path(shapes, setting.keep, rate=rate, rounds=rounds, output_rate=rate / 2)
    ticket = search(setting, densities, score=mask_criterion(criterion, setting.seed))
    setting.rewind(kept_values(kept, ticket.start, ticket.masks, setting.seed), ticket.masks)
    if retrain:
        setting.train(masks=ticket.masks)
    return ticket.masks
