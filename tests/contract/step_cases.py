"""Cases of test_ops.py for losses and for steps of optimizers; `new` makes a Case of an operation."""

from __future__ import annotations

import runpy
from itertools import product
from pathlib import Path

import numpy as np

from fastbp.engine import reference
from fastbp.engine.plan import BLOCK, LOSSES, Op

CASE = runpy.run_path(str(Path(__file__).with_name("case.py")))
EDGES, FLAT, turned = CASE["EDGES"], CASE["FLAT"], CASE["turned"]


def loss_case(new, kind, dtype, rng, attributes, prediction, target, weighted):
    """weighted: sample weights given, planned but not given, or not even planned."""
    case = new(kind, dtype, len(prediction), attributes, phase="loss")
    delta = case.operands["delta"] = case.workspace(prediction.shape[1])
    place = case.take("prediction", "inputs", prediction)
    case.take("target", "targets", target)
    case.operands["sample_weight"] = None
    if weighted != "unplanned":
        case.take(
            "sample_weight", "sample_weights", rng.integers(0, 4, len(prediction)) + 0.25, contiguous=True
        )
    if weighted == "absent":
        del case.data["sample_weights"]
    case.give("outputs", delta)
    case.give("input_gradients", place)
    return case


WEIGHTED = ("given", "absent", "unplanned")


def elementwise_loss(new, dtype, rng):
    parameter = {"huber": 0.7, "quantile": 0.3}
    for loss, (number, columns) in product(LOSSES, enumerate(EDGES)):
        shape = turned(6)[number], columns
        prediction, target = rng.normal(size=shape), rng.normal(size=shape)
        if loss == "poisson":
            prediction, target = rng.uniform(0.1, 5, shape), rng.poisson(2, shape)
        elif loss == "binary_cross_entropy":
            prediction, target = rng.uniform(0.01, 0.99, shape), rng.choice([0, 0.3, 1], shape)
        elif loss == "poisson_deviance":
            target = rng.poisson(2, shape)
        elif loss in ("sigmoid_binary_cross_entropy", "multilabel_cross_entropy"):
            prediction, target = 5 * prediction, rng.choice([0, 0.3, 1], shape)
        attributes = {"loss": loss, "parameter": parameter.get(loss, 0.0)}
        yield loss_case(
            new, "elementwise_loss", dtype, rng, attributes, prediction, target, WEIGHTED[number % 3]
        )


def cross_entropy(new, kind, dtype, rng):
    for (number, columns), labels, smoothing in product(enumerate(EDGES), (True, False), (0.0, 0.1)):
        if columns == 1 and not labels:
            continue  # one column of targets means labels
        rows = turned(6)[number]
        target = rng.integers(columns, size=(rows, 1)) if labels else rng.dirichlet(np.ones(columns), rows)
        prediction = rng.dirichlet(np.full(columns, 5), rows) if kind == "cross_entropy_loss" else None
        if prediction is None:
            prediction = 5 * rng.normal(size=(rows, columns))
        attributes = {"label_smoothing": smoothing}
        yield loss_case(new, kind, dtype, rng, attributes, prediction, target, WEIGHTED[number % 3])


def cross_entropy_loss(new, dtype, rng):
    yield from cross_entropy(new, "cross_entropy_loss", dtype, rng)


def softmax_cross_entropy_loss(new, dtype, rng):
    yield from cross_entropy(new, "softmax_cross_entropy_loss", dtype, rng)


TABLES = ((2, 5), (7, 16), (40, 3))  # of which a step leaves alone the rows without a gradient


def update(new, kind, dtype, rng, size, attributes, **slots):
    """Three steps with three learning rates. slots: whether each is there."""
    case = new(kind, dtype, 3, attributes, batch=1, phase="update")
    case.dense("parameters", "parameters", rng.normal(size=size))
    gradients = rng.normal(size=size)
    if np.ndim(gradients) == 2:
        gradients[::3] = 0
    case.dense("gradients", "gradients", gradients)
    for name, there in slots.items():
        case.operands[name] = case.dense(name, "state", rng.uniform(1, 2, size)) if there else None
    case.data["learning_rates"] = np.array([0.1, 0.05, 0.2])
    return case


