"""Latency by a clock that follows a formula: no test depends on how fast this machine is."""

import itertools
import json
import multiprocessing
import re
import time
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sentei import PruneError, Target, analyze, prune
from sentei.allocation import Seconds, plan
from sentei.allocation.latency import Latency, envelope, interpolate, slower_than_larger
from sentei.allocation.orders import RIVALS
from sentei.allocation.stopwatch import Neighbours
from sentei.allocation.table import LatencyTable
from tests.random_networks import networks

FLOAT = re.compile(r"float32\[([\d, ]+)\]")


def elements(signature):
    return [np.prod([int(n) for n in t.split(",")]) for t in FLOAT.findall(signature)]


class Formula:
    """An operator takes a nanosecond for each element it reads; a model for each parameter."""

    def __init__(self, operator=lambda signature: 1e-9 * sum(elements(signature)), overhead=0.0):
        self.formula, self.overhead, self.asked = operator, overhead, []

    def operator(self, signature, run):
        run()  # every operator on the tape can be run by itself
        self.asked.append(signature)
        return float(self.formula(signature))

    def models(self, models, call):
        count = [sum(p.numel() for p in m.parameters()) for m in models]
        return [1e-9 * n + self.overhead for n in count]


def table(**options):
    return LatencyTable(stopwatch=Formula(**options), folder=False, progress=False)


def chain(*widths):
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# --- The arithmetic -------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=6),
    st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
)
def test_envelope_is_monotone_below_and_tight(a, b):
    times = np.outer(a, b) + np.array(b)[None, :]
    low = envelope(times)
    assert (low <= times).all()
    assert (np.diff(low, axis=0) >= 0).all() and (np.diff(low, axis=1) >= 0).all()
    for i, j in np.ndindex(times.shape):
        assert low[i, j] == times[i:, j:].min()


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=8), st.floats(0.0, 9.0))
def test_interpolation_meets_the_points_and_stays_between(values, at):
    levels = np.arange(1, len(values) + 1)
    for width, value in zip(levels, values, strict=True):
        assert interpolate([levels], np.array(values), [width]) == pytest.approx(value)
    found = interpolate([levels], np.array(values), [at])
    assert min(values) - 1e-9 <= found <= max(values) + 1e-9


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=8))
def test_what_stays_is_the_fastest_width_at_least_as_wide(times):
    times = np.array(times)
    slow = slower_than_larger(times, noise=0.0)
    assert not slow[-1]
    assert (np.diff(times[~slow]) >= 0).all()
    for i in np.flatnonzero(slow):
        assert times[i:][~slow[i:]].min() < times[i]


# --- Prediction -----------------------------------------------------------------------------------


@settings(max_examples=15)
@given(networks(max_blocks=3), st.integers(0, 2**16))
def test_prediction_is_monotone_in_every_width(case, seed):
    model, inputs = case
    groups = analyze(model, inputs)
    # However jagged the times are.
    predicted = Latency(groups, table(operator=lambda s: 1e-9 * (zlib.crc32(s.encode()) % 1000)))
    dims = {g.dim: i for i, g in enumerate(groups.values())}
    seconds = predicted.compiled(dims)
    draw = np.random.default_rng(seed)
    whole = np.array([g.size for g in groups.values()], dtype=int)
    some = draw.integers(1, whole + 1) if len(whole) else whole
    more = np.minimum(some + draw.integers(0, 3, len(whole)), whole)
    assert seconds(some) <= seconds(more) + 1e-15
    assert seconds(whole) == pytest.approx(predicted.of(lambda d: d.size))
    widths = dict(zip(dims, some.tolist(), strict=True))
    assert seconds(some) == pytest.approx(predicted.of(lambda d: widths.get(d, d.size)))


def test_linear_times_are_predicted_exactly_and_calibrated():
    groups = analyze(chain(32, 64, 64, 8), torch.zeros(2, 32))
    predicted = Latency(groups, table(operator=lambda s: 1e-9 * elements(s)[0]))

    def rows(a, b):  # what the operators read first: inputs and hidden activations, twice
        return 2e-9 * (32 + 2 * a + 2 * b)

    widths = {groups["0"].dim: 20, groups["2"].dim: 50}
    assert predicted.of(lambda d: widths.get(d, d.size)) == pytest.approx(rows(20, 50))
    predicted.calibrate(lambda d: d.size, 10 * rows(64, 64))
    assert predicted.of(lambda d: widths.get(d, d.size)) == pytest.approx(10 * rows(20, 50))


