"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from sentei.cli import show

__all__ = ["Quiet", "Talking"]


class Quiet:
    """Tells nobody. What `prune` uses when it is called from Python."""

    def line(self, label: str, text: str, spent: float | None = None) -> None:
        """A stage is done, after `spent` seconds."""

    @contextmanager
    def bar(self, what: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        """Something long begins; call what is given with how much is done, and a note."""
        yield lambda done, note="": None


class Talking(Quiet):
    """Tells a person: a line for each stage, a bar for what takes long."""

    def __init__(self, screen: Console) -> None:
        self.screen = screen

    def line(self, label: str, text: str, spent: float | None = None) -> None:
        show.line(self.screen, label, text, spent)

    @contextmanager
    def bar(self, what: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        with show.bar(self.screen) as progress:
            task = show.task(progress, what, total, unit)
            yield lambda done, note="": progress.update(task, completed=done, note=note)
