import sys

import numpy as np
import pytest

from fastbp import benchmark
from fastbp.benchmark import Limits, Step
from fastbp.workloads import Net

NET = Net("n", 8, (4, 5, 2), "relu", True, 3)


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_thread_counts(most, counts):
    assert benchmark.thread_counts(most) == counts


@pytest.mark.parametrize("classes", [True, False])
def test_models_start_from_the_common_weights(classes):
    net = Net("n", 8, (4, 5, 2), "tanh", classes, 3)
    model = benchmark.build(net)
    for layer, (weight, bias) in zip(model.layers, net.weights(), strict=True):
        assert np.array_equal(layer.weight, weight.T)
        assert np.array_equal(layer.bias, bias)
    x = net.samples(1)[0]
    (first, _), (last, _) = net.weights()
    z = np.tanh(x @ first) @ last
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) if classes else z
    assert np.allclose(model.predict(x), expected, atol=1e-6)


def test_measure_goes_through_nets_and_threads():
    other = Net("o", 4, (3, 2), "tanh", False, 2)
    found = list(benchmark.measure([NET, other], [1, 2], seconds=0.0))
    assert [[(step.net, step.threads) for step in steps] for steps in found] == [
        [(NET, 1), (NET, 2)],
        [(other, 1), (other, 2)],
    ]
    assert all(0 < step.seconds < 10 for steps in found for step in steps)


def test_limits_and_shares():
    low, high = Limits(1.0, 5.0, None), Limits(2.0, 3.0, 4.0)
    assert low.or_better(high) == Limits(2.0, 5.0, 4.0)
    assert Limits().or_better(Limits()) == Limits()
    step = Step(NET, 1, seconds=2.0)
    assert step.share_of_peak(Limits(float32=float(NET.flops))) == 0.5
    assert step.share_of_peak(Limits()) is None


@pytest.mark.parametrize("peak", [1e9, None])
def test_plot(tmp_path, peak):
    path = tmp_path / "plot.png"
    benchmark.check_plot(path)
    steps = [Step(NET, 1, 1e-3), Step(NET, 2, 6e-4)]
    benchmark.plot(path, steps, {1: Limits(peak), 2: Limits(peak)})
    assert path.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_plotted_is_said_at_once(monkeypatch):
    with pytest.raises(ValueError, match=r"--plot a\.doc: the name must end in one of .*\.png"):
        benchmark.check_plot("a.doc")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install \"fastbp\[plot\]\""):
        benchmark.check_plot("a.png")
