"""``python -m bench.inference``: answers of trained networks, from Python.

One row through 30-64-64-2, where calling is everything, and 1,024 rows through the network "wide", where
products are. Each library in a process of its own; all answers agree with NumPy's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Container, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from bench import tables, training
from bench.processes import Failure, Worker, settle
from fastbp.benchmark import Limits
from fastbp.workloads import NETS, Net

Call = Callable[[np.ndarray], Any]
CASES = {"one row": ("tabular", 1), "batch": ("wide", 1024)}
"""Network and rows."""
TOLERANCE = 1e-5
ROUNDS, SECONDS = 5, 0.05


def fastbp_call(net: Net, rows: int, cores: int) -> Call:
    import fastbp as bp
    from fastbp.benchmark import build

    bp.set_num_threads(cores)
    return build(net).freeze()


def fastbp_out_call(net: Net, rows: int, cores: int) -> Call:
    """The answer goes into an array that is there already."""
    call, out = fastbp_call(net, rows, cores), np.empty((rows, net.sizes[-1]), np.float32)
    return lambda x: call(x, out=out)


def numpy_call(net: Net, rows: int, cores: int) -> Call:
    *hidden, last = net.weights()
    axis = None if rows == 1 else 1  # of one row it is a little faster over everything

    def call(x: np.ndarray) -> np.ndarray:
        for weight, bias in hidden:
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)
        z = x @ last[0]
        z += last[1]
        z -= z.max(axis=axis, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=axis, keepdims=True)
        return z

    return call


def torch_call(net: Net, rows: int, cores: int) -> Call:
    import torch

    torch.set_num_threads(cores)
    torch.set_grad_enabled(False)
    model = torch_model(net)
    return lambda x: model(torch.from_numpy(x))


def torch_jit_call(net: Net, rows: int, cores: int) -> Call:
    """Traced, frozen and optimized: the fastest that PyTorch has for this."""
    import torch

    torch.set_num_threads(cores)
    torch.set_grad_enabled(False)
    traced = torch.jit.trace(torch_model(net), torch.zeros(rows, net.sizes[0]))
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


def jax_call(net: Net, rows: int, cores: int) -> Call:
    import jax

    *hidden, last = jax.device_put(net.weights())

    @jax.jit
    def forward(x: Any) -> Any:
        for weight, bias in hidden:
            x = jax.nn.relu(x @ weight + bias)
        return jax.nn.softmax(x @ last[0] + last[1])

    return lambda x: forward(x).block_until_ready()


def onnxruntime_call(net: Net, rows: int, cores: int) -> Call:
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
        [shape("x", TensorProto.FLOAT, [rows, net.sizes[0]])],
        [shape("p", TensorProto.FLOAT, [rows, net.sizes[-1]])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cores, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def sklearn_call(net: Net, rows: int, cores: int) -> Call:
    from bench.peers.sklearn_peer import make_estimator

    X, y = net.samples(1)
    return make_estimator(net, X, y, shuffle=False).predict_proba


CALLS: dict[str, tuple[tuple[str, ...], Callable[[Net, int, int], Call]]] = {
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


def worker(peer: str, case: str, cores: int) -> dict[str, Callable[..., Any]]:
    """Make what the process of an opponent answers with."""
    x, call = samples(case), make_call(peer, case, cores)

    def seconds(calls: int) -> float:
        call(x)
        begin = time.perf_counter()
        for _ in range(calls):
            call(x)
        return (time.perf_counter() - begin) / calls

    return {"seconds": seconds, "error": lambda: float(np.abs(np.asarray(call(x)) - expected(case)).max())}


def make_call(peer: str, case: str, cores: int) -> Call:
    """Get an opponent ready."""
    net, rows = CASES[case]
    return CALLS[peer][1](NETS[net], rows, cores)


def samples(case: str) -> np.ndarray:
    """Return the inputs."""
    net, rows = CASES[case]
    return NETS[net].samples(-(-rows // NETS[net].batch))[0][:rows].copy()


def expected(case: str) -> Any:
    """Return NumPy's answer."""
    return make_call("numpy", case, 1)(samples(case))


def measure(
    cores: Iterable[int] = (1,), libraries: Container[str] | None = None, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """Measure the row on one core, the batch on each number of cores, a round of each opponent in turn.

    Parameters
    ----------
    cores : iterable of int
    libraries : container of str, optional
        Those that may take part, by the modules to import; all if not given. Who is not installed does not.
    rounds : int
    """
    peers = [
        peer
        for peer, (modules, _) in CALLS.items()
        if all(map(find_spec, modules)) and (libraries is None or modules[-1] in libraries)
    ]
    rows = []
    for case, of_case in (("one row", [1]), ("batch", cores)):
        for count in of_case:
            rows += measure_case(case, count, peers, rounds)
    return rows


def measure_case(case: str, cores: int, peers: Iterable[str], rounds: int) -> list[dict[str, Any]]:
    """Measure one case on some cores."""
    found = {peer: {"case": case, "cores": cores, "peer": peer, "seconds": [], "error": ""} for peer in peers}
    workers = {peer: Worker(cores, worker, peer, case, cores) for peer in found}
    calls = {}
    for round_number in range(rounds + 1):
        for peer in list(workers):
            settle()
            try:
                if round_number == 0:
                    error = workers[peer].ask("error")
                    if not error < TOLERANCE:
                        raise Failure(f"differs from NumPy by {error}")
                    calls[peer] = max(1, int(SECONDS / workers[peer].ask("seconds", 1)))
                else:
                    found[peer]["seconds"].append(workers[peer].ask("seconds", calls[peer]))
            except Failure as failure:
                found[peer]["error"] = str(failure)
                workers.pop(peer).stop()
    for process in workers.values():
        process.stop()
    return list(found.values())


TITLE = "Answers from Python: one row through 30-64-64-2, 1,024 rows through 1024-2048-2048-1000"
HEADS = ("case", "cores", "opponent", "min µs", "median µs", "of FMA peak", "opponent / fastbp")


def cells(rows: list[dict[str, Any]], limits: Mapping[int, Limits]) -> list[list[str]]:
    """Return the table."""
    rows = [row for row in rows if not row["error"]]
    own = {(row["case"], row["cores"]): row["seconds"] for row in rows if row["peer"] == "fastbp"}
    table = []
    for row in rows:
        pairs = zip(row["seconds"], own.get((row["case"], row["cores"]), ()), strict=False)
        ratios = [theirs / ours for theirs, ours in pairs]
        times = min(row["seconds"]), statistics.median(row["seconds"])
        table.append(
            [
                row["case"],
                f"{row['cores']}",
                row["peer"],
                *(tables.number(1e6 * t, 4) for t in times),
                tables.percent(share_of_peak(row, limits)),
                tables.number(statistics.median(ratios) if ratios else None),
            ]
        )
    return table


def share_of_peak(row: Mapping[str, Any], limits: Mapping[int, Limits]) -> float | None:
    """Return what a row's fastest round did of what its cores can do."""
    net, rows = CASES[row["case"]]
    peak = limits[row["cores"]].float32 if row["cores"] in limits else None
    return peak and NETS[net].inference_flops(rows) / min(row["seconds"]) / peak


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.inference", description=__doc__)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    rows = measure([arguments.cores], rounds=arguments.rounds)
    for row in rows:
        if row["error"]:
            print(f"{row['peer']} is left out: {row['error']}")
    print(
        tables.text(HEADS, cells(rows, {cores: training.limits_of(cores) for cores in {1, arguments.cores}}))
    )


if __name__ == "__main__":
    main()
