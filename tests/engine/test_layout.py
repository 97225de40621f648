"""The layout: where values lie, and that nothing is written over while it is needed."""

import copy
import runpy
from itertools import combinations
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import layers
from fastbp.engine.graph import Graph
from fastbp.engine.layout import ALIGNMENT, CONFLICT, IN_PLACE, NARROW, SLACK, place_workspace, row_stride
from fastbp.engine.plan import ACTIVATIONS, Tensor
from fastbp.layers import Dense, Dropout

net = runpy.run_path(str(Path(__file__).with_name("plans.py")))["net"]


WRITTEN = {
    "gather": ("out",),
    "gather_rescale": ("out",),
    "gather_normalize": ("out",),
    "scatter": ("out",),
    "dense_forward": ("y",),
    "activation_forward": ("y",),
    "softmax_forward": ("y",),
    "dropout_forward": ("y",),
    "dense_backward_weight": ("weight_grad", "bias_grad"),
    "sparse_forward": ("y",),
    "sparse_backward_weight": ("weight_grad", "bias_grad"),
    "dense_backward_input": ("dx",),
    "activation_backward": ("dx",),
    "softmax_backward": ("dx",),
    "dropout_backward": ("dx",),
    "batch_norm_forward": ("saved", "y"),
    "batch_norm_backward": ("gamma_grad", "beta_grad", "dx"),
    "layer_norm_forward": ("saved", "y"),
    "layer_norm_backward_parameters": ("gamma_grad", "beta_grad"),
    "layer_norm_backward_input": ("dx",),
    "prelu_forward": ("y",),
    "prelu_backward": ("alpha_grad", "dx"),
    "gaussian_noise": ("y",),
    "rescale": ("y",),
    "normalize": ("y",),
    "copy_columns": ("out",),
    "add": ("out",),
    "clear": ("dx",),
    "embedding_forward": ("y",),
    "embedding_backward": ("table_grad",),
    "elementwise_loss": ("delta",),
    "softmax_cross_entropy_loss": ("delta",),
}
WIDTHS = st.sampled_from([1, 2, 3, 15, 16, 17, 31, 33])
STACKS = st.lists(
    st.one_of(
        st.builds(Dense, WIDTHS, st.sampled_from([None, *ACTIVATIONS, "softmax"]), st.booleans()),
        st.builds(Dropout, st.sampled_from([0.0, 0.5])),
        st.builds(layers.Activation, st.sampled_from([*ACTIVATIONS, "softmax"])),
        st.builds(layers.BatchNormalization, center=st.booleans(), scale=st.booleans()),
        st.builds(layers.LayerNormalization, center=st.booleans(), scale=st.booleans()),
        st.sampled_from([layers.PReLU, layers.Normalization]).map(lambda kind: kind()),
        st.builds(layers.GaussianNoise, st.just(0.1)),
        st.builds(layers.Rescaling, st.just(0.5)),
        st.sampled_from([["relu"], ["softmax", "layer_normalization"], [layers.Dropout(0.5)]]).map(
            lambda inner: layers.Residual(copy.deepcopy(inner))
        ),
        st.builds(
            lambda width, columns: layers.Branches([Dense(width, "relu"), [], ["prelu", Dense(1)]], columns),
            WIDTHS,
            st.sampled_from([None, [[0], None, [0]]]),
        ),
    ),
    max_size=6,
)


def overlap(a: Tensor, b: Tensor) -> bool:
    def end(t):
        return t.offset + (t.rows - 1) * t.stride + t.columns

    return a.arena == b.arena and a.offset < end(b) and b.offset < end(a)


def check_reads(plan, phases, written=()):
    """Run through the list as an interpreter does: what is read was written and not written over since."""
    valid = set(written)
    for op in (op for op in plan.ops if op.phase in phases):
        outputs = [op.operands[name] for name in WRITTEN[op.kind] if op.operands[name] is not None]
        for name, tensor in op.operands.items():
            if tensor is None or tensor.arena not in ("workspace", "gradients") or name in WRITTEN[op.kind]:
                continue
            assert tensor in valid, f"{op.kind} reads {name}, which is not there"
            for output in outputs:
                in_place = op.kind in IN_PLACE and name == "dy" and output == tensor
                assert in_place or not overlap(tensor, output), f"{op.kind} writes over its {name}"
        valid = {t for t in valid if not any(overlap(t, output) for output in outputs)} | set(outputs)
    return valid


@settings(max_examples=200, deadline=None)
@given(STACKS, WIDTHS, WIDTHS, st.sampled_from([None, "mse", "cross_entropy"]))
def test_operations_find_what_they_read(stack, inputs, batch, loss):
    if loss == "cross_entropy":
        stack = [*stack, Dense(3, "softmax")]
    plan = net(*stack, inputs=inputs, batch_size=batch, loss=loss, optimizer="adam")
    head = ("gather", "forward")
    valid = check_reads(plan, (*head, "output"))
    check_reads(plan, ("output_backward", "backward", "input_gradient"), valid)
    if loss:
        check_reads(plan, (*head, "gather_targets", "loss", "backward"))
        valid = check_reads(plan, (*head, "gather_targets", "loss", "backward", "input_gradient"))


