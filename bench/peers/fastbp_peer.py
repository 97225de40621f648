"""fastbp as users call it: model.fit with shuffling on."""

from collections.abc import Callable

from bench.nets import Net


def make(net: Net, threads: int) -> Callable[[int], float]:
    """Return a function that trains for one epoch of so many batches."""
    import fastbp as bp

    bp.set_num_threads(threads)
    *hidden, last = net.sizes[1:]
    layers = [bp.layers.Dense(units, activation=net.hidden) for units in hidden]
    layers.append(bp.layers.Dense(last, activation="softmax" if net.classes else None))
    loss = "cross_entropy" if net.classes else "mean_squared_error"
    model = bp.Sequential(layers, loss=loss, optimizer="adam", input_size=net.sizes[0], seed=0)
    for layer, (weight, bias) in zip(layers, net.weights(), strict=True):
        layer.weight[...] = weight.T
        layer.bias[...] = bias
    data = {}

    def epoch(steps: int) -> float:
        if steps not in data:
            data[steps] = net.samples(steps)
        X, y = data[steps]
        return model.fit(X, y, batch_size=net.batch, verbose=0).history["loss"][-1]

    return epoch
