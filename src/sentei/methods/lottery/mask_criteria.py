"""Which weights to keep, from where they began and where training took them.

Source: Zhou et al. 2019, arXiv:1905.01067, section 2 and figure 3.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sentei.graph.errors import PruneError, closest
from sentei.methods.lottery.rounds import Score

__all__ = ["MASK_CRITERIA", "mask_criterion"]


def _ranks(values: Tensor) -> Tensor:
    order = values.flatten().argsort(stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(order.numel(), device=order.device)
    return ranks.view(values.shape).double()


def _same_sign(score: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def kept(start: Tensor, final: Tensor) -> Tensor:
        scores = score(start, final)
        # Below every weight whose sign stayed, but still ranked among themselves.
        low = scores - 1 - scores.max() + scores.min()
        return torch.where(start.sign() == final.sign(), scores, low)

    return kept


def _increase(start: Tensor, final: Tensor) -> Tensor:
    return final.abs() - start.abs()


def _large_final(start: Tensor, final: Tensor) -> Tensor:
    return final.abs()


MASK_CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor] | None] = {
    "large_final": _large_final,
    "small_final": lambda start, final: -final.abs(),
    "large_init": lambda start, final: start.abs(),
    "small_init": lambda start, final: -start.abs(),
    # min(a |w_i|, |w_f|) with a such that both cut at the same percentile: the smaller rank.
    "large_init_large_final": lambda start, final: torch.minimum(
        _ranks(start.abs()), _ranks(final.abs())
    ),
    "small_init_small_final": lambda start, final: torch.minimum(
        _ranks(-start.abs()), _ranks(-final.abs())
    ),
    "magnitude_increase": _increase,
    "movement": lambda start, final: (final - start).abs(),
    "large_final_same_sign": _same_sign(_large_final),
    "magnitude_increase_same_sign": _same_sign(_increase),
    "random": None,
}
"""Name -> (initial, trained weights of a layer) -> scores; larger is kept. Random draws them."""


def mask_criterion(which: str, seed: int = 0) -> Score:
    """The criterion for `search`.

    Raises:
        PruneError: an unknown criterion.

    >>> start, final = {"w": torch.tensor([1., -1.])}, {"w": torch.tensor([2., 3.])}
    >>> mask_criterion("magnitude_increase")(start, final)["w"].tolist()
    [1.0, 2.0]
    >>> mask_criterion("large_final_same_sign")(start, final)["w"].argmax().item()
    0
    """
    if which not in MASK_CRITERIA:
        raise PruneError(f"unknown mask criterion {which!r}; {closest(which, MASK_CRITERIA)}")
    score = MASK_CRITERIA[which]

    def scores(start: Mapping[str, Tensor], final: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if score is not None:
            return {n: score(start[n], w) for n, w in final.items()}
        return {
            n: torch.rand(
                w.shape,
                generator=torch.Generator().manual_seed(zlib.crc32(f"{seed}:{n}".encode())),
            ).to(w.device)
            for n, w in final.items()
        }

    return scores
