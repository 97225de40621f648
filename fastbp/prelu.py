"""PReLU: a ReLU that learns its slope below 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastbp import initializers
from fastbp.engine.graph import Graph, Value
from fastbp.initializers import InitializerFunction
from fastbp.layer import Array, Layer, Live


class PReLU(Layer):
    """y = x for x > 0, else α x, with an α for each feature that is learned (He et al., 2015).

    On the way back dx = dy for x > 0, else α dy; dα = Σ over the rows of dy · min(x, 0).

    Parameters
    ----------
    alpha_initializer : str, Initializer or callable
        Where α starts: at 0 as in Keras; PyTorch starts at ``Constant(0.25)``.
    name : str, optional

    Attributes
    ----------
    alpha, alpha_grad : ndarray, shape (features,)
        Live views. No weight decay acts on them: it would turn the layer into a ReLU.

    Examples
    --------
    >>> import fastbp as bp
    >>> layer = bp.layers.PReLU(alpha_initializer=bp.initializers.Constant(0.25))
    >>> bp.Sequential([layer], input_size=2).predict([[-2, 2]])
    array([[-0.5,  2. ]], dtype=float32)
    """

    key = "prelu"
    alpha = Live("alpha", "parameters", "α, shape (features,).")
    alpha_grad = Live("alpha", "gradients", "∂L/∂α of the last backward pass, shape (features,).")

    def __init__(
        self,
        alpha_initializer: str | InitializerFunction | Mapping[str, Any] = "zeros",
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.alpha_initializer = initializers.get(alpha_initializer, "alpha_initializer")

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y, and on the way back dα and dx."""
        alpha = graph.parameter("alpha", 1, x.columns, self.alpha_initializer, decay=False)
        y = graph.tensor(x.columns)
        graph.emit("prelu_forward", x=x, alpha=alpha, y=y)

        def backward(dy: Value) -> Value:
            dx = graph.delta(x.columns)
            graph.emit("prelu_backward", x=x, alpha=alpha, dy=dy, alpha_grad=alpha.gradient, dx=dx)
            return dx

        graph.backward(backward)
        return y

    def view(self, name: str, memory: Array) -> Array:
        """Return α as (features,)."""
        vector: Array = memory[0]
        return vector