def sgd(new, dtype, rng):
    for size, (momentum, nesterov), decay in product(
        (*EDGES, 1000, *TABLES), ((0.0, False), (0.9, False), (0.8, True)), (0.0, 0.1)
    ):
        attributes = {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay}
        yield update(new, "sgd", dtype, rng, size, attributes, momentum_buffer=momentum > 0)


ADAM = {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-8}

DECAYS = ((0.0, False), (0.1, False), (0.1, True))


def adam(new, dtype, rng):
    for size, (decay, decoupled), amsgrad in product((*EDGES, 1000, *TABLES), DECAYS, (False, True)):
        attributes = ADAM | {"weight_decay": decay, "decoupled": decoupled, "epsilon_hat": not amsgrad}
        yield update(new, "adam", dtype, rng, size, attributes, m=True, v=True, v_max=amsgrad)


def adamax(new, dtype, rng):
    for size, decay in product((*EDGES, 1000, *TABLES), (0.0, 0.1)):
        yield update(new, "adamax", dtype, rng, size, ADAM | {"weight_decay": decay}, m=True, u=True)


def nadam(new, dtype, rng):
    for size, (decay, decoupled) in product((*EDGES, 1000, *TABLES), DECAYS):
        attributes = ADAM | {"weight_decay": decay, "decoupled": decoupled, "momentum_factor": 0.9}
        yield update(new, "nadam", dtype, rng, size, attributes, m=True, v=True)


def radam(new, dtype, rng):
    """With averages of 5 steps, and of 100: before and after the rectification."""
    for size, (decay, decoupled), beta in product((*EDGES, 1000, *TABLES), DECAYS, (0.7, 0.99)):
        attributes = ADAM | {"beta_2": beta, "weight_decay": decay, "decoupled": decoupled}
        case = update(new, "radam", dtype, rng, size, attributes, m=True, v=True)
        case.count_from = 4
        yield case


def lion(new, dtype, rng):
    for size, decay in product((*EDGES, 1000, *TABLES), (0.0, 0.1)):
        attributes = {"beta_1": 0.8, "beta_2": 0.99, "weight_decay": decay}
        yield update(new, "lion", dtype, rng, size, attributes, m=True)


def adagrad(new, dtype, rng):
    for size, decay in product((*EDGES, 1000, *TABLES), (0.0, 0.1)):
        attributes = {"initial_accumulator_value": 0.3, "epsilon": 1e-8, "weight_decay": decay}
        yield update(new, "adagrad", dtype, rng, size, attributes, accumulator=True)


def adadelta(new, dtype, rng):
    for size, decay in product((*EDGES, 1000, *TABLES), (0.0, 0.1)):
        attributes = {"rho": 0.9, "epsilon": 1e-6, "weight_decay": decay}
        yield update(new, "adadelta", dtype, rng, size, attributes, v=True, delta_average=True)


def rprop(new, dtype, rng):
    for size in (*EDGES, 1000, *TABLES):
        attributes = {"eta_minus": 0.5, "eta_plus": 1.2, "step_size_min": 0.8, "step_size_max": 1.7}
        case = update(new, "rprop", dtype, rng, size, attributes, previous=True, step_size=True)
        for name, factors in (("previous", [-1, 0, 1]), ("step_size", [0, 1, 1])):  # 0: the first step
            values = case.operands[name].matrix(case.flat["state"])
            values *= rng.choice(factors, values.shape)
        yield case


def rmsprop(new, dtype, rng):
    for size, momentum, decay, centered in product(
        (*EDGES, 1000, *TABLES), (0.0, 0.7), (0.0, 0.1), (False, True)
    ):
        attributes = {"rho": 0.9, "momentum": momentum, "epsilon": 1e-8, "weight_decay": decay}
        slots = {"v": True, "momentum_buffer": momentum > 0, "gradient_average": centered}
        case = update(new, "rmsprop", dtype, rng, size, attributes, **slots)
        if centered:  # the square of a mean is not above the mean of the squares
            average = case.operands["gradient_average"].matrix(case.flat["state"])
            average /= 4
        yield case


# ---- gradients before the step, parameters after it ----


SIZES = (*EDGES[::2], BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17)


