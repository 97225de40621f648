"""Objects that are described by the arguments of their constructor: layers, losses, optimizers, initializers.

A constructor keeps each of its arguments under the argument's name. That is enough to print an object, to
turn it into JSON and back, and to find it by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Self, TypeVar
from weakref import WeakKeyDictionary

from fastbp.checks import unknown_name

T = TypeVar("T", bound="Configurable")

_CUSTOM = "custom."  # in front of the names of users' classes
# of each class that was asked for: to read a signature takes longer than to plan a layer
_parameters: WeakKeyDictionary[type, dict[str, inspect.Parameter]] = WeakKeyDictionary()
_custom_objects: ContextVar[Mapping[str, Any] | None] = ContextVar("custom_objects", default=None)


@contextmanager
def custom_objects(objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Let :meth:`Configurable.from_config` find classes and functions of users by these names."""
    if objects is not None and not isinstance(objects, Mapping):
        raise TypeError(f"custom_objects must be a dict of names to classes or functions, got {objects!r}")
    token = _custom_objects.set(objects)
    try:
        yield
    finally:
        _custom_objects.reset(token)


def custom_function(name: str) -> Callable[..., Any]:
    """Return the function of a user with this name.

    Raises
    ------
    ValueError
        When it was not given: a file names functions, and holds no code.
    """
    function: Callable[..., Any] | None = (_custom_objects.get() or {}).get(name)
    if not callable(function):
        raise ValueError(
            f"the function {name!r} is not known here: pass it with custom_objects={{{name!r}: {name}}}"
        )
    return function


def constructor_parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class by name; those behind ``**arguments`` are its base's."""
    if kind not in _parameters:
        _parameters[kind] = _read_parameters(kind)
    return _parameters[kind]


def _read_parameters(kind: type) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(kind).parameters)
    rest = next((name for name, p in parameters.items() if p.kind is p.VAR_KEYWORD), None)
    if rest is None or kind is object:
        return parameters
    del parameters[rest]
    owner = next(number for number, base in enumerate(kind.__mro__) if "__init__" in vars(base))
    base = constructor_parameters(kind.__mro__[owner + 1])
    return parameters | {name: p for name, p in base.items() if name not in parameters}


class Configurable:
    """Base of what can be written as ``Class(argument, option=value)`` and as a dict of JSON types."""

    key: ClassVar[str] = ""
    """Name that stands for an object with default arguments; "" for a class without one."""

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in constructor_parameters(type(self))}

    def config(self) -> dict[str, Any]:
        """Return the class and the constructor's arguments, in plain JSON types.

        Raises
        ------
        TypeError
            When an argument has no JSON form: a plain function as initializer, say.
        """
        arguments = {name: _to_json(self, name, value) for name, value in self._arguments().items()}
        return {"class": _class_name(type(self)), **arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make the object that :meth:`config` described; "class" may name any subclass of this class.

        Of a user's classes of one name the last one counts that was defined, and before all of them what
        :func:`custom_objects` calls by that name.

        Raises
        ------
        ValueError
            For an unknown class or unknown arguments.
        """
        arguments = dict(config)
        wanted = arguments.pop("class", _class_name(cls))
        kinds = {_class_name(kind): kind for kind in (cls, *_subclasses(cls))}
        kinds |= {f"{_CUSTOM}{name}": given for name, given in (_custom_objects.get() or {}).items()}
        kind = kinds.get(wanted)
        if not isinstance(kind, type) or not issubclass(kind, cls):
            name = str(wanted).removeprefix(_CUSTOM)
            remedy = f": import its module, or pass it with custom_objects={{{name!r}: {name}}}"
            raise ValueError(
                f"class {name!r} is no {cls.__name__}, or was not imported{remedy if name != wanted else ''}"
            )
        unknown = sorted(set(arguments) - set(constructor_parameters(kind)))
        if unknown:
            raise ValueError(f"{kind.__name__} has no argument {', '.join(map(repr, unknown))}")
        return kind(**arguments)

    def __repr__(self) -> str:
        parameters = constructor_parameters(type(self))
        arguments = self._arguments()
        required = [name for name, p in parameters.items() if p.default is p.empty]
        defaults = type(self)(**{name: arguments[name] for name in required})._arguments()
        shown = [repr(arguments[name]) for name in required]
        for name, value in arguments.items():
            if name not in required and repr(value) != repr(defaults[name]):
                shown.append(f"{name}={_shorthand(value)!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def lookup(
    base: type[T], value: object, argument: str, aliases: Mapping[str, Callable[[], T]] | None = None
) -> T:
    """Return the object that `value` stands for: an object, a name, or a dict from :meth:`config`.

    Raises
    ------
    TypeError, ValueError
        Naming `argument` and the known names.
    """
    if isinstance(value, base):
        return value
    if isinstance(value, Mapping):
        return base.from_config(value)
    if isinstance(value, type) and issubclass(value, base):
        raise TypeError(f"{argument} must be an object: {value.__name__}(), not the class {value.__name__}")
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a name or an object of {base.__name__}, got {value!r}")
    classes = [kind for kind in _subclasses(base) if _own_key(kind)]
    names: dict[str, Callable[[], T]] = {kind.key: kind for kind in classes}
    spellings = {kind.__name__: kind for kind in classes} | dict(aliases or {}) | names
    if value not in spellings:
        raise ValueError(unknown_name(argument, value, spellings, names))
    return spellings[value]()


def _class_name(kind: type) -> str:
    """Return a class's name in a file, where a user's class is not taken for one of ours, nor ours for it."""
    return f"{'' if kind.__module__.startswith('fastbp.') else _CUSTOM}{kind.__name__}"


def _own_key(kind: type[Configurable]) -> str:
    """Return the name that stands for a class; what derives from it does not inherit that."""
    return str(vars(kind).get("key", ""))


def _subclasses(base: type[T]) -> Iterator[type[T]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)


def _shorthand(value: Any) -> Any:
    """The name of an object, when its name says everything about it."""
    if (
        isinstance(value, Configurable)
        and _own_key(type(value))
        and repr(value) == f"{type(value).__name__}()"
    ):
        return value.key
    return value


def _to_json(owner: Configurable, argument: str, value: Any) -> Any:
    value = _shorthand(value)
    if isinstance(value, Configurable):
        return value.config()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_to_json(owner, argument, item) for item in value]
    raise TypeError(f"{argument} of {type(owner).__name__} cannot be saved: {value!r} has no form in JSON")
