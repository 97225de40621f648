"""Metrics against their definitions, written out in plain Python."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbp import metrics

REGRESSION = ["mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "r2", "max_error"]


@st.composite
def regressions(draw):
    """(y_true, y_pred, weights) with some repeated targets and some weights of 0."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
    values = st.integers(-8, 8).map(float)
    weights = hnp.arrays(float, shape[0], elements=st.integers(0, 3).map(float)).filter(np.any)
    return (
        draw(hnp.arrays(float, shape, elements=values)),
        draw(hnp.arrays(float, shape, elements=values)),
        draw(weights),
    )


def mean(values, weights):
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


@settings(deadline=None)
@given(regressions())
def test_regression_metrics_by_definition(case):
    true, predicted, weights = case
    errors = [[p - t for t, p in zip(*rows, strict=True)] for rows in zip(true, predicted, strict=True)]
    k = true.shape[1]
    expected = {
        "mean_absolute_error": mean([sum(map(abs, row)) / k for row in errors], weights),
        "mean_squared_error": mean([sum(e * e for e in row) / k for row in errors], weights),
        "max_error": max(abs(e) for row, w in zip(errors, weights, strict=True) for e in row if w > 0),
        "mean_absolute_percentage_error": mean(
            [
                sum(100 * abs(e) / max(abs(t), 1e-7) for e, t in zip(row, targets, strict=True)) / k
                for row, targets in zip(errors, true, strict=True)
            ],
            weights,
        ),
    }
    expected["root_mean_squared_error"] = math.sqrt(expected["mean_squared_error"])
    scores = []
    for j in range(k):
        centre = mean(true[:, j], weights)
        residual = mean([row[j] ** 2 for row in errors], weights)
        total = mean([(t - centre) ** 2 for t in true[:, j]], weights)
        seen = {t for t, w in zip(true[:, j], weights, strict=True) if w > 0}
        scores.append(float(residual == 0) if len(seen) == 1 else 1 - residual / total)
    expected["r2"] = sum(scores) / k
    for name, value in expected.items():
        assert metrics.get(name)(true, predicted, weights) == pytest.approx(value, rel=1e-9, abs=1e-9), name


@settings(deadline=None)
@given(
    labels=hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 4)),
    seed=st.integers(0, 2**32 - 1),
)
def test_accuracy_by_definition(labels, seed):
    rng = np.random.default_rng(seed)
    predicted = rng.random((len(labels), 5)).astype("f4")
    weights = rng.random(len(labels)) + 0.1
    hits = [
        float(max(range(5), key=row.__getitem__) == label)
        for row, label in zip(predicted, labels, strict=True)
    ]
    for true in (labels, labels[:, None], labels.astype("f4"), np.eye(5)[labels], labels.tolist()):
        assert metrics.accuracy(true, predicted) == pytest.approx(sum(hits) / len(hits))
        assert metrics.accuracy(true, predicted, weights) == pytest.approx(mean(hits, weights))


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.binary_accuracy])
def test_binary_accuracy_cuts_above_one_half(metric):
    assert metric([0, 1, 1, 0], [0.5, 0.5000001, 0.2, 0.1]) == 0.75
    assert metric([[0], [1]], [0.4, 0.6]) == 1.0
    assert metric([False, True], [0.4, 0.3], [3, 1]) == 0.75
    with pytest.raises(ValueError, match="y_true must lie between 0 and 1"):
        metric([0, 2], [0.1, 0.9])


def test_binary_accuracy_of_independent_outputs():
    assert metrics.binary_accuracy([[1, 1], [0, 0]], [[0.9, 0.1], [0.1, 0.2]]) == 0.75


def test_nan_is_never_right():
    nan = math.nan
    assert metrics.accuracy([0, 1], [[nan, nan], [0.1, 0.9]]) == 0.5
    assert metrics.accuracy([0, 1], [nan, 0.9]) == 0.5
    for name in REGRESSION:
        assert math.isnan(metrics.get(name)([1.0, 2.0], [nan, 2.0]))
        assert math.isnan(metrics.get(name)([1.0, 1.0], [nan, 1.0]))


