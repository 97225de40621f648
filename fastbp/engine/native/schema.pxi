# Names turned into the numbers of the C core, and an operation of a plan into its struct.

from libc.string cimport memset

from fastbp.engine.plan import ARENAS, PHASES


def schema():
    """{operation: (operands, attributes)} as the C core knows them; optional operands end in "?"."""
    found = {}
    cdef int kind = 0
    while fbp_schema(kind) != NULL:
        s = fbp_schema(kind)
        found[s.name.decode()] = (tuple(s.operands.decode().split()), tuple(s.attributes.decode().split()))
        kind += 1
    return found


def row_operations():
    """Names of the operations that take a batch block by block."""
    return frozenset(name for number, name in enumerate(_SCHEMA) if fbp_schema(number).by_rows)


def activation_names():
    cdef int n = 0
    found = []
    while fbp_activation_name(n) != NULL:
        found.append(fbp_activation_name(n).decode())
        n += 1
    return tuple(found)


def loss_names():
    cdef int n = 0
    found = []
    while fbp_loss_name(n) != NULL:
        found.append(fbp_loss_name(n).decode())
        n += 1
    return tuple(found)


def element_names():
    cdef int n = 0
    cdef size_t size
    found = []
    while fbp_element_name(n, &size) != NULL:
        found.append(fbp_element_name(n, &size).decode())
        n += 1
    return tuple(found)


_SCHEMA = schema()
_OP_KINDS = {name: number for number, name in enumerate(_SCHEMA)}
_ACTIVATIONS = {name: number for number, name in enumerate(activation_names())}
_LOSSES = {name: number for number, name in enumerate(loss_names())}
_ELEMENTS = {name: number for number, name in enumerate(element_names())}


def _attribute(name, value):
    if name == "activation":
        return _ACTIVATIONS[value]
    if name == "loss":
        return _LOSSES[value]
    return float(value)


cdef int fill_op(fbp_op *out, op) except -1:
    """Turn an Op into its struct; a missing or a spare name is a KeyError or ValueError."""
    operands, attributes = _SCHEMA[op.kind]
    operand_names = [name.rstrip("?") for name in operands]
    if set(op.operands) != set(operand_names) or set(op.attributes) != set(attributes):
        raise ValueError(
            f"operation {op.kind!r} takes operands {operand_names} and attributes {list(attributes)}, "
            f"got {list(op.operands)} and {list(op.attributes)}"
        )
    memset(out, 0, sizeof(fbp_op))
    out.kind = _OP_KINDS[op.kind]
    out.phase = PHASES.index(op.phase)
    out.flops = op.flops
    cdef int i
    for i in range(FBP_OPERANDS):
        out.operand[i].arena = -1
    for i, name in enumerate(operand_names):
        tensor = op.operands[name]
        if tensor is None:
            continue
        out.operand[i].arena = ARENAS.index(tensor.arena)
        out.operand[i].per_row = tensor.per_row
        out.operand[i].offset = tensor.offset
        out.operand[i].rows = tensor.rows
        out.operand[i].columns = tensor.columns
        out.operand[i].stride = tensor.stride
    for i, name in enumerate(attributes):
        out.attribute[i] = _attribute(name, op.attributes[name])
    return 0


# {the caller's matrix: whose width it has}; sample weights are a vector
_WIDTHS = {
    "inputs": "inputs", "targets": "targets", "outputs": "outputs", "output_gradients": "outputs",
    "input_gradients": "inputs",
}


def _width(plan, arena):
    return plan.columns[_WIDTHS[arena]] if arena in _WIDTHS else 1


def _check_widths(plan):
    """The C core does not know the caller's matrices: their widths are checked here."""
    for number, op in enumerate(plan.ops):
        for name, tensor in op.operands.items():
            if tensor is None or tensor.arena not in ARENAS[4:]:
                continue
            if not tensor.columns == tensor.stride == _width(plan, tensor.arena):
                raise ValueError(
                    f"operation {number} ({op.kind} of layer {op.layer!r}): {name} has {tensor.columns} "
                    f"columns, stride {tensor.stride}; the caller's matrix has "
                    f"{_width(plan, tensor.arena)} columns"
                )
