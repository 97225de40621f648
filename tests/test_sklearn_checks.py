"""scikit-learn's checks of what an estimator must do. None is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# As many epochs as scikit-learn gives its own.
@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_estimator_check(estimator, check):
    check(estimator)
