"""What a model is: layers in a row, with memory for their parameters, shown and saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastbp import losses, metrics, model_file, optimizers, saving
from fastbp.checks import check_count
from fastbp.engine.plan import Plan
from fastbp.layer import Layer, name_layers
from fastbp.losses import Loss
from fastbp.network import Array, Network
from fastbp.optimizers import Optimizer
from fastbp.training import History


class LayerStack:
    """Base of :class:`fastbp.Sequential`, which documents it."""

    def __init__(
        self,
        layers: Iterable[Layer],
        loss: str | Loss | None = None,
        optimizer: str | Optimizer = "adam",
        *,
        metrics: Sequence[str | Callable[..., float]] = (),
        input_size: int | None = None,
        dtype: DTypeLike = "float32",
        seed: int | np.random.SeedSequence | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers must be a list of layers, got {layers!r}")
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError("layers must hold at least one layer")
        name_layers(self.layers)
        self._loss = None if loss is None else losses.get(loss)
        self._optimizer = optimizers.get(optimizer)
        self.metrics = _named_metrics(metrics)
        self.dtype = _dtype_name(dtype)
        self._rng = _generator(seed)
        self._dropout_seed = int(self._rng.integers(2**63))
        self._network: Network | None = None
        self.history = History()
        self.stop_training = False
        self.metadata: dict[str, Any] = {}
        self.feature_names: tuple[str, ...] | None = None
        if input_size is not None:
            self.build(input_size)

    # ---- what it is ----

    def build(self, input_size: int) -> None:
        """Make the weights for inputs with that many features; called by the first use otherwise.

        Raises
        ------
        ValueError
            When the model was built for another size, or the layers do not fit the loss.
        """
        size = check_count("input_size", input_size)
        if self._network is None:
            self._network = Network(
                self.layers,
                size,
                loss=self.loss,
                optimizer=self.optimizer,
                dtype=self.dtype,
                seed=self._dropout_seed,
                rng=self._rng,
            )
        elif size != self.input_size:
            raise ValueError(f"input_size is {self.input_size} for this model and cannot become {size}")

    @property
    def built(self) -> bool:
        """Whether the weights exist."""
        return self._network is not None

    def _require_network(self) -> Network:
        if self._network is None:
            raise RuntimeError(
                "the model has no weights yet: they exist after its first use, or at once with input_size=..."
            )
        return self._network

    @property
    def plan(self) -> Plan:
        """The plan: what the engine does in a step, operation by operation. Print it."""
        return self._require_network().latest_plan

    @property
    def input_size(self) -> int:
        """Number of input features."""
        return self._require_network().input_size

    @property
    def output_size(self) -> int:
        """Number of outputs."""
        return self._require_network().output_size

    @property
    def parameters(self) -> Array:
        """All parameters as one flat array, live: weights, biases, tables of embeddings, statistics."""
        return self._require_network().parameters

    @property
    def gradients(self) -> Array:
        """All gradients, laid out like :attr:`parameters`; live."""
        return self._require_network().gradients

    @property
    def loss(self) -> Loss | None:
        """The loss. Another one may be assigned, as a name or an object; the optimizer then starts afresh."""
        return self._loss

    @loss.setter
    def loss(self, value: str | Loss | None) -> None:
        self._set_task(None if value is None else losses.get(value), self.optimizer)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer. Another one may be assigned, as a name or an object; it starts afresh.

        Its ``learning_rate`` may be changed at any time; what else it was made with stays.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: str | Optimizer) -> None:
        self._set_task(self.loss, optimizers.get(value))

    def _set_task(self, loss: Loss | None, optimizer: Optimizer) -> None:
        if self._network is not None:
            self._network.set_task(loss, optimizer)
        self._loss, self._optimizer = loss, optimizer

    # ---- showing and saving ----

    def summary(self) -> str:
        """Return a table of the layers: name, description, output size, number of parameters."""
        rows = [("layer", "", "output", "parameters")]
        size = self.input_size if self.built else None
        total = 0
        for layer in self.layers:
            count = sum(view.size for view in layer.parameters.values())
            total += count
            size = None if size is None else layer.output_size(size)
            rows.append((layer.name, repr(layer), str(size or "?"), f"{count:,}" if self.built else "?"))
        name, kind, output, parameters = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [f"{a:<{name}}  {b:<{kind}}  {c:>{output}}  {d:>{parameters}}" for a, b, c, d in rows]
        lines.insert(1, "-" * len(lines[0]))
        known = f"{self.input_size} inputs, {total:,} parameters" if self.built else "inputs not known yet"
        return "\n".join([*lines, f"{known}, {self.dtype}, {self.loss!r}, {self.optimizer!r}"])

    def __repr__(self) -> str:
        return f"<Sequential of {len(self.layers)} layers, {self.loss!r}, {self.optimizer!r}, {self.dtype}>"

    def save(
        self,
        path: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None = None,
        *,
        optimizer: bool = True,
    ) -> None:
        """Write the model to a safetensors file: named tensors, and the architecture as JSON.

        Parameters
        ----------
        path : str or path
            Replaced at once and only when the new file is complete.
        metadata : dict, optional
            Plain JSON data to keep with the model; default: ``model.metadata``.
        optimizer : bool
            Also keep the optimizer's state and the random numbers, so that training goes on with the same
            bits as if it had never stopped.

        Raises
        ------
        OSError
            When the file cannot be written; what was there before is untouched.
        TypeError
            When a custom part or `metadata` has no form in JSON.
        """
        description, tensors = saving.describe(self, optimizer)
        if metadata is not None:
            description["metadata"] = dict(metadata)
        model_file.write(path, tensors, description)


def _dtype_name(dtype: DTypeLike) -> str:
    try:
        name = "" if dtype is None else np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in ("float32", "float64"):
        raise ValueError(f'dtype must be "float32" or "float64", got {dtype!r}')
    return name


def _generator(seed: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        message = f"seed must be an int of at least 0, a SeedSequence, a Generator or None, got {seed!r}"
        raise type(error)(message) from error


def _named_metrics(given: Sequence[str | Callable[..., float]]) -> dict[str, Callable[..., float]]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f'metrics must be a list such as ["accuracy"], got {given!r}')
    functions = [(metric, metrics.get(metric)) for metric in given]
    return {
        metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric)): function
        for metric, function in functions
    }
