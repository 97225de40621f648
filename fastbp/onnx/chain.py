"""The path of the data through a graph: from the output back to the input, one link after the other."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

from fastbp.onnx.affine import affine
from fastbp.onnx.composite import composite_activation
from fastbp.onnx.operators import (
    RULES,
    Link,
    biased_product,
    prelu,
    refuse,
    rule_name,
    two_classes,
    vector,
)
from fastbp.onnx.reading import OnnxGraph


def chain(graph: OnnxGraph, result: str, source: str, seen: set[str] | None = None) -> list[tuple[Any, Link]]:
    """Return nodes and links from a value back to another one; values that were `seen` must not come again.

    Raises
    ------
    ValueError
        Naming the first node, seen from the result, that has no layer.
    """
    links: list[tuple[Any, Link]] = []
    name, seen, own = result, set() if seen is None else seen, set()
    while name != source:
        node = graph.producers.get(name)
        if node is None:
            raise ValueError(f"its output {result!r} comes from {name!r}, which nothing makes of the input")
        if name in own:
            raise ValueError(f"{graph.describe(node)} depends on its own result")
        if name in seen:
            raise refuse(graph, node, "its result goes two ways that do not meet again before the next layer")
        own.add(name)
        seen.add(name)
        link = _link(graph, node, name, seen)
        links.append((node, link))
        name = link.below
    return links


def _link(graph: OnnxGraph, node: Any, name: str, seen: set[str]) -> Link:
    function = RULES.get(rule_name(node))
    single = len(graph.data_inputs(node)) == 1
    # what takes one value is looked up; several operators may also be one activation together
    found = composite_activation(graph, name) if not single or rule_name(node) in _MAYBE_COMPOSITE else None
    if found is not None:
        layer, below = found
        return Link(below, layer)
    if rule_name(node) == "Add":
        return _sum(graph, node, seen)
    if rule_name(node) == "Concat":
        return two_classes(graph, node) or _side_by_side(graph, node, seen)
    if rule_name(node) == "Where":
        return _where_prelu(graph, node)
    if function is None:
        raise refuse(graph, node, "fastbp does not know this operator")
    return function(graph, node)


# Last operators of activations that take one value.
_MAYBE_COMPOSITE = ("Add", "Mul", "Div", "Log", "Max")


def _sum(graph: OnnxGraph, node: Any, seen: set[str]) -> Link:
    """Return the layer of a bias, of an offset, of a PReLU in the form of Keras, or of a residual."""
    names = graph.data_inputs(node)
    if len(names) == 1:
        product = graph.producers.get(names[0])
        if product is not None and rule_name(product) == "MatMul":
            return biased_product(graph, node, names[0])
        return affine(graph, node)
    if len(names) != 2 or names[0] == names[1]:
        raise refuse(graph, node, "expected a sum of two values")
    found = _keras_prelu(graph, *names) or _keras_prelu(graph, *reversed(names))
    return found or _residual(graph, node, names, seen)


def _keras_prelu(graph: OnnxGraph, above: str, below: str) -> Link | None:
    """max(x, 0) + c · max(−x, 0), c = −α."""
    positive = _operator(graph, above, "Relu")
    product = _operator(graph, below, "Mul")
    if positive is None or product is None or len(graph.data_inputs(product)) != 1:
        return None
    (name,) = graph.data_inputs(product)
    negative = _operator(graph, name, "Relu")
    turned = None if negative is None else _operator(graph, negative.input[0], "Neg")
    if turned is None or turned.input[0] != positive.input[0]:
        return None
    position = 1 - list(product.input).index(name)
    return prelu(positive.input[0], -vector(graph, product, position))


def _where_prelu(graph: OnnxGraph, node: Any) -> Link:
    """x where x > 0, and α x elsewhere."""
    test, x, product = (graph.producers.get(node.input[0]), node.input[1], graph.producers.get(node.input[2]))
    if (
        test is None
        or product is None
        or (rule_name(test), rule_name(product)) != ("Greater", "Mul")
        or graph.data_inputs(test) != [x]
        or graph.data_inputs(product) != [x]
        or np.any(graph.constants[test.input[1]])
    ):
        raise refuse(graph, node, "it is no activation that fastbp knows")
    return prelu(x, vector(graph, product, 1 - list(product.input).index(x)))


def _operator(graph: OnnxGraph, name: str, kind: str) -> Any:
    node = graph.producers.get(name)
    return node if node is not None and rule_name(node) == kind else None


def _residual(graph: OnnxGraph, node: Any, names: list[str], seen: set[str]) -> Link:
    """x + f(x)."""
    first, second = names
    for x, through in ((first, second), (second, first)):
        if _comes_from(graph, through, x):
            return Link(x, inner=chain(graph, through, x, seen))
    raise refuse(graph, node, "a sum of two values must be x + f(x)")


def _comes_from(graph: OnnxGraph, name: str, source: str) -> bool:
    queue, seen = [name], {name}
    while queue:
        node = graph.producers.get(queue.pop())
        for one in [] if node is None else graph.data_inputs(node):
            if one == source:
                return True
            if one not in seen:
                seen.add(one)
                queue.append(one)
    return False


def _side_by_side(graph: OnnxGraph, node: Any, seen: set[str]) -> Link:
    """Return the branches that end in a Concat, from the nearest value that all of them come from."""
    names = graph.data_inputs(node)
    if graph.attributes(node, axis=None)["axis"] not in (1, -1) or len(names) < len(node.input):
        raise refuse(graph, node, "it must join columns that come from the data, axis=1")
    if len(names) == 1:
        return Link(names[0])
    places = {name: number for number, name in enumerate(graph.producers)}
    heads = [(-places.get(name, -1), name) for name in set(names)]
    known = set(names)
    heapq.heapify(heads)
    while len(heads) > 1:  # the last of them cannot be what the others come from
        place, name = heapq.heappop(heads)
        producer = graph.producers.get(name)
        for below in [] if producer is None else graph.data_inputs(producer):
            if places.get(below, -1) >= -place:
                raise refuse(graph, node, f"{below!r} is used before it is made")
            if below not in known:
                known.add(below)
                heapq.heappush(heads, (-places.get(below, -1), below))
    source = heads[0][1]
    return Link(source, branches=[chain(graph, name, source, seen) for name in names])
