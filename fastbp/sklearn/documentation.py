"""What the docstrings of classifier and regressor have in common, told once.

A docstring names these parts in braces; the classes have them written out, so that ``help`` and
scikit-learn's HTML show them.
"""

from __future__ import annotations

import inspect

PARTS = {
    "{scikit-learn's parameters}": """\
hidden_layer_sizes : int or list of int
    Units of each hidden layer.
activation : str, activation layer, or list of them
    Of the hidden layers, one for all or one for each: "relu", "tanh", "logistic" or "identity", or any other
    activation of fastbp, such as "gelu", "silu", "mish" or ``fastbp.layers.LeakyReLU(0.2)``.
solver : {"adam", "sgd", "lbfgs", "adamw", "rmsprop"} or Optimizer
    An object from :mod:`fastbp.optimizers` brings its own learning rate.
alpha : float
    Strength of the penalty ½ alpha Σ W² on the weights, divided by the sum of the sample weights.
batch_size : int or "auto"
    Rows of one step; "auto" is 200, or all rows if they are fewer. No matter to L-BFGS.
learning_rate : {"constant", "invscaling", "adaptive"}
    For "sgd": the rate stays at `learning_rate_init`; becomes ``learning_rate_init / (t + 1)**power_t``
    after t rows; or falls to a fifth each time that training would have stopped.
learning_rate_init : float
    Learning rate of the first step.
power_t : float
    Exponent of "invscaling".
max_iter : int
    Most epochs, or iterations of L-BFGS.
shuffle : bool
    Take the rows in a new random order each epoch.
random_state : int, RandomState or None
    Of the initial weights, the rows held out, their order, and dropout.
tol : float
    An epoch that gains less counts as none.
verbose : bool
    Print loss and score of each epoch.
warm_start : bool
    Let `fit` go on from where the last one ended.
momentum : float
    Of "sgd", from 0 to 1.
nesterovs_momentum : bool
    Look ahead along the momentum.
early_stopping : bool
    Stop by the score on rows held out, or on `X_val`, instead of by the training loss, and end with the
    weights that scored best: accuracy of a classifier, R² of a regressor.
validation_fraction : float
    Share of the rows that early stopping holds out.
beta_1, beta_2, epsilon : float
    Of "adam" and "adamw".
n_iter_no_change : int or inf
    Epochs without gain that are borne before training stops.
max_fun : int
    Most evaluations of the loss by L-BFGS.""",
    "{fastbp's parameters}": """\
weight_decay : float
    Decoupled decay of "adamw".
normalization : {"batch", "layer"} or None
    Of the hidden layers' sums before their activation.
dropout : float or list of float
    Share of the outputs of the hidden layers, or of each of them, that a training step drops.
n_threads : int, optional
    Most threads while this estimator works; by default those of :func:`fastbp.get_num_threads`.
callbacks : list of Callback, optional
    Called between epochs with ``model_`` as their model and "loss", "val_loss" and "val_score" in logs.
progress_bar : bool
    Show a bar of the epochs.""",
    "{attributes}": """\
coefs_, intercepts_ : list of ndarray
    Weights, shape (inputs, outputs) each, and biases of the layers: live views of the network's.
loss_, best_loss_ : float
    Loss of the last epoch, and the least one (None with early stopping).
loss_curve_ : list of float
    Loss of each epoch, penalty included.
validation_loss_curve_ : list of float
    The same on validation rows where there are some, without penalty.
validation_scores_, best_validation_score_ : list of float, float; or None
    Score on validation rows, with early stopping.
n_iter_, t_ : int
    Epochs of the last fit, and rows seen.
n_layers_, n_outputs_, n_features_in_ : int
feature_names_in_ : ndarray
    Column names, when X was a data frame.
stopped_ : bool
    Set, to True, once `partial_fit` with early stopping has come to an end.
model_ : Sequential
    The network itself: ``model_.plan``, ``model_.save(path)``, ``model_.freeze()``.""",
}


def complete(docstring: str | None) -> str | None:
    """Return a docstring with the parts that it names written out."""
    if docstring is None:  # python -OO
        return None
    text = inspect.cleandoc(docstring)
    for name, part in PARTS.items():
        text = text.replace(name, part)
    return text
