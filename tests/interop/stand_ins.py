"""Small stand-ins for PyTorch and Keras with the attributes that fastbp reads: tests need neither of them."""

from types import SimpleNamespace

import numpy as np


class Tensor:
    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.array


class Module:
    def load_state_dict(self, state, strict):
        for name, tensor in state.items():
            assert name in self.names
            setattr(self, name, Tensor(tensor.copy()))

    def named_children(self):
        return []


class Sequential(Module):
    def __init__(self, *modules):
        self.modules = modules

    def named_children(self):
        return [(str(number), module) for number, module in enumerate(self.modules)]

    def eval(self):
        return self


def module(name, names, **defaults):
    """A class of modules; positional arguments go to the attributes in their order."""

    def initialize(self, *arguments, dtype=None, **options):
        self.__dict__ |= defaults | dict(zip(defaults, arguments, strict=False)) | options
        self.dtype = dtype
        for array in names:
            wanted = getattr(self, array, True)
            setattr(self, array, Tensor(np.zeros(0)) if wanted else None)

    return type(name, (Module,), {"__init__": initialize, "names": names})


NN = {
    "Linear": module("Linear", ("weight", "bias"), in_features=0, out_features=0, bias=True),
    "BatchNorm1d": module(
        "BatchNorm1d", ("weight", "bias", "running_mean", "running_var"),
        num_features=0, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True,
    ),
    "LayerNorm": module(
        "LayerNorm", ("weight", "bias"), size=0, eps=1e-5, elementwise_affine=True, bias=True
    ),
    "PReLU": module("PReLU", ("weight",), num_parameters=1),
    "Dropout": module("Dropout", (), p=0.5),
    "LeakyReLU": module("LeakyReLU", (), negative_slope=0.01),
    "ELU": module("ELU", (), alpha=1.0),
    "GELU": module("GELU", (), approximate="none"),
    "Softmax": module("Softmax", (), dim=None),
    "Softplus": module("Softplus", (), beta=1.0),
    **{name: module(name, ()) for name in ("ReLU", "SELU", "SiLU", "Mish", "Sigmoid", "Tanh")},
    **{name: module(name, ()) for name in ("Identity", "Flatten", "Conv1d")},
}  # fmt: skip
NN["LayerNorm"].normalized_shape = property(lambda self: (self.size,))


def torch():
    """Stands for the module torch."""
    return SimpleNamespace(
        nn=SimpleNamespace(Sequential=Sequential, **NN),
        from_numpy=lambda array: array,
        float32="float32",
        float64="float64",
    )


# What the layers of Keras say of themselves beside what they are made with.
CONFIGS = {
    "Normalization": {"axis": (-1,), "invert": False},
    "LayerNormalization": {"rms_scaling": False},
    "ReLU": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
}


class KerasLayer:
    def __init__(self, config, weights=()):
        self.config, self.weights = config, list(weights)
        self.compute_dtype = config["dtype"] if isinstance(config.get("dtype"), str) else "float32"

    def get_config(self):
        return self.config

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def keras_layer(kind, config, weights=()):
    return type(kind, (KerasLayer,), {})(config, weights)


def keras():
    """Stands for the module keras."""

    def maker(kind, *names):
        def make(*arguments, **options):
            config = CONFIGS.get(kind, {}) | dict(zip(names, arguments, strict=False)) | options
            if isinstance(config.get("activation"), KerasLayer):
                inner = config["activation"]
                config["activation"] = {"class_name": type(inner).__name__, "config": inner.config}
            elif callable(config.get("activation")):
                name = config["activation"].__name__
                config["activation"] = {"class_name": "function", "config": name}
            return keras_layer(kind, config)

        return make

    def register(package):
        return lambda function: function

    arguments = {
        "Dense": ("units",),
        "Dropout": ("rate",),
        "Activation": ("activation",),
        "Rescaling": ("scale", "offset"),
        "GaussianNoise": ("stddev",),
    }
    others = (
        "BatchNormalization",
        "LayerNormalization",
        "PReLU",
        "Normalization",
        "Flatten",
        "LeakyReLU",
        "ELU",
    )
    kinds = arguments | dict.fromkeys(others, ())

    def sequential(inputs):
        layers = []
        return SimpleNamespace(layers=layers, add=layers.append, input_shape=(None, *inputs))

    return SimpleNamespace(
        layers=SimpleNamespace(**{kind: maker(kind, *names) for kind, names in kinds.items()}),
        Input=lambda shape, dtype: shape,
        Sequential=lambda given: sequential(*given),
        saving=SimpleNamespace(register_keras_serializable=register),
    )
