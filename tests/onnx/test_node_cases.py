"""The onnx package's own backend tests of single nodes, as far as they are feed-forward layers.

The first input is the data, all others become initializers; a single vector is a batch of one.
"""

import importlib
from collections import defaultdict

import numpy as np
import onnx
import pytest
from onnx.backend.test.case import node as node_cases

from fastbp import onnx as fastbp_onnx

# How many must pass, by the module that makes them; some of them spell an operator out in simpler ones.
EXPECTED = {
    "dropout": 6,
    "elu": 6,
    "flatten": 2,
    "gelu": 8,
    "gemm": 8,
    "identity": 1,
    "layernormalization": 2,
    "leakyrelu": 6,
    "matmul": 1,
    "mish": 2,
    "mul": 1,
    "relu": 2,
    "reshape": 1,
    "selu": 1,
    "sigmoid": 2,
    "softmax": 2,
    "softplus": 4,
    "sub": 1,
    "swish": 2,
    "tanh": 2,
}


@pytest.fixture(scope="module")
def cases():
    """Cases by module; each is made when its module is imported, which takes a moment for all of them."""
    found = defaultdict(list)
    for module in EXPECTED:
        before = len(node_cases._NodeTestCases)
        importlib.import_module(f"{node_cases.__name__}.{module}")
        made = [case for case in node_cases._NodeTestCases[before:] if case.model is not None]
        found[module] = [case for case in made if isinstance(case.data_sets[0][0][0], np.ndarray)]
    return found


def prepared(case):
    """The model with one input, and the data for it."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, _ = case.data_sets[0]
    for value, array in list(zip(model.graph.input, inputs, strict=False))[1:]:
        if array is not None:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
    data = inputs[0]
    if data.ndim == 1:
        data = data[np.newaxis]
        one = onnx.TensorShapeProto.Dimension(dim_value=1)
        model.graph.input[0].type.tensor_type.shape.dim.insert(0, one)
    return model, data


@pytest.mark.parametrize("module", EXPECTED)
def test_cases_of_the_subset_pass(cases, module, tmp_path, capsys):
    """What loads gives the outputs stored; what does not is refused by a ValueError."""
    passed = []
    for case in cases[module]:
        model, data = prepared(case)
        path = tmp_path / "case.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            loaded = fastbp_onnx.load(path, output=model.graph.output[0].name)
        except ValueError:
            continue
        got = loaded.predict(data.reshape(len(data), -1))
        (expected, *_) = case.data_sets[0][1]
        np.testing.assert_allclose(
            got.ravel(), expected.ravel(), rtol=case.rtol, atol=case.atol, err_msg=case.name
        )
        passed.append(case.name)
    with capsys.disabled():
        print(f"\n{module}: {len(passed)} of {len(cases[module])} node cases", end=" ")
    assert len(passed) >= EXPECTED[module], passed
