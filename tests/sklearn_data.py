"""Data for tests of the estimators: digits, a plane, several labels, counts, weights."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits, make_multilabel_classification, make_regression

DIGITS, DIGIT = load_digits(return_X_y=True)

DIGITS, DIGIT = DIGITS[:400] / 16, DIGIT[:400]

PLANE, HEIGHT = make_regression(150, 6, n_targets=2, random_state=0)

HEIGHT = HEIGHT / 100

LABELLED = make_multilabel_classification(150, random_state=0)

COUNTS = np.random.default_rng(1).poisson(np.exp(HEIGHT[:, 0] / 3))

WEIGHTS = np.random.default_rng(0).uniform(0.2, 3, 400)
