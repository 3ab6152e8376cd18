from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sentei.allocation.weights import select
from sentei.batches import in_memory
from sentei.graph.errors import PruneError
from sentei.hooks.variational import VariationalDropout
from sentei.methods.base import method
from sentei.methods.parts import planned_steps, window
from sentei.methods.setting import Setting
from sentei.schedules import Linear
from sentei.structures import Masks

__all__ = ["variational_dropout"]


@method(
    "variational-dropout",
    title="Variational Dropout Sparsifies Deep Neural Networks",
    authors="Molchanov, Ashukha, Vetrov",
    venue="ICML",
    year=2017,
    arxiv="1701.05369",
    family="magnitude",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "gradients", "training"),
    card="A5",
)
def variational_dropout(
    setting: Setting,
    *,
    strength: float = 1.0,
    begin: float = 0.0,
    end: float = 0.5,
    lr: float = 1e-2,
    start: float = -8.0,
    threshold: float | None = None,
) -> Masks:
    """Learn how much noise each weight bears, and remove those that are mostly noise.

    Weights N(θ, α θ²), loss + λ Σ KL / N (the variational bound at λ = 1), λ raised from 0; what
    ends with a large log α = log σ² - log θ² goes. Then the setting's recovery, without noise.

    Args:
        strength: the final λ; begin, end: where it rises, as shares of the training.
        lr, start: Adam's for log σ², and its first value.
        threshold: remove log α > threshold (3 in the paper), however many that are; None removes
            those of largest log α, over all layers, down to the setting's density.
    """
    steps = planned_steps(setting, setting.recipe)
    rise = Linear(strength, *window(steps, begin, end))
    data = setting.data
    examples = len(data[0]) if in_memory(data) else steps * setting.recipe.batch_size
    hook = VariationalDropout(setting.weights, rise, examples, lr=lr, start=start)
    try:
        setting.train([hook])
    finally:
        hook.close()
    noise: Mapping[str, Tensor] = {n: hook.log_alpha(n).detach() for n in setting.weights}
    if threshold is None:
        masks = select({n: -a for n, a in noise.items()}, setting.keep)
    else:
        masks = Masks({n: a <= threshold for n, a in noise.items()})
        if not masks.kept:
            raise PruneError(f"no weight has log α <= {threshold:g}: try a smaller strength")
    masks.apply_(setting.model)
    setting.recover(masks)
    return masks
