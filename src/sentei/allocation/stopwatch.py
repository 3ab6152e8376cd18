"""Measuring time on a machine that others use as well."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import psutil
import torch
from torch import nn

from sentei.graph.capture import unwrap

__all__ = ["Neighbours", "Stopwatch", "WallClock"]

Call = tuple[tuple[Any, ...], Mapping[str, Any]]


class Stopwatch(Protocol):
    """Where times come from. Tests and simulators bring their own."""

    def operator(self, signature: str, run: Callable[[], Any]) -> float:
        """Seconds of one run of an operator; `signature` says which, with its shapes."""
        ...

    def models(self, models: Sequence[nn.Module], call: Call) -> list[float]:
        """Seconds of one forward pass of each, measured in turns."""
        ...


class WallClock:
    """Real time: the fastest of many runs.

    The fastest run is the one that was disturbed least; means and medians tell of the neighbours,
    too. Models are run in turns, so that a slow minute is slow for all of them; eagerly, in eval
    mode, and their flags and buffers are as before afterwards.

    seconds: how long to measure an operator, and twenty times as long a model, at the least.
    """

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds

    def operator(self, signature: str, run: Callable[[], Any]) -> float:
        with torch.inference_mode():
            run()  # the first run pays for memory and code generation
            first = _once(run)
            inner = max(1, min(1000, int(50e-6 / max(first, 1e-9))))
            best, spent, runs = first, 0.0, 0
            # Twice the time where a run varies: somebody else was at work.
            while spent < self.seconds * (2 if best < 0.7 * first else 1) or runs < 3:
                start = time.perf_counter()
                for _ in range(inner):
                    run()
                _wait()
                took = time.perf_counter() - start
                best, spent, runs = min(best, took / inner), spent + took, runs + 1
        return best

    def models(self, models: Sequence[nn.Module], call: Call) -> list[float]:
        args, kwargs = call
        models = [unwrap(model) for model in models]
        runs = [lambda m=model: m(*args, **kwargs) for model in models]
        best = [float("inf")] * len(runs)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng())
            for model in models:
                stack.enter_context(_evaluating(model))
            stack.enter_context(torch.inference_mode())
            for run in runs * 2:
                run()
            spent, turns = 0.0, 0
            while turns < 5 or spent < 20 * self.seconds * len(runs):
                for i, run in enumerate(runs):
                    took = _once(run)
                    best[i] = min(best[i], took)
                    spent += took
                turns += 1
        return best


class Neighbours:
    """What other programs have used of the processors since this was made."""

    def __init__(self) -> None:
        self._began = self._now()

    def crowd(self, threads: int) -> bool:
        """Whether they left less than `threads` processors, by a quarter of one or more."""
        took, others = (b - a for a, b in zip(self._began, self._now(), strict=True))
        # The system counts in hundredths of a second: a shorter while says nothing.
        return took > 0.1 and others / took + threads > (psutil.cpu_count() or 1) + 0.25

    @staticmethod
    def _now() -> tuple[float, float]:
        """Seconds on the clock, and those that other programs have spent on all processors."""
        used, own = psutil.cpu_times(), psutil.Process().cpu_times()
        busy = used.user + used.system + getattr(used, "nice", 0.0)  # Windows has no nice programs
        return time.perf_counter(), busy - own.user - own.system


def _once(run: Callable[[], Any]) -> float:
    _wait()
    start = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    """Accelerators answer before they are done."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode; flags and buffers as before on leaving."""
    flags = [(m, m.training) for m in model.modules()]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    try:
        model.eval()
        yield
    finally:
        for module, flag in flags:
            module.training = flag
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
