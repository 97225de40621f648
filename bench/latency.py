"""``python -m bench.latency``: one row through the network 30-64-64-2 from Python.

Each library in a process of its own, on one core; the row is a float32 array of shape (1, 30), the answer two
probabilities that agree with NumPy's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from bench import tables
from bench.processes import Failure, Worker, settle
from fastbp.workloads import NETS, Net

Call = Callable[[np.ndarray], Any]
NET = NETS["tabular"]
TOLERANCE = 1e-5
ROUNDS, SECONDS = 9, 0.05


def fastbp_call(net: Net) -> Call:
    from fastbp.benchmark import build

    return build(net).freeze()


def fastbp_out_call(net: Net) -> Call:
    """The answer goes into an array that is there already."""
    call, out = fastbp_call(net), np.empty((1, net.sizes[-1]), np.float32)
    return lambda x: call(x, out=out)


def numpy_call(net: Net) -> Call:
    *hidden, last = net.weights()

    def call(x: np.ndarray) -> np.ndarray:
        for weight, bias in hidden:
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)
        z = x @ last[0]
        z += last[1]
        z -= z.max()
        np.exp(z, out=z)
        z /= z.sum()
        return z

    return call


def torch_call(net: Net) -> Call:
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model = torch_model(net)
    return lambda x: model(torch.from_numpy(x))


def torch_jit_call(net: Net) -> Call:
    """Traced, frozen and optimized: the fastest that PyTorch has for this."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    traced = torch.jit.trace(torch_model(net), torch.zeros(1, net.sizes[0]))
    model = torch.jit.optimize_for_inference(traced)
    return lambda x: model(torch.from_numpy(x))


def torch_model(net: Net) -> Any:
    import torch

    modules: list[torch.nn.Module] = []
    for weight, bias in net.weights():
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(weight.T.copy()), torch.from_numpy(bias)
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1], torch.nn.Softmax(dim=1)).eval().requires_grad_(False)


def jax_call(net: Net) -> Call:
    import jax

    *hidden, last = jax.device_put(net.weights())

    @jax.jit
    def forward(x: Any) -> Any:
        for weight, bias in hidden:
            x = jax.nn.relu(x @ weight + bias)
        return jax.nn.softmax(x @ last[0] + last[1])

    return lambda x: forward(x).block_until_ready()


def onnxruntime_call(net: Net) -> Call:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers, name = [], [], "x"
    for number, (weight, bias) in enumerate(net.weights()):
        last = number == len(net.sizes) - 2
        initializers += [numpy_helper.from_array(weight, f"w{number}")]
        initializers += [numpy_helper.from_array(bias, f"b{number}")]
        nodes += [helper.make_node("Gemm", [name, f"w{number}", f"b{number}"], [f"z{number}"])]
        name = "p" if last else f"a{number}"
        nodes += [helper.make_node("Softmax" if last else "Relu", [f"z{number}"], [name])]
    shape = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "mlp",
        [shape("x", TensorProto.FLOAT, [1, net.sizes[0]])],
        [shape("p", TensorProto.FLOAT, [1, net.sizes[-1]])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def sklearn_call(net: Net) -> Call:
    from bench.peers.sklearn_peer import make_estimator

    X, y = net.samples(1)
    return make_estimator(net, X, y, shuffle=False).predict_proba


CALLS: dict[str, tuple[tuple[str, ...], Callable[[Net], Call]]] = {
    "fastbp": (("fastbp",), fastbp_call),
    "fastbp, out=": (("fastbp",), fastbp_out_call),
    "numpy": (("numpy",), numpy_call),
    "onnxruntime": (("onnx", "onnxruntime"), onnxruntime_call),
    "jax": (("jax",), jax_call),
    "torch": (("torch",), torch_call),
    "torch, jit": (("torch",), torch_jit_call),
    "sklearn": (("sklearn",), sklearn_call),
}
"""Opponent to the modules that it needs, and what makes its call."""


def worker(peer: str) -> dict[str, Callable[..., Any]]:
    """Make what the process of an opponent answers with."""
    call = CALLS[peer][1](NET)
    x = NET.samples(1)[0][:1].copy()

    def seconds(calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            call(x)
        return (time.perf_counter() - begin) / calls

    return {"seconds": seconds, "answer": lambda: np.asarray(call(x)).copy()}


def measure(rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Measure a round of each opponent in turn; those not installed are left out."""
    expected = numpy_call(NET)(NET.samples(1)[0][:1])
    peers = [peer for peer, (modules, _) in CALLS.items() if all(map(find_spec, modules))]
    rows = {peer: {"peer": peer, "seconds": [], "error": ""} for peer in peers}
    workers = {peer: Worker(1, worker, peer) for peer in peers}
    calls = {}
    for round_number in range(rounds + 1):
        for peer in list(workers):
            settle()
            try:
                if round_number == 0:
                    answer = workers[peer].ask("answer")
                    if not np.allclose(answer, expected, atol=TOLERANCE):
                        raise Failure(f"answered {answer.tolist()}, NumPy {expected.tolist()}")
                    workers[peer].ask("seconds", 100)
                    calls[peer] = max(10, int(SECONDS / workers[peer].ask("seconds", 100)))
                else:
                    rows[peer]["seconds"].append(workers[peer].ask("seconds", calls[peer]))
            except Failure as failure:
                rows[peer]["error"] = str(failure)
                workers.pop(peer).stop()
    for process in workers.values():
        process.stop()
    return list(rows.values())


HEADS = ("opponent", "min µs", "median µs", "opponent / fastbp")


def cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the table."""
    own = next((row["seconds"] for row in rows if row["peer"] == "fastbp" and not row["error"]), None)
    table = []
    for row in rows:
        if row["error"]:
            continue
        ratio = own and statistics.median(a / b for a, b in zip(row["seconds"], own, strict=True))
        times = min(row["seconds"]), statistics.median(row["seconds"])
        table.append([row["peer"], *(tables.number(1e6 * t) for t in times), tables.number(ratio)])
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rows = measure(parser.parse_args().rounds)
    for row in rows:
        if row["error"]:
            print(f"{row['peer']} is left out: {row['error']}")
    print(tables.text(HEADS, cells(rows)))


if __name__ == "__main__":
    main()
