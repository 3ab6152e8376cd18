"""Numbers that stand in a model's code, such as the 400 of `x.view(-1, 400)`.

They are widths as much as the integers that modules hold, and follow in the same way: while a pass
is captured a `Symbol` stands in the place of such a number, and after surgery the module is of a
class that differs from its own in that number only. The class keeps its name; its copies and
pickles are made from the model's own class; and calling it builds the model as it was written. Its
changed methods have no source, as that would tell the old number: TorchScript refuses them.

Numbers follow in methods of the model's own modules, static ones too, those that these methods find
under a name of their file (`WIDTH = 64`), and those in a function without a name that a module
holds (`Lambda(lambda x: x.view(-1, 400))`), of which the module then holds another. Those in free
functions, in what a decorator hides, in scripted and generated modules, and in torch's own code
stay.

Where a number is: ("forward()", 400, 0): the method or attribute, what is written there, and the
how-manieth of its kind in that code it is.
"""

from __future__ import annotations

import abc
import dis
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["is_literal", "originally", "planted", "read_literal", "write_literal", "written"]

_NUMBERS = "_sentei_numbers"
_CHANGED = "<numbers changed by Sentei>"
Swap = Callable[[int, int], int]  # (which, what is there) -> what is to be there


def is_literal(path: tuple[Any, ...]) -> bool:
    """Does the path lead into code?

    >>> is_literal(("forward()", 400, 0)), is_literal(("heads",))
    (True, False)
    """
    return len(path) == 3 and isinstance(path[0], str) and path[0].endswith("()")


def originally(kind: type) -> type:
    """The class as its author wrote it."""
    return kind.__bases__[-1] if _NUMBERS in vars(kind) else kind


def planted(
    module: nn.Module, wanted: frozenset[int], make: Callable[[tuple[Any, ...], int], int]
) -> dict[str, Any]:
    """Methods with other numbers in the place of those that are `wanted`, to go into the module.

    Args:
        make: gives what takes the place of a number, from its path and the number.
    """
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule) or _made_its_own_way(originally(kind)):
        return {}
    made: dict[str, Any] = {}

    def swap(name: str, first: list[int]) -> Swap:
        def new(which: int, there: int) -> int:
            if there not in wanted:
                return there
            what = first[which]
            return make((f"{name}()", what, first[:which].count(what)), there)

        return new

    for name in dict.fromkeys(n for k in _own(originally(kind)) for n in vars(k)):
        if name == "__init__":
            continue
        now = _method(kind, name)
        if now is None or name in vars(module) or wanted.isdisjoint(written(kind, name)):
            continue
        function = _other(now, swap(name, written(originally(kind), name)))
        if function is not None:
            alone = _is_static(kind, name)
            made[name] = function if alone else types.MethodType(function, module)
    for name in vars(module):
        held = _held(module, name)
        if held is None or wanted.isdisjoint(_numbers(held)):
            continue
        function = _other(held, swap(name, _numbers(_as_written(held))))
        if function is not None:
            made[name] = function
    return made


def written(kind: type, name: str) -> list[int]:
    """The integer constants of a method, in the order of its code, and of its defaults.

    >>> class Net(nn.Module):
    ...     def forward(self, x):
    ...         return x.view(-1, 16 * 5 * 5).split((100, 300), dim=1)
    >>> written(Net, "forward")
    [-1, 400, 100, 300, 1]
    """
    method = _method(kind, name)
    return _numbers(method) if method is not None else []


def _numbers(function: types.FunctionType) -> list[int]:
    found: list[int] = []

    def note(which: int, there: int) -> int:
        found.append(there)
        return there

    _other(function, note)
    return found


def read_literal(module: nn.Module, path: tuple[Any, ...]) -> int:
    """The number that is there now.

    Raises:
        LookupError: the code has no such number.
    """
    name, which = _place(module, path)
    held = _held(module, name)
    return (written(type(module), name) if held is None else _numbers(held))[which]


