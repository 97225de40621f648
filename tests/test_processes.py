"""Training in processes that others made: nothing hangs, the numbers are the same, limits hold."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import threadpoolctl

import fastbp as bp
from fastbp.engine import backend

NATIVE = backend.native()
METHODS = multiprocessing.get_all_start_methods()
PATIENCE = 60
"""Seconds after which a process counts as hung."""


def train(threads=4):
    """Train with a team as large as the limit, however little work there is; return all bits."""
    if backend.native():
        backend.native().set_grain(0)
    bp.set_num_threads(threads)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 20)), rng.integers(3, size=300)
    model = bp.Sequential(
        [bp.layers.Dense(33, "relu"), bp.layers.Dropout(0.2), bp.layers.Dense(3, "softmax")],
        "cross_entropy",
        seed=0,
    )
    model.fit(X, y, epochs=2, batch_size=50, verbose=0)
    return model.parameters.tobytes() + model.predict(X).tobytes()


def train_limited(_):
    """Train under somebody else's limit of one thread."""
    with threadpoolctl.threadpool_limits(1):
        return train()


def train_model(model):
    X = np.random.default_rng(1).normal(size=(100, 4))
    model.fit(X, X[:, :2], epochs=2, batch_size=10, verbose=0)
    return model.parameters.tobytes()
