"""Layers, losses and optimizers as descriptions: arguments, names, views, configurations."""

import copy
import json
import math

import numpy as np
import pytest

from fastbp import initializers, losses, optimizers
from fastbp import layers as bp_layers
from fastbp.engine.planner import build
from fastbp.initializers import Constant, HeNormal, Orthogonal, RandomUniform
from fastbp.layers import (
    ELU,
    GELU,
    SELU,
    Activation,
    BatchNormalization,
    Branches,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    Layer,
    LayerNormalization,
    LeakyReLU,
    Linear,
    Mish,
    Normalization,
    PReLU,
    ReLU,
    Rescaling,
    Reshape,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    name_layers,
)
from fastbp.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    HalfSquaredError,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)
from fastbp.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

LAYERS = [
    Dense(3),
    Dense(3, "relu", False, HeNormal(), "ones", name="head"),
    Dense(units=2, activation=LeakyReLU(0.2), kernel_initializer=Orthogonal(gain=2.0)),
    Dense(2, "gelu_tanh"),
    Dropout(0.25, name="drop"),
    GaussianNoise(0.1),
    BatchNormalization(0.9, 1e-5, gamma_initializer="zeros", unbiased=True),
    LayerNormalization(scale=False, name="norm"),
    PReLU(Constant(0.25)),
    Rescaling(0.5, offset=-1.0),
    Normalization(),
    Embedding(9, 4),
    Embedding(9, 4, RandomUniform(-1.0, maxval=1.0)),
    Residual([Dense(3, "relu"), ReLU(), Dropout(0.5, name="inner")]),
    Branches([Embedding(3, 2), [Dense(2), "tanh"], []], [[0], range(1, 4), None]),
    Flatten(),
    Reshape((2, -1)),
    Activation("swish"),
    *(kind() for kind in (Linear, ReLU, SELU, SiLU, Mish, Sigmoid, Tanh, Softplus, Softmax)),
    LeakyReLU(negative_slope=0.3),
    ELU(0.5),
    GELU(approximate="tanh"),
    GELU(name="g"),
]
LOSSES = [
    MeanSquaredError(),
    HalfSquaredError(),
    MeanAbsoluteError(),
    Huber(2.0),
    Quantile(0.9),
    BinaryCrossEntropy(from_logits=True),
    CrossEntropy(label_smoothing=0.1),
    CrossEntropy(True),
    Poisson(),
]
OPTIMIZERS = [
    SGD(),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    Adam(beta_1=0.8, beta_2=0.99),
    AdamW(weight_decay=0.1),
    RMSprop(rho=0.9, momentum=0.5, centered=True),
]


def built(*layers, inputs=3, dtype="float64", seed=0):
    plan = build(layers, inputs, dtype=dtype)
    parameters, gradients = (
        np.zeros(plan.sizes["parameters"], dtype),
        np.zeros(plan.sizes["gradients"], dtype),
    )
    rng = np.random.default_rng(seed)
    for layer in layers:
        layer.bind(plan, parameters, gradients)
        layer.initialize(rng)
    return plan, parameters, gradients


# ---- descriptions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "thing"),
    [(Layer, x) for x in LAYERS] + [(Loss, x) for x in LOSSES] + [(Optimizer, x) for x in OPTIMIZERS],
    ids=repr,
)
def test_description_makes_the_same_thing_again(base, thing):
    config = json.loads(json.dumps(thing.config()))
    for again in (eval(repr(thing)), base.from_config(config), type(thing).from_config(config)):
        assert type(again) is type(thing)
        assert again.config() == thing.config()
        assert repr(again) == repr(thing)


def test_printed_forms():
    assert repr(LAYERS[1]) == (
        "Dense(3, activation='relu', use_bias=False, kernel_initializer='he_normal', "
        "bias_initializer=Constant(value=1.0), name='head')"
    )
    assert repr(LAYERS[2]).startswith("Dense(2, activation=LeakyReLU(negative_slope=0.2), kernel_init")
    assert repr(SGD(0.1)) == "SGD(learning_rate=0.1)"
    assert repr(CrossEntropy()) == "CrossEntropy()"