def test_equal_operators_are_measured_once_and_never_again(tmp_path):
    net, x = chain(32, 64, 64, 64, 8), torch.zeros(2, 32)
    clock = Formula()
    Latency(analyze(net, x), LatencyTable(stopwatch=clock, folder=tmp_path, progress=False))
    assert len(clock.asked) == len(set(clock.asked))
    again = Formula()
    Latency(analyze(net, x), LatencyTable(stopwatch=again, folder=tmp_path, progress=False))
    assert again.asked == []


def test_operators_of_many_kinds_can_be_run_alone():
    timm = pytest.importorskip("timm")
    for name, size in (("vit_tiny_patch16_224", 224), ("mobilenetv3_small_050", 64)):
        model = timm.create_model(name).eval()
        if name.startswith("vit"):
            model.blocks = model.blocks[:1]
        found = Latency(analyze(model, torch.zeros(1, 3, size, size)), table())
        assert found.unmeasured == []
        assert found.of(lambda d: 1) < found.of(lambda d: d.size)


# --- Planning -------------------------------------------------------------------------------------


def scores(groups):
    generator = torch.Generator().manual_seed(0)
    return {n: torch.rand(g.size, generator=generator) for n, g in groups.items()}


@pytest.mark.parametrize("allocation", ["global", "local", "uniform", "isomorphic"])
def test_latency_is_reached_from_below(allocation):
    groups = analyze(chain(32, 64, 96, 64, 8), torch.zeros(16, 32))
    latency = Latency(groups, table())
    for target in (Target(latency=0.7), Target(latency=0.8, macs=0.6)):
        made = plan(groups, scores(groups), target, latency=latency, allocation=allocation)
        assert made.reached.keys() == made.asked.keys()
        assert all(made.reached[n] <= made.asked[n] for n in made.asked)
        widths = {groups[n].dim: w for n, w in made.widths.items()}
        seconds = latency.of(lambda d, widths=widths: widths.get(d, d.size))
        assert made.reached["latency"] == pytest.approx(seconds)


def test_no_width_that_is_slower_than_a_larger_one():
    """Linear layers of fewer than 48 outputs fall back to a kernel that is slow at any size."""

    def operator(signature):
        small = "linear" in signature and int(FLOAT.findall(signature)[1].split(",")[0]) < 48
        return 1e-4 if small else 1e-9 * sum(elements(signature))

    groups = analyze(chain(32, 64, 64, 64), torch.zeros(16, 32))
    latency = Latency(groups, table(operator=operator))
    made = plan(groups, scores(groups), Target(macs=0.7), latency=latency)
    assert made.widths
    assert min(made.widths.values()) >= 48
    assert min(plan(groups, scores(groups), Target(macs=0.5)).widths.values()) < 48
    with pytest.raises(PruneError, match=r"macs 1,638 .* Nearest: macs="):
        plan(groups, scores(groups), Target(macs=0.01), latency=latency)


