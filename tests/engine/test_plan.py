"""The plan as text, and its tables of kinds."""

import re
from pathlib import Path

from fastbp import losses, optimizers
from fastbp.engine.plan import ACTIVATIONS, ELEMENTS, LOSSES
from fastbp.engine.planner import build
from fastbp.layers import Dense

CSRC = Path(__file__).parents[2] / "csrc"


def definitions(file, macro):
    """The arguments of each line of an X-macro list, quotes removed."""
    lines = re.findall(rf"^{macro}\((.*)\)$", (CSRC / file).read_text(), re.MULTILINE)
    return [[field.strip().strip('"') for field in line.split(",")] for line in lines]


def test_tables_of_kinds_are_those_of_the_core():
    assert list(ACTIVATIONS.items()) == [tuple(line) for line in definitions("kinds.def", "ACTIVATION")]
    assert list(LOSSES.items()) == [tuple(line) for line in definitions("kinds.def", "LOSS")]
    assert list(ELEMENTS) == [name for name, *_ in definitions("kinds.def", "ELEMENT")]


def test_printed_plan():
    plan = build(
        [Dense(128, "relu"), Dense(10, "gelu"), Dense(10, "softmax")],
        784,
        loss=losses.CrossEntropy(),
        optimizer=optimizers.Adam(),
        batch_size=64,
    )
    head, memory, titles, *rows = str(plan).splitlines()
    assert head == "plan  float32  batch 64  parameters 101,880"
    assert re.fullmatch(
        r"memory  parameters .* KiB  gradients .* KiB  state .* KiB  workspace .* total .* MiB", memory
    )
    assert titles.split() == ["#", "phase", "operation", "layer", "operands", "function", "FLOPs", "bytes"]
    assert len(rows) == len(plan.ops)
    for number, (row, op) in enumerate(zip(rows, plan.ops, strict=True)):
        assert row.split()[:3] == [str(number), op.phase, op.kind]
        assert f" {op.flops:,} " in row
        assert op.layer in row
    assert re.search(
        r"x batch×784, weight 784×128, bias 1×128, y batch×128 +relu +12,845,056 +620.5 KiB$", rows[3]
    )
    assert any(re.search(r"activation_backward +dense_1 .* gelu' ", row) for row in rows)
    assert any(re.search(r"dense_backward_input +dense_1 .* relu' ", row) for row in rows)
    assert all(row == row.rstrip() and len(row) == len(rows[0]) for row in rows)


def test_flops_of_a_dense_layer():
    plan = build([Dense(7)], 3, batch_size=5)
    assert {op.flops for op in plan.ops if op.kind.startswith("dense")} == {2 * 5 * 3 * 7}