def test_a_plain_function_cannot_be_saved():
    layer = Dense(2, kernel_initializer=lambda rng, o, i, dtype: np.zeros((o, i), dtype))
    with pytest.raises(TypeError, match="kernel_initializer of Dense cannot be saved: <function"):
        layer.config()


def test_unknown_descriptions():
    with pytest.raises(ValueError, match="class 'Conv2D' is no Layer, or was not imported"):
        Layer.from_config({"class": "Conv2D", "filters": 3})
    with pytest.raises(ValueError, match="Dense has no argument 'filters', 'size'"):
        Layer.from_config({"class": "Dense", "units": 3, "size": 1, "filters": 3})


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dense(0), ValueError, "units must be a positive int, got 0"),
        (lambda: Dense(-3), ValueError, "units must be a positive int, got -3"),
        (lambda: Dense(True), TypeError, "units must be a positive int, got True"),
        (lambda: Dense("3"), TypeError, "units must be a positive int, got '3'"),
        (lambda: Dense(3.0), TypeError, "units must be a positive int, got 3.0"),
        (lambda: Dense(3, use_bias=1), TypeError, "use_bias must be True or False, got 1"),
        (lambda: Dense(3, "rleu"), ValueError, "activation 'rleu' is not known; did you mean 'relu'"),
        (lambda: Dense(3, 5), TypeError, "activation must be a name or an object of ActivationLayer, got 5"),
        (lambda: Dense(3, Dropout(0.5)), TypeError, r"activation must be .*, got Dropout\(0.5\)"),
        (lambda: Dense(3, ReLU), TypeError, r"activation must be an object: ReLU\(\), not the class ReLU"),
        (lambda: Dense(3, bias_initializer="zero"), ValueError, "bias_initializer 'zero' is not known"),
        (lambda: Dense(3, name=""), ValueError, "name must be a text without dots, got ''"),
        (lambda: Dense(3, name="a.b"), ValueError, "name must be a text without dots, got 'a.b'"),
        (lambda: Activation(None), TypeError, "kind must be the name of an activation, got None"),
        (lambda: Activation("gelo"), ValueError, "kind 'gelo' is not known; did you mean 'gelu'"),
        (lambda: Dropout(1.0), ValueError, r"rate must be a number in \[0, 1\), got 1.0"),
        (lambda: Dropout(-0.1), ValueError, r"rate must be a number in \[0, 1\), got -0.1"),
        (lambda: Dropout(math.nan), ValueError, "rate must be a number"),
        (lambda: Dropout("0.5"), TypeError, r"rate must be a number in \[0, 1\), got '0.5'"),
        (lambda: Dropout(False), TypeError, "rate must be a number"),
        (lambda: LeakyReLU(-1), ValueError, r"negative_slope must be a number in \[0, inf\), got -1"),
        (lambda: ELU(math.inf), ValueError, r"alpha must be a number in \[0, inf\), got inf"),
        (lambda: GELU("erf"), ValueError, "approximate must be one of 'none', 'tanh', got 'erf'"),
        (lambda: Huber(0), ValueError, r"delta must be a number in \(0, inf\), got 0"),
        (lambda: Quantile(1), ValueError, r"quantile must be a number in \(0, 1\), got 1"),
        (lambda: CrossEntropy(label_smoothing=1.0), ValueError, "label_smoothing must be a number"),
        (lambda: CrossEntropy(from_logits="yes"), TypeError, "from_logits must be True or False, got 'yes'"),
        (lambda: SGD(-1.0), ValueError, r"learning_rate must be a number in \[0, inf\), got -1.0"),
        (lambda: SGD(math.inf), ValueError, "learning_rate must be a number"),
        (lambda: SGD(momentum=1), ValueError, r"momentum must be a number in \[0, 1\), got 1"),
        (lambda: SGD(nesterov=True), ValueError, "nesterov=True needs a positive momentum"),
        (lambda: SGD(weight_decay=-1), ValueError, "weight_decay must be a number"),
        (lambda: Adam(beta_1=1.0), ValueError, r"beta_1 must be a number in \[0, 1\), got 1.0"),
        (lambda: Adam(beta_2=-0.5), ValueError, "beta_2 must be a number"),
        (lambda: Adam(epsilon=0), ValueError, r"epsilon must be a number in \(0, inf\), got 0"),
        (lambda: RMSprop(rho="x"), TypeError, "rho must be a number"),
        (lambda: RMSprop(centered=None), TypeError, "centered must be True or False, got None"),
        (lambda: losses.get("mean_square_error"), ValueError, "did you mean 'mean_squared_error'"),
        (
            lambda: losses.get("hinge9"),
            ValueError,
            "loss 'hinge9' is not known. Known: binary_cross_entropy, ",
        ),
        (lambda: losses.get(None), TypeError, "loss must be a name or an object of Loss, got None"),
        (lambda: optimizers.get("adm"), ValueError, "Known: adam, adamw, rmsprop, sgd"),
        (lambda: optimizers.get(Adam), TypeError, r"optimizer must be an object: Adam\(\)"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_numbers_of_numpy_are_numbers():
    assert type(Dense(np.int64(3)).units) is int
    assert type(Dropout(np.float32(0.5)).rate) is float
    json.dumps([Dense(np.int64(3)).config(), Huber(np.float32(0.5)).config()])


def test_names_of_losses_and_optimizers():
    for name, kind in {
        "mse": MeanSquaredError,
        "mae": MeanAbsoluteError,
        "mean_squared_error": MeanSquaredError,
        "MeanSquaredError": MeanSquaredError,
        "half_squared_error": HalfSquaredError,
        "huber": Huber,
        "quantile": Quantile,
        "poisson": Poisson,
        "cross_entropy": CrossEntropy,
        "categorical_crossentropy": CrossEntropy,
        "sparse_categorical_crossentropy": CrossEntropy,
        "binary_cross_entropy": BinaryCrossEntropy,
        "binary_crossentropy": BinaryCrossEntropy,
    }.items():
        assert type(losses.get(name)) is kind
    for name, kind in {"sgd": SGD, "adam": Adam, "Adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}.items():
        assert type(optimizers.get(name)) is kind
    mine = SGD()
    assert optimizers.get(mine) is mine


def test_default_values_are_those_of_pytorch():
    assert SGD().learning_rate == 1e-3
    assert (Adam().learning_rate, Adam().epsilon, Adam().weight_decay) == (1e-3, 1e-8, 0.0)
    assert AdamW().weight_decay == 1e-2
    assert (RMSprop().learning_rate, RMSprop().rho) == (1e-2, 0.99)
    assert [loss.target_kind for loss in (Huber(), BinaryCrossEntropy(), CrossEntropy())] == [
        "values",
        "probabilities",
        "classes",
    ]


def test_learning_rate_may_be_changed():
    optimizer = Adam()
    optimizer.learning_rate = 0.5
    assert optimizer.config()["learning_rate"] == 0.5
    with pytest.raises(ValueError, match=r"learning_rate must be a number in \[0, inf\), got nan"):
        optimizer.learning_rate = math.nan
    assert optimizer.learning_rate == 0.5


def test_activation_argument():
    assert type(Dense(1).activation) is Linear
    assert type(Dense(1, "swish").activation) is SiLU
    assert Dense(1, "gelu_tanh").activation.kind == "gelu_tanh"
    assert Dense(1, LeakyReLU(0.5)).activation.alpha == 0.5
    assert type(Dense(1, Activation("tanh")).activation) is Tanh
    for name in ("linear", "leaky_relu", "elu", "selu", "mish", "sigmoid", "softplus", "softmax"):
        assert Dense(1, name).activation.kind == name


def test_every_public_name_is_there():
    assert all(hasattr(bp_layers, name) for name in bp_layers.__all__)


# ---- names ---------------------------------------------------------------------------------------


def test_names_are_numbered_by_kind():
    stack = [Dense(1), Dense(1), ReLU(), Dense(1, name="dense_1"), Activation("relu"), Dense(1)]
    name_layers(stack)
    names = ["dense", "dense_2", "relu", "dense_1", "activation", "dense_3"]
    assert [layer.name for layer in stack] == names
    name_layers(stack)
    assert [layer.name for layer in stack] == names
    assert stack[1].config()["name"] is None
    assert Dense(1).name == "dense"


# ---- parameters ----------------------------------------------------------------------------------


def test_views_before_building():
    layer = Dense(3)
    for name in ("weight", "bias", "weight_grad", "bias_grad"):
        with pytest.raises(AttributeError, match=r"layer 'dense' has no (weight|bias) yet: .*input_size"):
            getattr(layer, name)
    with pytest.raises(AttributeError, match="has no weight yet"):
        layer.weight = np.zeros((3, 3))
    assert layer.parameters == {}


def test_views_are_live():
    layer = Dense(2, bias_initializer=Constant(0.5))
    plan, parameters, gradients = built(layer)
    assert layer.weight.shape == layer.weight_grad.shape == (2, 3)
    assert layer.bias.shape == layer.bias_grad.shape == (2,)
    np.testing.assert_array_equal(layer.bias, [0.5, 0.5])
    layer.weight[1, 2] = 7.0
    rows, columns = plan.parameters[0].tensor.rows, plan.parameters[0].tensor.columns
    assert (rows, columns) == (3, 2)
    assert plan.parameters[0].tensor.matrix(parameters)[2, 1] == 7.0  # in memory (in, out)
    gradients[0] = 3.0
    assert layer.weight_grad[0, 0] == 3.0
    layer.bias_grad[1] = 4.0
    assert gradients[plan.parameters[1].tensor.offset + 1] == 4.0
    assert set(layer.parameters) == set(layer.gradients) == {"weight", "bias"}
    assert layer.parameters["weight"].base is not None


def test_assigning_copies_in():
    layer = Dense(2)
    plan, parameters, _ = built(layer, dtype="float32")
    view, mine = layer.weight, np.arange(6).reshape(2, 3)
    layer.weight = mine
    np.testing.assert_array_equal(view, mine)
    np.testing.assert_array_equal(plan.parameters[0].tensor.matrix(parameters), mine.T)
    layer.bias = [1, 2]
    assert layer.bias.dtype == "float32"
    with pytest.raises(ValueError, match=r"dense.weight must have shape \(2, 3\), got \(3, 2\)"):
        layer.weight = mine.T
    with pytest.raises(ValueError, match=r"dense.bias must have shape \(2,\), got \(\)"):
        layer.bias = 1.0
    with pytest.raises(AttributeError):
        layer.weight_grad = mine


def test_a_layer_belongs_to_one_model():
    layer = Dense(2)
    built(layer)
    with pytest.raises(ValueError, match=r"layer 'dense', Dense\(2\), belongs to another model"):
        built(layer)
    twin = copy.deepcopy(layer)
    assert twin.parameters == {}
    built(twin)
    assert not np.shares_memory(twin.weight, layer.weight)
    dropout = Dropout(0.5)
    built(dropout)
    built(dropout)


def test_no_bias():
    layer = Dense(2, use_bias=False)
    plan, _, _ = built(layer)
    assert layer.bias is None
    assert layer.bias_grad is None
    assert [p.name for p in plan.parameters] == ["dense.weight"]
    with pytest.raises(AttributeError, match="layer 'dense' has no bias: it was made with use_bias=False"):
        layer.bias = [1.0, 2.0]


def test_starting_values():
    first, second = Dense(4), Dense(2, kernel_initializer="he_uniform", bias_initializer="ones")
    built(first, second, seed=5)
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(first.weight, initializers.get("glorot_uniform")(rng, 4, 3, "float64"))
    np.testing.assert_array_equal(second.weight, initializers.get("he_uniform")(rng, 2, 4, "float64"))
    np.testing.assert_array_equal(first.bias, np.zeros(4))
    np.testing.assert_array_equal(second.bias, np.ones(2))


def test_an_initializer_of_ones_own():
    layer = Dense(2, kernel_initializer=lambda rng, o, i, dtype: np.arange(o * i, dtype=dtype).reshape(o, i))
    built(layer)
    np.testing.assert_array_equal(layer.weight, [[0, 1, 2], [3, 4, 5]])
    bad = Dense(2, kernel_initializer=lambda rng, o, i, dtype: np.zeros((i, o), dtype))
    with pytest.raises(
        ValueError, match=r"initializer of dense.weight must return shape \(2, 3\), got \(3, 2\)"
    ):
        built(bad)


def test_sizes():
    assert Dense(4).output_size(9) == 4
    assert Dropout(0.5).output_size(9) == ReLU().output_size(9) == 9
