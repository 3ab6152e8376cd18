"""The bench: configurations, records, and what they measure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from sentei.bench import Store, load_config, metrics, run_here
from sentei.bench.local import carry_out
from sentei.bench.runs import DENSE, Run, execute
from sentei.graph.errors import PruneError
from sentei.recovery.train import Recipe
from sentei.structures import Masks

SHORT = Recipe(epochs=1, lr=0.05)


def a_run(method: str = "han-magnitude", **more) -> Run:
    fields = {"task": "digits", "model": "mlp", "method": method, "target": 4.0, "seed": 0,
              "training": SHORT, "tuning": SHORT} | more  # fmt: skip
    return Run(**fields)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bench.yaml"
    path.write_text(text)
    return path


CONFIG = """
tasks:
  - task: digits
    models: [mlp]
methods: [han-magnitude, {method: random, options: {scope: global}}]
targets: [2, 4]
seeds: [0, 1]
training: {epochs: 1}
tuning: {epochs: 1}
"""


def test_a_configuration_names_every_run_and_adds_the_baselines(tmp_path):
    runs = load_config(written(tmp_path, CONFIG)).runs()
    assert len({r.key for r in runs}) == len(runs)
    assert {r.method for r in runs} == {DENSE, "random", "han-magnitude"}
    # Two baselines that were not asked for: random by layer, layerwise magnitude.
    assert len(runs) == 2 * (1 + 4 * 2)
    assert any(r.options == {"scope": "uniform"} for r in runs if r.method == "han-magnitude")


@pytest.mark.parametrize(
    "change, words",
    [
        (("digits", "digit"), "known tasks: blocks"),
        (("[mlp]", "[mpl]"), "no model 'mpl'"),
        (("random, options", "randm, options"), "unknown method 'randm'"),
        (("scope: global", "scop: global"), "no option 'scop'"),
        (("[2, 4]", "[0.5]"), "at least 1"),
        (("epochs: 1", "epochs: many"), "training.epochs"),
        (("tasks:", "taks:"), "taks"),
        (("tasks:", "tasks: ["), "cannot read"),
    ],
)
def test_mistakes_in_it_speak(tmp_path, change, words):
    with pytest.raises(PruneError, match=words.replace("[", r"\[")):
        load_config(written(tmp_path, CONFIG.replace(*change)))


def test_a_record_says_what_was_asked_and_reached(tmp_path):
    run = a_run()
    record = execute(run, Store(tmp_path))
    assert record["compression"] == pytest.approx(4, rel=1e-3)
    assert record["size"]["after"] == record["nonzeros"]
    assert record["speedup"] > 1 and record["params"]["before"] == record["params"]["after"]
    assert record["control"]["accuracy"] > 0.5
    assert record["steps"] == {"dense": 22, "method": 22}
    json.dumps(record)
    again = execute(run, Store(tmp_path))
    for name in ("accuracy", "loss", "nonzeros", "densities"):
        assert record[name] == again[name]


def test_removing_units_counts_alike(tmp_path):
    record = execute(a_run("channel-l2", axis="macs"), Store(tmp_path))
    assert record["reached"] == record["speedup"] >= 4
    assert record["size"]["after"] == record["params"]["after"] < record["params"]["before"]
    with pytest.raises(PruneError, match="ask for a target in weights"):
        execute(a_run(axis="macs"), Store(tmp_path))


def test_tickets_of_whole_rows_are_asked_for_by_weights(tmp_path):
    record = execute(a_run("refill"), Store(tmp_path))
    assert record["asked"]["density"] and record["compression"] >= 3.5


def test_every_run_is_done_once(tmp_path):
    runs = [a_run(), a_run("random"), a_run(DENSE, target=1.0), a_run(target=1e6)]
    first = run_here(runs, tmp_path)
    assert (first.done, first.failed) == (3, 1)
    assert "out of reach" in next(iter(Store(tmp_path).failures().values()))["error"]
    second = run_here(runs, tmp_path)
    assert (second.known, second.failed, second.done) == (3, 1, 0)


def test_a_run_that_another_runner_works_on_is_left_to_it(tmp_path):
    store, run = Store(tmp_path), a_run()
    with store.claim(run.key) as mine:
        assert mine
        code = (
            "import sys; from sentei.bench.store import Store\n"
            "with Store(sys.argv[1]).claim(sys.argv[2]) as mine: print(mine)"
        )
        asked = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), run.key], capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert asked.stdout.strip() == "False"
    assert carry_out(run, str(tmp_path)) == "done"
    assert carry_out(run, str(tmp_path)) == "known"


def test_a_kill_loses_the_run_under_way_and_nothing_else(tmp_path):
    code = (
        "import sys\n"
        "from tests.bench.test_bench import a_run\n"
        "from sentei.bench.local import carry_out\n"
        "carry_out(a_run(), sys.argv[1]); print('one', flush=True)\n"
        "carry_out(a_run(seed=1, training=a_run().training.__class__(epochs=400)), sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    home = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=home) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "one"
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGKILL)
    store = Store(tmp_path)
    assert len(store) == len(store.records()) == 1
    # The dead runner's lock is free again.
    with store.claim(a_run(seed=1).key) as mine:
        assert mine


def test_an_impatient_interrupt_ends_the_bench_and_its_workers(tmp_path):
    code = (
        "import sys\n"
        "from tests.bench.test_bench import a_run\n"
        "from sentei.bench import run_here\n"
        "long = a_run().training.__class__(epochs=4000)\n"
        "run_here([a_run(seed=s, training=long) for s in range(3)], sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    home, locks = Path(__file__).parents[2], tmp_path / "locks"
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home,
        start_new_session=True,
    ) as child:  # fmt: skip
        for _ in range(600):  # until a worker is at work
            if locks.exists() and any(locks.iterdir()):
                break
            time.sleep(0.1)
        for _ in range(2):  # the first is for the work, the second for who waits for its end
            os.killpg(child.pid, signal.SIGINT)
            time.sleep(0.3)
        assert child.wait(timeout=30) != 0
    for _ in range(50):  # nobody of the group is left
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("a worker is left behind")
    assert len(Store(tmp_path)) == 0


def test_a_killed_runner_leaves_no_worker_behind():
    code = (
        "import multiprocessing, time\n"
        "from sentei.bench.local import _one_thread\n"
        "def work():\n"
        "    _one_thread(); time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('fork').Process(target=work)\n"
        "    child.start(); print(child.pid, flush=True); child.join()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        worker = int(child.stdout.readline())
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGKILL)
        child.stdout.read()  # until the worker has let go of it
    for _ in range(50):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the worker is left behind")


MINE = """
import torch
from torch import nn
from sentei.methods import method
from sentei.methods.parts import one_shot
from sentei.tasks import Task

