"""The planner: layers, loss and optimizer in, plan out.

1. The layers write themselves into a graph, forward and then backward.
2. The loss takes the output activation together with itself where the pair has a stable form.
3. What the gradients do not need moves to the phase "input_gradient".
4. An activation next to a matrix product becomes part of it, a layer that scales the inputs part of their
   gather; a first dense layer may read sparse inputs without any.
5. Values get their places in memory.
6. Penalties, and the optimizer's update of the flat arrays, come from update_planner.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from fastbp.checks import check_choice, check_count
from fastbp.engine.graph import Graph, Node, Value
from fastbp.engine.layout import place_parameters, place_workspace
from fastbp.engine.plan import ACTIVATIONS, PHASES, ROW_OPERATIONS, SPARSE, Op, Parameter, Plan, Tensor
from fastbp.engine.update_planner import UpdatePlan
from fastbp.layer import Layer, name_layers
from fastbp.losses import Loss
from fastbp.optimizer import Optimizer


def build(
    layers: Sequence[Layer],
    input_size: int,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    dtype: str = "float32",
    batch_size: int = 32,
    seed: int = 0,
    target_columns: int | None = None,
    one_pass: Literal["", "inference", "training"] = "",
    sparse: bool = False,
) -> Plan:
    """Plan a network. No array is allocated, and equal arguments give equal plans.

    Parameters
    ----------
    layers : sequence of Layer
        First to last. Layers without a name get one.
    input_size : int
        Number of features of a sample.
    loss : Loss, optional
        Without it the phases "gather_targets" and "loss" are empty.
    optimizer : Optimizer, optional
        Without it the phase "update" is empty.
    dtype : str
        "float32" or "float64".
    batch_size : int
        Most rows of one pass.
    seed : int
        0 <= seed < 2**63, the key of the random numbers during training.
    target_columns : int, optional
        Columns of the targets: for cross-entropy 1 (labels, the default) or one per class, for other
        losses as many as outputs.
    one_pass : {"", "inference", "training"}
        Whether each run asks for all phases that belong together: from "gather" to "loss", or to "update".
        Then a tall batch may go through the network block by block, and stay in the cache.
    sparse : bool
        Whether inputs will be sparse rows: a first dense layer then reads them where they lie, and each run
        must ask for all phases that do so.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came; also when the last activation gives no
        predictions that the loss can take.
    """
    input_size = check_count("input_size", input_size)
    batch_size = check_count("batch_size", batch_size)
    check_choice("dtype", dtype, ("float32", "float64"))
    seed = check_count("seed", seed, at_least=0)
    if seed >= 2**63:
        raise ValueError(f"seed must be less than 2**63, got {seed}")
    name_layers(layers)

    graph = Graph()
    y = graph.tensor(input_size)
    y.input_columns = tuple(range(input_size))
    graph.phase = "gather"
    graph.emit("gather", source=_matrix("inputs", input_size), out=y)
    graph.phase = "forward"
    for layer in layers:
        graph.layer = layer.name
        y = layer.plan(graph, y)
    graph.layer = ""
    graph.phase = "output"
    graph.emit("scatter", source=y, out=_matrix("outputs", y.columns))

    dy = graph.delta(y.columns)
    graph.phase = "output_backward"
    graph.emit("gather", source=_matrix("output_gradients", y.columns), out=dy)
    graph.phase = "backward"
    dx = graph.run_backward(dy)
    graph.layer = ""
    graph.phase = "input_gradient"
    graph.emit("scatter", source=dx, out=_matrix("input_gradients", input_size))

    columns = {"inputs": input_size, "outputs": y.columns, "targets": 0}
    if loss is not None:
        columns["targets"] = _target_columns(loss, y.columns, target_columns)
        _emit_loss(graph, loss, y, dy, columns["targets"])
    _defer_input_gradient(graph.nodes)

    # The sort is stable: within a phase the order of emission stands.
    nodes = _fuse(sorted(graph.nodes, key=lambda node: PHASES.index(node.phase)))
    nodes = (_read_sparse if sparse else list)(_scale_inputs(nodes))
    places, swept, parameter_size = place_parameters(graph.declarations)
    update = UpdatePlan(graph.declarations, places, optimizer, swept, parameter_size)
    block_rows, lanes = None, 1
    blocks_pay = one_pass == "training" or stay_in_cache(parameter_size, dtype)
    if one_pass and blocks_pay and ROW_OPERATIONS.issuperset(node.kind for node in nodes):
        block_rows, lanes = schedule(batch_size, parameter_size if one_pass == "training" else 0)
    workspace, workspace_size = place_workspace(nodes, block_rows or batch_size)
    places |= workspace
    ops = [_op(node, places, batch_size) for node in nodes] + update.ops
    if loss is None:
        ops = [op for op in ops if op.phase != "loss"]
    ops.sort(key=lambda op: PHASES.index(op.phase))
    parameters = [
        Parameter(d.name, places[d.value], d.initializer, d.decay, d.sparse, d.trained)
        for d in graph.declarations
    ]
    return Plan(
        ops=tuple(ops),
        dtype=dtype,
        batch_size=batch_size,
        sizes={
            "parameters": parameter_size,
            "gradients": parameter_size,
            "state": update.state_size,
            "workspace": workspace_size,
        },
        columns=columns,
        parameters=tuple(sorted(parameters, key=lambda parameter: parameter.tensor.offset)),
        slots=update.slots,
        seed=seed,
        indices=tuple(graph.indices),
        block_rows=block_rows,
        lanes=lanes,
    )


# Rows of a block: whole tiles of the matrix product (14 rows), whole vectors of rows side by side (16), and
# the activations of a small net fit the second-level cache.
BLOCK_ROWS = 224
# Fewer blocks than this are too few to deal out.
FEWEST_BLOCKS = 5
# Enough for as many threads as will ever share so small a net; each costs a copy of the gradients.
MOST_LANES = 32
# Elements of a gradient that a lane adds to block after block: they must stay in the first-level cache.
LARGEST_GRADIENT = 4096
# Bytes of parameters. More would come from memory for each block: inference takes more rows at a time.
LARGEST_IN_CACHE = 24 << 20


def stay_in_cache(parameters: int, dtype: str) -> bool:
    """Tell whether so many parameters stay in the third-level cache from one block of rows to the next."""
    return parameters * np.dtype(dtype).itemsize <= LARGEST_IN_CACHE


def schedule(batch_size: int, gradients: int) -> tuple[int | None, int]:
    """Choose the rows of a block and the number of lanes from the shapes alone.

    Parameters
    ----------
    batch_size : int
    gradients : int
        Elements of the gradients, 0 where none are computed.
    """
    blocks = -(-batch_size // BLOCK_ROWS)
    if blocks < FEWEST_BLOCKS or gradients > LARGEST_GRADIENT:
        return None, 1
    return BLOCK_ROWS, min(blocks, MOST_LANES)


def _matrix(arena: str, columns: int) -> Value:
    """A matrix of the caller."""
    return Value(arena, columns, contiguous=True)


# ---- the output and the loss ---------------------------------------------------------------------


def _target_columns(loss: Loss, outputs: int, wanted: int | None) -> int:
    allowed = loss.target_columns(outputs)
    if wanted is None:
        return allowed[0]
    if wanted not in allowed:
        expected = " or ".join(str(columns) for columns in allowed)
        raise ValueError(f"targets must have {expected} columns for {loss!r}, got {wanted}")
    return wanted


def _emit_loss(graph: Graph, loss: Loss, y: Value, dy: Value, target_columns: int) -> None:
    """Emit the loss, which writes the same delta as the phase "output_backward".

    If the loss takes the output activation together with itself, that delta is the one of the logits: the
    activation moves to the phase "output", its way back to "output_backward", where it works in place.
    """
    end = next((n for n in graph.nodes if n.phase == "forward" and n.operands.get("y") is y), None)
    activation = _activation(end)
    logits = loss.takes_logits(activation, y.columns)
    prediction: Value | None = y
    delta: Value | None = dy
    if end is not None and logits and activation == loss.link:
        back = next(n for n in graph.nodes if n.phase == "backward" and n.operands.get("dy") is dy)
        end.phase, back.phase = "output", "output_backward"
        prediction, delta = end.operands["x"], back.operands["dx"]
        for node in graph.nodes:
            node.operands = {name: delta if v is dy else v for name, v in node.operands.items()}
    target = Value("workspace", target_columns, contiguous=target_columns == 1)
    sample_weight = Value("workspace", 1, contiguous=True)  # kernels read them as a vector
    graph.phase = "gather_targets"
    graph.emit("gather", source=_matrix("targets", target_columns), out=target)
    graph.emit("gather", source=_matrix("sample_weights", 1), out=sample_weight)
    graph.phase = "loss"
    kind, attributes = loss.operation(logits)
    graph.emit(
        kind, prediction=prediction, target=target, sample_weight=sample_weight, delta=delta, **attributes
    )


def _activation(node: Node | None) -> str:
    """Name of the activation that a node computes, "linear" if it computes another thing."""
    if node is not None and node.kind == "softmax_forward":
        return "softmax"
    if node is not None and node.kind == "activation_forward":
        return str(node.attributes["activation"])
    return "linear"


# ---- the order of the operations, and which become one -------------------------------------------


def _defer_input_gradient(nodes: Sequence[Node]) -> None:
    """Move what no gradient depends on from the phase "backward" to "input_gradient"."""
    writes: dict[Node, set[Value]] = {}
    known = {v for node in nodes if node.phase != "backward" for v in node.operands.values() if v is not None}
    backward = [node for node in nodes if node.phase == "backward"]
    for node in backward:
        mentioned = {v for v in node.operands.values() if v is not None}
        # a value is mentioned first by an operation that writes it; others may add their share to it
        writes[node] = mentioned - known | {v for name in ("dx", "out") if (v := node.operands.get(name))}
        known |= mentioned
    needed: set[Value] = set()
    for node in reversed(backward):
        mentioned = {v for v in node.operands.values() if v is not None}
        if writes[node] & needed or any(value.arena == "gradients" for value in mentioned):
            needed |= mentioned
        else:
            node.phase = "input_gradient"


# A matrix product, and the operation on its result that can become part of it: names of the product's
# result, of the other operation's input and of its result.
_FUSIBLE = {
    "activation_forward": ("dense_forward", "y", "x", "y"),
    "activation_backward": ("dense_backward_input", "dx", "dy", "dx"),
}


def _fuse(nodes: Sequence[Node]) -> list[Node]:
    """Let matrix products apply the activation, or its derivative, to their result while it is in registers.

    Only for activations whose derivative comes from their output, since the input is then never stored,
    and only where nothing else mentions what lies between the two.
    """
    mentions = Counter(value for node in nodes for value in node.operands.values())
    products: dict[tuple[str, Value | None], Node] = {}
    fused = []
    for node in nodes:
        if node.kind in _FUSIBLE and ACTIVATIONS[str(node.attributes["activation"])] == "output":
            product_kind, product_result, between, result = _FUSIBLE[node.kind]
            value = node.operands[between]
            product = products.get((product_kind, value))
            if product is not None and mentions[value] == 2 and product.phase == node.phase:
                product.operands[product_result] = node.operands[result]
                product.attributes |= node.attributes
                if "saved" in node.operands:
                    product.operands["saved"] = node.operands["saved"]
                continue
        if node.kind in ("dense_forward", "dense_backward_input"):
            products[node.kind, node.operands["y" if node.kind == "dense_forward" else "dx"]] = node
        fused.append(node)
    return fused


# Operations that the gather of the inputs does on the way, and what that is called.
_SCALING = {"rescale": "gather_rescale", "normalize": "gather_normalize"}


def _scale_inputs(nodes: Sequence[Node]) -> list[Node]:
    """Let the gather of the inputs scale them, where a first layer does so and nothing else reads them."""
    gather = nodes[0]
    x = gather.operands["out"]
    readers = [node for node in nodes[1:] if x in node.operands.values()]
    if len(readers) != 1 or readers[0].kind not in _SCALING:
        return list(nodes)
    scaling = readers[0]
    numbers = {name: value for name, value in scaling.operands.items() if name not in ("x", "y")}
    operands = {"source": gather.operands["source"], **numbers, "out": scaling.operands["y"]}
    scaled = Node(_SCALING[scaling.kind], gather.phase, scaling.layer, operands, scaling.attributes)
    return [scaled, *(node for node in nodes[1:] if node is not scaling)]


# Operations that can read sparse inputs where they lie, and what they are called then.
_SPARSE = {"dense_forward": "sparse_forward", "dense_backward_weight": "sparse_backward_weight"}


def _read_sparse(nodes: Sequence[Node]) -> list[Node]:
    """Let a first dense layer read sparse inputs itself, where nothing else reads them: no gather is left."""
    gather = nodes[0]
    x = gather.operands["out"]
    readers = [node for node in nodes[1:] if x in node.operands.values()]
    if gather.kind != "gather" or not all(node.kind in _SPARSE for node in readers):
        return list(nodes)
    for node in readers:
        node.kind = _SPARSE[node.kind]
        node.operands = {"source": gather.operands["source"]} | node.operands
        del node.operands["x"]
    return list(nodes[1:])


# Entries that are stored, for estimates: one in so many.
_STORED = 64

# ---- plain data ----------------------------------------------------------------------------------

# Rough floating-point operations per element, enough to tell a small net from a large one.
_WORK = {
    "activation_forward": 10,
    "activation_backward": 4,
    "softmax_forward": 16,
    "softmax_backward": 4,
    "dropout_forward": 4,
    "dropout_backward": 4,
    "batch_norm_forward": 12,
    "batch_norm_backward": 14,
    "layer_norm_forward": 12,
    "layer_norm_backward_parameters": 5,
    "layer_norm_backward_input": 12,
    "prelu_forward": 3,
    "prelu_backward": 6,
    "gaussian_noise": 60,
    "rescale": 2,
    "gather_rescale": 2,
    "normalize": 8,
    "gather_normalize": 8,
    "copy_columns": 1,
    "add": 1,
    "embedding_forward": 1,
    "embedding_backward": 2,
    "elementwise_loss": 10,
    "softmax_cross_entropy_loss": 20,
}


def _op(node: Node, places: dict[Value, Tensor], batch_size: int) -> Op:
    operands = {name: places[v] if v is not None else None for name, v in node.operands.items()}
    present = [tensor for tensor in operands.values() if tensor is not None]
    matrix = operands.get("weight") or operands.get("weight_grad")
    if matrix is not None:
        flops = 2 * batch_size * matrix.rows * matrix.columns
        if node.kind.startswith(SPARSE):
            flops //= _STORED
    else:
        flops = _WORK.get(node.kind, 0) * batch_size * max(tensor.columns for tensor in present)
    return Op(node.kind, node.phase, operands, dict(node.attributes), node.layer, flops)
