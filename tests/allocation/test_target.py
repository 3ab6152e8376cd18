"""What may be asked for, and the words for what may not."""

import pytest

from sentei.allocation import Target
from sentei.allocation.target import ceil_share, share_of
from sentei.graph.errors import PruneError


@pytest.mark.parametrize(
    "asked, words",
    [
        ({}, "asks for nothing: give width=, units=, params= or macs="),
        ({"macs": 1.5}, "above 0 and at most 1. For half: macs=0.5; for a number of MACs"),
        ({"macs": 0.0}, "above 0 and at most 1"),
        ({"params": -0.5}, "above 0 and at most 1"),
        ({"params": float("nan")}, "above 0 and at most 1"),
        ({"params": 1}, "1.0 is everything, an integer above 1 is a number of parameters"),
        ({"macs": 0}, "a number of MACs must be above 1"),
        ({"macs": -3}, "a number of MACs must be above 1"),
        ({"macs": True}, "want a fraction such as 0.5 or an integer; got True"),
        ({"macs": "half"}, "want a fraction such as 0.5 or an integer; got 'half'"),
        ({"width": 8}, "width is the share of every group that stays, a float in"),
        ({"width": 2.0}, "above 0 and at most 1. For half: width=0.5"),
    ],
)
def test_words(asked, words):
    with pytest.raises(PruneError) as caught:
        Target(**asked)
    assert words in str(caught.value)


def test_fractions_become_numbers_by_their_decimal_value():
    before = {"units": 10, "params": 1000, "macs": 30}
    assert Target(params=0.29, macs=0.1, units=7).limits(before) == {
        "units": 7,
        "params": 290,
        "macs": 3,
    }
    assert share_of(0.29, 100) == 29
    assert ceil_share(0.3, 10) == 3
    assert share_of(1.0, 10**18 + 1) == 10**18 + 1
