"""The planner against a plain loop, its promises on random networks, and the papers' tables."""

import itertools
import time

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from sentei.allocation import ALLOCATIONS, NORMALISERS, Curve, Target, movable, plan, role
from sentei.allocation.movable import togethers
from sentei.graph.errors import PruneError
from sentei.graph.groups import analyze
from tests.pruning.test_prune import Halves
from tests.random_networks import networks

# Those that need nothing but scores.
FREE = [name for name in ALLOCATIONS if name not in ("sensitivity", "fastest")]


def drawn(groups, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(g.size, generator=generator) for n, g in groups.items()}


def chain(*widths):
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def planned(model, inputs, target, **options):
    groups = analyze(model, inputs)
    return groups, plan(groups, drawn(groups), target, **options)


def more(groups, classes, widths):
    """The widths after one more step of each class that lost something."""
    for members in classes:
        shares = members[0].size // members[0].step
        kept = widths.get(members[0].name, members[0].size) // members[0].step
        if kept < shares:
            yield members, {**widths, **{g.name: (kept + 1) * g.step for g in members}}


@settings(max_examples=40)
@given(
    networks(),
    st.sampled_from(["params", "macs", "bytes", "memory"]),
    st.floats(0.2, 0.95),
    st.sampled_from(FREE),
)
def test_budgets_are_reached_from_below_within_one_step(case, what, fraction, allocation):
    model, inputs = case
    groups = analyze(model, inputs)
    scores = drawn(groups)
    target = Target(**{what: fraction})
    try:
        made = plan(groups, scores, target, allocation=allocation)
    except PruneError as error:
        if "out of reach" in str(error):
            nearest = int(str(error).split(f"{what}=")[1].split()[0])
            assume(nearest > 1)
            again = plan(groups, scores, Target(**{what: nearest}), allocation=allocation)
            assert again.reached[what] == nearest
        elif "nothing to prune" not in str(error):
            raise
        return
    assert made.reached[what] <= made.asked[what]
    assert getattr(made.after, what) == made.reached[what]
    assert made.after == groups.cost(made.widths)
    for name, kept in made.keep.items():
        assert 1 <= len(kept) == made.widths[name] < groups[name].size
        assert kept.tolist() == sorted(set(kept.tolist()))
        gone = torch.ones(groups[name].size, dtype=torch.bool)
        gone[kept] = False
        assert scores[name][kept].min() >= scores[name][gone].max()
    if allocation != "uniform":
        for _, wider in more(groups, movable(groups), made.widths):
            assert getattr(groups.cost(wider), what) > made.asked[what]


