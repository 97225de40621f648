"""A stack with X and y: what users pass is checked and becomes samples in the engine's form."""

from __future__ import annotations

from typing import Any

from fastbp import data, intake, shape
from fastbp.frames import as_frame, feature_names
from fastbp.network import Array
from fastbp.samples import Inputs, Samples
from fastbp.stack import LayerStack


class SupervisedStack(LayerStack):
    """Base of :class:`fastbp.Sequential`, which documents it."""

    def _inputs(self, X: object, argument: str = "X", names: tuple[str, ...] | None = None) -> Inputs:
        """Check X, and that a frame has the columns `names`, by default those of the training."""
        X = as_frame(X, argument)
        _check_names(feature_names(X), names or self.feature_names, argument)
        columns = None if self._network is None else self.input_size
        X = shape.rows(X) if isinstance(self.layers[0], shape.Flatten) else X
        inputs = data.features(
            X, dtype=self.dtype, columns=columns, argument=argument, categories=self.categories
        )
        self.build(inputs.shape[1])
        data.require_indices(inputs, self._require_network().plan.indices, argument)
        return inputs

    def _rows(self, values: Any) -> Any:
        """Targets or deltas in the shape of the outputs, as rows."""
        return shape.rows(values) if isinstance(self.layers[-1], shape.Reshape) else values

    def _shaped(self, outputs: Array) -> Array:
        """Rows of outputs in the shape that users see."""
        last = self.layers[-1]
        return (
            outputs.reshape(-1, *last.shape(self.output_size)) if isinstance(last, shape.Reshape) else outputs
        )

    def _samples(
        self,
        X: object,
        y: object,
        sample_weight: object = None,
        class_weight: object = None,
        *,
        prefix: str = "",
        names: tuple[str, ...] | None = None,
    ) -> Samples:
        if self.loss is None:
            raise ValueError('loss: the model has none; give Sequential(..., loss="mean_squared_error"), say')
        inputs = self._inputs(X, f"{prefix}X", names)
        rows, kind = len(inputs), self.loss.target_kind
        targets = data.targets(
            self._rows(y),
            dtype=self.dtype,
            rows=rows,
            kind=kind,
            columns=self.output_size,
            argument=f"{prefix}y",
        )
        weights = data.sample_weights(
            sample_weight, rows=rows, dtype=self.dtype, argument=f"{prefix}sample_weight"
        )
        return self._with_class_weights(Samples(inputs, targets, weights), class_weight)

    def _with_class_weights(self, samples: Samples, class_weight: object) -> Samples:
        if class_weight is None:
            return samples
        kind = None if self.loss is None else self.loss.target_kind
        if kind == "values" or (kind == "probabilities" and self.output_size > 1):
            raise ValueError(
                f"class_weight needs one class per sample, but {self.loss!r} with {self.output_size} "
                "outputs has none; use sample_weight"
            )
        weights = data.class_weights(class_weight, samples.targets, max(2, self.output_size))
        if samples.weights is not None:
            weights = samples.weights * weights
        weighted = Samples(samples.inputs, samples.targets, weights)
        intake.require_weight(weighted, "sample_weight and class_weight")
        return weighted


def _check_names(names: tuple[str, ...] | None, expected: tuple[str, ...] | None, argument: str) -> None:
    """Require the columns of the training, in their order; their number is checked with the values."""
    for number, (name, wanted) in enumerate(zip(names or (), expected or (), strict=False)):
        if name != wanted:
            raise ValueError(
                f"{argument} has the column {name!r} at position {number}, expected {wanted!r} as in training"
            )
