"""Functions that forget where a number came from, and others that go in their place.

`int(width / 2)`, `float(width)`, `np.prod(x.shape[1:])` answer with plain numbers, whatever they
were given. While a pass is captured the model's own code calls functions that answer with a
`Symbol` or a `Scalar` where they were given one: for `math.sqrt` and its like, also under a name of
the model's own files (`from math import sqrt`), and for direct calls of `int` and `float` in
methods of its modules and in functions that have a name in the same files.
"""

from __future__ import annotations

import dis
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sentei.graph.tape import Scalar, Symbol

__all__ = ["converting", "followed"]

_sqrt, _pow, _np_sqrt, _np_prod = math.sqrt, math.pow, np.sqrt, np.prod


def _root(x: Any) -> Any:
    return Scalar.make(_sqrt(x), ("sqrt", x.expr)) if _knows(x) else _sqrt(x)


def _power(x: Any, y: Any) -> Any:
    return _real(x) ** y if _knows(x) else _pow(x, y)


def _np_root(x: Any, *args: Any, **kwargs: Any) -> Any:
    return _root(x) if _knows(x) and not args and not kwargs else _np_sqrt(x, *args, **kwargs)


def _np_product(x: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(x, (tuple, list)) and any(map(_knows, x)) and not args and not kwargs:
        return math.prod(x)
    return _np_prod(x, *args, **kwargs)


def _whole(*args: Any, **kwargs: Any) -> Any:
    """`int`."""
    x: Any = args[0] if len(args) == 1 else None
    return math.trunc(x) if _knows(x) else int(*args, **kwargs)


def _real(*args: Any) -> Any:
    """`float`."""
    x = args[0] if len(args) == 1 else None
    if type(x) is Symbol:
        return Scalar.make(float(x), x.expr)
    return x if type(x) is Scalar else float(*args)


def _knows(x: Any) -> bool:
    return type(x) is Symbol or type(x) is Scalar


# Where a function is found, and what takes its place.
_FOLLOWERS: list[tuple[Any, str, Any, Callable[..., Any]]] = [
    (math, "sqrt", _sqrt, _root),
    (math, "pow", _pow, _power),
    (np, "sqrt", _np_sqrt, _np_root),
    (np, "prod", _np_prod, _np_product),
]
# Builtin types are more than functions: only calls of them change, to a name that no code has.
_CALLS = {"int": "int (followed)", "float": "float (followed)"}
_CALLED = {"int (followed)": _whole, "float (followed)": _real}


@contextmanager
def followed(homes: Iterable[str]) -> Iterator[None]:
    """Code of the modules (files) of these names calls the functions that remember.

    >>> width = Symbol.make(9, ("size", "x", 1))
    >>> with followed([]):
    ...     math.sqrt(width).expr
    ('sqrt', ('size', 'x', 1))
    """
    changed: list[tuple[dict[str, Any], str, Any]] = []

    def put(names: dict[str, Any], name: str, value: Any) -> None:
        changed.append((names, name, names.get(name, _ABSENT)))
        names[name] = value

    def inject(names: dict[str, Any]) -> None:
        for name, function in _CALLED.items():
            if name not in names:
                put(names, name, function)

    others = {id(original): other for _, _, original, other in _FOLLOWERS}
    for home, name, _, other in _FOLLOWERS:
        put(vars(home), name, other)
    for names in [vars(sys.modules[home]) for home in homes if home in sys.modules]:
        for name, value in list(names.items()):
            if id(value) in others:
                put(names, name, others[id(value)])
            elif type(value) is types.FunctionType:
                other = converting(value)
                if other is not value and not str(value.__module__).startswith("torch"):
                    put(names, name, other)
                    inject(value.__globals__)
        inject(names)
    try:
        yield
    finally:
        for names, name, value in reversed(changed):
            if value is _ABSENT:
                names.pop(name, None)
            else:
                names[name] = value


_ABSENT: Any = object()


def converting(function: types.FunctionType) -> types.FunctionType:
    """The function with calls of `int` and `float` that remember; itself where it has none.

    Works inside `followed` only, where the file that the function is from is one of those.
    """
    code = _converted(function.__code__)
    if code is None or any(name in function.__globals__ for name in _CALLS):
        return function
    new = types.FunctionType(
        code,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    new.__kwdefaults__ = function.__kwdefaults__
    new.__qualname__, new.__module__ = function.__qualname__, function.__module__
    new.__doc__ = function.__doc__
    new.__dict__.update(function.__dict__)
    return new


# A code's own hash reads all of it: known by identity, and kept alive for that.
_SEEN: dict[int, tuple[types.CodeType, types.CodeType | None]] = {}


def _converted(code: types.CodeType) -> types.CodeType | None:
    """The code with calls of `int` and `float` that remember; None where it has none."""
    known = _SEEN.get(id(code))
    if known is None:
        if len(_SEEN) >= 1 << 14:
            _SEEN.clear()
        known = _SEEN[id(code)] = code, _renamed(code)
    return known[1]


def _renamed(code: types.CodeType) -> types.CodeType | None:
    """The code with other names in the place of `int` and `float` where they are called."""
    inner = [_converted(c) if isinstance(c, types.CodeType) else None for c in code.co_consts]
    constants = tuple(new or old for new, old in zip(inner, code.co_consts, strict=True))
    names, raw = list(code.co_names), bytearray(code.co_code)
    if not _CALLS.keys().isdisjoint(names):
        for step in dis.get_instructions(code):
            # The lowest bit says that a call follows.
            if step.opname == "LOAD_GLOBAL" and (step.arg or 0) & 1 and step.argval in _CALLS:
                name = _CALLS[step.argval]
                names += [name] if name not in names else []
                place = names.index(name) << 1 | 1
                if place < 256 and (step.arg or 0) < 256:
                    raw[step.offset + 1] = place
    if bytes(raw) == code.co_code and not any(inner):
        return None
    return code.replace(co_code=bytes(raw), co_names=tuple(names), co_consts=constants)
