"""The C functions that an exported network is made of, one text per operation.

A function reads `x`, writes `y` and may do so in the same memory where it goes element by element. Its name
in C begins with fbp_, for tanh is one of math.h.
"""

from __future__ import annotations

from fastbp.engine.formulas import GELU_CUBIC, GELU_SLOPE, SELU_SCALE, SELU_SCALE_ALPHA

_ELEMENTWISE = """\
static void fbp_{name}(const float *x, float *y, int count{parameter})
{{
    for (int i = 0; i < count; i++) {{
        y[i] = {value};
    }}
}}
"""


def _f(value: float) -> str:
    """A number as a constant of C, in 32 bits."""
    return f"{value:.9g}f"


# g(x[i]) of each activation. A comparison with NaN is false, so that NaN goes in and comes out.
_VALUES = {
    "relu": "x[i] < 0.0f ? 0.0f : x[i]",
    "leaky_relu": "x[i] < 0.0f ? alpha * x[i] : x[i]",
    "elu": "x[i] < 0.0f ? alpha * expm1f(x[i]) : x[i]",
    "selu": f"x[i] < 0.0f ? {_f(SELU_SCALE_ALPHA)} * expm1f(x[i]) : {_f(SELU_SCALE)} * x[i]",
    "sigmoid": "1.0f / (1.0f + expf(-x[i]))",
    "tanh": "tanhf(x[i])",
    "softplus": "fmaxf(x[i], 0.0f) + log1pf(expf(-fabsf(x[i])))",
    "gelu": f"0.5f * x[i] * erfcf({_f(-(0.5**0.5))} * x[i])",
    "gelu_tanh": (
        f"x[i] / (1.0f + expf({_f(-2 * GELU_SLOPE)} * (x[i] + {_f(GELU_CUBIC)} * x[i] * x[i] * x[i])))"
    ),
    "silu": "x[i] / (1.0f + expf(-x[i]))",
    "mish": "x[i] * tanhf(fmaxf(x[i], 0.0f) + log1pf(expf(-fabsf(x[i]))))",
}
ACTIVATIONS_WITH_ALPHA = ("leaky_relu", "elu")

FUNCTIONS = {
    name: _ELEMENTWISE.format(
        name=name, value=value, parameter=", float alpha" if name in ACTIVATIONS_WITH_ALPHA else ""
    )
    for name, value in _VALUES.items()
}

FUNCTIONS["copy"] = _ELEMENTWISE.format(name="copy", value="x[i]", parameter="")

FUNCTIONS["softmax"] = """\
static void fbp_softmax(const float *x, float *y, int count)
{
    float largest = x[0];
    float sum = 0.0f;
    for (int i = 1; i < count; i++) {
        largest = fmaxf(largest, x[i]);
    }
    for (int i = 0; i < count; i++) {
        y[i] = expf(x[i] - largest);
        sum += y[i];
    }
    for (int i = 0; i < count; i++) {
        y[i] /= sum;
    }
}
"""

FUNCTIONS["scale"] = """\
/* y = (x - mean) scale + shift, feature by feature; shift may be absent. */
static void fbp_scale(const float *x, float *y, int count, const float *mean, const float *scale,
                      const float *shift)
{
    for (int i = 0; i < count; i++) {
        const float scaled = (x[i] - mean[i]) * scale[i];
        y[i] = shift ? scaled + shift[i] : scaled;
    }
}
"""

FUNCTIONS["layer_norm"] = """\
/* y = gamma (x - mean) / sqrt(variance + epsilon) + beta over the features; gamma, beta may be absent. */
static void fbp_layer_norm(const float *x, float *y, int count, const float *gamma, const float *beta,
                           float epsilon)
{
    float mean = 0.0f;
    float variance = 0.0f;
    for (int i = 0; i < count; i++) {
        mean += x[i] / (float)count;
    }
    for (int i = 0; i < count; i++) {
        variance += (x[i] - mean) * (x[i] - mean) / (float)count;
    }
    const float rate = 1.0f / sqrtf(variance + epsilon);
    for (int i = 0; i < count; i++) {
        const float normal = (x[i] - mean) * rate;
        y[i] = (gamma ? normal * gamma[i] : normal) + (beta ? beta[i] : 0.0f);
    }
}
"""

FUNCTIONS["prelu"] = _ELEMENTWISE.format(
    name="prelu", value="x[i] < 0.0f ? alpha[i] * x[i] : x[i]", parameter=", const float *alpha"
)

FUNCTIONS["rescale"] = _ELEMENTWISE.format(
    name="rescale", value="x[i] * scale + offset", parameter=", float scale, float offset"
)

FUNCTIONS["add"] = """\
static void fbp_add(const float *a, const float *b, float *y, int count)
{
    for (int i = 0; i < count; i++) {
        y[i] = a[i] + b[i];
    }
}
"""

FUNCTIONS["embedding"] = """\
/* The rows of the table that x names, one after the other; a number outside of it names the nearest row. */
static void fbp_embedding(const float *x, float *y, int count, const float *table, int rows, int width)
{
    for (int i = 0; i < count; i++) {
        const float last = (float)(rows - 1);
        const float *row = table + width * (int)(x[i] > 0.0f ? (x[i] < last ? x[i] : last) : 0.0f);
        for (int j = 0; j < width; j++) {
            *y++ = row[j];
        }
    }
}
"""

FUNCTIONS["dense"] = """\
/* y = W x + b; one row of W per unit, b may be absent. */
static void fbp_dense(const float *x, float *y, int inputs, int units, const float *weight, const float *bias)
{
    for (int i = 0; i < units; i++) {
        float sum = 0.0f;
        for (int j = 0; j < inputs; j++) {
            sum += weight[j] * x[j];
        }
        y[i] = bias ? sum + bias[i] : sum;
        weight += inputs;
    }
}
"""

FUNCTIONS["quantize"] = """\
/* q = x / scale + zero, rounded, between -128 and 127; rate is 1 / scale. */
static void fbp_quantize(const float *x, int8_t *q, int count, float rate, float zero)
{
    for (int i = 0; i < count; i++) {
        const float level = floorf(x[i] * rate + 0.5f) + zero;
        q[i] = (int8_t)(level > -128.0f ? (level < 127.0f ? level : 127.0f) : -128.0f);
    }
}
"""

FUNCTIONS["dense_int8"] = """\
/* y = W x + b in integers, then in the scale of each unit. */
static void fbp_dense_int8(const int8_t *x, float *y, int inputs, int units, const int8_t *weight,
                           const int32_t *bias, const float *scale)
{
    for (int i = 0; i < units; i++) {
        int32_t sum = bias[i];
        for (int j = 0; j < inputs; j++) {
            sum += (int32_t)weight[j] * x[j];
        }
        y[i] = (float)sum * scale[i];
        weight += inputs;
    }
}
"""
