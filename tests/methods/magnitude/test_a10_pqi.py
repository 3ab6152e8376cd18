import pytest
import torch

from sentei.allocation.pqi import keep_at_least, pq_index
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.methods.magnitude.pqi_sap import adapted
from sentei.structures import Masks
from tests.methods.magnitude.nets import setting

SAP = METHODS["pqi-sap"]
PAIRS = [(0.5, 1.0), (1.0, 2.0), (0.3, 1.7)]


@pytest.mark.parametrize("p,q", PAIRS)
def test_scale_copies_and_extremes(p, q):
    w = torch.randn(50, dtype=torch.float64)
    index = pq_index(w, p, q)
    assert pq_index(1e-9 * w, p, q) == pytest.approx(index)
    assert pq_index(torch.cat([w, w]), p, q) == pytest.approx(index)
    assert pq_index(torch.full((50,), -3.0), p, q) == pytest.approx(0, abs=1e-12)
    one = torch.zeros(50)
    one[7] = 5.0
    assert pq_index(one, p, q) == pytest.approx(1 - 50 ** (1 / q - 1 / p))
    assert 0 <= index <= 1 - 50 ** (1 / q - 1 / p)
    assert pq_index(torch.zeros(4), p, q) == 0 == pq_index(torch.zeros(0), p, q)


@pytest.mark.parametrize("p,q", PAIRS)
def test_the_bound_holds_for_every_count(p, q):
    for seed in range(5):
        size = torch.randn(40, generator=torch.Generator().manual_seed(seed)).abs().double()
        ordered = size.pow(p).sort(descending=True).values
        index = pq_index(size, p, q)
        for r in range(1, 41):
            eta = (ordered[r:].sum() / ordered[:r].sum()).item()
            assert r >= keep_at_least(40, index, p, q, eta)


def test_the_bound_is_met_by_equal_weights_among_zeros():
    w = torch.zeros(40)
    w[:9] = 2.0
    assert keep_at_least(40, pq_index(w)) == 9


def test_what_a_mask_removed_does_not_count():
    w = torch.randn(6, 10)
    full = {"w": w}
    masks = adapted(full, Masks.full(full), "layer")
    dropped = 60 - masks.kept
    expected = int(60 * (1 - keep_at_least(60, pq_index(w)) / 60) + 1e-9)
    assert dropped == expected > 0
    again = adapted(full, masks, "layer")
    left = w[masks["w"]]
    assert masks.kept - again.kept == masks.kept - keep_at_least(masks.kept, pq_index(left))
    assert (again & masks).equal(again)


@pytest.mark.parametrize("scope", ["global", "layer", "neuron"])
def test_scopes(scope):
    weights = {"a": torch.randn(6, 20), "b": 9 * torch.randn(4, 6)}
    masks = adapted(weights, Masks.full(weights), scope, beta=0.1, gamma=9.0)
    if scope == "neuron":
        assert (masks["a"].sum(1) == 18).all() and (masks["b"].sum(1) == 6).all()
    elif scope == "layer":
        assert masks["a"].sum() == 108 and masks["b"].sum() == 22
    else:
        assert masks.kept == 144 - 14 and masks["b"].sum() >= 22


def test_survivors_restart_from_their_initial_values():
    given, starts = setting(0.3), []
    train = given.train

    def watched(*args, masks=None, **options):
        for name, weight in given.weights.items():
            assert torch.equal(weight.detach(), given.initial[name] * masks[name])
        starts.append(masks.kept)
        return train(*args, masks=masks, **options)

    given.train = watched
    outcome = apply(SAP, given, rounds=4, gamma=2.0)
    assert starts[0] == 640 and starts == sorted(starts)[::-1] and starts[-1] == 192
    assert outcome.kept == 192


def test_mistakes_speak():
    with pytest.raises(PruneError, match="0 < p < q"):
        pq_index(torch.ones(3), 1.0, 1.0)
    with pytest.raises(PruneError, match="unknown scope 'neurons'; closest: 'neuron'"):
        apply(SAP, setting(), scope="neurons")