def by_hand(groups, scores, limit):
    """Global allocation as a plain loop over the cost of the whole network."""
    steps = []
    for c, members in enumerate(movable(groups)):
        shares = members[0].size // members[0].step
        value = torch.zeros(shares, dtype=torch.float64)
        for g in members:
            s = scores[g.name].double()
            best = (s / s.abs().mean()).sort(descending=True).values
            value += best.view(shares, g.step).mean(1) / len(members)
        steps += [(float(value[k]), c, -k) for k in range(1, shares)]
    classes = movable(groups)
    kept = [members[0].size // members[0].step for members in classes]

    def macs():
        widths = {
            g.name: k * g.step for members, k in zip(classes, kept, strict=True) for g in members
        }
        return groups.cost(widths).macs

    cut = []
    for step in sorted(steps):
        if macs() <= limit:
            break
        kept[step[1]] -= 1
        cut.append(step)
    for _, c, k in sorted(cut, key=lambda s: (-s[0], s[1], -s[2])):
        if kept[c] == -k:
            kept[c] += 1
            if macs() > limit:
                kept[c] -= 1
    return {g.name: k * g.step for members, k in zip(classes, kept, strict=True) for g in members}


@settings(max_examples=20)
@given(networks(max_blocks=3), st.floats(0.3, 0.9))
def test_global_is_the_plain_loop(case, fraction):
    model, inputs = case
    groups = analyze(model, inputs)
    assume(len(groups))
    scores = drawn(groups)
    try:
        made = plan(groups, scores, Target(macs=fraction), normalise="mean")
    except PruneError:
        assume(False)
    want = by_hand(groups, scores, made.asked["macs"])
    assert {n: made.widths.get(n, groups[n].size) for n in want} == want


@settings(max_examples=15)
@given(networks(max_blocks=3), st.sampled_from(FREE), st.floats(0.3, 0.7))
def test_a_smaller_budget_never_costs_more(case, allocation, fraction):
    model, inputs = case
    groups = analyze(model, inputs)
    scores = drawn(groups)
    try:
        tight = plan(groups, scores, Target(macs=fraction), allocation=allocation)
    except PruneError:
        assume(False)
    loose = plan(groups, scores, Target(macs=fraction + 0.25), allocation=allocation)
    assert tight.after.macs <= loose.after.macs
    assert tight.after.memory <= tight.before.memory


def test_several_costs_at_once_all_hold():
    model = chain(64, 64, 64, 8)
    target = Target(macs=0.7, bytes=0.5, memory=0.6, params=0.55)
    groups, made = planned(model, torch.zeros(32, 64), target)
    assert made.reached.keys() == made.asked.keys() == {"macs", "bytes", "memory", "params"}
    assert all(made.reached[n] <= made.asked[n] for n in made.asked)
    assert all(made.reached[n] == getattr(made.after, n) for n in made.asked)
    with pytest.raises(PruneError, match=r"memory 2,\d+ .* Nearest: memory=\d+"):
        plan(groups, drawn(groups), Target(memory=0.05))


def test_multiples_by_group():
    _, made = planned(
        chain(32, 64, 64, 8), torch.zeros(1, 32), Target(macs=0.4), round_to={"0": 16, "2": 4}
    )
    assert made.widths["0"] % 16 == 0
    assert made.widths["2"] % 4 == 0


def test_isomorphic_groups_lose_equal_shares_and_compete_among_themselves():
    class Branches(nn.Module):
        """Two convolutions of one kind, two linear layers of another."""

        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 40, 3), nn.Conv2d(40, 40, 3), nn.Conv2d(40, 8, 3)
            self.d, self.e, self.f = nn.Linear(8, 40), nn.Linear(40, 40), nn.Linear(40, 2)

        def forward(self, x):
            x = self.c(self.b(self.a(x).relu()).relu()).mean((2, 3))
            return self.f(self.e(self.d(x).relu()).relu())

    groups = analyze(Branches(), torch.zeros(1, 3, 12, 12))
    scores = {n: torch.rand(g.size) + 1 for n, g in groups.items()}
    # Linear units are worth a thousand times as much: globally, none of them would go.
    scores |= {n: 1000 * scores[n] for n in ("d", "e")}
    scores["a"] *= 2
    made = plan(groups, scores, Target(units=0.5), allocation="isomorphic", normalise="none")
    kept = {n: made.widths.get(n, groups[n].size) for n in groups}
    assert kept["a"] > kept["b"]
    assert abs(kept["a"] + kept["b"] - 40) <= 1
    assert abs(kept["d"] + kept["e"] - 40) <= 1
    free = plan(groups, scores, Target(units=0.5), normalise="none")
    assert not {"d", "e"} & free.widths.keys()


def test_sensitivity_equalises_the_predicted_damage():
    groups = analyze(chain(32, 40, 40, 8), torch.zeros(1, 32))
    shares = (1.0, 0.5, 0.1)
    curves = {
        "0": Curve("0", ("0",), shares, (0.0, 1.0, 2.0), (0.0, 1.0, 2.0)),
        "2": Curve("2", ("2",), shares, (0.0, 0.1, 0.2), (0.0, 0.1, 0.2)),
    }
    made = plan(groups, drawn(groups), Target(macs=0.5), allocation="sensitivity", curves=curves)
    kept = {n: made.widths.get(n, 40) / 40 for n in ("0", "2")}
    damage = {n: float(curves[n].damage_at(kept[n])) for n in kept}
    unit = {n: float(curves[n].damage_at(kept[n] - 1 / 40)) - damage[n] for n in kept}
    assert kept["2"] < kept["0"]
    assert abs(damage["0"] - damage["2"]) <= max(unit.values()) + 1e-9
    assert "needs curves" in error(target=Target(macs=0.5), allocation="sensitivity")


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=20))
@pytest.mark.parametrize("name", NORMALISERS)
def test_normalised_scores_are_finite_and_in_the_same_order(name, values):
    scores = torch.tensor(values, dtype=torch.float64)
    found = NORMALISERS[name](scores)
    assert found.isfinite().all()
    order = scores.argsort(stable=True)
    assert (found[order].diff() >= -1e-9).all()


def test_width_keeps_the_share_of_every_group_rounded_down():
    _, made = planned(chain(3, 10, 7, 3, 2), torch.zeros(1, 3), Target(width=0.5))
    assert made.widths == {"0": 5, "2": 3, "4": 1}
    assert (made.asked, made.reached) == ({"width": 0.5}, {"width": 0.5})


