"""Optimizers that see all samples at once and choose their steps themselves, from curvature.

:mod:`fastbp.optimizers` shows them to users; :mod:`fastbp.full_batch` runs them.
"""

from __future__ import annotations

from fastbp.checks import check_count, check_number
from fastbp.optimizer import Optimizer


class FullBatchOptimizer(Optimizer):
    """Base of optimizers without a step of their own in the plan.

    ``fit`` minimises the loss of all samples; `batch_size` and `shuffle` mean nothing then. An epoch is one
    minimisation: it ends when nothing is left to gain, or after `max_iter` iterations, so that one epoch is
    usually enough. The loss of an epoch is the one it ended with. ``train_on_batch`` is an epoch as well.
    """

    kind = ""

    def __init__(self, max_iter: int, tolerance_grad: float, tolerance_change: float) -> None:
        super().__init__(learning_rate=1.0)
        self.max_iter = check_count("max_iter", max_iter)
        self.tolerance_grad = check_number("tolerance_grad", tolerance_grad, "[0, inf)")
        self.tolerance_change = check_number("tolerance_change", tolerance_change, "[0, inf)")


class LBFGS(FullBatchOptimizer):
    """L-BFGS (Liu and Nocedal, 1989), SciPy's: steps from the last gradients, with a line search.

    For smooth losses, for data of some thousand rows, and for fits to many digits. It needs SciPy:
    ``pip install "fastbp[scipy]"``. The loss must be the same each time: no dropout.

    Parameters
    ----------
    max_iter : int
        Most iterations of an epoch.
    tolerance_grad : float
        End when no element of the gradient is larger.
    tolerance_change : float
        End when an iteration changes the loss f by less than this times max(f, 1).
    history_size : int
        Gradients to remember.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as bp
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> model = bp.Sequential([bp.layers.Dense(8, activation="tanh"), bp.layers.Dense(1)],
    ...                       loss="mse", optimizer="lbfgs", dtype="float64", seed=0)
    >>> history = model.fit(X, np.sin(3 * X))
    >>> model.evaluate(X, np.sin(3 * X))["loss"] < 1e-4
    True
    """

    key = "lbfgs"

    def __init__(
        self,
        max_iter: int = 1000,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-12,
        history_size: int = 20,
    ) -> None:
        super().__init__(max_iter, tolerance_grad, tolerance_change)
        self.history_size = check_count("history_size", history_size)


class LevenbergMarquardt(FullBatchOptimizer):
    """Levenberg–Marquardt (Marquardt, 1963; damping of Nielsen, 1999) for small least-squares networks.

    Solves (JᵀJ + μ I) Δθ = −Jᵀr for the residuals r and their exact Jacobian J, which one backward pass for
    each sample and output gives; μ falls after good steps and grows after bad ones. For "mean_squared_error"
    and "half_squared_error" without regularizers. Memory and time grow with the square and the cube of the
    number of parameters: some hundred are fine, some thousand are not.

    Parameters
    ----------
    max_iter : int
        Most iterations of an epoch.
    tolerance_grad : float
        End when no element of the gradient of the loss is larger.
    tolerance_change : float
        End when a step is shorter than this times the length of θ.
    damping : float
        The first μ, as a multiple of the largest element of the diagonal of JᵀJ.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as bp
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> model = bp.Sequential([bp.layers.Dense(8, activation="tanh"), bp.layers.Dense(1)],
    ...                       loss="mse", optimizer="levenberg_marquardt", dtype="float64", seed=0)
    >>> history = model.fit(X, np.sin(3 * X))
    >>> model.evaluate(X, np.sin(3 * X))["loss"] < 1e-5
    True
    """

    key = "levenberg_marquardt"

    def __init__(
        self,
        max_iter: int = 200,
        tolerance_grad: float = 1e-10,
        tolerance_change: float = 1e-10,
        damping: float = 1e-3,
    ) -> None:
        super().__init__(max_iter, tolerance_grad, tolerance_change)
        self.damping = check_number("damping", damping, "(0, inf)")
