from __future__ import annotations

from torch import Tensor

from sentei.criteria.evidence import Evidence
from sentei.graph.errors import PruneError, closest
from sentei.methods.base import method
from sentei.methods.parts import one_shot
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["single_shot_pretrained"]


def _normalised(evidence: Evidence) -> dict[str, Tensor]:
    """|w| / ‖W_l‖₂."""
    return {
        n: w.detach().abs() / w.detach().norm().clamp(min=1e-30)
        for n, w in evidence.weights.items()
    }


def _sensitivity(evidence: Evidence) -> dict[str, Tensor]:
    """|w · dL/dw|, the gradient summed over the batches looked at."""
    total: dict[str, Tensor] = {}
    for gradients in evidence.gradients():
        for name in evidence.weights.keys() & gradients.keys():
            total[name] = total.get(name, 0) + gradients[name]
    return {n: (w.detach() * total[n]).abs() for n, w in evidence.weights.items()}


SCORES = {
    "magnitude": "magnitude",
    "normalised": _normalised,
    "lamp": "lamp",
    "gradient": _sensitivity,
    "random": "random-weights",
}


@method(
    "single-shot-pretrained",
    title="Single-Shot Pruning for Pre-Trained Models: Rethinking the Importance of Magnitude "
    "Pruning",
    authors="Kohama, Minoura, Hirakawa, Yamashita, Fujiyoshi",
    venue="ICCV Workshops",
    year=2023,
    family="magnitude",
    structure="weight",
    timing="before",
    starts="trained",
    needs=("data", "labels", "training"),
    card="A11",
    lineage=("han-magnitude", "lamp"),
)
def single_shot_pretrained(
    setting: Setting, *, score: str = "magnitude", scope: str = "uniform"
) -> Masks:
    """Prune a pre-trained network once by its magnitudes, then fine-tune it on a new task.

    The model of the setting holds pre-trained weights and a new head; protect the head. Weights are
    scored without any training, the mask is final, and the fine-tuning is the setting's recipe.
    Approximate: the paper's exact score is not public; the setting is the paper's.

    Args:
        score: "magnitude", "normalised" (|w| over the norm of its layer), "lamp", "gradient"
            (|w · dL/dw| on the new task) or "random".
        scope: over what weights are ranked. Plain magnitudes ranked "global" empty the layers of
            small scale.
    """
    if score not in SCORES:
        raise PruneError(f"unknown score {score!r}; {closest(score, SCORES)}")
    masks = one_shot(setting, SCORES[score], scope)
    setting.train(masks=masks)
    return masks
