"""Tasks × methods × targets × seeds under one protocol, every result kept.

The protocol is that of Blalock et al. 2020 (arXiv:2003.03033): every method gets the same network,
data, pre-training, budget and recovery; the unpruned control and the plain baselines are always
there; several operating points, several seeds, both parameters and MACs.

- `config`: what to run, from one YAML file;
- `runs`: one run as a value whose fields name it, and how it is carried out;
- `store`: one record a run, written once;
- `metrics`: what is measured, and by which definition;
- `local`: in processes; `on_ray`: on a cluster;
- `search`: hyper-parameters on held-out data;
- `curves`, `ranks`, `findings`, `rules`: what the records say; `report`: on paper.
"""

from sentei.bench.config import Config, load_config
from sentei.bench.local import run_here
from sentei.bench.runs import Run, execute
from sentei.bench.store import Store

__all__ = ["Config", "Run", "Store", "execute", "load_config", "run_here"]
