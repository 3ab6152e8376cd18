"""Runs in processes on this machine."""

from __future__ import annotations

import concurrent.futures as futures
import multiprocessing
import os
import threading
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sentei.bench.runs import Run, execute
from sentei.bench.store import Store
from sentei.graph.errors import PruneError

__all__ = ["Tally", "carry_out", "left_to_do", "progress", "run_here"]


@dataclass(frozen=True)
class Tally:
    """How many runs were there already, done now, failed, or left to another runner."""

    known: int = 0
    done: int = 0
    failed: int = 0
    elsewhere: int = 0


def carry_out(run: Run, folder: str) -> str:
    """One run into the store: "known", "done", "failed" or "elsewhere"."""
    store = Store(folder)
    if run.key in store:
        return "known"
    with store.claim(run.key) as mine:
        if not mine:
            return "elsewhere"
        if run.key in store:  # done between the look and the lock
            return "known"
        try:
            record = execute(run, store)
        except Exception as error:
            store.fail(
                run.key,
                {
                    "run": run.describe(),
                    "error": f"{type(error).__name__}: {error}",
                    # What a method refuses is an answer; anything else needs the place.
                    "trace": "" if isinstance(error, PruneError) else traceback.format_exc(),
                },
            )
            return "failed"
        store.add(run.key, record)
    return "done"


def left_to_do(runs: Iterable[Run], store: Store, retry: bool) -> tuple[list[Run], dict[str, int]]:
    """The runs that have no record yet, and a count of the others, as a `Tally` has it."""
    failed = set() if retry else set(store.failures())
    counts = {"known": 0, "done": 0, "failed": 0, "elsewhere": 0}
    todo = []
    for run in runs:
        if run.key in store:
            counts["known"] += 1
        elif run.key in failed:
            counts["failed"] += 1
        else:
            todo.append(run)
    return todo, counts


def run_here(
    runs: Iterable[Run],
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    retry: bool = False,
    console: Console | None = None,
) -> Tally:
    """Carry out what is not in the store yet. Interrupted, it goes on where it was.

    Args:
        workers: processes; each works with one thread, so that results do not depend on how many.
        retry: try again what failed before.
    """
    store = Store(folder)
    todo, counts = left_to_do(runs, store, retry)
    if not todo:
        return Tally(**counts)
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with (
        progress(console) as bar,
        futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool,
    ):
        row = bar.add_task("bench", total=len(todo), note="")
        waiting = {pool.submit(carry_out, run, str(store.folder)): run for run in todo}
        try:
            for one in futures.as_completed(waiting):
                counts[one.result()] += 1
                bar.update(row, advance=1, note=waiting[one].label)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Left alone, a worker would wait for work that nobody hands out any more, and this
            # process at its end for the worker.
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise
    return Tally(**counts)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A runner that is killed says nothing to its workers: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def progress(console: Console | None) -> Progress:
    """The bar of a bench: runs done, time left, which run ended last."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
