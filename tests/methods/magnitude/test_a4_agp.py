import pytest

from sentei.graph.errors import PruneError
from sentei.hooks import GradualHook
from sentei.methods import METHODS, apply
from sentei.methods.parts import gradual
from sentei.recovery.train import Recipe, train
from sentei.schedules import Cubic
from sentei.structures import Masks
from tests.methods.magnitude.nets import SHORT, setting, toy

AGP = METHODS["agp"]


def test_the_cubic_starts_ends_and_flattens_as_it_should():
    curve = Cubic(0.9, start=100, end=500)
    assert curve(100) == 0 and curve(500) == 0.9 and curve(10_000) == 0.9
    assert curve(300) == pytest.approx(0.875 * 0.9)
    assert curve(100 + 400 * (1 - 0.5 ** (1 / 3))) == pytest.approx(0.45)
    values = [curve(t) for t in range(90, 520)]
    assert values == sorted(values)
    assert (curve(500) - curve(499.9)) / 0.1 < 1e-6


def test_a_non_zero_start():
    assert Cubic(0.9, 0, 10, initial=0.5)(0) == 0.5


def test_layers_lose_the_rounded_share_at_each_update_and_never_regain():
    given, seen = setting(0.1, recipe=Recipe(epochs=4, lr=0.05, batch_size=8)), []
    hook = gradual(given, Cubic(0.9, 4, 40), (4, 40), 6)
    choose = hook.choose

    def watched(step, masks):
        seen.append((step, choose(step, masks)))
        return seen[-1][1]

    hook.choose = watched
    given.train([hook])
    assert [step for step, _ in seen] == [4, 10, 16, 22, 28, 34, 40]
    before = Masks.full(given.weights)
    for step, masks in seen:
        kept = 1 - Cubic(0.9, 4, 40)(step)
        assert masks.kept == round(kept * masks.total)
        for name, mask in masks.items():
            assert abs(int(mask.sum()) - kept * mask.numel()) < 1
            assert not (mask & ~before[name]).any()
        before = masks


def test_masked_weights_are_zero_in_every_forward_pass():
    given = setting(0.25)
    given.recipe = Recipe(epochs=3, lr=0.1, momentum=0.9, weight_decay=0.1, batch_size=16)
    hook = gradual(given, Cubic(0.75, 2, 9), (2, 9), 1)
    after = hook.after_step

    def checked():
        after()
        for name, mask in hook.masks.items():
            assert not given.weights[name][~mask].count_nonzero()

    hook.after_step = checked
    given.train([hook])
    assert hook.masks.kept == 160


def test_a_training_cut_in_two_prunes_alike():
    def hook():
        given = setting(0.25)
        made = gradual(given, Cubic(0.75, 1, 10), (1, 10), 2)
        return given.model, made

    (whole, one), (parts, two) = hook(), hook()
    train(whole, toy(), SHORT, hooks=[one])
    train(parts, toy(), SHORT, hooks=[two], stop=7)
    state = two.state_dict()
    three = GradualHook(two.masks, two.choose, two.at)
    three.start(parts, None, 5)
    three.load_state_dict(state)
    assert three.step == 7 and three.masks.equal(two.masks)


@pytest.mark.parametrize("name", ["agp", "gale-gmp"])
def test_mistakes_speak(name):
    with pytest.raises(PruneError, match="shares of the training"):
        apply(METHODS[name], setting(), begin=0.9, end=0.2)
    with pytest.raises(PruneError, match="at least 1; got 0"):
        apply(METHODS[name], setting(), every=0)
    with pytest.raises(PruneError, match="how many steps"):
        apply(METHODS[name], setting(recipe=Recipe(epochs=0)))


def test_an_unknown_curve_speaks():
    with pytest.raises(PruneError, match="unknown curve 'qubic'; closest: 'cubic'"):
        apply(AGP, setting(), curve="qubic")


def test_gale_trains_longer_where_asked():
    short, long = (
        apply(METHODS["gale-gmp"], setting()),
        apply(METHODS["gale-gmp"], setting(), longer=1.5),
    )
    assert long.logs[0].steps == 1.5 * short.logs[0].steps
