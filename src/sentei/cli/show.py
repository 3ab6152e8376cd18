"""How things look in a terminal: 80 columns, numbers that line up, bars with the time left."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sentei.graph.table import elide, short

__all__ = ["amount", "bar", "console", "data_size", "duration", "elide", "escape", "line",
           "percent", "put", "reflow", "seconds", "short", "table", "tail", "tails",
           "task"]  # fmt: skip

WIDTH = 80


def console(*, stderr: bool = False) -> Console:
    """A console of at most 80 columns; a narrower terminal keeps its width."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.width <= WIDTH else Console(stderr=stderr, highlight=False, width=WIDTH)


def tail(name: str, width: int) -> str:
    """`name` in at most `width` characters; of many that begin alike, the ends tell them apart.

    >>> tail("model.layers.11.self_attn.q_proj", 20)
    '…11.self_attn.q_proj'
    """
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


def tails(names: Sequence[str], width: int) -> list[str]:
    """Names in at most `width` characters: their ends, and as much of the beginnings as it takes
    to tell them apart.

    >>> tails(["encoder.layer1.conv1", "decoder.layer1.conv1", "head"], 15)
    ['en…layer1.conv1', 'de…layer1.conv1', 'head']
    """
    for head in range(0, width // 2, 2):
        short = [n if len(n) <= width else f"{n[:head]}{tail(n, width - head)}" for n in names]
        if len(set(short)) == len(set(names)):
            return short
    return [tail(name, width) for name in names]


def percent(part: float, whole: float) -> str:
    """
    >>> percent(1, 3), percent(1, 0)
    ('33.3 %', '–')
    """
    return f"{100 * part / whole:.1f} %" if whole else "–"


def seconds(value: float) -> str:
    """A measured time with three digits and its unit.

    >>> [seconds(t) for t in (0.0000123, 0.00825, 1.5, 250.0)]
    ['12.3 µs', '8.25 ms', '1.5 s', '250 s']
    """
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def duration(value: float) -> str:
    """How long something took, to be read in passing.

    >>> [duration(t) for t in (0.26, 12.4, 95, 7300)]
    ['0.3 s', '12 s', '1:35 min', '2:01 h']
    """
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d} h"


def data_size(value: float) -> str:
    """
    >>> [data_size(n) for n in (512, 44_700_000, 2**31)]
    ['512 B', '44.7 MB', '2.15 GB']
    """
    text = short(round(value))
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def amount(name: str, value: float) -> str:
    """The value of a cost, as that is written.

    >>> amount("macs", 35_700_000), amount("latency", 0.0125), amount("bytes", 4096)
    ('35.7M', '12.5 ms', '4.10 kB')
    """
    if name == "latency":
        return seconds(value)
    if name in ("bytes", "memory", "stored"):
        return data_size(value)
    if name == "width":
        return f"{100 * value:.4g} %"
    return short(round(value))


def line(screen: Console, label: str, text: str, spent: float | None = None) -> None:
    """One stage of a run: its name, what it gave, how long it took."""
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(width=9, no_wrap=True, style="bold")
    grid.add_column(ratio=1, overflow="fold")
    grid.add_column(justify="right", no_wrap=True, style="dim")
    grid.add_row(escape(label), escape(text), "" if spent is None else duration(spent))
    put(screen, grid)


def put(screen: Console, what: Any) -> None:
    """Print without the blanks that fill up the lines of a table."""
    with screen.capture() as drawn:
        screen.print(what)
    for text in drawn.get().splitlines():
        screen.file.write(text.rstrip() + "\n")


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (),
    title: str | None = None, names: Sequence[int] = (0,), cut: Sequence[int] = (),
) -> Table:  # fmt: skip
    """A plain table; columns in `names` give way where the terminal is narrow."""
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        show_header=any(head),
    )
    for i, name in enumerate(head):
        made.add_column(
            name,
            justify="right" if i in right else "left",
            no_wrap=i not in names,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*map(escape, row))
    return made


@contextmanager
def bar(screen: Console, *, show: bool = True) -> Iterator[Progress]:
    """A progress bar with the time left, on a terminal; elsewhere nothing is drawn."""
    # On stderr: what a command prints can be kept in a file while the bar is seen.
    drawn = Console(stderr=True, width=min(screen.width, WIDTH))
    if not (show and sys.stderr.isatty()):
        drawn = Console(file=io.StringIO())
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=drawn,
        transient=True,
        expand=True,
    )
    with progress:
        yield progress


def task(progress: Progress, what: str, total: float, unit: str) -> Any:
    return progress.add_task(what, total=total or None, unit=unit, note="")


def reflow(text: str, width: int = WIDTH) -> str:
    """A docstring wrapped anew: paragraphs and `name: …` entries keep their indentation.

    >>> print(reflow("One two\\nthree.\\n\\nArgs:\\n    a: first\\n        line\\n    b: second"))
    One two three.
    <BLANKLINE>
    Args:
        a: first line
        b: second
    """
    out: list[str] = []
    for raw in text.splitlines():
        indent = len(raw) - len(raw.lstrip())
        words = raw.strip()
        above = out[-1] if out else ""
        start = len(above) - len(above.lstrip())
        deeper = indent > start and not above.endswith(":")
        same = indent == start == 0
        if words and above.strip() and (deeper or same) and not above.endswith("::"):
            out[-1] = f"{above} {words}"
        else:
            out.append(raw.rstrip())
    return "\n".join(
        textwrap.fill(
            entry.strip(), width, initial_indent=" " * _indent(entry),
            subsequent_indent=" " * (_indent(entry) + (4 if _indent(entry) else 0)),
        )
        for entry in out
    )  # fmt: skip


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