def write_literal(module: nn.Module, path: tuple[Any, ...], value: int) -> None:
    """Give the module a class, or a function to hold, with this number in its code.

    Raises:
        LookupError: the code has no such number.
    """
    place = _place(module, path)
    name, which = place
    held = _held(module, name)
    if held is not None:
        own = {**vars(held).get(_NUMBERS, (held, {}))[1], which: value}
        new = _other(_as_written(held), _from(own), _CHANGED)
        if new is None:
            raise LookupError(f"{name} has no room for so many other numbers")
        vars(new)[_NUMBERS] = _as_written(held), own
        vars(module)[name] = new
        return
    numbers = {**vars(type(module)).get(_NUMBERS, {}), place: value}
    module.__class__ = _with(originally(type(module)), numbers)


def _place(module: nn.Module, path: tuple[Any, ...]) -> tuple[str, int]:
    name, what, nth = path[0][:-2], *path[1:]
    kind, held = originally(type(module)), _held(module, name)
    theirs = any(name in vars(k) for k in _own(kind)) and not _made_its_own_way(kind)
    first = written(kind, name) if theirs and name != "__init__" else []
    first = first if held is None else _numbers(_as_written(held))
    places = [i for i, there in enumerate(first) if there == what]
    if not 0 <= nth < len(places):
        raise LookupError(
            f"{type(module).__name__}.{name} has the number {what} {len(places)} times in its code"
        )
    return name, places[nth]


# -- classes --------------------------------------------------------------------------------------
class _Numbered(nn.Module):
    """Keeps what a class asks of those who inherit from it, or does with them, from its double."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        pass


def _with(kind: type, numbers: Mapping[tuple[str, int], int]) -> type:
    """The class with other numbers; the same one each time, while anything is of it."""
    known: type
    for known in type.__subclasses__(kind):
        if vars(known).get(_NUMBERS) == numbers:
            return known
    space: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__reduce_ex__": lambda self, protocol: (
            _again, (kind, tuple(sorted(numbers.items()))), self.__getstate__()
        ),
        _NUMBERS: dict(numbers),
    }  # fmt: skip

    begin: Any = kind.__init__  # type: ignore[misc]

    @functools.wraps(begin)
    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if _NUMBERS in vars(type(self)):
            self.__class__ = kind
        begin(self, *args, **kwargs)

    space["__init__"] = init
    for name in {name for name, _ in numbers}:
        own = {which: value for (n, which), value in numbers.items() if n == name}
        method = _method(kind, name)
        new = method and _other(method, _from(own), _CHANGED)
        if new is None:
            raise LookupError(f"{kind.__name__}.{name} has no room for so many other numbers")
        space[name] = staticmethod(new) if _is_static(kind, name) else new
    return type(kind)(kind.__name__, (_Numbered, kind), space)


def _from(numbers: Mapping[int, int]) -> Swap:
    return lambda which, what: numbers.get(which, what)


def _again(kind: type, numbers: tuple[tuple[tuple[str, int], int], ...]) -> Any:
    """An empty object of the class with these numbers: what copies and pickles begin with."""
    return object.__new__(_with(kind, dict(numbers)))


def _made_its_own_way(kind: type) -> bool:
    """A class with copies or classes of its own making, which would not know of other code."""
    pairs: list[tuple[Any, Any]] = [
        (kind.__reduce_ex__, object.__reduce_ex__),
        (kind.__reduce__, object.__reduce__),
        (type(kind).__init__, type.__init__),
    ]
    return (
        hasattr(kind, "__deepcopy__")
        or hasattr(kind, "__copy__")
        or any(theirs is not usual for theirs, usual in pairs)
        or type(kind).__new__ not in (type.__new__, abc.ABCMeta.__new__)
    )


def _own(kind: type) -> Iterator[type]:
    """The classes of the model's authors among the bases."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] not in ("torch", "builtins", "typing", "abc"):
            yield base


def _method(kind: type, name: str) -> types.FunctionType | None:
    found = _attribute(kind, name)
    found = found.__func__ if type(found) is staticmethod else found
    return found if type(found) is types.FunctionType else None


