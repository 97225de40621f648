"""The plan: a network compiled to a flat list of operations over a few flat arrays.

A plan is plain data. The planner writes it, an interpreter (native or reference) runs it, and
``print(model.plan)`` shows it. It knows nothing of layers and nothing of how it is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

# Flat arrays owned by the model and by the program.
ARENAS = (
    "parameters",  # weights, biases, tables, statistics, in this order
    "gradients",  # mirrors parameters
    "state",  # optimizer slots, each mirrors parameters
    "workspace",  # activations and deltas of one batch
    # matrices of the caller, one row per sample; only gather, scatter and sparse_... touch the first four
    "inputs",
    "targets",
    "outputs",
    "output_gradients",
    "input_gradients",
    "sample_weights",
)

# What the caller's inputs may be made of, beside rows of the plan's own dtype: csrc/kinds.def.
ELEMENTS = (
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)

# A run executes the operations of the phases it asks for, in the order of the list.
PHASES = (
    "gather",  # rows of inputs -> workspace
    "gather_targets",  # rows of targets and sample weights -> workspace
    "forward",
    "output",  # output activation that is fused into the loss otherwise; copy to outputs
    "loss",  # per-row loss, and the delta at the output
    "output_backward",  # copy from output_gradients, through the output activation
    "backward",  # fills the gradients
    "input_gradient",  # delta of the inputs, copied to input_gradients
    "update",  # one optimizer step
)

# Norms and penalties are summed block by block: csrc/kernels/kernels.h.
BLOCK = 4096  # elements

# Element-wise activations, and what their derivative is computed from: csrc/kinds.def.
ACTIVATIONS = {
    "linear": "output",
    "relu": "output",
    "leaky_relu": "output",
    "elu": "output",
    "selu": "output",
    "sigmoid": "output",
    "tanh": "output",
    "softplus": "output",
    "exponential": "output",
    "gelu": "input",
    "gelu_tanh": "input",
    "silu": "input",
    "mish": "input",
}

# Element-wise losses, and how the columns of one row are brought together: csrc/kinds.def.
LOSSES = {
    "mean_squared_error": "mean",
    "half_squared_error": "sum",
    "mean_absolute_error": "mean",
    "huber": "mean",
    "quantile": "mean",
    "poisson": "mean",
    "binary_cross_entropy": "mean",
    "sigmoid_binary_cross_entropy": "mean",
    "multilabel_cross_entropy": "sum",
    "poisson_deviance": "sum",
}

# What an operation may be told beside its operands; functions only where its kind begins with PYTHON.
Attribute: TypeAlias = float | int | bool | str | Callable[..., Any]

# Operations that call what users wrote in Python; see :mod:`fastbp.engine.segments`.
PYTHON = "python_"


# Operations that read sparse inputs where they lie; a plan that has one takes no others.
SPARSE = "sparse_"

# Operations that may take the rows of a batch block by block: csrc/ops.def. Rows do not mix in them, but in
# gradients.
ROW_OPERATIONS = frozenset(
    (
        "gather",
        "gather_rescale",
        "gather_normalize",
        "scatter",
        "dense_forward",
        "dense_backward_weight",
        "dense_backward_input",
        "sparse_forward",
        "sparse_backward_weight",
        "activation_forward",
        "activation_backward",
        "softmax_forward",
        "softmax_backward",
        "dropout_forward",
        "dropout_backward",
        "layer_norm_forward",
        "layer_norm_backward_parameters",
        "layer_norm_backward_input",
        "prelu_forward",
        "prelu_backward",
        "gaussian_noise",
        "rescale",
        "normalize",
        "copy_columns",
        "add",
        "clear",
        "embedding_forward",
        "elementwise_loss",
        "cross_entropy_loss",
        "softmax_cross_entropy_loss",
    )
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A matrix in an arena.

    Attributes
    ----------
    arena : str
        One of :data:`ARENAS`.
    offset : int
        First element.
    rows : int
        Rows; for ``per_row`` tensors the capacity of the batch.
    columns : int
    stride : int
        Elements from one row to the next.
    per_row : bool
        True when row i belongs to sample i of the batch, so that a smaller batch uses fewer rows.
    """

    arena: str
    offset: int
    rows: int
    columns: int
    stride: int
    per_row: bool = False

    def matrix(self, flat: Any) -> Any:
        """Return the view of an arena that this tensor is, shape (rows, columns)."""
        end = self.offset + self.rows * self.stride
        return flat[self.offset : end].reshape(self.rows, self.stride)[:, : self.columns]

    def __str__(self) -> str:
        rows = "batch" if self.per_row else str(self.rows)
        return f"{self.arena}[{self.offset}]({rows}, {self.columns})"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation.

    Attributes
    ----------
    kind : str
        Name of the operation, the same in both interpreters.
    phase : str
        One of :data:`PHASES`.
    operands : dict of str to Tensor or None
    attributes : dict of str to float, int, bool, str or function
    layer : str
        Name of the layer that asked for it, for messages and for printing.
    flops : int
        Floating-point operations for a full batch.
    """

    kind: str
    phase: str
    operands: dict[str, Tensor | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    layer: str = ""
    flops: int = 0

    @property
    def is_flat(self) -> bool:
        """Whether it goes through the flat arrays, once per batch: an optimizer's step, a penalty."""
        return next(iter(self.operands)) in ("parameters", "gradients")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named matrix or vector among the parameters, as a layer asked for it.

    Attributes
    ----------
    name : str
        Layer and parameter: "dense.weight".
    tensor : Tensor
    initializer : callable, optional
        Where its values start; the layer that asked for it calls it.
    decay : bool
        False for biases and the like, which lie behind all weights.
    sparse : bool
        True for tables, which lie behind the biases: an update leaves alone the rows whose gradient is 0.
    trained : bool
        False for statistics, which lie behind all others: they have no gradient, and no update reaches them.
    """

    name: str
    tensor: Tensor
    initializer: Callable[..., Any] | None = None
    decay: bool = True
    sparse: bool = False
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Index:
    """A column of the inputs that holds row numbers of a table.

    Attributes
    ----------
    layer : str
        Whose table it is.
    column : int
    count : int
        Rows of the table: the column holds whole numbers from 0 to count - 1.
    """

    layer: str
    column: int
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What an interpreter runs.

    Attributes
    ----------
    ops : tuple of Op
        In order of execution, grouped by phase in the order of :data:`PHASES`.
    dtype : str
        "float32" or "float64".
    batch_size : int
        Capacity: most rows that count as one batch.
    sizes : dict of str to int
        Elements of the arenas parameters, gradients, state and workspace.
    columns : dict of str to int
        Columns of the caller's matrices: inputs, outputs, targets.
    parameters : tuple of Parameter
    slots : tuple of str
        Names of the optimizer's slots; slot i is state[i * P : (i + 1) * P], P = sizes["parameters"]. Behind
        them is room for sums, which nobody needs to keep.
    seed : int
        Key of the counter-based random numbers (dropout), 0 <= seed < 2**63.
    indices : tuple of Index
        What the caller's inputs must hold for tables to be read.
    block_rows : int, optional
        Rows that go through the operations at a time, by default all of a batch. If fewer, a run must ask
        for all phases that belong together, for the workspace holds one block only.
    lanes : int
        Blocks are dealt out to so many lanes; each sums up gradients of its own, and the sums are added in
        the order of the lanes. Part of the plan: the result does not depend on the number of threads.
    """

    ops: tuple[Op, ...]
    dtype: str
    batch_size: int
    sizes: dict[str, int]
    columns: dict[str, int]
    parameters: tuple[Parameter, ...]
    slots: tuple[str, ...]
    seed: int
    indices: tuple[Index, ...] = ()
    block_rows: int | None = None
    lanes: int = 1

    @property
    def calls_python(self) -> tuple[str, ...]:
        """Names of the layers of operations that call what users wrote; "" for the loss."""
        return tuple(op.layer for op in self.ops if op.kind.startswith(PYTHON))

    @property
    def reads_sparse(self) -> bool:
        """Whether inputs must be sparse rows."""
        return any(op.kind.startswith(SPARSE) for op in self.ops)

    @property
    def trained_size(self) -> int:
        """Elements of the arena "parameters" in front of the statistics."""
        ends = (p.tensor.offset + p.tensor.rows * p.tensor.stride for p in self.parameters if p.trained)
        return max(ends, default=0)

    def __str__(self) -> str:
        """Show the memory, then each operation with its shapes, its work and its traffic."""
        element = 8 if self.dtype == "float64" else 4
        count = sum(p.tensor.rows * p.tensor.columns for p in self.parameters)
        memory = {name: element * size for name, size in self.sizes.items()}
        shares = "  ".join(f"{name} {_bytes(size)}" for name, size in memory.items())
        table = [("#", "phase", "operation", "layer", "operands", "function", "FLOPs", "bytes")]
        for number, op in enumerate(self.ops):
            operands = ", ".join(f"{name} {_shape(t)}" for name, t in op.operands.items() if t is not None)
            elements = sum(
                (self.batch_size if t.per_row else t.rows) * t.columns
                for t in op.operands.values()
                if t is not None
            )
            row = (str(number), op.phase, op.kind, op.layer, operands, _function(op))
            table.append((*row, f"{op.flops:,}", _bytes(element * elements)))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        right = {0, 6, 7}  # numbers
        lines = (
            "  ".join(
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in table
        )
        head = f"plan  {self.dtype}  batch {self.batch_size}  parameters {count:,}"
        if self.block_rows is not None:
            head += f"  {self.lanes} lanes, {self.block_rows} rows at a time"
        total = f"memory  {shares}  total {_bytes(sum(memory.values()))}"
        return "\n".join([head, total, *lines])


def _shape(tensor: Tensor) -> str:
    return f"{'batch' if tensor.per_row else tensor.rows}×{tensor.columns}"


def _function(op: Op) -> str:
    """The activation or loss; beside a matrix product the activation, or derivative, fused into it."""
    if "function" in op.attributes:
        return function_name(op.attributes["function"])
    function = str(op.attributes.get("activation") or op.attributes.get("loss") or "linear")
    if function == "linear":
        return ""
    return f"{function}'" if "backward" in op.kind else function


def function_name(function: object) -> str:
    """Return a function's name without what it is defined in; of an object that is called, its class's."""
    name = str(getattr(function, "__qualname__", type(function).__qualname__))
    return name.rpartition("<locals>.")[2].removesuffix(".__call__")


def _bytes(count: float) -> str:
    """A number of bytes, readable: "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
