"""PyTorch: its fused Adam, eager or compiled."""

from __future__ import annotations

import warnings
from typing import Any

from bench.peers import Train, first
from fastbp.workloads import Net


def make(net: Net, X: Any, y: Any, cores: int, shuffle: bool, batches: int | None, compiled: bool) -> Train:
    """Return ``train(epochs)``."""
    import torch

    torch.set_num_threads(cores)
    torch.set_flush_denormal(True)
    modules: list[torch.nn.Module] = []
    for number, (weight, bias) in enumerate(net.weights()):
        if number:
            modules.append(torch.nn.ReLU() if net.hidden == "relu" else torch.nn.Tanh())
        linear = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight.T))
            linear.bias.copy_(torch.from_numpy(bias))
        modules.append(linear)
    model = torch.nn.Sequential(*modules)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    criterion = torch.nn.CrossEntropyLoss() if net.classes else torch.nn.MSELoss()
    X, y = torch.from_numpy(X), torch.from_numpy(y)

    def mean_loss(batch: torch.Tensor) -> torch.Tensor:
        return criterion(model(X.index_select(0, batch)), y.index_select(0, batch))

    if compiled:
        warnings.filterwarnings("ignore", message="dynamo_pgo force disabled")
        torch._inductor.config.force_disable_caches = True  # the time to compile, not to find it on the disk
        mean_loss = torch.compile(mean_loss, fullgraph=True)

    def train(epochs: int) -> float:
        for _ in range(epochs):
            order = torch.randperm(len(X)) if shuffle else torch.arange(len(X))
            (order,) = first(net, batches, order)  # not X: for other shapes all would be compiled again
            losses = []
            for batch in order.split(net.batch):
                optimizer.zero_grad(set_to_none=True)
                loss = mean_loss(batch)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    return train
