"""PyTorch, eager, with its fused Adam."""

from collections.abc import Callable

from bench.nets import Net


def make(net: Net, threads: int) -> Callable[[int], float]:
    """Return a function that trains for one epoch of so many batches."""
    import torch

    torch.set_num_threads(threads)
    modules: list[torch.nn.Module] = []
    for i, (weight, bias) in enumerate(net.weights()):
        if i:
            modules.append(torch.nn.ReLU() if net.hidden == "relu" else torch.nn.Tanh())
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data = torch.from_numpy(weight.T.copy())
        linear.bias.data = torch.from_numpy(bias)
        modules.append(linear)
    model = torch.nn.Sequential(*modules)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    criterion = torch.nn.CrossEntropyLoss() if net.classes else torch.nn.MSELoss()
    data: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def epoch(steps: int) -> float:
        if steps not in data:
            X, y = net.samples(steps)
            data[steps] = torch.from_numpy(X), torch.from_numpy(y)
        X, y = data[steps]
        total = torch.zeros(())
        for batch in torch.randperm(len(X)).view(steps, net.batch):
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(X[batch]), y[batch])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return float(total) / steps

    return epoch
