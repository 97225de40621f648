"""Writes layers.npz: what PyTorch's normalization, PReLU and sparse embedding do, in float64.

Run where PyTorch is installed: python tests/vectors/make_layers.py
"""

from pathlib import Path

import numpy as np
import torch

STEPS, ROWS, FEATURES, TABLE, WIDTH = 3, 7, 5, 11, 4


def numbers(rng, *shape):
    return torch.tensor(rng.normal(size=shape), dtype=torch.float64)


def run(name, layer, rng, found):
    """Steps of forward and backward with random inputs and deltas, then a forward pass outside training."""
    layer = layer.double()
    for parameter in layer.parameters():
        parameter.data = numbers(rng, *parameter.shape)
    for key, parameter in layer.named_parameters():
        found[f"{name}.{key}"] = parameter.detach().numpy().copy()
    for step in range(STEPS):
        x = (3 + 2 * numbers(rng, ROWS, FEATURES)).requires_grad_()
        if step == 1:
            x.data[:, 0] = 2.5  # a feature that does not vary
        if step == 2:
            x.data[0] = -1.0  # a sample whose features are all the same
        dy = numbers(rng, ROWS, FEATURES)
        layer.zero_grad()
        y = layer(x)
        y.backward(dy)
        found |= {
            f"{name}.{step}.{key}": t.detach().numpy().copy()
            for key, t in {"x": x, "dy": dy, "y": y, "dx": x.grad}.items()
        }
        found |= {f"{name}.{step}.{key}_grad": p.grad.numpy().copy() for key, p in layer.named_parameters()}
        found |= {f"{name}.{step}.{key}": b.numpy().copy() for key, b in layer.named_buffers()}
    layer.eval()
    found[f"{name}.eval"] = layer(x).detach().numpy().copy()


def run_embedding(name, make_optimizer, rng, found):
    """A table whose rows are looked up in turns; the loss is the dot product of what is found and dy."""
    layer = torch.nn.Embedding(TABLE, WIDTH, sparse=True).double()
    layer.weight.data = numbers(rng, TABLE, WIDTH)
    found[f"{name}.weight"] = layer.weight.detach().numpy().copy()
    optimizer = make_optimizer(layer.parameters())
    for step in range(20):
        index = torch.tensor(rng.integers(TABLE, size=(3, 2)))
        dy = numbers(rng, 3, 2 * WIDTH)
        optimizer.zero_grad()
        (layer(index).reshape(3, -1) * dy).sum().backward()
        optimizer.step()
        found |= {f"{name}.{step}.index": index.numpy(), f"{name}.{step}.dy": dy.numpy()}
        found[f"{name}.{step}.weight"] = layer.weight.detach().numpy().copy()


def main():
    rng, found = np.random.default_rng(0), {}
    run("batch", torch.nn.BatchNorm1d(FEATURES), rng, found)
    run("layer", torch.nn.LayerNorm(FEATURES), rng, found)
    run("prelu", torch.nn.PReLU(FEATURES), rng, found)
    # with an ε that does not matter: SparseAdam adds it before it corrects the averages
    run_embedding("sparse_adam", lambda p: torch.optim.SparseAdam(list(p), lr=0.1, eps=1e-20), rng, found)
    run_embedding("sgd", lambda p: torch.optim.SGD(p, lr=0.1), rng, found)
    np.savez_compressed(Path(__file__).with_name("layers.npz"), **found)


if __name__ == "__main__":
    main()