def test_no_group_loses_its_last_unit():
    groups, made = planned(chain(3, 10, 2, 2), torch.zeros(1, 3), Target(width=0.1))
    assert made.widths == {"0": 1, "2": 1}
    made = plan(groups, drawn(groups), Target(width=0.1), min_units=2)
    assert made.widths == {"0": 2}
    made = plan(groups, drawn(groups), Target(width=0.1), min_fraction=0.3)
    assert made.widths == {"0": 3, "2": 1}


def test_several_budgets_all_hold():
    model = chain(64, 64, 64, 8)
    target = Target(width=0.9, params=0.5, macs=2000)
    _, made = planned(model, torch.zeros(1, 64), target)
    assert made.reached.keys() == made.asked.keys() == {"width", "params", "macs"}
    assert all(made.reached[n] <= made.asked[n] for n in made.asked)
    assert max(made.widths.values()) <= 57


def test_units_are_ranked_over_all_groups():
    """Network slimming's rule: a share of all channels, by one threshold."""
    groups = analyze(chain(3, 10, 10, 2), torch.zeros(1, 3))
    scores = {"0": torch.arange(1.0, 11), "2": 10 * torch.arange(1.0, 11)}
    made = plan(groups, scores, Target(units=0.5), normalise="none")
    kept = torch.cat([scores[n][made.keep.get(n, torch.arange(10))] for n in scores])
    assert len(kept) == 10
    assert kept.min() == 10  # of two worth 10, one stays
    equal = plan(groups, scores, Target(units=0.5), normalise="mean")
    assert equal.widths == {"0": 5, "2": 5}


def test_local_spreads_evenly_and_global_by_score():
    groups = analyze(chain(32, 32, 32, 32), torch.zeros(1, 32))
    scores = {"0": torch.cat([torch.full((16,), 0.01), torch.ones(16)]), "2": torch.ones(32)}
    local = plan(groups, scores, Target(macs=0.5), allocation="local")
    assert abs(local.widths["0"] - local.widths["2"]) <= 1
    uniform = plan(groups, scores, Target(macs=0.5), allocation="uniform")
    assert uniform.widths["0"] == uniform.widths["2"] <= min(local.widths.values())
    free = plan(groups, scores, Target(macs=0.75))
    assert free.widths["0"] < free.widths.get("2", 32)
    assert free.keep["0"].min() >= 8  # the worthless half goes first


def test_a_budget_that_holds_already_removes_nothing():
    for target in (Target(width=1.0), Target(params=1.0), Target(macs=10**9)):
        _, made = planned(chain(3, 8, 2), torch.zeros(1, 3), target)
        assert made.keep == {}
        assert made.before == made.after


def test_round_to():
    model = chain(32, 64, 100, 5, 10)
    for target in (Target(width=0.7), Target(params=0.4), Target(macs=0.4)):
        for allocation in FREE:
            groups, made = planned(
                model, torch.zeros(1, 32), target, allocation=allocation, round_to=8
            )
            assert all(made.reached[n] <= made.asked[n] for n in made.asked)
            assert all(w % 8 == 0 for n, w in made.widths.items() if groups[n].size >= 8)
            assert any(n in made.widths for n in ("0", "2"))


def test_round_to_counts_whole_heads():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out, self.heads = nn.Linear(16, 96), nn.Linear(32, 2), 8

        def forward(self, x):
            b, n, _ = x.shape
            q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            x = (q @ k.transpose(-2, -1)).softmax(-1) @ v
            return self.out(x.transpose(1, 2).reshape(b, n, -1))

    groups, made = planned(Attention(), torch.zeros(1, 3, 16), Target(width=0.7), round_to=8)
    heads = next(g for g in groups.values() if g.kind == "blocks" and g.size == 8)
    assert made.widths == {heads.name: 4}  # 5.6 heads; 5 of 4 channels are not a multiple of 8


def test_uniform_keeps_layers_of_a_kind_alike():
    groups = analyze(chain(16, 16, 16, 16, 16, 4), torch.zeros(1, 16))
    assert {role(n) for n in groups} == {"*"}
    scores = drawn(groups)
    made = plan(groups, scores, Target(macs=0.6), uniform=True)
    assert len(set(made.widths.values())) == 1
    assert len(made.widths) == 4
    loose = plan(groups, scores, Target(macs=0.6))
    assert len(set(loose.widths.values())) > 1


def test_uniform_tells_sizes_apart():
    groups = analyze(chain(16, 16, 16, 8, 8, 4), torch.zeros(1, 16))
    members = [sorted(g.name for g in t.members) for t in togethers(movable(groups), True)]
    assert members == [["0", "2"], ["4", "6"]]


