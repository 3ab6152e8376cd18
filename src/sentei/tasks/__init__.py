"""Data and networks to prune them with, as used by the examples, the CLI and the bench.

- `digits`: scikit-learn's 8×8 digits as tensors; real images that need no download.
- `text`: a byte-level language model on the standard library's sources.
- `graphs`: node classification on the karate club and on generated graphs.
- `points`: point clouds of generated shapes.
- `models`: small networks of each kind that train on the digits in seconds.
- `papers`: the CIFAR networks of the literature, whose counts papers print to the last digit.
- `open_data`: these, and data on disk, by a short name; one file a format under `formats`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sentei.graph.errors import PruneError, closest
from sentei.sources.user_file import run_function
from sentei.tasks.base import Task
from sentei.tasks.dataset import METRICS, Dataset, Metric, Score, evaluate, failing, rehearse
from sentei.tasks.digits import digits
from sentei.tasks.graphs import block_graph, karate
from sentei.tasks.opening import FORMATS, Wanted, open_data
from sentei.tasks.points import shapes
from sentei.tasks.text import source_text

__all__ = ["FORMATS", "METRICS", "TASKS", "Dataset", "Metric", "Score", "Task", "Wanted", "digits",
           "evaluate", "failing", "open_data", "rehearse", "task"]  # fmt: skip

TASKS: dict[str, Callable[..., Task]] = {
    "blocks": block_graph,
    "digits": digits,
    "karate": karate,
    "shapes": shapes,
    "sources": source_text,
}
"""Tasks that need no files."""


def task(name: str) -> Task:
    """A built-in task by name, or one that a user's `file.py:function` returns.

    Raises:
        PruneError: there is none of that name; or the file is no good, or gives no `Task`.

    >>> task("digit")
    Traceback (most recent call last):
    sentei.graph.errors.PruneError: unknown task 'digit'; closest: 'digits'
    """
    file, _, function = name.rpartition(":")
    if file.endswith(".py"):
        made = run_function(Path(file).absolute(), function)
        if not isinstance(made, Task):
            raise PruneError(
                f"{name} must return a sentei.tasks.Task; it returned a {type(made).__name__}"
            )
        return made
    if name not in TASKS:
        raise PruneError(f"unknown task {name!r}; {closest(name, TASKS)}")
    return TASKS[name]()
