"""How good the model is on the test data, before, between and after."""

from __future__ import annotations

import dataclasses
import time

from sentei.cli.folder import Facts
from sentei.cli.pruning.work import Work
from sentei.tasks import evaluate, failing

__all__ = ["evaluate_as"]


def evaluate_as(work: Work, stage: str) -> None:
    """Judge the model as it is now, under the name of a stage; nothing without data."""
    data = work.opened.data
    if data is None:
        return
    began, old = time.perf_counter(), stage in work.run

    def do() -> Facts:
        with work.report.bar("evaluating", data.counts[2], "examples") as tick:
            seen = 0

            def count(n: int) -> None:
                nonlocal seen
                seen += n
                tick(seen)

            with failing(f"evaluating on {data.name}"):
                score = evaluate(work.model, data.test, data, tick=count)
        return dataclasses.asdict(score)

    found = work.run.once(stage, do)
    words = f"{data.metric.name} {data.metric.words(found['value'])}"
    if data.metric.name != "loss":
        words += f", loss {found['loss']:.4f}"
    label = stage.partition("-")[0]
    work.report.line(label, words, None if old else time.perf_counter() - began)