@pytest.mark.parametrize("liked", [1, 16])
def test_multiples_that_the_device_likes(liked):
    def operator(signature):
        sizes = [int(n) for n in FLOAT.findall(signature)[1].split(",")]
        return float(np.prod([-(-n // liked) * liked for n in sizes]))

    groups = analyze(chain(32, 256, 256, 8), torch.zeros(4, 32))
    assert set(Latency(groups, table(operator=operator)).multiples().values()) == {liked}
    result = prune(
        chain(32, 256, 256, 8), torch.zeros(4, 32), target=Target(macs=0.5), round_to="auto",
        latency_table=table(operator=operator),
    )  # fmt: skip
    assert all(w % liked == 0 for w in result.plan.widths.values())
    assert result.timing.after < result.timing.before


# --- The whole call -------------------------------------------------------------------------------


def test_predicted_and_measured_are_told():
    net = chain(32, 64, 64, 8)
    result = prune(net, torch.randn(4, 32), target=Target(latency=0.5), latency_table=table())
    assert result.reached["latency"] == result.timing.after <= result.asked["latency"]
    assert result.timing.after == pytest.approx(1e-9 * sum(p.numel() for p in net.parameters()))
    assert result.asked["latency"] == pytest.approx(0.5 * result.timing.before)
    assert "latency, predicted" in str(result) and "latency, measured" in str(result)


def test_plans_again_where_the_prediction_was_too_good():
    """Predicted times are squares of the widths, the model's are linear: the first plan misses."""
    clock = {"operator": lambda s: 1e-12 * sum(elements(s)) ** 2}
    net = chain(32, 64, 64, 8)
    result = prune(
        net,
        torch.randn(4, 32),
        target=Target(latency=Seconds(2.5e-6)),
        latency_table=table(**clock),
    )
    assert result.timing.rounds > 1
    assert result.reached["latency"] <= 2.5e-6


def test_what_cannot_be_met_says_what_is_possible():
    net, x = chain(32, 64, 64, 8), torch.randn(4, 32)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    with pytest.raises(PruneError) as caught:
        prune(net, x, target=Target(latency="1 us"), latency_table=table(overhead=2e-6))
    message = str(caught.value)
    assert "latency 1 us" in message
    nearest = re.search(r"Nearest: latency='([\d.]+) us'", message)
    assert nearest and 2 < float(nearest[1]) < 3
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


def test_a_prediction_that_is_too_bad_does_not_stop_a_target_that_can_be_met():
    """By prediction nothing gets faster; the models themselves do."""
    net, x = chain(32, 64, 64, 8), torch.randn(4, 32)
    flat = table(operator=lambda s: 1e-6)
    result = prune(net, x, target=Target(latency=0.4), latency_table=flat)
    assert result.reached["latency"] <= result.asked["latency"]
    assert result.timing.after < result.timing.before


def test_a_dry_run_only_predicts():
    net = chain(32, 64, 64, 8)
    result = prune(
        net, torch.randn(4, 32), target=Target(latency=0.5), latency_table=table(), dry_run=True
    )
    assert net[0].out_features == 64
    assert result.timing.after is None
    assert result.reached["latency"] == result.timing.predicted <= result.asked["latency"]


def test_a_model_without_weights_has_no_latency():
    with torch.device("meta"):
        net = chain(4, 8, 2)
    with pytest.raises(PruneError, match="meta device has no latency"):
        prune(net, torch.zeros(1, 4), target=Target(latency=0.5))


def test_planning_needs_times():
    groups = analyze(chain(4, 8, 2), torch.zeros(1, 4))
    with pytest.raises(PruneError, match="a target for latency needs times"):
        plan(groups, scores(groups), Target(latency=0.5))


# --- On disk --------------------------------------------------------------------------------------


def filled(folder, names, value=1.0):
    made = LatencyTable(stopwatch=Formula(operator=lambda s: value), folder=folder, progress=False)
    made.measure({name: lambda: lambda: None for name in names})
    return made


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"\xff\xfe", b"{", b"[]", b'{"machine": {}, "seconds": {}}', "negative", "text",
    ],
)  # fmt: skip
def test_a_damaged_table_is_measured_anew_and_says_so(tmp_path, capsys, damage):
    made = filled(tmp_path, ["a", "b"])
    content = json.loads(made.path.read_text())
    if isinstance(damage, bytes):
        made.path.write_bytes(damage)
    else:
        content["seconds"]["a"] = -1.0 if damage == "negative" else "fast"
        made.path.write_text(json.dumps(content))
    again = filled(tmp_path, ["a"], value=2.0)
    assert again.known == {"a": 2.0}
    said = capsys.readouterr().err
    assert "measuring anew" in said and str(made.path) in said.replace("\n", "")
    assert json.loads(made.path.read_text())["seconds"] == {"a": 2.0}
    filled(tmp_path, ["a"])
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "latency").write_text("a file where the folder should be")
    made = filled(tmp_path, ["a"])
    assert made.known == {"a": 1.0}
    assert "its times hold for this run only" in capsys.readouterr().err


def _writer(folder, number):
    for i in range(5):
        filled(folder, [f"{number}.{i}"], value=float(number))


def test_two_processes_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_writer, args=(tmp_path, n)) for n in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers)
    found = LatencyTable(folder=tmp_path).known
    assert found == {f"{n}.{i}": float(n) for n in (1, 2) for i in range(5)}
    assert [p.suffix for p in (tmp_path / "latency").iterdir() if p.suffix == ".part"] == []


