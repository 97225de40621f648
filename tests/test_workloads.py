import numpy as np
import pytest

from fastbp.workloads import NETS, Net

NET = Net("n", 10, (4, 3, 2), "relu", True, 5)


def test_work_of_a_step():
    """The first layer needs no delta for its inputs: two products, not three."""
    assert NET.flops == 2 * 10 * (4 * 3 * 2 + 3 * 2 * 3)
    parameters = 4 * 3 + 3 + 3 * 2 + 2
    assert NET.bytes == 4 * (10 * (4 + 1) + 6 * parameters)


def test_the_seven():
    assert list(NETS) == ["tiny", "tabular", "chain", "mnist", "higgs", "deep", "wide"]
    assert NETS["mnist"].sizes == (784, 128, 10)
    steps = [net.flops for net in NETS.values()]
    assert steps[-1] == max(steps) and steps[0] == min(steps)


@pytest.mark.parametrize("classes", [True, False])
def test_data(classes):
    net = Net("n", 10, (4, 3, 2), "tanh", classes, 5)
    X, y = net.samples()
    assert X.shape == (50, 4) and X.dtype == np.float32
    if classes:
        assert y.shape == (50,) and set(y.tolist()) == {0, 1}
    else:
        assert y.shape == (50, 2) and y.dtype == np.float32
    assert np.array_equal(net.samples()[0], X)
    assert len(net.samples(2)[0]) == 20
    shapes = [(weight.shape, bias.shape) for weight, bias in net.weights()]
    assert shapes == [((4, 3), (3,)), ((3, 2), (2,))]
    assert all(array.dtype == np.float32 for pair in net.weights() for array in pair)
