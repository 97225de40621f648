"""Which of two values of a log is better."""

from __future__ import annotations

import math
from typing import Any

from fastbp import metrics
from fastbp.checks import check_choice


class Monitor:
    """Which of two values of a log is better.

    Parameters
    ----------
    monitor : str
        Name in the logs: "loss", "val_loss", "val_accuracy", ...
    mode : {"auto", "min", "max"}
        "auto": "max" for the metrics of :mod:`fastbp.metrics` that grow with quality, "min" for the others
        and for the loss.
    min_delta : float
        A smaller change is no improvement.

    Raises
    ------
    ValueError
        When mode is "auto" and the name is not known.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name such as 'val_loss', got {monitor!r}")
        self.name = monitor
        self.min_delta = abs(min_delta)
        self.sign = {"min": 1, "max": -1}.get(check_choice("mode", mode, ("auto", "min", "max")), 0)
        if self.sign == 0:
            name = monitor.removeprefix("val_")
            if name != "loss" and name not in metrics.BY_NAME:
                raise ValueError(
                    f"mode must be 'min' or 'max' for monitor={monitor!r}: which of its values is better is "
                    "not known here"
                )
            self.sign = -1 if name in metrics.LARGER_IS_BETTER else 1

    def require(self, params: dict[str, Any]) -> None:
        """Check, before the training, that its logs will hold the value."""
        if self.name not in params["metrics"]:
            hint = "; give fit validation_data or validation_split" if self.name.startswith("val_") else ""
            raise ValueError(
                f"monitor={self.name!r} is not in the logs of this training, which hold "
                f"{', '.join(params['metrics'])}{hint}"
            )

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value improves on another one; NaN never does, and any number improves on None."""
        if than is None:
            return not math.isnan(value)
        return self.sign * value < self.sign * than - self.min_delta
