"""From records to trade-off curves: mean and spread over seeds at every operating point."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sentei.bench.runs import DENSE

__all__ = ["Curve", "Point", "curves", "label", "pair"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One method at one target: sample mean and standard deviation over seeds.

    target: what was asked, times smaller; compression, speedup: what was reached, by the
        definitions of `sentei.bench.metrics`; reached: of the two, what the target was for;
        latency: seconds before over seconds after, measured.
    accuracy, loss: of the test set; control: accuracy of the unpruned networks of the same seeds.
    """

    target: float
    seeds: tuple[int, ...]
    accuracy: float
    accuracy_std: float
    top5: float | None
    loss: float
    loss_std: float
    control: float
    compression: float
    speedup: float
    latency: float
    bytes: float
    steps: float
    reached: float
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Curve:
    """One method on one network: its points, smallest target first."""

    task: str
    model: str
    method: str
    axis: str
    points: tuple[Point, ...]
    structure: str = ""

    @property
    def pair(self) -> str:
        return f"{self.task}/{self.model}"

    def at(self, target: float) -> Point | None:
        """The point of a target, if it was run."""
        return next((p for p in self.points if p.target == target), None)


def label(run: Mapping[str, Any]) -> str:
    """A method with the options that were set.

    >>> label({"method": "han-magnitude", "options": {"scope": "uniform"}})
    'han-magnitude (scope=uniform)'
    """
    options = ", ".join(f"{k}={v}" for k, v in sorted(run["options"].items()))
    return f"{run['method']} ({options})" if options else str(run["method"])


def pair(record: Record) -> str:
    """Task and model of a record, such as "digits/mlp"."""
    return f"{record['run']['task']}/{record['run']['model']}"


def curves(records: Iterable[Record]) -> list[Curve]:
    """All curves, by task, model, axis and method; the control among them, at target 1.

    Different trainings of one network are different controls: a curve that mixes them is refused.

    Raises:
        ValueError: records of one network come from different trainings.
    """
    grouped: dict[tuple[str, str, str, str], dict[float, list[Record]]] = defaultdict(
        lambda: defaultdict(list)
    )
    trainings: dict[tuple[str, str], Any] = {}
    for record in records:
        run = record["run"]
        known = trainings.setdefault((run["task"], run["model"]), run["training"])
        if known != run["training"]:
            raise ValueError(
                f"{pair(record)}: results of different trainings in one store; compare methods on "
                f"the same pre-trained networks only"
            )
        grouped[run["task"], run["model"], run["axis"], label(run)][run["target"]].append(record)
    return [
        Curve(*key[:2], key[3], key[2], tuple(_point(t, rs) for t, rs in sorted(points.items())))
        for key, points in sorted(grouped.items())
    ]


def _point(target: float, records: list[Record]) -> Point:
    records = sorted(records, key=lambda r: r["run"]["seed"])
    accuracies = [r["accuracy"] for r in records]
    top5 = [r["top5"] for r in records if r["top5"] is not None]
    return Point(
        target,
        tuple(r["run"]["seed"] for r in records),
        statistics.fmean(accuracies),
        _std(accuracies),
        statistics.fmean(top5) if top5 else None,
        statistics.fmean(r["loss"] for r in records),
        _std([r["loss"] for r in records]),
        statistics.fmean(r["control"]["accuracy"] for r in records),
        statistics.fmean(r["compression"] for r in records),
        statistics.fmean(r["speedup"] or math.inf for r in records),
        statistics.fmean(r["latency"]["before"] / r["latency"]["after"] for r in records),
        statistics.fmean(r["bytes"]["after"] for r in records),
        statistics.fmean(r["steps"]["method"] for r in records),
        statistics.fmean(
            r["compression"] if r["run"]["axis"] == "weights" else r["speedup"] or math.inf
            for r in records
        ),
        tuple(accuracies),
    )


def _std(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def methods(found: Iterable[Curve]) -> list[str]:
    """Names of the methods, without the control."""
    return sorted({c.method for c in found if c.method != DENSE})
