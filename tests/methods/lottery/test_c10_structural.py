"""C10: refilling and regrouping."""

import sys

import pytest
import torch
from torch import nn

from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.methods.lottery.structural_tickets import ROWS, row_scores
from sentei.structures import Masks
from sentei.structures import refill as refill_module
from sentei.structures.refill import PARTITIONERS, dense_columns, partition_rows, refill, regroup


@pytest.mark.parametrize("shape", [(20, 12), (16, 4, 3, 3)])
@pytest.mark.parametrize("density", [0.05, 0.3, 0.8])
def test_rows_are_whole_or_gone_and_no_more_than_before(shape, density):
    torch.manual_seed(0)
    mask = torch.rand(shape) < density
    out = refill(mask, torch.rand(shape[0]))
    rows = out.flatten(1)
    assert (rows.all(1) | ~rows.any(1)).all()
    worth = int(mask.sum()) / mask[0].numel()
    assert int(rows.all(1).sum()) == max(1, int(worth))
    assert int(out.sum()) <= int(mask.sum()) + mask[0].numel()


def test_refill_plus_goes_from_refill_to_dense():
    torch.manual_seed(0)
    mask, scores = torch.rand(20, 12) < 0.3, torch.rand(20)
    assert torch.equal(refill(mask, scores, 0.0), refill(mask, scores))
    assert refill(mask, scores, 1.0).all()
    counts = [int(refill(mask, scores, r)[:, 0].sum()) for r in (0, 0.2, 0.5, 1)]
    assert counts == sorted(counts) and counts[1] > counts[0]
    with pytest.raises(PruneError, match=r"lies in \[0, 1\]; got 2"):
        refill(mask, scores, 2)


