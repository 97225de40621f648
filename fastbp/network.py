"""A network in memory, and what it does: training, one phase after the other, prediction.

Everything here is checked already; :mod:`fastbp.model` stands between a network and its user.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from fastbp import full_batch
from fastbp.chunks import Pace, Sums, run_in_chunks
from fastbp.compiled_network import Array as Array
from fastbp.compiled_network import CompiledNetwork
from fastbp.samples import Inputs, Samples, in_memory
from fastbp.sources import MappedRows


class Network(CompiledNetwork):
    """Layers with memory that train and predict; :class:`CompiledNetwork` takes the arguments."""

    # ---- training ----

    def train(self, samples: Samples) -> float:
        """Do one step on all samples together and return their mean loss before it."""
        if not self.optimizer.kind:
            return full_batch.minimize(self, samples)
        rows = len(samples)
        phases = ("gather", "gather_targets", "forward", "loss", "backward", "update")
        program = self._program(rows, samples.targets.shape[1], inputs=samples.inputs)
        rates = self._rates(1)
        arenas = samples.arenas() | {"inputs": in_memory(samples.inputs)}
        return mean_loss(program.run(phases, 0, rows, learning_rates=rates, training=True, **arenas))

    def train_epoch(
        self,
        samples: Samples,
        order: NDArray[np.int64] | None,
        batch_size: int,
        outputs: Array | None,
        progress: Callable[[int], None],
        pace: Pace,
        sums: Sums,
        unread: bool = False,
    ) -> Sums:
        """Do a step for each batch, and stop once the loss is not finite.

        Parameters
        ----------
        samples : Samples
        order : ndarray of int64, or None
            Numbers of the samples in the order of their turn, all of them or some; None: all as they lie. An
            optimizer that runs the network itself takes all of them.
        batch_size : int
        outputs : ndarray, shape (n, output_size), or None
            Where to leave the predictions, as they were before each update and in the order of `order`.
        progress : callable
            Told how many batches are done since it was last called.
        pace : Pace
            The same for all calls with batches of one size.
        sums : (float, float)
            What this method returned for the samples before; zeros at the beginning of an epoch.
        unread : bool
            Whether other steps follow before anybody can read the gradients of the last batch.

        Returns
        -------
        (float, float)
            Sums over the samples from the beginning of the epoch: weight times loss, and weight.
        """
        if not self.optimizer.kind:
            loaded = Samples(in_memory(samples.inputs), samples.targets, samples.weights)
            loss = full_batch.minimize(self, loaded)
            if outputs is not None:
                outputs[...] = self.predict(samples.inputs)[slice(None) if order is None else order]
            progress(-(-len(samples) // batch_size))
            weight = float(len(samples) if samples.weights is None else samples.weights.sum(dtype=np.float64))
            return sums[0] + loss * weight, sums[1] + weight
        phases = ["gather", "gather_targets", "forward", "loss", "backward", "update"]
        if outputs is not None:
            phases.insert(3, "output")
        program = self._program(batch_size, samples.targets.shape[1], "training", samples.inputs)

        def run_block(
            block: Samples, turns: NDArray[np.int64] | None, places: Array | None, sums: Sums
        ) -> Sums:
            arenas = block.arenas() | {"order": turns, "outputs": places}

            rows = len(block) if turns is None else len(turns)

            def run(first: int, count: int, sums: Sums) -> Sums:
                return program.run(
                    phases,
                    first,
                    count,
                    learning_rates=self._rates(-(-count // batch_size)),
                    training=True,
                    goes_on=unread or first + count < rows,
                    totals=sums,
                    **arenas,
                )

            return run_in_chunks(run, rows, batch_size, progress, sums, True, pace, self._background)

        pace.expect(6 * batch_size * self.parameters.size)  # each weight is in three products per sample
        done = 0
        with closing(samples.blocks(order, batch_size)) as blocks:
            for block, turns in blocks:
                places = None if outputs is None else outputs[done:]
                sums = run_block(block, turns, places, sums)
                done += len(block)
                if not math.isfinite(sums[0]):
                    break
        return sums

    def differentiate(self, samples: Samples, training: bool, backward: bool = True) -> tuple[float, Array]:
        """Fill the gradients of the mean loss of all samples together, and return that loss and ∂L/∂X.

        Without `backward` nothing but the loss is computed.
        """
        rows = len(samples)
        program = self._program(rows, samples.targets.shape[1], inputs=samples.inputs)
        dX = np.empty((rows, self.input_size), self.dtype)
        phases = ["gather", "gather_targets", "forward", "loss"]
        if backward:
            phases += ["backward", "input_gradient"]
        arenas = samples.arenas() | {"input_gradients": dX}
        loss_sum, weight_sum = program.run(phases, 0, rows, training=training, **arenas)
        return loss_sum / weight_sum if weight_sum else 0.0, dX

    def train_batches(
        self,
        samples: Samples,
        order: NDArray[np.int64],
        first: int,
        batch_size: int,
        losses: NDArray[np.float64],
    ) -> None:
        """Do a step for each batch, all of them in one call of the engine.

        Parameters
        ----------
        samples : Samples
        order : ndarray of int64
            Sample numbers in the order of their turn.
        first : int
            Position in `order` where the first batch begins.
        batch_size : int
        losses : ndarray of float64, shape (batches, 2)
            Filled with the mean loss of each batch, and with the penalty on the weights before its step.
        """
        count = min(len(losses) * batch_size, len(order) - first)
        self._program(batch_size, samples.targets.shape[1], "training", samples.inputs).run(
            ("gather", "gather_targets", "forward", "loss", "backward", "update"),
            first,
            count,
            order=order,
            learning_rates=self._rates(len(losses)),
            batch_losses=losses,
            training=True,
            **samples.arenas(),
        )

    def loss_and_penalty(self, samples: Samples) -> tuple[float, float]:
        """Fill the gradients from all samples together; no step is made.

        Returns
        -------
        loss, penalty : float
            The mean loss, and the penalty on the weights.
        """
        losses = np.empty((1, 2))
        phases = ("gather", "gather_targets", "forward", "loss", "backward")
        program = self._program(len(samples), samples.targets.shape[1], "training", samples.inputs)
        program.run(phases, 0, len(samples), batch_losses=losses, training=True, **samples.arenas())
        return float(losses[0, 0]), float(losses[0, 1])

    # ---- one phase after the other ----

    def forward(self, inputs: Inputs, training: bool) -> Array:
        """Return the outputs of a batch, and keep what :meth:`backward` needs."""
        rows = len(inputs)
        program = self._program(rows)
        outputs = np.empty((rows, self.output_size), self.dtype)
        phases = ("gather", "forward", "output")
        program.run(phases, 0, rows, inputs=in_memory(inputs), outputs=outputs, training=training)
        self._forward_pass = program, rows, training
        return outputs

    @property
    def forward_rows(self) -> int | None:
        """Rows of the forward pass that :meth:`backward` would go back through; None without one."""
        return None if self._forward_pass is None else self._forward_pass[1]

    def backward(self, delta: Array) -> Array:
        """Fill the gradients from ∂L/∂Y of the last forward pass and return ∂L/∂X."""
        assert self._forward_pass is not None
        program, rows, training = self._forward_pass
        dX = np.empty((rows, self.input_size), self.dtype)
        phases = ("output_backward", "backward", "input_gradient")
        program.run(phases, 0, rows, output_gradients=delta, input_gradients=dX, training=training)
        return dX

    def step(self) -> None:
        """Let the optimizer do one step with the gradients as they are.

        Raises
        ------
        RuntimeError
            When the optimizer asks for losses and gradients itself.
        """
        if not self.optimizer.kind:
            raise RuntimeError(f"{self.optimizer!r} makes no single step: use fit or train_on_batch")
        kept = self._forward_pass
        program = self._program(1) if kept is None else kept[0]
        program.run(("update",), 0, 1, learning_rates=self._rates(1))

    # ---- using ----

    def predict(self, inputs: Inputs) -> Array:
        """Return the outputs for any number of samples."""
        outputs = np.empty((len(inputs), self.output_size), self.dtype)
        if isinstance(inputs, MappedRows):
            with closing(inputs.blocks(None, 1)) as blocks:
                for rows, values, _ in blocks:
                    outputs[rows] = self.predict(values)
            return outputs
        program = self._program(min(len(inputs), self._predict_batch), None, "inference", inputs)

        def run(first: int, count: int, sums: Sums) -> Sums:
            return program.run(("gather", "forward", "output"), first, count, inputs=inputs, outputs=outputs)

        run_in_chunks(run, len(inputs), program.plan.batch_size)
        return outputs

    def evaluate(self, samples: Samples, sums: Sums = (0.0, 0.0)) -> tuple[Sums, Array]:
        """Return Σ w·l and Σ w, with those of the samples before, and the outputs."""
        outputs = np.empty((len(samples), self.output_size), self.dtype)
        columns, rows = samples.targets.shape[1], min(len(samples), self._predict_batch)
        program = self._program(rows, columns, "inference", samples.inputs)
        phases = ("gather", "gather_targets", "forward", "output", "loss")

        def run_block(block: Samples, places: Array, sums: Sums) -> Sums:
            arenas = block.arenas() | {"outputs": places}

            def run(first: int, count: int, sums: Sums) -> Sums:
                return program.run(phases, first, count, totals=sums, **arenas)

            return run_in_chunks(run, len(block), program.plan.batch_size, sums=sums)

        done = 0
        with closing(samples.blocks(None, 1)) as blocks:
            for block, _ in blocks:
                sums = run_block(block, outputs[done:], sums)
                done += len(block)
        return sums, outputs


def mean_loss(sums: Sums) -> float:
    """Σ w·l / Σ w; weights so small that the engine takes them for 0 have no loss."""
    loss_sum, weight_sum = sums
    return loss_sum / weight_sum if weight_sum else 0.0
