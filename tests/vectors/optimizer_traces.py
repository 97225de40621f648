"""Writes optimizer_traces.npz: parameters on the way of 1,000 steps of PyTorch's optimizers in float64.

    python tests/vectors/optimizer_traces.py

needs PyTorch; tests/contract/test_optimizer_traces.py, which takes the cases from here, does not.
"""

from pathlib import Path

import numpy as np

from fastbp.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)
from fastbp.schedules import InverseTimeDecay

PATH = Path(__file__).with_suffix(".npz")
SHOWN = (1, 2, 3, 10, 100, 300, 1000)  # numbers of steps
START = np.array([0.9, -1.3, 0.4, -0.2, 1.7, 0.6, -0.8, 0.1])

# Ours, the name of PyTorch's class, and its arguments. Without arguments: the defaults.
CASES = {
    "sgd": (SGD(), "SGD", {}),
    "sgd, momentum": (
        SGD(0.01, momentum=0.9, weight_decay=0.1),
        "SGD",
        {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "sgd, nesterov": (
        SGD(0.01, momentum=0.8, nesterov=True),
        "SGD",
        {"lr": 0.01, "momentum": 0.8, "nesterov": True},
    ),
    "adam": (Adam(), "Adam", {}),
    "adam, options": (
        Adam(0.01, 0.8, 0.99, 1e-5, weight_decay=0.1, amsgrad=True),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-5, "weight_decay": 0.1, "amsgrad": True},
    ),
    "adamw": (AdamW(), "AdamW", {}),
    "adamw, amsgrad": (AdamW(0.01, amsgrad=True), "AdamW", {"lr": 0.01, "amsgrad": True}),
    "rmsprop": (RMSprop(), "RMSprop", {}),
    "rmsprop, options": (
        RMSprop(0.01, 0.9, 0.5, 1e-4, weight_decay=0.1, centered=True),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "momentum": 0.5, "eps": 1e-4, "weight_decay": 0.1, "centered": True},
    ),
    "adagrad": (Adagrad(), "Adagrad", {}),
    "adagrad, options": (
        Adagrad(InverseTimeDecay(0.1, 1, 0.02), 0.5, 1e-6, weight_decay=0.1),
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.02, "initial_accumulator_value": 0.5, "eps": 1e-6, "weight_decay": 0.1},
    ),
    "adadelta": (Adadelta(), "Adadelta", {}),
    "adadelta, options": (
        Adadelta(0.5, 0.95, 1e-5, weight_decay=0.1),
        "Adadelta",
        {"lr": 0.5, "rho": 0.95, "eps": 1e-5, "weight_decay": 0.1},
    ),
    "adamax": (Adamax(), "Adamax", {}),
    "adamax, options": (
        Adamax(0.01, 0.8, 0.99, 1e-5, weight_decay=0.1),
        "Adamax",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-5, "weight_decay": 0.1},
    ),
    "nadam": (NAdam(), "NAdam", {}),
    "nadam, options": (
        NAdam(0.01, 0.95, 0.99, 1e-5, weight_decay=0.1, momentum_decay=2.0),
        "NAdam",
        {"lr": 0.01, "betas": (0.95, 0.99), "eps": 1e-5, "weight_decay": 0.1, "momentum_decay": 2.0},
    ),
    "nadam, decoupled": (
        NAdam(0.01, weight_decay=0.1, decoupled_weight_decay=True),
        "NAdam",
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "radam": (RAdam(), "RAdam", {}),
    "radam, options": (
        RAdam(0.01, 0.8, 0.99, 1e-5, weight_decay=0.1),
        "RAdam",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-5, "weight_decay": 0.1},
    ),
    "radam, decoupled": (
        RAdam(0.01, weight_decay=0.1, decoupled_weight_decay=True),
        "RAdam",
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "rprop": (Rprop(), "Rprop", {}),
    "rprop, options": (
        Rprop(0.1, 0.4, 1.5, 1e-3, 0.2),
        "Rprop",
        {"lr": 0.1, "etas": (0.4, 1.5), "step_sizes": (1e-3, 0.2)},
    ),
}


def gradient(theta, step):
    """A flat bowl, moving and shaken: what follows depends on what came before, but amplifies no rounding."""
    number = np.arange(1, theta.size + 1)
    return 0.1 * theta - np.cos(0.01 * step * number) - np.cos(step * (1 + number / 7))


def trace(name):
    import torch

    torch.set_default_dtype(torch.float64)  # of NAdam's product of momenta, which is float32 otherwise
    _, kind, options = CASES[name]
    theta = torch.tensor(START, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([theta], **options)
    shown = []
    for step in range(1, max(SHOWN) + 1):
        theta.grad = torch.tensor(gradient(theta.detach().numpy(), step))
        optimizer.step()
        if step in SHOWN:
            shown.append(theta.detach().numpy().copy())
    return np.array(shown)


if __name__ == "__main__":
    np.savez_compressed(PATH, **{name: trace(name) for name in CASES})
