"""Train here, then in two processes at once, then here again: the same bits each time.

python train_in_processes.py fork|forkserver|spawn|loky|multiprocessing|threading [limit]

The last three are backends of joblib. With a limit each training, here and there, is under threadpoolctl's.
Any other end than exit code 0 tells that something came out differently.
"""

import contextlib
import multiprocessing
import sys

import joblib
import numpy as np
import threadpoolctl

import fastbp as bp
from fastbp.engine import backend

THREADS, WORKERS, PATIENCE = 4, 2, 100


def train(limit):
    """Return all bits, and the threads of a team that has enough to do."""
    native = backend.native()
    if native:
        native.set_grain(0)  # teams for small networks too
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 20)), rng.integers(3, size=300)
    layers = [bp.layers.Dense(33, "relu"), bp.layers.Dropout(0.2), bp.layers.Dense(3, "softmax")]
    model = bp.Sequential(layers, "cross_entropy", seed=0)
    with threadpoolctl.threadpool_limits(limit) if limit else contextlib.nullcontext():
        model.fit(X, y, epochs=2, batch_size=50, verbose=0)
        team = native.team_size(1e12) if native else 1
        return model.parameters.tobytes() + model.predict(X).tobytes(), team


def train_elsewhere(how, limit):
    """Train in other processes (or threads)."""
    if how in ("loky", "multiprocessing", "threading"):
        workers = joblib.Parallel(WORKERS, backend=how, timeout=PATIENCE)
        return workers(joblib.delayed(train)(limit) for _ in range(2 * WORKERS))
    with multiprocessing.get_context(how).Pool(WORKERS) as pool:
        return pool.map_async(train, [limit] * 2 * WORKERS, chunksize=1).get(PATIENCE)


def main(how, limit=None):
    """Compare."""
    limit = limit and int(limit)
    bp.set_num_threads(THREADS)  # a forked child has it from here, others have their own default
    (expected, team), elsewhere, (again, _) = train(limit), train_elsewhere(how, limit), train(limit)
    if {expected} != {again, *(bits for bits, _ in elsewhere)}:
        sys.exit("other bits")
    if team != (limit or THREADS) and backend.native():
        sys.exit(f"a team of {team} here")
    if limit and max(team for _, team in elsewhere) > limit:
        sys.exit("the limit does not hold there")


if __name__ == "__main__":
    main(*sys.argv[1:])