def test_r2_of_constant_targets():
    assert metrics.r2([0.1] * 7, [0.1] * 7) == 1.0
    assert metrics.r2([0.1] * 7, [0.1] * 6 + [0.2]) == 0.0
    assert metrics.r2([[1, 1], [1, 2]], [[1, 1], [1, 2]]) == 1.0
    assert metrics.r2([[1, 1], [1, 2]], [[0, 1], [0, 2]]) == 0.5


@pytest.mark.parametrize("name", REGRESSION)
def test_small_types_are_widened(name):
    true, predicted = np.array([200, 3], np.uint8), np.array([3, 200], np.uint8)
    wide = metrics.get(name)(true.astype(float), predicted.astype(float))
    assert metrics.get(name)(true, predicted) == wide
    assert isinstance(wide, float)


@pytest.mark.parametrize("name", sorted({function.__name__ for function in metrics.BY_NAME.values()}))
@pytest.mark.parametrize(
    ("true", "predicted", "weights", "message"),
    [
        ([0, 1, 1], [0, 1], None, r"y_true has shape \(3, 1\), but y_pred has shape \(2, 1\)"),
        ([[0, 1]], [[0, 1, 0]], None, r"y_true has shape \(1, 2\), but y_pred has shape \(1, 3\)"),
        (np.ones((2, 2, 2)), [0, 1], None, r"y_true must have shape \(n,\) or \(n, k\)"),
        ([], [], None, "y_true must have shape .* and not be empty"),
        (1, 1, None, "y_true must have shape"),
        ([0, 1], [0, 1], [1], r"sample_weight has shape \(1,\), expected \(2,\)"),
        ([0, 1], [0, 1], [1, -1], "sample_weight must be finite"),
        ([0, 1], [0, 1], [1, math.nan], "sample_weight must be finite"),
        ([0, 1], [0, 1], [0, 0], "sample_weight must be finite and not negative, and have a positive sum"),
    ],
)
def test_shapes_that_do_not_fit(name, true, predicted, weights, message):
    with pytest.raises(ValueError, match=message):
        metrics.get(name)(true, predicted, weights)


def test_text_is_a_type_error():
    with pytest.raises(TypeError, match="y_true holds text"):
        metrics.accuracy(["a"], [0.5])


def test_get():
    assert metrics.get("r2") is metrics.r2
    for alias, name in {"acc": "accuracy", "mae": "mean_absolute_error", "mse": "mean_squared_error"}.items():
        assert metrics.get(alias) is getattr(metrics, name)
    assert metrics.get("rmse") is metrics.root_mean_squared_error
    assert metrics.get(mean) is mean
    with pytest.raises(
        ValueError, match=r"'mean_square_error' is not known; did you mean 'mean_squared_error'\?"
    ):
        metrics.get("mean_square_error")
    with pytest.raises(ValueError, match=r"'\?\?' is not known\. Known: accuracy, binary_accuracy, "):
        metrics.get("??")
    with pytest.raises(TypeError, match="metric must be a name or a function, got 3"):
        metrics.get(3)


# ---- classification, and probabilities ----

VECTORS = json.loads((Path(__file__).parent / "vectors" / "metrics.json").read_text("utf-8"))["cases"]
ALL = sorted({function.__name__ for function in metrics.BY_NAME.values()})


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case['name']}, {len(case['y_true'])}")
def test_scores_are_those_of_scikit_learn(case):
    true, predicted, weights = (np.array(case[name]) for name in ("y_true", "y_pred", "sample_weight"))
    if weights.ndim == 0:
        weights = None
    for name, expected in case["scores"].items():
        metric = metrics.get(name)
        assert metric(true, predicted, weights) == pytest.approx(expected, rel=1e-12, abs=1e-15), name
        if case["name"] == "classes":  # one-hot rows say the same as labels
            assert metric(np.eye(7)[true], predicted, weights) == pytest.approx(expected, rel=1e-12), name
        if case["name"] == "binary":
            assert metric(true, predicted[:, None], weights) == pytest.approx(expected, rel=1e-12), name


