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


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"latency": 1}, "a float is the fraction to keep, a string a time; for 1 seconds"),
        (
            {"latency": 2.5},
            "at most 1. For half: latency=0.5; for a time: a string such as '10 ms'",
        ),
        ({"latency": "10 parsecs"}, "unknown unit 'parsecs'; want s, ms, us or ns, or %"),
        ({"memory": "2 ms"}, "unknown unit 'ms'; want kB, MB, GB, KiB, MiB or GiB, or %"),
        ({"macs": "2 GiB"}, "unknown unit 'GiB'; want %, or a number"),
        ({"latency": "soon"}, "want a fraction such as 0.5 or an integer; got 'soon'"),
        ({"latency": "0 ms"}, "a time must be above 0"),
        ({"bytes": 1}, "1.0 is everything, an integer above 1 is a number of bytes"),
    ],
)
def test_words_of_times_and_bytes(asked, words):
    with pytest.raises(PruneError) as caught:
        Target(**asked)
    assert words in str(caught.value)


def test_strings_with_units():
    target = Target(latency="2.5 ms", memory="1.5 KiB", bytes="2 MB", macs="12.5 %")
    assert (target.latency, target.memory, target.bytes, target.macs) == (
        0.0025,
        1536,
        2 * 10**6,
        0.125,
    )
    assert Target(latency="50%").latency == 0.5
    assert repr(target) == "Target(macs=0.125, bytes=2000000, memory=1536, latency='2.5 ms')"
    # Printed, they mean what they meant.
    assert eval(repr(target)) == target
    assert Target(latency=0.5).limits({"latency": 0.01, "macs": 9}) == {"latency": 0.005}
    assert target.limits({"latency": 0.01}) == {"latency": 0.0025}
