"""The estimators in other processes: no more threads than cores, nothing hangs."""

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score

import fastbp as bp
from fastbp.sklearn import MLPClassifier
from fastbp.threads import available_cores

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = load_digits(return_X_y=True)
X, y = X[:300] / 16, y[:300]


def test_search_in_two_processes(monkeypatch):
    monkeypatch.delenv("FASTBP_NUM_THREADS", raising=False)
    net = MLPClassifier(10, max_iter=15, random_state=0)
    net.fit(X, y)  # the parent's team exists before others are made
    scores = [cross_val_score(net, X, y, cv=2, n_jobs=jobs) for jobs in (1, 2)]
    assert np.array_equal(*scores)
    search = GridSearchCV(net, {"alpha": [1e-4, 10.0]}, cv=2, n_jobs=2).fit(X, y)
    assert search.best_params_ == {"alpha": 1e-4}
    threads = joblib.Parallel(n_jobs=2)(joblib.delayed(bp.get_num_threads)() for _ in range(2))
    assert sum(threads) <= max(2, available_cores())


@pytest.mark.parametrize("backend", ["multiprocessing", "threading"])
def test_other_backends_of_joblib(backend):
    net = MLPClassifier(10, max_iter=5, random_state=0).fit(X, y)
    expected = cross_val_score(net, X, y, cv=2)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert np.array_equal(cross_val_score(net, X, y, cv=2), expected)


def test_dask():
    import distributed

    net = MLPClassifier(10, max_iter=5, random_state=0)
    expected = cross_val_score(net, X, y, cv=2)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        assert np.array_equal(cross_val_score(net, X, y, cv=2), expected)
