"""scikit-learn's checks of what an estimator must do. None is expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp.sklearn import MLPClassifier, MLPRegressor


# As many epochs as scikit-learn gives its own.
@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_estimator_check(estimator, check):
    check(estimator)
