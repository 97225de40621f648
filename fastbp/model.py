"""Sequential: a stack of layers, with a loss and an optimizer, that trains and predicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike

from fastbp import data, frozen, intake, training
from fastbp.callbacks import Callback
from fastbp.checks import check_count, check_flag
from fastbp.frames import as_frame, categories, feature_names
from fastbp.network import Array
from fastbp.order import Shuffle, check_shuffle
from fastbp.samples import Samples, dense
from fastbp.streams import Stream
from fastbp.supervised import SupervisedStack
from fastbp.training import History


class Sequential(SupervisedStack):
    """A feed-forward network: layers in a row.

    Parameters
    ----------
    layers : iterable of Layer
    loss : str or Loss, optional
        Name such as "cross_entropy", or an object from :mod:`fastbp.losses`. A network without a loss can
        still run forward and backward.
    optimizer : str or Optimizer
        Name such as "adam", or an object from :mod:`fastbp.optimizers`.
    metrics : sequence of str or callable
        Reported by :meth:`fit` and :meth:`evaluate` beside the loss; see :mod:`fastbp.metrics`.
    input_size : int, optional
        Number of input features. With it the weights exist at once, without it from the first use on.
    dtype : {"float32", "float64"}
        Of the weights and of all arithmetic.
    seed : int, SeedSequence or Generator, optional
        Of initial weights, batch order and dropout. The same seed gives the same bits, whatever the number
        of threads; None draws a fresh one.

    Attributes
    ----------
    layers : tuple of Layer
        With ``weight``, ``bias``, ``weight_grad``, ``bias_grad`` as live views: writing into
        ``model.layers[0].weight[...]`` changes the model. A weight has shape (out_features, in_features).
    metrics : dict of str to callable
    dtype : str
    history : History
        Of the last training.
    stop_training : bool
        A callback sets it to end the training after the current epoch.
    metadata : dict
        Plain JSON data of the user that is saved with the model.
    feature_names : tuple of str or None
        Column names, when the model was trained on a frame.
    categories : dict of str to tuple of str
        Of the categorical columns of that frame, in the order of their codes.

    Raises
    ------
    TypeError, ValueError
        For arguments that describe no network; the message names the argument.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as bp
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> model = bp.Sequential([bp.layers.Dense(32, activation="tanh"), bp.layers.Dense(1)],
    ...                       loss="mean_squared_error", optimizer=bp.optimizers.Adam(1e-2), seed=0)
    >>> history = model.fit(X, X**2, epochs=200, batch_size=20)
    >>> history.history["loss"][-1] < 1e-3
    True
    >>> model.predict([[0.5]]).shape
    (1, 1)
    """

    # ---- training ----

    def fit(
        self,
        X: ArrayLike | Iterable[Any] | Callable[[], Iterable[Any]],
        y: ArrayLike | None = None,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        validation_data: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
        validation_split: float = 0.0,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        shuffle: Shuffle = True,
        callbacks: Sequence[Callback] = (),
        verbose: Literal["auto", 0, 1, 2] = "auto",
        initial_epoch: int = 0,
    ) -> History:
        """Train for a number of epochs.

        Parameters
        ----------
        X : array_like, shape (n, input_size), or iterable, or callable
            Numbers in any array, memory-mapped file, SciPy sparse matrix, nested list, pandas or polars
            frame, or Arrow table; categories of a frame are read as their codes 0, 1, ... Without `y`: an
            iterable of batches (X, y) or (X, y, sample_weight), or a function without arguments that returns
            an iterable of such chunks for each epoch. A model that begins with a
            :class:`fastbp.layers.Flatten` takes samples of any shape.
        y : array_like, shape (n,) or (n, output_size), optional
            Values, or for cross-entropy integer labels from 0, or one row of probabilities per sample.
        epochs : int
            The epoch at which to end, counted from 0: with `initial_epoch` fewer are run.
        batch_size : int, optional
            Default 32; what an iterable gives is one batch each. The last batch of an epoch, or chunk, may
            be smaller.
        steps_per_epoch : int, optional
            How much of an iterable, or of the chunks of a function, makes an epoch: so many items. The next
            epoch goes on behind them, and begins anew where there are no more. Default: all.
        validation_data : tuple (X, y) or (X, y, sample_weight), or iterable, or callable, optional
            Evaluated after each epoch. Iterables and functions as for `X`.
        validation_split : float
            Hold out this fraction, the last rows as they came, when there is no `validation_data`.
        sample_weight : array_like, shape (n,), optional
            The loss is the weighted mean Σ w·l / Σ w over a batch.
        class_weight : dict of class to weight, or "balanced", optional
            Multiplied into the sample weights of the training, not into those of the validation.
        shuffle : bool or "batch"
            Visit the samples in a new random order each epoch; "batch": only the batches, whose samples lie
            in a row, which suits files larger than memory. Chunks are shuffled each for itself.
        callbacks : sequence of Callback
        verbose : {"auto", 0, 1, 2}
            0 nothing, 1 a progress bar, 2 a line per epoch; "auto" is 1 on a terminal and in a notebook,
            else 0.
        initial_epoch : int
            The number of the first epoch, for a training that goes on.

        Returns
        -------
        History
            ``history.history["loss"]`` has one value per epoch. After an interruption ``model.history``
            holds the epochs so far, and the model goes on from where it stands.

        Raises
        ------
        TypeError, ValueError
            For data that cannot be right; the message names the argument, what was expected and what came.

        Warns
        -----
        RuntimeWarning
            When training diverges. It then ends, the message says in which step and layer the first value
            arose that is not finite, and the model is as it was before that step. Of a network of more than
            32 MB with its optimizer's state no copy is kept: the message names a weight that is not finite,
            and the step at which that was seen.
        """
        epochs = check_count("epochs", epochs, at_least=0)
        initial_epoch = check_count("initial_epoch", initial_epoch, at_least=0)
        batch_size = None if batch_size is None else check_count("batch_size", batch_size)
        shuffle = check_shuffle(shuffle)
        callbacks = _checked_callbacks(callbacks)
        verbosity = training.check_verbose(verbose)
        passes = max(epochs - initial_epoch, 0)
        samples: Samples | Stream
        if y is None:
            if sample_weight is not None:
                raise ValueError("sample_weight without y: an iterable gives (X, y, sample_weight)")
            samples = intake.stream(self, X, "X", class_weight, steps_per_epoch, passes=passes)
            batch_size = 32 if batch_size is None and callable(X) else batch_size
            names = None
        else:
            if steps_per_epoch is not None:
                raise ValueError("steps_per_epoch needs an iterable or a function as X, and no y")
            X = as_frame(X, "X")
            names = feature_names(X)
            samples = self._samples(X, y, sample_weight)
            self.categories = self.categories or categories(X)
            batch_size = min(batch_size or 32, len(samples))
        samples, validation = intake.hold_out(self, samples, validation_data, validation_split, names, passes)
        if isinstance(samples, Samples):  # a stream does it with each part
            samples = self._with_class_weights(samples, class_weight)
        self.feature_names = names or self.feature_names
        run = training.Training(
            self,
            self._require_network(),
            samples,
            validation,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            callbacks=callbacks,
            verbosity=verbosity,
        )
        return run.run(initial_epoch)

    def train_on_batch(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
    ) -> float:
        """Do one step on all of these samples and return their loss before it.

        Afterwards ``model.gradients`` and ``layer.weight_grad`` hold the gradients of that loss.
        """
        samples = self._samples(X, y, sample_weight, class_weight)
        return self._require_network().train(samples)

    # ---- a loop of one's own ----

    def forward(self, X: ArrayLike, training: bool = False) -> Array:
        """Run a batch forward and keep what :meth:`backward` needs.

        Parameters
        ----------
        X : array_like, shape (n, input_size)
        training : bool
            Whether dropout drops.

        Returns
        -------
        ndarray, shape (n, output_size)
        """
        inputs = self._inputs(X)
        return self._shaped(self._require_network().forward(inputs, check_flag("training", training)))

    def backward(self, dY: ArrayLike) -> Array:
        """Run the last forward batch backward: fill the gradients and return ∂L/∂X.

        Parameters
        ----------
        dY : array_like, shape (n, output_size)
            ∂L/∂Y for the outputs of the last :meth:`forward`, output activation included.

        Returns
        -------
        ndarray, shape (n, input_size)

        Raises
        ------
        RuntimeError
            Without a forward pass that this could belong to: anything else that ran the network since has
            written over it.
        """
        network = self._require_network()
        rows = network.forward_rows
        if rows is None:
            raise RuntimeError("backward needs a forward pass right before it: call model.forward(X) first")
        delta = data.output_gradients(self._rows(dY), dtype=self.dtype)
        expected = rows, self.output_size
        if delta.shape != expected:
            raise ValueError(
                f"dY has shape {delta.shape}, expected {expected}, the shape that forward returned"
            )
        return network.backward(delta)

    def step(self) -> None:
        """Let the optimizer do one step with the gradients as they are."""
        self._require_network().step()

    # ---- using ----

    def predict(self, X: ArrayLike) -> Array:
        """Outputs for many samples; dropout is off.

        The result for a row does not depend on the rows beside it, to the bit (on the reference
        interpreter, which takes NumPy's matrix product, but for rounding).

        Parameters
        ----------
        X : array_like, shape (n, input_size)

        Returns
        -------
        ndarray, shape (n, output_size)
        """
        inputs = self._inputs(X)
        return self._shaped(self._require_network().predict(inputs))

    def freeze(self) -> frozen.Frozen:
        """Return the forward pass over the weights as they are now, for use in production.

        The result is a function of arrays: immutable, safe to call from any number of threads, and without
        the checks of :meth:`predict` that take longer than a small network.

        Raises
        ------
        TypeError
            When a layer is written in Python.

        Examples
        --------
        >>> import numpy as np
        >>> import fastbp as bp
        >>> model = bp.Sequential([bp.layers.Dense(2)], input_size=3, seed=0)
        >>> f = model.freeze()
        >>> x = np.ones(3, np.float32)
        >>> bool((f(x) == model.predict([x])[0]).all())
        True
        """
        return frozen.freeze(self._require_network())

    def evaluate(
        self,
        X: ArrayLike | Iterable[Any] | Callable[[], Iterable[Any]],
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> dict[str, float]:
        """Loss and metrics on samples; dropout is off.

        Parameters
        ----------
        X, y, sample_weight : array_like
            As in :meth:`fit`.

        Returns
        -------
        dict of str to float
            "loss", and one entry per metric of the model.
        """
        samples = intake.stream(self, X, "X") if y is None else self._samples(X, y, sample_weight)
        return training.evaluate(self._require_network(), samples, self.scorers)

    def export_c(
        self,
        path: str | os.PathLike[str],
        *,
        dtype: Literal["float32", "int8"] = "float32",
        calibration: ArrayLike | None = None,
    ) -> None:
        """Write the network as one C99 file and its header, for microcontrollers and the like.

        ``net.c`` defines ``void net_predict(const float *input, float *output)`` for one sample. It allocates
        nothing, needs nothing but math.h, and its comment says how much flash and RAM it takes. Compiled with
        ``-DNET_SELF_TEST`` it is a program that compares its results with stored ones.

        Parameters
        ----------
        path : str or path
            Ends in ".c"; the name of the file is that of the function.
        dtype : {"float32", "int8"}
            "int8": weights of the dense layers in 8 bits with a scale per unit, their inputs in 8 bits with
            a range from `calibration`, sums in 32 bits; a quarter of the size.
        calibration : array_like, shape (n, input_size), optional
            Typical samples; needed for "int8". The first of them are stored in the self-test.

        Raises
        ------
        TypeError, ValueError
            For arguments out of their range, a layer that has no form in C, or weights that are not finite.
        RuntimeError
            When the model has no weights yet.
        OSError
            When a file cannot be written.
        """
        from fastbp import c_export

        self._require_network()
        samples = None if calibration is None else dense(self._inputs(calibration, "calibration"), self.dtype)
        c_export.export(self, path, dtype, samples)


def _checked_callbacks(callbacks: object) -> list[Callback]:
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of Callback objects, got {callbacks!r}")
    checked = list(callbacks)
    for number, callback in enumerate(checked):
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks[{number}] must be a Callback object, got {callback!r}")
    return checked
