"""n:m and blocks: exact patterns."""

import pytest
import torch

from sentei.allocation.weights import select
from sentei.graph.errors import PruneError
from sentei.structures import block, nm


@pytest.mark.parametrize("n,m", [(2, 4), (1, 4), (4, 8), (3, 4), (4, 4)])
@pytest.mark.parametrize("shape", [(6, 16), (4, 8, 3, 3)])
def test_every_group_keeps_n(n, m, shape):
    scores = torch.rand(shape)
    mask = nm.best_of(scores, n, m)
    assert (mask.reshape(-1, m).sum(1) == n).all() and mask.shape == shape
    kept = scores.masked_fill(~mask, -1).reshape(-1, m).sort(dim=1).values[:, m - n]
    gone = scores.masked_fill(mask, -1).reshape(-1, m).max(1).values
    assert (kept >= gone).all()
    assert nm.holds(scores * mask, n, m)
    assert n == m or not nm.holds(torch.ones(shape), n, m)


def test_equal_scores_leave_in_order():
    assert nm.best_of(torch.ones(1, 8), 1, 4).int().tolist() == [[0, 0, 0, 1, 0, 0, 0, 1]]


def test_patterns_as_scopes():
    scores = {"a": torch.rand(6, 16), "b": torch.rand(4, 8)}
    masks = select(scores, 0.25, "1:4")
    assert all((m.reshape(-1, 4).sum(1) == 1).all() for m in masks.values())
    blocks = select(scores, 0.25, "2x4")
    assert blocks.kept == round(0.25 * (12 + 4)) * 8
    for mask in blocks.values():
        sums = block.pooled(mask.float(), (2, 4))
        assert set(sums.flatten().tolist()) <= {0.0, 8.0}
    rows = select(scores, 0.3, "rows")
    assert (rows["a"].sum(1) == 16 - 11).all() and (rows["b"].sum(1) == 8 - 5).all()


def test_the_best_blocks_stay():
    scores = torch.zeros(4, 4)
    scores[:2, 2:] = 1
    mask = select({"w": scores}, 0.25, "2x2")["w"]
    assert mask[:2, 2:].all() and mask.sum() == 4


def test_pooling_and_spreading_are_counterparts():
    chosen = torch.rand(3, 6) > 0.5
    wide = block.spread(chosen, (2, 3), (6, 2, 3, 3))
    assert torch.equal(block.pooled(wide.float(), (2, 3)) > 0, chosen)


def test_what_does_not_fit_speaks():
    with pytest.raises(PruneError, match=r"2:4 needs rows .* multiple of 4; those of 'w' have 25"):
        select({"w": torch.rand(3, 25)}, 0.5, "2:4")
    with pytest.raises(PruneError, match=r"2:4 keeps 0.5 .* asked for is 0.3"):
        select({"w": torch.rand(3, 8)}, 0.3, "2:4")
    with pytest.raises(PruneError, match="5:4: of 4 weights 5 cannot stay"):
        select({"w": torch.rand(3, 8)}, 0.3, "5:4")
    with pytest.raises(PruneError, match="blocks of 2x4 do not tile 'w', which is 3 x 8"):
        select({"w": torch.rand(3, 8)}, 0.5, "2x4")
    with pytest.raises(PruneError, match="unknown scope 'rowz'; closest: 'rows'"):
        select({"w": torch.rand(3, 8)}, 0.5, "rowz")