def halves():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    net = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return Task("halves", (x, (x[:, 0] > 0).long()), (x, (x[:, 0] > 0).long()), x[:1],
                models={"net": net})

def square(evidence):
    "Squares."
    return {n: w.detach() ** 2 for n, w in evidence.weights.items()}

def unit(group, evidence):
    return evidence.sum(group, torch.abs)

@method("third", title="-", authors="-", venue="-", year=2026, family="magnitude",
        structure="weight", timing="after", starts="trained")
def third(setting, *, scope="global"):
    "As square."
    return one_shot(setting, square, scope)

def odd(a, b, c):
    pass
"""
OWN = """
tasks: [{task: mine.py:halves, models: [net]}]
methods: [mine.py:square, {method: mine.py:third, options: {scope: uniform}}, mine.py:unit]
targets: [1.5]
seeds: [0]
training: {epochs: 1}
tuning: {epochs: 1}
"""


def test_a_users_own_task_and_ideas_plug_in(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    runs = load_config(written(tmp_path, OWN)).runs()
    store = tmp_path / "store"
    assert {carry_out(r, str(store)) for r in runs} == {"done"}
    found = {r["run"]["method"]: r for r in Store(store).records()}
    assert {"mine.py:square", "mine.py:third", "mine.py:unit", "random", DENSE} <= found.keys()
    assert found["mine.py:square"]["run"]["task"] == "mine.py:halves"
    assert found["mine.py:square"]["densities"] and not found["mine.py:unit"]["densities"]
    # The folder is no part of a run's name, what the file says is.
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "mine.py").write_text(MINE)
    assert [r.key for r in load_config(written(other, OWN)).runs()] == [r.key for r in runs]
    (tmp_path / "mine.py").write_text(MINE + "# new\n")
    with pytest.raises(PruneError, match="has changed since the bench began"):
        execute(runs[0], Store(store))
    again = load_config(tmp_path / "bench.yaml").runs()
    assert not {r.key for r in again} & {r.key for r in runs}
    for change, words in (
        (("square", "sqare"), r"has no function 'sqare'; closest: 'square'"),
        (("mine.py:square", "mine.py:odd"), r"a criterion of \(group, evidence\).*3 arguments"),
        (("mine.py:halves", "mine.py:MINE"), "has no function 'MINE'"),
        (("mine.py:halves", "mine.py:unit"), "TypeError"),
        (("mine.py:halves", "none.py:f"), "none.py"),
    ):
        with pytest.raises(PruneError, match=words):
            load_config(written(tmp_path, OWN.replace(*change))).runs()


def test_a_damaged_record_is_named(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "runs" / "abc.json").write_text("{")
    with pytest.raises(PruneError, match=r"abc\.json is no record"):
        store.records()


def test_compression_and_speed_up_by_their_definitions():
    net = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    x = torch.zeros(1, 10)
    macs = metrics.macs_by_weight(net, x)
    assert metrics.sparse_macs(macs, None) == sum(macs.values()) == 300
    half = Masks({n: torch.arange(w.numel()).view(w.shape) % 2 == 0
                  for n, w in net.named_parameters() if w.dim() == 2})  # fmt: skip
    assert sum(macs.values()) / metrics.sparse_macs(macs, half) == 2.0
    total, fixed, prunable = 325, 25, 300
    assert metrics.size(net, half) == fixed + prunable // 2
    # The density formula inverts the compression ratio.
    for c in (1, 2, 3, 10):
        f = metrics.density_for(net, c)
        assert fixed + f * prunable == pytest.approx(total / c)
    with pytest.raises(PruneError, match=r"Largest possible: 13\.0x"):
        metrics.density_for(net, 20)


def test_macs_are_found_through_views_and_in_recurrent_layers():
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            return x @ self.weight

    assert metrics.macs_by_weight(Transposed(), torch.zeros(2, 4)) == {"weight": 48}
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.zeros(1, 3, 8)
    found = metrics.macs_by_weight(attention, (x, x, x))
    assert found["in_proj_weight"] == 3 * 3 * 64 and found["out_proj.weight"] == 3 * 64
    assert found[""] == 2 * 3 * 3 * 8  # scores and mixing
    conv = nn.Conv2d(2, 4, 3, padding=1, groups=2)
    assert metrics.macs_by_weight(conv, torch.zeros(1, 2, 5, 5)) == {"weight": 25 * 4 * 9}
