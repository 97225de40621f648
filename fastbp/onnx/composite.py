"""Activations that exporters write as several operators, in whatever order of their products and sums.

Between a result and one value x, the operators are brought into a normal form: a product is a number and a
sorted list of factors, a sum a number and a sorted list of terms. Two ways of writing GELU so become equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

from fastbp import layers
from fastbp.onnx.reading import STANDARD, OnnxGraph

Form: TypeAlias = tuple[Any, ...]
# What is deeper, comes from more values or has longer sums and products is no activation.
_DEEPEST, _MOST_VALUES, _LONGEST = 10, 24, 8

X: Form = ("x",)


def _number(value: float) -> Form:
    return ("number", float(value))


def _product(*factors: Form) -> Form:
    number, rest = 1.0, []
    for factor in factors:
        if factor[0] == "number":
            number *= factor[1]
        elif factor[0] == "product":
            number *= factor[1]
            rest += factor[2]
        else:
            rest.append(factor)
    if not rest:
        return _number(number)
    return rest[0] if number == 1 and len(rest) == 1 else ("product", number, tuple(sorted(rest, key=_shape)))


def _sum(*terms: Form) -> Form:
    number, rest = 0.0, []
    for term in terms:
        if term[0] == "number":
            number += term[1]
        elif term[0] == "sum":
            number += term[1]
            rest += term[2]
        else:
            rest.append(term)
    if not rest:
        return _number(number)
    return rest[0] if number == 0 and len(rest) == 1 else ("sum", number, tuple(sorted(rest, key=_shape)))


def _length(form: Form) -> int:
    """Number of factors or terms."""
    return len(form[2]) if form[0] in ("product", "sum") else 1


def _shape(form: Any) -> str:
    """A form without its numbers: an order that rounding does not change."""
    if not isinstance(form, tuple):
        return form if isinstance(form, str) else "#"
    return f"({' '.join(map(_shape, form))})"


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-5)
    return bool(left == right)


@cache
def _activations() -> list[tuple[Form, Callable[[], layers.Layer]]]:
    """Forms of the known activations of X."""
    root = math.sqrt(0.5)
    slope = math.sqrt(2 / math.pi)
    half = _number(0.5)
    one = _number(1.0)
    softplus = ("Softplus", X)
    cube = _product(_number(0.044715), X, X, X)
    erf = ("Erf", _product(_number(root), X))
    tanh = ("Tanh", _product(_number(slope), _sum(X, cube)))
    factored = ("Tanh", _product(_number(slope), X, _sum(one, _product(_number(0.044715), X, X))))
    stable = _sum(("Max", X, _number(0.0)), ("Log", _sum(one, ("Exp", _product(_number(-1.0), ("Abs", X))))))
    # PyTorch's softplus is x itself above 20
    thresholded = ("Where", ("Greater", X, _number(20.0)), X, softplus)
    return [
        (("Max", X, _number(0.0)), layers.ReLU),
        (_product(X, ("Sigmoid", X)), layers.SiLU),
        *((_product(X, ("Tanh", form)), layers.Mish) for form in (softplus, stable, thresholded)),
        *((form, layers.Softplus) for form in (stable, thresholded, ("Log", _sum(one, ("Exp", X))))),
        (_product(half, X, _sum(one, erf)), layers.GELU),
        (_product(half, X, _sum(one, tanh)), partial(layers.GELU, "tanh")),
        (_product(half, X, _sum(one, factored)), partial(layers.GELU, "tanh")),
    ]


_UNARY = ("Sigmoid", "Tanh", "Erf", "Softplus", "Exp", "Log", "Abs")
_ORDERED = ("Where", "Greater", "Less", "Min", "Max")


def _form(graph: OnnxGraph, name: str, x: str, seen: dict[str, Form | None], depth: int = 0) -> Form | None:
    """Normal form of a value as a function of x; None when it is none, or of more than x."""
    if name == x:
        return X
    if name not in seen:
        seen[name] = None
        seen[name] = _form_of_node(graph, name, x, seen, depth)
    return seen[name]


def _form_of_node(
    graph: OnnxGraph, name: str, x: str, seen: dict[str, Form | None], depth: int
) -> Form | None:
    constant = graph.constants.get(name)
    if constant is not None:
        return _number(constant.item()) if constant.size == 1 and constant.dtype.kind in "fi" else None
    node = graph.producers.get(name)
    if node is None or node.domain not in STANDARD or depth > _DEEPEST:
        return None
    inputs = [_form(graph, one, x, seen, depth + 1) for one in node.input]
    known = [form for form in inputs if form is not None]
    if not known or len(known) < len(inputs) or sum(map(_length, known)) > _LONGEST:
        return None
    a, *more = known
    b = more[0] if more else None
    kind = node.op_type
    if kind in ("Identity", "Cast"):
        return a
    if kind == "Neg":
        return _product(_number(-1.0), a)
    if kind == "Where" and a[0] == "Less" and len(more) == 2:
        return (kind, ("Greater", *a[1:]), more[1], more[0])
    if kind in _UNARY or kind in _ORDERED:
        return (kind, a, *more)
    if b is None:
        return None
    if kind == "Mul":
        return _product(a, b)
    if kind in ("Add", "Sum"):
        return _sum(a, b, *more[1:])
    if kind == "Sub":
        return _sum(a, _product(_number(-1.0), b))
    if kind == "Div" and b[0] == "number" and b[1] != 0:
        return _product(a, _number(1 / b[1]))
    if kind == "Pow" and b[0] == "number" and b[1] in (2.0, 3.0):
        return _product(*[a] * int(b[1]))
    return None


def composite_activation(graph: OnnxGraph, name: str) -> tuple[layers.Layer, str] | None:
    """Return the activation that makes `name`, and the name of its input; None when it is none.

    The slopes of leaky ReLU and ELU are read from the operators.
    """
    for x in _ancestors(graph, name):
        form = _form(graph, name, x, {})
        if form is None:
            continue
        for known, make in _activations():
            if _equal(form, known):
                return make(), x
        found = _with_slope(form)
        if found is not None:
            return found, x
    return None


def _with_slope(form: Form) -> layers.Layer | None:
    """Where(x > 0, x, slope · x), and ELU and SELU likewise."""
    if form[0] != "Where" or not _equal(form[1], ("Greater", X, _number(0.0))):
        return None
    above, below = form[2], form[3]
    if _equal(above, X) and below[:1] == ("product",) and below[2] == (X,) and below[1] >= 0:
        return layers.LeakyReLU(below[1])
    plain, bounded = (_sum(_number(-1.0), ("Exp", x)) for x in (X, ("Min", X, _number(0.0))))
    exponential = plain if _equal(below, plain) or _equal(below[2:], ((plain,),)) else bounded
    if below[:1] == ("product",) and _equal(below[2], (exponential,)):
        scale = above[1] if above[:1] == ("product",) and above[2] == (X,) else 1.0
        if _equal(scale, 1.0507009873554805) and _equal(below[1], 1.7580993408473766):
            return layers.SELU()
        if _equal(above, X) and below[1] >= 0:
            return layers.ELU(below[1])
    if _equal(above, X) and _equal(below, exponential):
        return layers.ELU()
    return None


def _ancestors(graph: OnnxGraph, name: str) -> list[str]:
    """Values that the result comes from, nearest first."""
    found: list[str] = []
    queue = [name]
    while queue and len(found) < _MOST_VALUES:
        node = graph.producers.get(queue.pop(0))
        for one in [] if node is None else graph.data_inputs(node):
            if one not in found:
                found.append(one)
                queue.append(one)
    return found
