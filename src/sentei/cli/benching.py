"""`sentei bench` and `sentei map`: comparing methods, and drawing the field."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from sentei.bench import Store, load_config, run_here
from sentei.bench.local import Tally
from sentei.bench.on_ray import run_on_ray
from sentei.bench.report import write_report
from sentei.graph.errors import PruneError

__all__ = ["bench", "draw_map"]

PLACES = ("here", "ray")


def bench(
    config: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    on: str = "here",
    workers: int = 1,
    address: str | None = None,
    retry: bool = False,
    console: Console | None = None,
) -> tuple[Tally, dict[str, Path]]:
    """Carry out what a configuration asks for and the folder does not hold yet; then report.

    Args:
        config: a YAML file; see `sentei.bench.config`.
        out: the store of records; the report is written there, too.
        on: "here" in processes, or "ray" on a cluster.
        workers: processes, for "here".
        address: of the Ray cluster; a new one on this machine by default.
        retry: try again what failed before.
    Returns:
        what was done, and the files of the report by ending.
    Raises:
        PruneError: the configuration is wrong, or there is no result to report.
    """
    if on not in PLACES:
        raise PruneError(f"--on {on}: known: {', '.join(PLACES)}")
    runs = load_config(config).runs()
    if on == "ray":
        tally = run_on_ray(runs, out, address=address, retry=retry, console=console)
    else:
        tally = run_here(runs, out, workers=workers, retry=retry, console=console)
    return tally, write_report(Store(out), out)


def draw_map(
    out: str | os.PathLike[str],
    *,
    store: str | os.PathLike[str] | None = None,
    claims: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the map of all methods as one page.

    Args:
        store: of a bench, whose curves are shown with the methods.
        claims: a folder of records as `python -m benchmarks.claims` keeps them.
    Raises:
        PruneError: the page cannot be written, or a store or folder is not there.
    """
    from sentei.bench.curves import curves
    from sentei.report.map import read_claims, write_map

    for place in (store, claims):
        if place is not None and not Path(place).is_dir():
            raise PruneError(f"there is no folder {place}")
    found = curves(Store(store).records()) if store is not None else []
    return write_map(out, claims=read_claims(claims) if claims is not None else {}, curves=found)
