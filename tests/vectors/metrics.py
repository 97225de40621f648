"""Writes metrics.json, what scikit-learn says about predictions: `python tests/vectors/metrics.py`.

The tests need the file, not scikit-learn, and importing this module does not need it either.
"""

import json
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(7)


def weights(n):
    """Some samples weigh nothing."""
    return RNG.integers(0, 4, n) / 2 + (np.arange(n) % 5 == 0)


def binary(n):
    y = RNG.integers(0, 2, n)
    p = np.clip(RNG.normal(0.35 + 0.3 * y, 0.25), 0.02, 0.98).round(2)  # rounded: some scores are equal
    return y, p


def scores(y, p, w):
    from sklearn import metrics

    labels = (p > 0.5).astype(int)
    return {
        "precision": metrics.precision_score(y, labels, sample_weight=w, zero_division=0),
        "recall": metrics.recall_score(y, labels, sample_weight=w, zero_division=0),
        "f1": metrics.f1_score(y, labels, sample_weight=w, zero_division=0),
        "roc_auc": metrics.roc_auc_score(y, p, sample_weight=w),
        "log_loss": metrics.log_loss(y, p, sample_weight=w),
        "accuracy": metrics.accuracy_score(y, labels, sample_weight=w),
    }


def class_scores(y, p, w):
    from sklearn import metrics

    labels = p.argmax(axis=1)
    average = {"average": "macro", "sample_weight": w, "zero_division": 0}
    return {
        "precision": metrics.precision_score(y, labels, **average),
        "recall": metrics.recall_score(y, labels, **average),
        "f1": metrics.f1_score(y, labels, **average),
        "roc_auc": np.mean(
            [
                metrics.roc_auc_score(y == k, p[:, k], sample_weight=w)
                for k in range(p.shape[1])
                if ((y == k) * (1 if w is None else w)).any()
            ]
        ),
        "log_loss": metrics.log_loss(y, p, sample_weight=w, labels=range(p.shape[1])),
        "accuracy": metrics.accuracy_score(y, labels, sample_weight=w),
        "top_k_accuracy": metrics.top_k_accuracy_score(y, p, k=5, sample_weight=w, labels=range(p.shape[1])),
    }


def label_scores(y, p, w):
    from sklearn import metrics

    labels = (p > 0.5).astype(int)
    average = {"average": "macro", "sample_weight": w, "zero_division": 0}
    return {
        "precision": metrics.precision_score(y, labels, **average),
        "recall": metrics.recall_score(y, labels, **average),
        "f1": metrics.f1_score(y, labels, **average),
        "roc_auc": metrics.roc_auc_score(y, p, average="macro", sample_weight=w),
        "log_loss": np.mean([metrics.log_loss(y[:, k], p[:, k], sample_weight=w) for k in range(y.shape[1])]),
    }


def value_scores(y, p, w):
    from sklearn import metrics

    return {
        "mean_absolute_error": metrics.mean_absolute_error(y, p, sample_weight=w),
        "mean_squared_error": metrics.mean_squared_error(y, p, sample_weight=w),
        "root_mean_squared_error": np.sqrt(metrics.mean_squared_error(y, p, sample_weight=w)),
        "r2": metrics.r2_score(y, p, sample_weight=w),
    }


def probabilities(y, classes):
    logits = RNG.normal(size=(len(y), classes)) + 1.5 * np.eye(classes)[y]
    p = np.exp(logits)
    p = (p / p.sum(axis=1, keepdims=True)).round(5)
    p[:, -1] = (1 - p[:, :-1].sum(axis=1)).round(5)
    return p


def cases():
    for n in (15, 60):
        yield "binary", *binary(n), scores
        y = RNG.integers(0, 7, n)
        yield "classes", y, probabilities(y, 7), class_scores
        y = RNG.choice([0, 1, 3, 5, 6], n)  # classes 2 and 4 never occur, but may be predicted
        yield "classes, some of which never occur", y, probabilities(y, 7), class_scores
        y = RNG.integers(0, 2, (n, 3))
        p = np.clip(RNG.normal(0.35 + 0.3 * y, 0.25), 0.02, 0.98).round(2)
        p[:, 2] = np.minimum(p[:, 2], 0.5)  # an output that never says yes
        yield "independent outputs", y, p, label_scores
        y = RNG.normal(size=(n, 2)).round(3)
        yield "values", y, y + RNG.normal(0, 0.5, (n, 2)).round(3), value_scores


def main():
    import sklearn

    found = []
    for name, y, p, score in cases():
        for w in (None, weights(len(y))):
            values = {metric: float(value) for metric, value in score(y, p, w).items()}
            found.append(
                {
                    "name": name,
                    "y_true": y.tolist(),
                    "y_pred": p.tolist(),
                    "sample_weight": None if w is None else w.tolist(),
                    "scores": values,
                }
            )
    content = {"scikit-learn": sklearn.__version__, "cases": found}
    Path(__file__).with_suffix(".json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
