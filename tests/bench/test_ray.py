"""On a real local cluster of two nodes, one of which is killed in the middle."""

import threading
import time

import pytest

from sentei.bench import Store
from sentei.bench.on_ray import run_on_ray
from sentei.graph.errors import PruneError
from sentei.recovery.train import Recipe
from tests.bench.test_bench import a_run

ray = pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_that_dies_costs_time_and_no_result(tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        doomed = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        runs = [a_run(seed=s, training=Recipe(epochs=20)) for s in range(4)]
        killer = threading.Timer(4.0, lambda: cluster.remove_node(doomed, allow_graceful=False))
        killer.start()
        tally = run_on_ray(runs, tmp_path)
        killer.join()
        assert tally.done == 4 and tally.failed == 0
        assert {r["key"] for r in Store(tmp_path).records()} == {r.key for r in runs}
        assert run_on_ray(runs, tmp_path).known == 4
        failing = run_on_ray([a_run(target=1e6)], tmp_path)
        assert failing.failed == 1
        (why,) = Store(tmp_path).failures().values()
        assert "out of reach" in why["error"]
    finally:
        ray.shutdown()
        cluster.shutdown()
        time.sleep(0.1)


def test_without_ray_it_says_which_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PruneError, match=r"pip install 'sentei\[bench\]'"):
        run_on_ray([a_run()], tmp_path)
