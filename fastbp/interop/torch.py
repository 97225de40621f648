"""PyTorch: nn.Sequential from and to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastbp import layers
from fastbp.interop.building import Array, Part, activation_of, build, copied, imported, steps
from fastbp.interop.state import TORCH_NAMES
from fastbp.layer import Layer
from fastbp.model import Sequential


def from_torch(module: Any, *, input_size: int | None = None) -> Sequential:
    """Make a model of a PyTorch module.

    Parameters
    ----------
    module : torch.nn.Sequential or a single layer
        Sequentials in it are followed. Linear, BatchNorm1d, LayerNorm, PReLU, Dropout, Flatten, Identity and
        the activations are known.
    input_size : int, optional
        Where no layer with weights tells it.

    Returns
    -------
    Sequential
        With copies of the weights and their dtype, without a loss.

    Raises
    ------
    ValueError
        For a module that has no layer in fastbp; the message names it.

    Examples
    --------
    ::

        net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        model = from_torch(net)
    """
    return build(
        [part for path, one in _flat(module, "") for part in _part(path, one)], input_size=input_size
    )


def _flat(module: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The single layers with their places, such as "2.0"."""
    if type(module).__name__ != "Sequential":
        yield path, module
        return
    for name, child in module.named_children():
        yield from _flat(child, f"{path}.{name}" if path else name)


def _part(path: str, module: Any) -> list[Part]:
    kind = type(module).__name__
    if kind in ("Identity", "Flatten"):
        return []
    make = _FROM.get(kind)
    if make is None:
        raise ValueError(
            f"module {path!r}, {kind}, has no layer in fastbp; known are {', '.join(sorted(_FROM))}"
        )
    layer = make(module)
    values = {}
    for ours, theirs in TORCH_NAMES.get(type(layer).__name__, {}).items():
        tensor = getattr(module, theirs, None)
        if tensor is not None:
            values[ours] = _array(tensor)
    return [(layer, values)]


def _array(tensor: Any) -> Array:
    return copied(tensor.detach().cpu().numpy())


def _softmax(module: Any) -> Layer:
    if module.dim not in (1, -1):
        raise ValueError(f"Softmax must go over the features, dim=1 or -1, got dim={module.dim}")
    return layers.Softmax()


def _softplus(module: Any) -> Layer:
    if module.beta != 1:
        raise ValueError(f"Softplus must have beta=1, got {module.beta}")
    return layers.Softplus()


def _batch_norm(module: Any) -> Layer:
    """PyTorch's momentum is what an average loses, and its running variance is the unbiased one."""
    if not module.track_running_stats or module.momentum is None:
        raise ValueError("BatchNorm1d must keep running averages: track_running_stats=True and a momentum")
    return layers.BatchNormalization(
        1 - module.momentum, module.eps, center=module.affine, scale=module.affine, unbiased=True
    )


def _layer_norm(module: Any) -> Layer:
    if len(module.normalized_shape) != 1:
        raise ValueError(f"LayerNorm must go over the features, got the shape {module.normalized_shape}")
    affine = bool(module.elementwise_affine)
    return layers.LayerNormalization(
        module.eps, center=affine and getattr(module, "bias", None) is not None, scale=affine
    )


_FROM: dict[str, Callable[[Any], Layer]] = {
    "Linear": lambda m: layers.Dense(m.out_features, use_bias=m.bias is not None),
    "BatchNorm1d": _batch_norm,
    "LayerNorm": _layer_norm,
    "PReLU": lambda m: layers.PReLU(),
    "Dropout": lambda m: layers.Dropout(m.p),
    "ReLU": lambda m: layers.ReLU(),
    "LeakyReLU": lambda m: layers.LeakyReLU(m.negative_slope),
    "ELU": lambda m: layers.ELU(m.alpha),
    "SELU": lambda m: layers.SELU(),
    "GELU": lambda m: layers.GELU(m.approximate),
    "SiLU": lambda m: layers.SiLU(),
    "Mish": lambda m: layers.Mish(),
    "Sigmoid": lambda m: layers.Sigmoid(),
    "Tanh": lambda m: layers.Tanh(),
    "Softplus": _softplus,
    "Softmax": _softmax,
}


def to_torch(model: Sequential) -> Any:
    """Make a torch.nn.Sequential of a model, with copies of the weights and their dtype.

    Activations of dense layers become modules of their own, so that the state's names are "0.weight",
    "0.bias", "2.weight", ….

    Parameters
    ----------
    model : Sequential
        Built.

    Returns
    -------
    torch.nn.Sequential
        In evaluation mode.

    Raises
    ------
    ImportError
        Without PyTorch.
    ValueError
        For a layer that has no module; the message names it.
    """
    torch = imported("torch", "to_torch")
    modules = []
    for layer in steps(model):
        module = _module(torch.nn, layer, getattr(torch, model.dtype))
        state = {
            theirs: torch.from_numpy(copied(getattr(layer, ours)))
            for ours, theirs in TORCH_NAMES.get(type(layer).__name__, {}).items()
            if getattr(layer, ours, None) is not None
        }
        if state:
            module.load_state_dict(state, strict=False)
        modules.append(module)
    return torch.nn.Sequential(*modules).eval()


def _module(nn: Any, layer: Layer, dtype: Any) -> Any:
    if isinstance(layer, layers.Dense):
        rows, columns = layer.weight.shape
        return nn.Linear(columns, rows, bias=layer.use_bias, dtype=dtype)
    if isinstance(layer, layers.BatchNormalization):
        return _to_batch_norm(nn, layer, dtype)
    if isinstance(layer, layers.LayerNormalization):
        return _to_layer_norm(nn, layer, dtype)
    if isinstance(layer, layers.PReLU):
        return nn.PReLU(layer.alpha.size, dtype=dtype)
    if isinstance(layer, layers.Dropout):
        return nn.Dropout(layer.rate)
    if isinstance(layer, layers.Flatten):
        return nn.Flatten()
    activation = activation_of(layer)
    if isinstance(activation, layers.Linear):
        return nn.Identity()
    if isinstance(activation, layers.LeakyReLU):
        return nn.LeakyReLU(activation.negative_slope)
    if isinstance(activation, layers.ELU):
        return nn.ELU(activation.alpha)
    if isinstance(activation, layers.GELU):
        return nn.GELU(activation.approximate)
    if isinstance(activation, layers.Softmax):
        return nn.Softmax(dim=-1)
    if activation is not None:
        return getattr(nn, type(activation).__name__)()
    raise ValueError(f"layer {layer.name!r}, {layer!r}, has no module in PyTorch")


def _to_batch_norm(nn: Any, layer: layers.BatchNormalization, dtype: Any) -> Any:
    if layer.center != layer.scale:
        raise ValueError(f"layer {layer.name!r}: PyTorch has both gamma and beta or none of them")
    return nn.BatchNorm1d(
        layer.moving_mean.size, layer.epsilon, 1 - layer.momentum, affine=layer.scale, dtype=dtype
    )


def _to_layer_norm(nn: Any, layer: layers.LayerNormalization, dtype: Any) -> Any:
    if not layer.scale:
        raise ValueError(f"layer {layer.name!r}: PyTorch's LayerNorm has gamma, or neither gamma nor beta")
    return nn.LayerNorm(layer.gamma.size, layer.epsilon, bias=layer.center, dtype=dtype)