def flat(new, kind, dtype, rng, size, attributes, sums=None, phase="update"):
    """One run over a flat array with zeros, small and large values."""
    case = new(kind, dtype, 1, attributes, batch=1, phase=phase)
    operands, _ = reference.schema()[kind]
    for name in operands:
        if name == sums:
            case.dense(name, "state", np.full(-(-size // BLOCK), np.nan))
        else:
            arena = name if name in FLAT else "state"
            values = rng.choice([0, 0.01, 1, 3], size) * rng.normal(size=size)
            values[0] = 7 if arena != "state" else 5  # to be changed by any operation
            case.dense(name, arena, values)
    case.data["learning_rates"] = np.array([0.1])
    return case


def penalty(new, dtype, rng):
    for size, (l1, l2) in product(SIZES, ((0.1, 0.0), (0.0, 0.2), (0.3, 0.4))):
        yield flat(new, "penalty", dtype, rng, size, {"l1": l1, "l2": l2}, sums="sums", phase="loss")


def penalty_gradient(new, dtype, rng):
    for size, (l1, l2) in product(SIZES, ((0.1, 0.0), (0.0, 0.2), (0.3, 0.4))):
        yield flat(new, "penalty_gradient", dtype, rng, size, {"l1": l1, "l2": l2}, phase="backward")


def l2_penalty(new, dtype, rng):
    """Next to a loss, whose batch is the one that the penalty is divided by."""
    for size in SIZES:
        loss = loss_case(
            new,
            "elementwise_loss",
            dtype,
            rng,
            {"loss": "half_squared_error", "parameter": 0.0},
            rng.normal(size=(5, 3)),
            rng.normal(size=(5, 3)),
            "given" if size % 2 else "absent",
        )
        case = flat(new, "l2_penalty", dtype, rng, size, {"strength": 0.7}, phase="backward")
        case.rows, case.batch, case.end, case.columns = 5, loss.batch, loss.end, loss.columns
        op = Op(loss.kind, "loss", loss.operands, loss.attributes, "layer")
        case.before, case.after, case.also = [*loss.before, op], loss.after, ("loss",)
        case.data = loss.data
        yield case


def accumulate(new, dtype, rng):
    """The first, a middle and the last batch of four."""
    for size, before in product(SIZES, (0, 2, 3)):
        case = flat(new, "accumulate", dtype, rng, size, {"steps": 4})
        case.count_from = before
        yield case


def clip_value(new, dtype, rng):
    for size in SIZES:
        yield flat(new, "clip_value", dtype, rng, size, {"limit": 0.5})


def gradient_norms(new, dtype, rng):
    for size in SIZES:
        yield flat(new, "gradient_norms", dtype, rng, size, {}, sums="norms")


def clip_norm(new, dtype, rng):
    for size, number in product(SIZES, (1, 5)):
        case = new("clip_norm", dtype, 1, {"limit": 0.5}, batch=1, phase="update")
        case.dense("gradients", "gradients", rng.normal(size=size))
        case.dense("norms", "state", rng.uniform(1, 2, number))
        case.data["learning_rates"] = np.array([0.1])
        yield case


def max_norm(new, dtype, rng):
    for number, columns in enumerate(EDGES):
        case = new("max_norm", dtype, 1, {"max_value": 0.7}, batch=1, phase="update")
        weight = rng.normal(size=(turned(3)[number], columns)) * rng.choice([0, 0.01, 1], columns)
        weight[0, 0] = 1  # one column at least is too long
        case.dense("parameters", "parameters", weight)
        case.data["learning_rates"] = np.array([0.1])
        yield case


def moving_average(new, dtype, rng):
    for size, before in product(SIZES, (0, 1)):  # the first step, and the second one
        case = flat(new, "moving_average", dtype, rng, size, {"momentum": 0.9})
        case.count_from = before
        yield case


CASES = {
    function.__name__: function
    for function in (
        elementwise_loss, cross_entropy_loss, softmax_cross_entropy_loss, sgd, adam, adamax, nadam, radam,
        lion, adagrad, adadelta, rmsprop, rprop, penalty, penalty_gradient, l2_penalty, accumulate,
        clip_value, gradient_norms, clip_norm, max_norm, moving_average,
    )
}  # fmt: skip
