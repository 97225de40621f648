"""scikit-learn's tests of its multilayer perceptrons, out of the installed wheel, on fastbp's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

# Tests that fastbp's estimators are not meant to pass, and why.
EXCEPTIONS = {
    "test_gradient": (
        "calls the private method _loss_grad_lbfgs with lists of activations and deltas for scikit-learn's "
        "own backpropagation; tests/contract/ checks every gradient against central differences"
    ),
    "test_mlp_partial_fit_after_fit": (
        "asserts that partial_fit refuses early_stopping=True, which fastbp's supports; "
        "test_sklearn_extras.py shows it"
    ),
}

IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor"


def _tests():
    """Run the module's source with the two names leading to fastbp, and return its test functions."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    source = Path(spec.origin).read_text("utf-8")
    assert source.count(IMPORT) == 1
    source = source.replace(IMPORT, "from fastbp.sklearn import MLPClassifier, MLPRegressor")
    names = {"__name__": __name__, "__file__": spec.origin}
    exec(compile(source, spec.origin, "exec"), names)
    return {name: value for name, value in names.items() if name.startswith("test_") and callable(value)}


TESTS = _tests()
globals().update({name: test for name, test in TESTS.items() if name not in EXCEPTIONS})


@pytest.fixture
def global_random_seed():
    """What scikit-learn's conftest draws."""
    return 42


def test_exceptions_are_few_and_exist():
    assert set(EXCEPTIONS) < set(TESTS)
    assert len(TESTS) >= 40