def blocks(seed=0):
    """Three groups of rows on columns of their own, shuffled, with a little noise."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.zeros(60, 45, dtype=torch.bool)
    for i in range(3):
        truth[20 * i : 20 * i + 20, 15 * i : 15 * i + 15] = True
    noisy = truth & (torch.rand(truth.shape, generator=g) < 0.9)
    noisy |= torch.rand(truth.shape, generator=g) < 0.03
    rows, columns = torch.randperm(60, generator=g), torch.randperm(45, generator=g)
    return noisy[rows][:, columns], torch.arange(60)[rows] // 20


@pytest.mark.parametrize("how", PARTITIONERS)
def test_clusters_are_the_groups_that_were_planted(how):
    mask, truth = blocks()
    numbers = PARTITIONERS[how](mask, 3)
    for group in range(3):
        assert numbers[truth == group].unique().numel() == 1
    assert numbers.unique().numel() == 3
    assert torch.equal(numbers, PARTITIONERS[how](mask, 3))


def test_a_partition_is_balanced_and_cuts_less_than_chance(capfd):
    torch.manual_seed(0)
    rows = torch.rand(200, 64) < 0.08

    def reached(numbers):
        """Sum over columns of how many clusters have a weight there, less one."""
        counts = torch.stack([rows[numbers == c].any(0) for c in range(8)]).sum(0)
        return int((counts - 1).clamp(min=0).sum())

    numbers = partition_rows(rows, 8)
    assert numbers.bincount().max() <= 1.1 * 200 / 8
    assert reached(numbers) < min(reached(torch.randperm(200) % 8) for _ in range(20))
    assert partition_rows(rows[:1], 8).tolist() == [0]
    assert len(partition_rows(torch.zeros(4, 3, dtype=torch.bool), 2)) == 4
    assert capfd.readouterr() == ("", "")  # it says nothing of its own


def test_without_the_partitioner_it_says_what_to_do(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "mtkahypar", None)
    refill_module._kahypar.cache_clear()
    with pytest.raises(PruneError, match=r"'sentei\[partition\]', or .* partitioner='spectral'"):
        apply(METHODS["regroup"], make(), rounds=1)
    refill_module._kahypar.cache_clear()
    with pytest.raises(PruneError, match="unknown partitioner 'spectre'; closest: 'spectral'"):
        apply(METHODS["regroup"], make(), rounds=1, partitioner="spectre")
    with pytest.raises(PruneError, match="unknown partitioner 'hmetis'"):
        regroup(torch.ones(3, 3, dtype=torch.bool), partitioner="hmetis")


@pytest.mark.parametrize("how", PARTITIONERS)
def test_regrouping_gives_a_union_of_rectangles(how):
    mask, truth = blocks()
    out = regroup(mask, 3, partitioner=how)
    patterns = [row for row in out.unique(dim=0) if row.any()]
    assert 1 <= len(patterns) <= 3
    for i, one in enumerate(patterns):  # rows of a block agree on all columns
        assert int((out == one).all(1).sum()) >= 17
        assert all(not torch.equal(one, other) for other in patterns[i + 1 :])
    for group in range(3):
        assert out[truth == group].unique(dim=0).shape[0] == 1
    assert (out & ~mask).any() and (mask & ~out).any()  # refilled inside, dropped outside


def test_columns_grow_while_every_row_misses_enough():
    torch.manual_seed(0)
    rows = torch.rand(6, 30) < 0.5
    chosen = dense_columns(rows)
    width = len(chosen)
    assert width
    for k in range(1, width + 1):
        missed = rows.sum(1) - rows[:, chosen[:k]].sum(1)
        assert (k <= 1.5 * missed).all()
    counts = rows.sum(0)
    assert counts[chosen].min() >= counts[[i for i in range(30) if i not in chosen]].max() - 1


def test_without_a_block_the_mask_stays():
    torch.manual_seed(0)
    mask = torch.rand(10, 10) < 0.2
    assert torch.equal(regroup(mask), mask)
    empty = torch.zeros(10, 10, dtype=torch.bool)
    assert torch.equal(regroup(empty), empty)


@pytest.mark.parametrize("which", ROWS)
def test_row_scores_against_plain_loops(make, which):
    net = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 8, 6), nn.ReLU(),
        nn.Linear(6, 4),
    )  # fmt: skip
    x, y = make().data
    given = make(model=net, data=(x.view(-1, 1, 2, 4), y))
    given.calibration = 96
    masks = Masks({n: torch.rand(w.shape) < 0.5 for n, w in given.weights.items()})
    scores = row_scores(given, masks, which)
    conv = net[0](given.data[0])
    conv.retain_grad()
    given.loss(net[1:](conv), y).backward()
    for row in range(5):
        a, grad = conv[:, row], conv.grad[:, row]
        want = {
            "magnitude": net[0].weight[row].abs().sum(),
            "remain": masks["0.weight"][row].sum().double(),
            "feature-l1": a.abs().sum(),
            "feature-l2": a.square().sum().sqrt(),
            "saliency": (a * grad).sum().abs(),
        }[which]
        torch.testing.assert_close(scores["0.weight"][row], want.detach(), rtol=1e-4, atol=1e-6)
    assert {n: len(s) for n, s in scores.items()} == {"0.weight": 5, "3.weight": 6, "5.weight": 4}


def test_refilled_zeros_get_their_rewound_values(make):
    given = make()
    masks = apply(METHODS["refill"], given, to=0, rounds=2).masks
    state, how = given.began[-1]
    assert how["start"] == 0 and len(given.began) == 4
    for name, mask in masks.items():
        assert torch.equal(state[name], torch.where(mask, given.initial[name], 0.0))
        if name != "6.weight":
            rows = mask.flatten(1)
            assert (rows.all(1) | ~rows.any(1)).all()
    assert 0.1 < masks.density <= 0.25 + 0.01


@pytest.mark.parametrize("how", PARTITIONERS)
def test_regroup_trains_its_blocks(make, how):
    options = {"rounds": 1, "clusters": 2, "rows_at_least": 2, "partitioner": how}
    masks = apply(METHODS["regroup"], make(0.7), **options).masks
    for name in ("0.weight", "3.weight"):
        patterns = [row for row in masks[name].unique(dim=0) if row.any()]
        assert 1 <= len(patterns) <= 2


def test_mistakes_speak(make):
    with pytest.raises(PruneError, match="unknown row score 'magnitud'; closest: 'magnitude'"):
        apply(METHODS["refill"], make(), score="magnitud", rounds=1)