@settings(max_examples=200, deadline=None)
@given(STACKS, WIDTHS, WIDTHS)
def test_every_operand_is_aligned_and_inside_its_arena(stack, inputs, batch):
    plan = net(*stack, inputs=inputs, batch_size=batch, loss="mse", optimizer="adam")
    for op in plan.ops:
        for tensor in filter(None, op.operands.values()):
            if tensor.arena not in plan.sizes:  # the caller's
                assert (tensor.offset, tensor.stride, tensor.per_row) == (0, tensor.columns, True)
                continue
            assert tensor.offset % ALIGNMENT == 0
            end = tensor.offset + (tensor.rows - 1) * tensor.stride + tensor.columns
            slack = 0 if tensor.arena == "state" else SLACK
            assert end + slack <= plan.sizes[tensor.arena]
            if tensor.arena == "workspace":
                assert tensor.rows == batch or (op.kind.startswith("batch_norm") and tensor.rows == 2)
                # what tells one number of each sample is a vector, all else starts its rows at cache lines
                vector = tensor.columns == 1 and any(
                    tensor in (o.operands.get("sample_weight"), o.operands.get("target")) for o in plan.ops
                )
                assert tensor.stride == (1 if vector else row_stride(tensor.columns))
    assert plan.sizes["gradients"] == plan.sizes["parameters"]
    for a, b in combinations(plan.parameters, 2):
        assert not overlap(a.tensor, b.tensor)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(WIDTHS, st.integers(1, 5), st.booleans()), min_size=1, max_size=12), WIDTHS)
def test_deltas_share_memory_only_one_after_the_other(steps, batch):
    """Each step makes a delta, in place or not, that operations mention for a while."""
    graph = Graph()
    alive = [(graph.delta(16), 3)]
    for columns, life, in_place in steps:
        dy = alive[-1][0]
        dx = graph.delta(dy.columns if in_place else columns)
        graph.emit("activation_backward" if in_place else "dense_backward_input", dy=dy, dx=dx)
        alive = [(value, left - 1) for value, left in alive if left > 1 or value is dy] + [(dx, life)]
        graph.emit("mention", **{f"v{number}": value for number, (value, _) in enumerate(alive)})
    places, size = place_workspace(graph.nodes, batch)
    life = {}
    for number, node in enumerate(graph.nodes):
        for value in node.operands.values():
            life[value] = (life.get(value, (number,))[0], number)
    for a, b in combinations(places, 2):
        if overlap(places[a], places[b]):
            if life[b][0] < life[a][0]:
                a, b = b, a
            replaced = graph.nodes[life[b][0]]
            in_place = replaced.kind in IN_PLACE and life[a][1] == life[b][0]
            assert life[a][1] < life[b][0] or (in_place and places[a] == places[b])
    assert size >= SLACK + max(t.offset + t.rows * t.stride for t in places.values())


def test_deltas_of_a_deep_net_take_two_buffers():
    def workspace(depth):
        return net(*(Dense(32, "relu") for _ in range(depth)), inputs=32, loss="mse").sizes["workspace"]

    assert workspace(9) - workspace(8) == workspace(8) - workspace(7) == 8 * 32  # one more activation


def test_weights_come_before_biases():
    plan = net(Dense(6), Dense(5, use_bias=False), Dense(2, name="head"), loss="mse")
    assert [p.name for p in plan.parameters] == [
        "dense.weight",
        "dense_1.weight",
        "head.weight",
        "dense.bias",
        "head.bias",
    ]
    assert [p.decay for p in plan.parameters] == [True, True, True, False, False]
    shapes = [(p.tensor.rows, p.tensor.columns, p.tensor.stride) for p in plan.parameters]
    assert shapes == [(5, 6, 16), (6, 5, 16), (5, 2, 2), (1, 6, 16), (1, 2, 16)]
    assert [p.tensor.offset for p in plan.parameters] == [0, 80, 176, 192, 208]
    assert plan.sizes["parameters"] == 224 + SLACK
    first = next(op for op in plan.ops if op.kind == "dense_backward_weight" and op.layer == "dense")
    gradient, weight = first.operands["weight_grad"], plan.parameters[0].tensor
    assert (gradient.arena, gradient.offset, gradient.rows) == ("gradients", weight.offset, weight.rows)


def test_rows_end_with_whole_cache_lines_and_do_not_crowd_the_same_sets():
    for columns in (5, 15, 16, 17, 255, 256, 512, 1000, 1024, 2048):
        stride = row_stride(columns)
        assert columns <= stride < columns + 2 * ALIGNMENT
        assert stride % ALIGNMENT == 0 and stride % CONFLICT != 0


def test_rows_of_a_few_columns_have_no_padding():
    assert [row_stride(columns) for columns in range(1, NARROW + 1)] == list(range(1, NARROW + 1))
