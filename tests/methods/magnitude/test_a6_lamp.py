"""The scores themselves are tested in tests/criteria/test_lamp.py."""

from itertools import pairwise

from sentei.methods import METHODS, apply
from tests.methods.magnitude.nets import setting

LAMP = METHODS["lamp"]


def test_a_share_of_the_survivors_goes_each_round_down_to_the_density():
    given, seen = setting(0.25), []
    recover = given.recover

    def watched(masks=None, hooks=()):
        seen.append(masks)
        return recover(masks, hooks)

    given.recover = watched
    outcome = apply(LAMP, given, step=0.4)
    assert [m.kept for m in seen] == [384, 230, 160] and outcome.masks.equal(seen[-1])
    for before, after in pairwise(seen):
        assert (before & after).equal(after)


def test_one_step_is_one_training():
    assert len(apply(LAMP, setting(0.25)).logs) == 1
