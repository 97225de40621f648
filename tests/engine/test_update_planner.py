"""The planner's updates: what an optimizer sweeps, and what lies behind it."""

import runpy
from pathlib import Path

import pytest

from fastbp import layers, optimizers
from fastbp.engine.layout import SLACK
from fastbp.layers import Dense

net = runpy.run_path(str(Path(__file__).with_name("plans.py")))["net"]


def test_tables_and_statistics_lie_behind_what_an_optimizer_sweeps():
    plan = net(
        layers.Branches([layers.Embedding(3, 2), layers.BatchNormalization()], [[0], [1, 2]]),
        Dense(4),
        loss="mse",
        optimizer="adam",
    )
    order = [(p.name.removeprefix("branches."), p.decay, p.sparse, p.trained) for p in plan.parameters]
    assert order == [
        ("dense.weight", True, False, True),
        ("batch_normalization.gamma", False, False, True),
        ("batch_normalization.beta", False, False, True),
        ("dense.bias", False, False, True),
        ("embedding.weight", True, True, True),
        ("batch_normalization.moving_mean", False, False, False),
        ("batch_normalization.moving_variance", False, False, False),
    ]
    sweep, table = (op.operands for op in plan.ops if op.phase == "update")
    places = {p.name: p.tensor for p in plan.parameters}
    embedding = places["branches.embedding.weight"]
    assert sweep["parameters"].columns == embedding.offset
    assert table["parameters"] == embedding
    assert (table["gradients"].arena, table["gradients"].offset) == ("gradients", embedding.offset)
    size = plan.sizes["parameters"]
    assert [table[name].offset - embedding.offset for name in ("m", "v")] == [0, size]
    assert {tensor.rows for tensor in table.values() if tensor} == {3}


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (optimizers.SGD(), ()),
        (optimizers.SGD(momentum=0.9, nesterov=True), ("momentum_buffer",)),
        (optimizers.Adam(), ("m", "v")),
        (optimizers.RMSprop(), ("v",)),
        (optimizers.RMSprop(momentum=0.5), ("v", "momentum_buffer")),
        (optimizers.RMSprop(centered=True), ("v", "gradient_average")),
        (optimizers.RMSprop(momentum=0.5, centered=True), ("v", "momentum_buffer", "gradient_average")),
    ],
)
def test_one_update_over_all_parameters(optimizer, slots):
    plan = net(Dense(4), Dense(3), loss="mse", optimizer=optimizer)
    (update,) = (op for op in plan.ops if op.phase == "update")
    size = plan.sizes["parameters"]
    assert plan.slots == slots
    assert plan.sizes["state"] == len(slots) * size
    assert update.attributes == optimizer.attributes()
    for number, name in enumerate(slots):
        tensor = update.operands[name]
        assert (tensor.arena, tensor.offset, tensor.columns) == ("state", number * size, size - SLACK)
    assert [name for name, t in update.operands.items() if t is None] == [
        name for name in optimizer.state_operands if name not in slots
    ]
    last = plan.parameters[-1].tensor
    assert last.offset + last.columns <= update.operands["parameters"].columns