def _is_static(kind: type, name: str) -> bool:
    return type(_attribute(kind, name)) is staticmethod


def _attribute(kind: type, name: str) -> Any:
    return next((vars(k)[name] for k in kind.__mro__ if name in vars(k)), None)


# -- functions that modules hold ------------------------------------------------------------------
def _held(module: nn.Module, name: str) -> types.FunctionType | None:
    """A function in an attribute that no name leads to: copies and pickles find others by name."""
    found = vars(module).get(name)
    return found if type(found) is types.FunctionType and "<" in found.__qualname__ else None


def _as_written(held: types.FunctionType) -> types.FunctionType:
    original: types.FunctionType = vars(held).get(_NUMBERS, (held,))[0]
    return original


# -- code -----------------------------------------------------------------------------------------
def _other(
    function: types.FunctionType, swap: Swap, source: str | None = None
) -> types.FunctionType | None:
    """The function with other numbers, from another source file; None where its code cannot take
    them."""
    count = iter(range(1 << 30))

    def counted(there: int) -> int:
        return swap(next(count), there)

    code = _code(function.__code__, counted, function.__globals__)
    if code is None:
        return None
    if source is not None:
        code = code.replace(co_filename=source)
    new = types.FunctionType(
        code,
        function.__globals__,
        function.__name__,
        _constant(function.__defaults__, counted, {}),
        function.__closure__,
    )
    named = function.__kwdefaults__
    new.__kwdefaults__ = named and {k: _constant(x, counted, {}) for k, x in named.items()}
    new.__qualname__, new.__module__ = function.__qualname__, function.__module__
    new.__doc__ = function.__doc__
    new.__dict__.update(function.__dict__)
    return new


def _code(
    code: types.CodeType, swap: Callable[[int], Any], names: Mapping[str, Any]
) -> types.CodeType | None:
    """The code with other numbers; `names` are those of its module."""
    constants, raw = list(code.co_consts), bytearray(code.co_code)
    before = len(constants)
    steps = list(dis.get_instructions(code))
    ends = [step.offset for step in steps[1:]] + [len(raw)]
    for step, end in zip(steps, ends, strict=True):
        plain = step.opcode in dis.hasconst
        if plain:
            old = constants[step.arg or 0]
        elif step.opname == "LOAD_SMALL_INT":  # the number stands in the instruction itself
            old = step.arg
        elif step.opname == "LOAD_GLOBAL":  # `WIDTH = 64` at the head of a file
            old = names.get(step.argval)
            if type(old) is not int:
                continue
        else:
            continue
        new = _constant(old, swap, names)
        if new is _STUCK:
            return None
        if new is old:
            continue
        # Equal constants share a place; each use gets one of its own.
        place = len(constants)
        if place > 255 or (step.arg or 0) > 255:
            return None
        constants.append(new)
        if not plain:
            raw[step.offset] = dis.opmap["LOAD_CONST"]
            raw[step.offset + 2 : end] = bytes((dis.opmap["NOP"], 0)) * (
                (end - step.offset) // 2 - 1
            )
        raw[step.offset + 1] = place
    if len(constants) == before:
        return code
    return code.replace(co_code=bytes(raw), co_consts=tuple(constants))


_STUCK: Any = object()


def _constant(old: Any, swap: Callable[[int], Any], names: Mapping[str, Any]) -> Any:
    """A constant with other numbers; itself where nothing changes."""
    if type(old) is int:
        return swap(old)
    if isinstance(old, types.CodeType):  # of a comprehension or an inner function
        inner = _code(old, swap, names)
        return _STUCK if inner is None else inner
    if type(old) is slice:
        parts: Any = [_constant(x, swap, names) for x in (old.start, old.stop, old.step)]
        same = parts[0] is old.start and parts[1] is old.stop and parts[2] is old.step
        return old if same else slice(*parts)
    if type(old) is tuple:
        parts = [_constant(x, swap, names) for x in old]
        return old if all(a is b for a, b in zip(old, parts, strict=True)) else tuple(parts)
    return old
