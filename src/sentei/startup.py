"""What the command `sentei` sets up before torch is imported, which takes seconds.

The package does it in its first line, for `python -m sentei` and the console script alike import
the package before anything of the command. A program that imports sentei is left alone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "begin", "interruptible", "is_command", "leave", "several"]

INTERRUPTED = 130


def begin() -> None:
    """Where this process is the command: Ctrl-C is one line, and C++ keeps its remarks to itself.

    Does nothing in a program that imports sentei, nor where Ctrl-C is ignored or handled already.
    """
    if not is_command(sys.argv, sys.orig_argv):
        return
    if several():
        # At the first step DDP says in each process, at length, that no parameter was unused. We
        # ask it to look at every step, for a later one may take another branch of the model; torch
        # reads this when it is imported.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


def is_command(argv: Sequence[str], original: Sequence[str]) -> bool:
    """Whether this is the console script, or `python -m sentei` about to begin.

    Args:
        argv: `sys.argv`; while Python looks for what `-m` names, its first is "-m".
        original: `sys.orig_argv`.

    >>> is_command(["/usr/bin/sentei", "doctor"], ["python", "/usr/bin/sentei", "doctor"])
    True
    >>> is_command(["-m", "doctor"], ["python", "-m", "sentei", "doctor"])
    True
    >>> is_command(["train.py", "-m", "sentei"], ["python", "train.py", "-m", "sentei"])
    False
    """
    if not argv:
        return False
    if argv[0] == "-m" and "-m" in original[:-1]:
        return original[list(original).index("-m") + 1] == "sentei"
    return os.path.basename(argv[0]) in ("sentei", "sentei.exe")


def several() -> bool:
    """Whether a launcher has started more processes than this one."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def leave(number: int, frame: FrameType | None) -> None:
    """Ctrl-C while nothing has begun yet, or all is done. Of several processes the first says it.

    Nothing is raised: inside an import, a KeyboardInterrupt would be a page of text.
    """
    if not (several() and int(os.environ.get("RANK") or 0)):
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


@contextmanager
def interruptible() -> Iterator[None]:
    """What is done inside may end in order: Ctrl-C is a KeyboardInterrupt, as usual."""
    if signal.getsignal(signal.SIGINT) is not leave:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, leave)


begin()
