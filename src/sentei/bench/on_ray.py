"""Runs on Ray: a laptop or a cluster.

The driver hands out runs and writes the records that come back, so the nodes need no common file
system and no record is written twice. A worker that dies has its run done again elsewhere.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from sentei.bench.local import Tally, left_to_do, progress
from sentei.bench.runs import Run, execute
from sentei.bench.store import Store
from sentei.graph.errors import PruneError

__all__ = ["run_on_ray"]


def run_on_ray(
    runs: Iterable[Run],
    folder: str | os.PathLike[str],
    *,
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    tries: int = 3,
    retry: bool = False,
    console: Console | None = None,
) -> Tally:
    """Carry out what is not in the store yet, on a Ray cluster.

    Args:
        address: of a running cluster ("auto", "ray://host:10001"); None uses the one this process
            is connected to, or starts one here.
        cpus, gpus: what a run takes; each works with one thread.
        tries: how often a run is started anew when its worker or node dies.
        retry: try again what failed before.
    Raises:
        PruneError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ModuleNotFoundError as missing:
        raise PruneError(
            "Ray is not installed. Install it with: pip install 'sentei[bench]'"
        ) from missing
    store = Store(folder)
    todo, counts = left_to_do(runs, store, retry)
    if not todo:
        return Tally(**counts)
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise PruneError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=tries)(_away)
        with progress(console) as bar:
            row = bar.add_task("bench", total=len(todo), note="")
            waiting = {remote.remote(run): run for run in todo}
            while waiting:
                ready, _ = ray.wait(list(waiting), num_returns=1)
                run = waiting.pop(ready[0])
                counts[_keep(store, run, ready[0], ray)] += 1
                bar.update(row, advance=1, note=run.label)
    finally:
        if started:
            ray.shutdown()
    return Tally(**counts)


def _keep(store: Store, run: Run, reference: Any, ray: Any) -> str:
    """Write what came back for a run: "known", "done" or "failed"."""
    try:
        record = ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        words = f"{type(cause).__name__}: {cause}".strip()
        store.fail(run.key, {"run": run.describe(), "error": words[-2000:], "trace": ""})
        return "failed"
    if run.key in store:  # another runner on the same store was quicker
        return "known"
    store.add(run.key, record)
    return "done"


def _away(run: Run) -> dict[str, Any]:
    """A run on a node: dense networks are kept for the next runs that land there."""
    import torch

    torch.set_num_threads(1)
    return execute(run, Store(Path(tempfile.gettempdir()) / f"sentei-bench-{os.getuid()}"))
