import pytest

from sentei.bench import Store
from sentei.bench.search import search
from sentei.graph.errors import PruneError
from tests.bench.test_bench import SHORT, a_run

pytest.importorskip("optuna")


@pytest.mark.filterwarnings("ignore")
def test_it_finds_the_better_option_and_goes_on_where_it_was(tmp_path):
    run = a_run(target=30.0, tuning=SHORT)
    store = Store(tmp_path)
    found = search(run, {"scope": ["global", "uniform"]}, store, trials=3, sampler="random")
    assert len(found.trials) == 3
    assert found.accuracy == max(a for _, a in found.trials)
    again = search(run, {"scope": ["global", "uniform"]}, store, trials=4, sampler="random")
    assert again.trials[:3] == found.trials and len(again.trials) == 4
    assert len(store) == 0  # trials are no results: they never saw the test set


def test_mistakes_speak(tmp_path):
    with pytest.raises(PruneError, match="no option 'scop'"):
        search(a_run(), {"scop": ["global"]}, Store(tmp_path))
    with pytest.raises(PruneError, match="unknown sampler 'tp'"):
        search(a_run(), {"scope": ["global"]}, Store(tmp_path), sampler="tp")
    with pytest.raises(PruneError, match="must be"):
        search(a_run(), {"scope": "global"}, Store(tmp_path), trials=1)
