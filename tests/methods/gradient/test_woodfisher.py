"""Card B11."""

from functools import partial

import pytest
import torch

from sentei.allocation.weights import select
from sentei.criteria.derivatives import sample_gradients, second_moment
from sentei.criteria.weights import weigh
from sentei.criteria.weights.woodfisher import block_fisher, woodfisher
from sentei.graph.errors import PruneError
from sentei.recovery.surgeon import inverse_of_products
from tests.methods.gradient.nets import batch, evidence, mlp


def about():
    return evidence(mlp(5, 7, 3), batch(20, 5))


def test_blocks_are_the_rank_one_recursion():
    fisher = block_fisher(about(), block=10)
    rows = torch.cat([r["0.weight"].flatten(1) for r in sample_gradients(about())])
    for i, inverse in enumerate(fisher.inverses["0.weight"]):
        part = rows[:, 10 * i : 10 * i + 10]
        want = inverse_of_products(part, 20, fisher.damping)
        torch.testing.assert_close(inverse, want, rtol=1e-8, atol=1e-8)
    assert [len(b) for b in fisher.inverses["0.weight"]] == [10, 10, 10, 5]
    moment = torch.cat([m.flatten() for m in second_moment(about()).values()]).mean().item()
    assert fisher.damping == pytest.approx(1e-2 * moment) and fisher.ratio == 1e-2


def test_blocks_of_one_are_the_diagonal():
    scores, moment = woodfisher(about(), block=1), second_moment(about())
    mean = torch.cat([m.flatten() for m in moment.values()]).mean()
    for name, weight in about().weights.items():
        want = 0.5 * weight.detach().square() * (1e-2 * mean + moment[name])
        torch.testing.assert_close(scores[name], want, rtol=1e-9, atol=1e-15)


def test_much_damping_is_magnitude():
    strong = weigh(partial(woodfisher, damping=1e8), about())
    assert select(strong, 0.4).equal(select(weigh("magnitude", about()), 0.4))
    assert not select(weigh("woodfisher", about()), 0.4).equal(
        select(weigh("magnitude", about()), 0.4)
    )


def test_one_removal_is_the_surgeons():
    fisher, weight = block_fisher(about(), block=35), about().weights["0.weight"].detach()
    mask = torch.ones(7, 5, dtype=torch.bool)
    mask[3, 2] = False
    new = fisher.updated("0.weight", weight, mask)
    inverse, q = fisher.inverses["0.weight"][0], 17
    delta = (new - weight).flatten()
    torch.testing.assert_close(
        delta, -weight.flatten()[q] / inverse[q, q] * inverse[:, q], rtol=1e-8, atol=1e-10
    )
    assert new[3, 2] == 0
    cost = 0.5 * delta @ torch.linalg.inv(inverse) @ delta
    torch.testing.assert_close(cost, fisher.scores({"0.weight": weight, "2.weight":
        about().weights["2.weight"]})["0.weight"][3, 2])  # fmt: skip


def test_masked_weights_have_no_gradients():
    masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in about().weights.items()}
    masks["0.weight"][:, 0] = False
    fisher = block_fisher(about(), block=35, masks=masks)
    inverse = fisher.inverses["0.weight"][0]
    gone = ~masks["0.weight"].flatten()
    torch.testing.assert_close(
        inverse[gone][:, gone], torch.eye(7).double() / fisher.damping, rtol=1e-9, atol=0
    )
    assert not inverse[gone][:, ~gone].any()


def test_mistakes_speak():
    with pytest.raises(PruneError, match="blocks of at least one weight"):
        woodfisher(about(), block=0)
    flat = evidence(mlp(5, 7, 3), batch(20, 5), lambda out, y: 0 * out.sum())
    with pytest.raises(PruneError, match="all gradients are zero"):
        woodfisher(flat)