def test_tied_groups_keep_equal_shares():
    groups = analyze(Halves(), torch.zeros(1, 4))
    assume_tied = [members for members in groups.classes() if len(members) > 1]
    assert assume_tied
    made = plan(groups, drawn(groups), Target(params=0.7))
    for members in assume_tied:
        assert len({made.widths.get(g.name, g.size) / g.size for g in members}) == 1


@pytest.mark.parametrize("granularity", ["auto", "blocks", "width"])
def test_nested_groups_share_one_width(granularity):
    """Of heads and their width, one moves: half the width is half, not a quarter."""
    tv = pytest.importorskip("torchvision")
    model = tv.models.VisionTransformer(16, 8, 2, 8, 64, 128, num_classes=5)
    groups, made = planned(
        model, torch.zeros(1, 3, 16, 16), Target(width=0.5), granularity=granularity
    )
    small = tv.models.VisionTransformer(16, 8, 2, 8, 32, 64, num_classes=5)
    assert made.after.params == sum(p.numel() for p in small.parameters())
    both = plan(groups, drawn(groups), Target(width=0.5), granularity="both")
    assert both.after.params < made.after.params
    kinds = {groups[n].kind for n in made.widths}
    assert kinds == {"channels", "block width" if granularity == "width" else "blocks"}


def test_the_same_scores_give_the_same_plan():
    model = chain(20, 30, 30, 30, 4)
    for allocation in FREE:
        a, b = (
            planned(model, torch.zeros(1, 20), Target(macs=0.4), allocation=allocation)[1]
            for _ in range(2)
        )
        assert a.widths == b.widths
        assert all(torch.equal(a.keep[n], b.keep[n]) for n in a.keep)


def test_equal_scores_leave_in_index_order():
    groups = analyze(chain(3, 8, 2), torch.zeros(1, 3))
    made = plan(groups, {"0": torch.ones(8)}, Target(width=0.5))
    assert made.keep["0"].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "name, size, before, after",
    [("resnet18", 224, 11_689_512, 3_055_880), ("vit_b_32", 224, 88_224_232, 22_878_952)],
)
def test_published_counts_at_half_width(name, size, before, after):
    """The counts that torch-pruning's benchmark prints for these networks at ratio 0.5."""
    tv = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = getattr(tv.models, name)()
    _, made = planned(model, torch.zeros(1, 3, size, size), Target(width=0.5))
    assert (made.before.params, made.after.params) == (before, after)


@pytest.mark.slow
def test_planning_is_quick():
    tv = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = tv.models.densenet121()
    groups = analyze(model, torch.zeros(1, 3, 224, 224))
    scores = drawn(groups)
    start = time.process_time()
    plan(groups, scores, Target(macs=0.5))
    assert time.process_time() - start < 2


# --- Errors ---------------------------------------------------------------------------------------


def error(model=None, inputs=None, target=None, scores=None, **options):
    groups = analyze(model or chain(3, 8, 2), inputs if inputs is not None else torch.zeros(1, 3))
    with pytest.raises(PruneError) as caught:
        plan(groups, drawn(groups) if scores is None else scores, target or Target(macs=0.5),
             **options)  # fmt: skip
    return str(caught.value)


def test_impossible_budgets_name_the_nearest():
    message = error(target=Target(params=0.01))
    # 3 + 1 for the unit that stays, 2 + 2 for the head that reads it; 50 before.
    assert "params 0 (0.00%) is below what can be reached. Nearest: params=8 (16.00%)" in message
    assert "every prunable group at its smallest width" in message


def test_models_without_anything_to_prune():
    message = error(model=nn.Linear(3, 2))
    assert "nothing to prune: all 2 groups are pinned" in message
    assert "model input (1)" in message
    assert "model output (1)" in message
    assert "all 1 groups are held. Held: 0" in error(hold=["0"])


def test_options_that_do_not_exist():
    assert "unknown allocation 'globall'; closest: 'global'" in error(allocation="globall")
    assert "unknown normalisation 'means'; closest: 'mean'" in error(normalise="means")
    assert "unknown granularity 'block'; closest: 'blocks'" in error(granularity="block")
    assert "round_to must be a positive integer such as 8; got 0" in error(round_to=0)
    assert "min_units must be at least 1" in error(min_units=0)
    assert "min_fraction in [0, 1]" in error(min_fraction=1.5)
    assert "target must be a Target, such as Target(macs=0.5); got 0.5" in error(target=0.5)


def test_scores_that_do_not_fit():
    assert "no scores for group '0'" in error(scores={})
    assert "has 8 units, but its scores have shape (3,)" in error(scores={"0": torch.zeros(3)})
    nan = torch.full((8,), float("nan"))
    assert "the scores of group '0' hold NaN" in error(scores={"0": nan})
