"""Objects that are described by the arguments of their constructor: layers, losses, optimizers, initializers.

A constructor keeps each of its arguments under the argument's name. That is enough to print an object, to
turn it into JSON and back, and to find it by name.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar

T = TypeVar("T", bound="Configurable")


class Configurable:
    """Base of what can be written as ``Class(argument, option=value)`` and as a dict of JSON types."""

    key: ClassVar[str] = ""
    """Name that stands for an object with default arguments; "" for a class without one."""

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def config(self) -> dict[str, Any]:
        """Return the class and the constructor's arguments, in plain JSON types.

        Raises
        ------
        TypeError
            When an argument has no JSON form: a plain function as initializer, say.
        """
        arguments = {name: _to_json(self, name, value) for name, value in self._arguments().items()}
        return {"class": type(self).__name__, **arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make the object that :meth:`config` described; "class" may name any subclass of this class.

        Raises
        ------
        ValueError
            For an unknown class or unknown arguments.
        """
        arguments = dict(config)
        wanted = arguments.pop("class", cls.__name__)
        for kind in (cls, *_subclasses(cls)):
            if kind.__name__ == wanted:
                unknown = sorted(set(arguments) - set(inspect.signature(kind).parameters))
                if unknown:
                    raise ValueError(f"{wanted} has no argument {', '.join(map(repr, unknown))}")
                return kind(**arguments)
        raise ValueError(f"class {wanted!r} is no {cls.__name__}, or was not imported")

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters
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
    classes = [kind for kind in _subclasses(base) if kind.key]
    names: dict[str, Callable[[], T]] = {kind.key: kind for kind in classes}
    spellings = {kind.__name__: kind for kind in classes} | dict(aliases or {}) | names
    if value not in spellings:
        close = difflib.get_close_matches(value, spellings, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ValueError(f"{argument} {value!r} is not known{hint} Known: {', '.join(sorted(names))}")
    return spellings[value]()


def _subclasses(base: type[T]) -> Iterator[type[T]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)


def _shorthand(value: Any) -> Any:
    """The name of an object, when its name says everything about it."""
    if isinstance(value, Configurable) and value.key and repr(value) == f"{type(value).__name__}()":
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