def test_tables_of_other_thread_counts_lie_apart(tmp_path, monkeypatch):
    one = LatencyTable(folder=tmp_path).path
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert LatencyTable(folder=tmp_path).path != one


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEI_CACHE", str(tmp_path))
    assert LatencyTable().path.parent == tmp_path / "latency"


def test_operators_that_cannot_be_run_alone_are_told(tmp_path):
    made = LatencyTable(stopwatch=Formula(), folder=False)

    def broken():
        raise RuntimeError("indices out of range")

    made.measure({"gather": broken})
    assert made.known == {"gather": None}


def test_of_plans_that_cost_alike_the_fastest_is_taken():
    torch.manual_seed(0)
    x = torch.randn(1, 16)

    def slow_first(signature):
        """What reads 64 wide is slow: removing those units saves the most time."""
        return 1e-6 * sum(elements(signature)) if 64 in elements(signature) else 1e-9

    def pruned(allocation):
        return prune(
            chain(16, 64, 32, 8), x, target=Target(macs=0.5), allocation=allocation,
            normalise="mean", round_to="auto", latency_table=table(operator=slow_first),
            inplace=False,
        )  # fmt: skip

    fastest = pruned("fastest")
    rivals = [pruned(a) for a in RIVALS]
    assert fastest.reached["macs"] <= fastest.asked["macs"]
    assert fastest.timing.predicted == min(r.timing.predicted for r in rivals)
    assert {*fastest.asked} == {"macs"}


def test_a_latency_is_no_budget_for_the_fastest():
    with pytest.raises(PruneError, match="not itself a latency"):
        prune(
            chain(4, 8, 2), torch.randn(1, 4), target=Target(latency=0.5), allocation="fastest",
            latency_table=table(),
        )  # fmt: skip


# --- A machine that others use as well ------------------------------------------------------------


def test_a_time_that_was_disturbed_is_measured_again(tmp_path):
    """What is slower than a larger one comes to light, and the shorter time stays."""
    net, x = chain(32, 64, 8), torch.zeros(2, 32)
    quiet = Latency(analyze(net, x), table())

    class Disturbed(Formula):
        def operator(self, signature, run):
            first = signature not in self.asked
            return super().operator(signature, run) * (
                50 if first and "[48, 32]" in signature else 1
            )

    clock = Disturbed()
    made = LatencyTable(stopwatch=clock, folder=tmp_path, progress=False)
    found = Latency(analyze(net, x), made)
    (disturbed,) = {s for s in clock.asked if clock.asked.count(s) > 1}
    assert "[48, 32]" in disturbed
    for n in range(1, 65):
        assert found.of(lambda d, n=n: min(n, d.size)) == quiet.of(lambda d, n=n: min(n, d.size))
    assert json.loads(made.path.read_text())["seconds"] == made.known


@pytest.mark.parametrize("crowd", [False, True])
def test_times_of_a_crowded_machine_are_not_kept(tmp_path, monkeypatch, capsys, crowd):
    monkeypatch.setattr(Neighbours, "crowd", lambda self, threads: crowd)
    made = LatencyTable(folder=tmp_path, progress=False)
    made.measure({"a": lambda: lambda: None})
    assert set(made.known) == {"a"}
    assert made.path.exists() is not crowd
    assert ("Come back when it is quiet" in capsys.readouterr().err.replace("\n", " ")) is crowd


def test_neighbours_are_seen():
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_spin) for _ in range(multiprocessing.cpu_count())]
    for other in others:
        other.start()
    try:
        neighbours = Neighbours()
        time.sleep(0.5)
        assert neighbours.crowd(multiprocessing.cpu_count())
    finally:
        for other in others:
            other.kill()
            other.join()
    assert not Neighbours().crowd(1000)  # too short a while to tell


def _spin():
    while True:
        pass
