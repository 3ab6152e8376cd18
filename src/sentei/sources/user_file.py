"""`file.py:function`: a user's own builder. This runs the file, as `python file.py` would."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from torch import nn

from sentei.graph.errors import PruneError, closest
from sentei.sources.source import Opened, Source

__all__ = ["build", "describe", "example", "run_function", "skeleton", "value_of"]


def describe(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    path, _, function = name.rpartition(":")
    path = os.path.abspath(path)
    return f"{path}:{function}", {"sha256": hashlib.sha256(_read(Path(path))).hexdigest()}


def build(source: Source) -> Opened:
    """Run the builder: it returns a model, or a model and example inputs."""
    path, _, function = source.name.rpartition(":")
    code = _read(_find(Path(path)))
    wanted = source.facts.get("sha256")
    if wanted is not None and hashlib.sha256(code).hexdigest() != wanted:
        raise PruneError(
            f"{path} is not the file it was when this source was written down (its SHA-256 "
            "differs); if that is meant, build the model yourself and pass it as model="
        )
    made = run_function(_find(Path(path)), function, source.options, code)
    if isinstance(made, nn.Module):
        return Opened(made, None)
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        return Opened(*made)
    raise PruneError(
        f"{source.name} must return a model, or a model and example inputs; it returned a "
        f"{type(made).__name__}"
    )


def skeleton(source: Source) -> nn.Module:
    return build(source).model


def example(source: Source, model: nn.Module, batch: int) -> Any:
    """Only the builder knows: it may return (model, example_inputs)."""
    return None


def _find(path: Path) -> Path:
    """The file; where it was moved to another machine, the one of that name here."""
    here = Path.cwd() / path.name
    return here if not path.exists() and here.is_file() else path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PruneError(f"cannot read {path}: {error.strerror or error}") from None


def run_function(
    path: Path, function: str, options: dict[str, Any] | None = None, code: bytes | None = None
) -> Any:
    """What a function of a file returns. Runs the file as a module of its own first.

    Args:
        options: keyword arguments of the function. code: the file's bytes, where they were read.
    Raises:
        PruneError: the file cannot be read, has no such function, or raises; says in which line.
    """
    code = _read(path) if code is None else code
    with _blamed(path):
        maker = _named(path, function, code)
        if not callable(maker):
            raise PruneError(f"{path}: {function!r} is no function")
        return maker(**(options or {}))


def value_of(path: Path, name: str) -> Any:
    """What a name of a file stands for; runs the file first.

    Raises:
        PruneError: as `run_function`.
    """
    code = _read(path)
    with _blamed(path):
        return _named(path, name, code)


def _named(path: Path, name: str, code: bytes) -> Any:
    called = f"sentei_user_{path.stem}"
    if getattr(sys.modules.get(called), "__file__", str(path)) != str(path):
        # A model's file and its data's may be called the same, in two folders.
        called += f"_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    module = types.ModuleType(called)
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(code, str(path), "exec"), vars(module))
    if not hasattr(module, name):
        known = [n for n, v in vars(module).items() if isinstance(v, types.FunctionType)]
        raise PruneError(f"{path} has no function {name!r}; {closest(name, known)}")
    return getattr(module, name)


@contextlib.contextmanager
def _blamed(path: Path) -> Any:
    """While a user's file runs: what it raises is said with its line."""
    process = os.getpid()
    try:
        # What the user's code prints must not end up inside our own output.
        with _importing_from(path.parent), contextlib.redirect_stdout(sys.stderr):
            yield
    except PruneError:
        raise
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
        where = f"{path}:{line or (frames[-1].lineno if frames else 1)}"
        raise PruneError(f"{where}: {type(error).__name__}: {error}") from error
    finally:
        if os.getpid() != process:
            os._exit(0)  # the file forked: one process goes on, not two


_beside: dict[str, dict[str, types.ModuleType]] = {}
"""Folder -> the modules that were imported from it, by name."""


@contextlib.contextmanager
def _importing_from(folder: Path) -> Any:
    """Modules beside the file can be imported, as when it is run.

    Two folders may each have their `utils`: those of other folders are out of the way meanwhile,
    and are those of that name again afterwards.
    """
    here = os.path.abspath(folder)
    own = _beside.setdefault(here, {})
    others = [modules for modules in _beside.values() if modules is not own]
    aside = {
        name: module
        for modules in others
        for name, module in modules.items()
        if sys.modules.get(name) is module
    }
    for name in aside:
        del sys.modules[name]
    sys.modules.update({n: m for n, m in own.items() if n not in sys.modules})
    known = set(sys.modules)
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
        new = [name for name in sys.modules if name not in known and _lies_in(name, here)]
        own.update({name: sys.modules[name] for name in new})
        sys.modules.update(aside)


def _lies_in(name: str, folder: str) -> bool:
    """Whether an imported module is a file of a folder, or is in a package there."""
    top = name.partition(".")[0]
    module = sys.modules.get(top)
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
    beside = os.path.join(folder, top)
    return place in (f"{beside}.py", os.path.join(beside, "__init__.py"), beside)