@pytest.mark.parametrize("name", ALL)
def test_a_weight_is_a_number_of_copies(name):
    """Weighing a sample twice is having it twice, and weighing it 0 is not having it."""
    metric = metrics.get(name)
    for case in VECTORS:
        if name in case["scores"] and case["sample_weight"] is None:
            true, predicted = np.array(case["y_true"]), np.array(case["y_pred"])
            counts = np.random.default_rng(0).integers(0, 4, len(true))
            copies = metric(np.repeat(true, counts, axis=0), np.repeat(predicted, counts, axis=0))
            if "never occur" not in case["name"]:  # a class that weighs nothing does occur
                assert metric(true, predicted, counts) == pytest.approx(copies, rel=1e-12)


def test_top_k():
    true, predicted = [0, 1, 2, 3], [[0.1, 0.2, 0.3, 0.4]] * 4
    assert [metrics.top_k_accuracy(true, predicted, k=k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert metrics.top_k_accuracy(true, predicted) == 1.0
    assert metrics.top_k_accuracy([0, 1], [[0.5, 0.5], [0.5, 0.5]], k=1) == 1.0  # fewer than 1 are larger
    with pytest.raises(ValueError, match="k must be a positive int, got 0"):
        metrics.top_k_accuracy(true, predicted, k=0)
    with pytest.raises(ValueError, match="y_true must hold labels from 0 to 3"):
        metrics.top_k_accuracy([0, 1, 2, 4], predicted)
    with pytest.raises(ValueError, match="y_true must hold labels from 0 to 1"):
        metrics.recall([0, 0.5], [[0.9, 0.1], [0.2, 0.8]])


def test_nothing_predicted_and_nothing_asked_for():
    assert metrics.precision([1, 1], [0.1, 0.2]) == metrics.f1([1, 1], [0.1, 0.2]) == 0
    assert metrics.recall([0, 0], [0.9, 0.9]) == 0
    assert math.isnan(metrics.roc_auc([1, 1], [0.1, 0.2]))
    assert math.isnan(metrics.roc_auc([0, 1], [0.1, math.nan]))
    assert metrics.roc_auc([0, 1, 1], [0.5, 0.5, 0.5]) == 0.5


def test_nan_is_no_decision():
    assert metrics.recall([1, 1], [math.nan, 0.9]) == 0.5
    assert metrics.recall([0, 1], [[math.nan, 0.9], [0.1, 0.9]]) == 0.5
    assert metrics.top_k_accuracy([0, 1], [[math.nan, 0.9], [0.1, 0.9]], k=2) == 0.5
    assert math.isnan(metrics.log_loss([1], [math.nan]))


@pytest.mark.parametrize(("dtype", "margin"), [("f4", 2.0**-23), ("f8", 2.0**-52)])
def test_log_loss_of_certainty_is_finite(dtype, margin):
    certain = np.array([[1, 0], [0, 1]], dtype)
    assert metrics.log_loss([1, 0], certain) == pytest.approx(-math.log(margin))
    assert metrics.log_loss([0, 1], certain) < 1e-6
    assert metrics.log_loss([0, 1], certain[:, 0]) == pytest.approx(-math.log(margin))


def test_log_loss_of_soft_targets():
    expected = -(0.25 * math.log(0.5) + 0.75 * math.log(0.5))
    assert metrics.log_loss([[0.25, 0.75]], [[0.5, 0.5]]) == pytest.approx(expected)
    assert metrics.log_loss([0.25], [0.5]) == pytest.approx(expected)


def test_outputs_that_do_not_sum_to_one_are_independent():
    true, predicted = [[1, 1], [0, 1]], [[0.9, 0.8], [0.2, 0.3]]
    assert metrics.recall(true, predicted) == pytest.approx((1 + 0.5) / 2)
    with pytest.raises(ValueError, match="y_true must lie between 0 and 1"):
        metrics.recall([[2, 1], [0, 1]], predicted)


def test_every_metric_knows_its_direction():
    worse, better = [0.6, 0.6, 0.4, 0.4, 0.4], [0.1, 0.9, 0.8, 0.2, 0.3]
    for name in metrics.BY_NAME:
        if metrics.get(name) is not metrics.top_k_accuracy:
            scores = [metrics.get(name)([0, 1, 1, 0, 0], predicted) for predicted in (worse, better)]
            assert (scores[0] < scores[1]) == (name in metrics.LARGER_IS_BETTER), name
