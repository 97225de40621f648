"""``python -m bench``: small and short, with the opponents that are installed."""

import gzip
import json
import math
import os
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from bench import __main__ as bench
from bench import (
    accuracy,
    beside,
    footprint,
    goals,
    inference,
    precision,
    report,
    scaling,
    tables,
    threads,
    training,
)
from bench.peers import PEERS, Peer
from bench.processes import THREAD_VARIABLES, Failure, Worker, environment
from bench.runs import Run, Several, together
from fastbp.benchmark import Limits
from fastbp.engine import backend
from fastbp.threads import available_cores, get_num_threads
from fastbp.workloads import NETS, Net

QUICK = [name for name, peer in PEERS.items() if peer.installed and name != "torch-compile"]
TWO = ["fastbp", "numpy"]
"""That are always there."""


# ---- training ----


@pytest.mark.parametrize(
    "net",
    [Net("two classes", 8, (3, 5, 2), "relu", True, 2), Net("values", 8, (3, 5, 1), "tanh", False, 2)],
    ids=lambda net: net.name,
)
def test_opponents_do_the_same_work(net):
    rows = training.measure(net, QUICK, cores=1, rounds=2, seconds=0.0)
    assert [(row.peer, row.error) for row in rows] == [(peer, "") for peer in QUICK]
    for row, difference in training.differences(rows):
        assert difference < 1e-4, row
    for row in rows:
        assert len(row.seconds) == len(row.ratios) == 2 and min(row.seconds) > 0
    assert rows[0].ratio == 1.0
    assert report.verdict(rows).startswith("The same work")


def test_losses_are_of_the_steps_that_were_done():
    """The steps change the loss by more than is tolerated: who did not do them would be found."""
    net = Net("n", 8, (3, 5, 2), "relu", True, 2)
    (row,) = training.measure(net, ["numpy"], cores=1, rounds=1, seconds=0.0)
    samples = net.samples(training.CHECK_BATCHES)
    untrained = PEERS["numpy"].make(net, *samples, 1, shuffle=False)(1)
    assert untrained - row.loss > 5 * training.TOLERANCE


def test_an_opponent_that_fails_is_named_and_left_out():
    net = Net("n", 8, (3, 5, 2), "nonsense", True, 2)  # NumPy takes what is not relu for tanh
    failed, fine = training.measure(net, TWO, cores=1, rounds=1, seconds=0.0)
    assert "nonsense" in failed.error and failed.error.startswith("ValueError: ")
    assert fine.error == "" and len(fine.seconds) == 1 and fine.ratio is None
    run = Run({}, {1: Limits()}, [failed, fine])
    assert [line[1] for line in report.training_cells([run], 1)] == ["numpy"]


@pytest.mark.parametrize("loss", [1.01, math.nan])
def test_other_work_is_said_loudly(loss):
    losses = {"a": 1.0, "b": loss, "c": 1.0}
    rows = [training.Row("n", 1, peer, 1, 1, loss=value) for peer, value in losses.items()]
    verdict = report.verdict(rows)
    assert "NOT THE SAME WORK" in verdict and "n on 1 core: b " in verdict
    assert ": a " not in verdict
    broken = training.Row("n", 1, "d", 1, 1, loss=9.0, error="it broke")
    assert "d" not in [row.peer for row, _ in training.differences([*rows, broken])]


def test_ratios_are_of_pairs():
    row = training.Row("n", 1, "p", 1, 1, seconds=[4.0, 1.0, 6.0], ratios=[2.0, 5.0, 3.0])
    assert (row.least, row.median, row.ratio) == (1.0, 4.0, 3.0)


def test_the_whole_program(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PEERS, "ghost", Peer("ghost-package", "no_such_module", "", ""))
    page, numbers = tmp_path / "report", tmp_path / "numbers.json"
    options = ["--nets", "tiny", "--peers", "fastbp,numpy,ghost", "--rounds", "2", "--seconds", "0"]
    cores = list(range(1, min(2, available_cores()) + 1))
    options += ["--cores", ",".join(map(str, cores)), "--json", str(numbers), "--report", str(page)]
    asked = []
    other = SimpleNamespace(
        TITLE="Weather",
        HEADS=("place", "°C"),
        cells=lambda rows, limits: [[r["place"], f"{r['t']}"] for r in rows],
    )
    other.measure = lambda *arguments: asked.append(arguments) or [{"place": "here", "t": [21]}]
    monkeypatch.setitem(report.ALSO, "weather", other)
    options += ["--also", "weather"]
    assert bench.main(options) == 0
    output = capsys.readouterr().out
    assert "ghost: ghost-package is not installed, left out" in output
    assert "The same work" in output
    result = json.loads(numbers.read_text("utf-8"))
    assert [(row["cores"], row["peer"]) for row in result["training"]] == [(c, p) for c in cores for p in TWO]
    assert result["about"]["versions"].startswith("fastbp ")
    assert set(result["limits"]["1"]) == {"float32", "float64", "bandwidth"}
    assert asked == [(cores, {"fastbp", "numpy", "no_such_module"})] and "Weather" in output
    text = (page / "README.md").read_text("utf-8")
    assert "| here | [21] |" in text
    assert "| tiny | fastbp |" in text and result["about"]["commit"] in text
    pictures = {path.name for path in page.glob("*.png")}
    assert pictures == set(re.findall(r"\((.*\.png)\)", text))
    assert {f"time-{c}.png" for c in cores} <= pictures


def test_other_work_is_an_exit_code(monkeypatch, capsys):
    def measure(net, peers, cores, rounds, seconds):
        return [
            training.Row(net.name, cores, peer, 1, 1, seconds=[1.0], loss=loss)
            for peer, loss in zip(peers, (1.0, 2.0), strict=True)
        ]

    monkeypatch.setattr(training, "measure", measure)
    assert bench.main(["--nets", "tiny", "--peers", "fastbp,numpy", "--also", ""]) == 1
    assert "NOT THE SAME WORK" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nets", "huge"], "'huge' is not one of tiny"),
        (["--peers", "abacus"], "'abacus' is not one of fastbp"),
        (["--also", "weather"], "'weather' is not one of inference"),
        (["--cores", "one"], "expected numbers such as 1,2"),
        (["--cores", "0"], "expected numbers from 1"),
        (["--cores", "100000"], "expected numbers from 1"),
        (["--rounds", "0"], "--rounds: expected at least 1"),
    ],
)
def test_bad_options(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


# ---- processes ----


def test_processes_are_pinned_and_told_their_threads():
    before = dict(os.environ)
    with environment(1):
        assert all(os.environ[name] == "1" for name in THREAD_VARIABLES)
        if hasattr(os, "sched_getaffinity"):
            assert len(os.sched_getaffinity(0)) == 1
    assert dict(os.environ) == before
    assert available_cores() >= 1


def test_failures_of_processes_are_told():
    worker = Worker(1, training.trainer, "nobody", None, 1)
    with pytest.raises(Failure, match="AttributeError"):
        worker.ask("start")
    worker.stop()
    worker = Worker(1, os._exit, 3)
    with pytest.raises(Failure, match="exit code 3"):
        worker.ask("anything")
    worker.stop()


# ---- the other measurements ----


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + array.tobytes())


@pytest.fixture
def images(tmp_path):
    """Pictures that show their class as a bright line."""
    rng = np.random.default_rng(0)
    for part, rows in (("train", 600), ("t10k", 100)):
        labels = rng.integers(0, 10, rows).astype(np.uint8)
        pictures = rng.integers(0, 100, (rows, 12, 12)).astype(np.uint8)
        pictures[np.arange(rows), labels] = 255
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", pictures)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_time_to_accuracy(images):
    X, y = accuracy.load(images, "train")
    assert X.shape == (600, 144) and X.dtype == np.float32 and X.max() == 1.0
    assert set(y.tolist()) == set(range(10))
    rows = accuracy.measure([1], seeds=1, folder=images, target=0.9)
    assert [row["peer"] for row in rows] == [peer for peer in accuracy.PEERS if peer in QUICK]
    for row in rows:
        assert row["accuracy"][0] >= 0.9 and row["seconds"][0] > 0
        assert 1 <= row["epochs"][0] < accuracy.MOST_EPOCHS
    assert [line[4] for line in accuracy.cells(rows, {})] == ["1 of 1"] * len(rows)


def test_inference(monkeypatch):
    monkeypatch.setattr(inference, "CASES", {"one row": ("tabular", 1), "batch": ("tabular", 40)})
    rows = inference.measure([1], TWO, rounds=1)
    peers = ["fastbp", "fastbp, out=", "numpy"]
    assert [(row["case"], row["peer"], row["error"]) for row in rows] == [
        (case, peer, "") for case in ("one row", "batch") for peer in peers
    ]
    limits = {1: Limits(float32=1e12)}
    assert [line[2] for line in inference.cells(rows, limits)] == peers * 2
    work = 2 * 40 * (30 * 64 + 64 * 64 + 64 * 2)
    assert inference.share_of_peak(rows[3], limits) == work / rows[3]["seconds"][0] / 1e12


def test_other_answers_are_found(monkeypatch):
    monkeypatch.setattr(inference, "TOLERANCE", 0.0)
    rows = inference.measure_case("one row", 1, ["fastbp"], rounds=1)
    assert "differs from NumPy by" in rows[0]["error"] and not rows[0]["seconds"]


def test_footprint():
    own, numpy = footprint.measure([1], TWO, repeats=1)
    assert numpy["over_numpy_seconds"] == [0]
    assert own["process_seconds"][0] > 0
    assert own["over_numpy_bytes"] < own["peak_bytes"] or sys.platform == "win32"
    assert len(footprint.cells([own, numpy], {})) == 2


def test_precision():
    (row,) = precision.measure([1], nets=["tiny"], rounds=2)
    assert len(row["float32"]) == len(row["float64"]) == 2
    halved = {"net": "tiny", "cores": 1, "float32": [1.0, 2.0, 3.0], "float64": [2.0, 4.0, 3.0]}
    assert precision.rate(halved) == 0.5
    assert precision.cells([halved], {})[0][-2:] == ["0.50", "-"]


def test_threads():
    name = next(iter(threads.GRID))
    rows = threads.measure([1], nets=["tiny", name], rounds=1)
    assert [len(row["many"]) for row in rows] == [1, 1]
    row = {"net": name, "cores": 2, "one": [1.0, 2.0, 1.0], "full": [3.0, 1.5, 4.0], "many": [2.0, 4.0, 2.0]}
    assert (threads.ratio(row, "full"), threads.ratio(row, "many")) == (1.5, 2.0)


def test_beside_pytorch():
    rows = beside.measure([1], rounds=1)
    assert len(rows) == 2 * PEERS["torch"].installed
    assert beside.measure([1], TWO) == []
    row = {"fastbp": [1.0, 1.0], "torch": [1.0, 3.0], "by_turns": [3.0, 4.0]}
    assert beside.ratio(row) == 1.25


def test_scaling_is_calculated_from_one_and_two_cores():
    one, barrier, count = 100e-6, 1e-6, 10
    two = 20e-6 + 80e-6 / 2 + count * barrier  # a fifth of it does not get shorter
    assert scaling.serial_part(one, two, barrier, count) == pytest.approx(20e-6)
    assert scaling.estimate(one, two, barrier, count, 1) == one
    assert scaling.estimate(one, two, barrier, count, 2) == pytest.approx(two)
    sixteen = 20e-6 + 80e-6 / 16 + count * (barrier + 14 * scaling.LINE)
    assert scaling.estimate(one, two, barrier, count, 16) == pytest.approx(sixteen)


if backend.native():  # the reference has no team

    def test_teams_and_barriers_of_plans():
        plans = {name: scaling.plan_of(name) for name in ("tiny", "chain", "mnist")}
        assert [scaling.barriers(plan) for plan in plans.values()] == [14, 4, 11]
        assert [scaling.most_threads(plan, 64) for plan in plans.values()] == [1, 20, 13]
        assert [scaling.most_threads(plan, 4) for plan in plans.values()] == [1, 4, 4]
        rows = [{"net": name, "one": [2e-3], "full": [1e-3]} for name in plans]
        assert [line[0] for line in scaling.cells(rows, 1e-6)] == list(plans)

    def test_a_barrier_is_measured():
        before, grain = get_num_threads(), backend.native().get_grain()
        try:
            assert 0 < scaling.worker(2)["barrier"]() < 1
        finally:
            backend.native().set_grain(grain)
        assert get_num_threads() == before


# ---- several runs ----


def made_run(scale):
    """A run that took `scale` microseconds for everything."""
    seconds = [scale * 1e-6] * 2
    rows = [
        training.Row("tiny", cores, peer, 100, 10, seconds=seconds, ratios=[ratio, ratio])
        for cores in (1, 2)
        for peer, ratio in (("fastbp", 1.0), ("jax-scan", 2.0 * scale))
    ]
    one_row = {"case": "one row", "cores": 1, "peer": "fastbp", "seconds": seconds, "error": ""}
    limits = {cores: Limits(1e9 * cores, 1e9, 1e9) for cores in (1, 2)}
    return Run({"load": f"{scale}"}, limits, rows, {"inference": [one_row]})


def test_a_run_and_its_file(tmp_path):
    run = made_run(1.0)
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_several_runs_make_one_report(tmp_path, monkeypatch, capsys):
    for number, scale in enumerate((2.0, 1.0, 4.0)):
        made_run(scale).save(tmp_path / f"{number}.json")
    files = [str(tmp_path / f"{number}.json") for number in range(3)]
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path), *files])
    report.main()
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "| load | 2.0 | 1.0 | 4.0 |" in text
    assert "| tiny | fastbp | 0.00 | 2 | 2 | 0.05 | 5 % | 0 % | 1 | 150 % |" in text
    assert "| tiny: jax-scan / fastbp, 1 core | ≥ 5.00 | 4.00 | 150 % | missed |" in text
    assert "freeze() on one row of tabular, µs" in capsys.readouterr().out


def test_values_of_runs_come_together():
    found = together([made_run(1.0), made_run(2.0)], "inference")
    assert [row["seconds"] for row in found] == [[1e-6, 1e-6, 2e-6, 2e-6]]
    several = Several((2.0, 1.0, 4.0))
    assert (several.median, several.spread) == (2.0, 1.5)


def test_goals_are_those_of_the_seven_networks():
    assert set(goals.TRAINING) == set(NETS)
    reached = {goal.what: goal for goal in goals.all_goals([made_run(1.0), made_run(2.0)])}
    assert reached["tiny: 2 cores over 1"].met
    assert not reached["tiny: jax-scan / fastbp, 1 core"].met
    one_row = reached["freeze() on one row of tabular, µs"]
    assert one_row.met and one_row.reached.values == (1.0, 2.0)
    assert goals.all_goals([]) == []


def test_a_run_on_one_core_says_nothing_of_two():
    both, alone = made_run(1.0), made_run(1.0)
    alone.training[:] = [row for row in alone.training if row.cores == 1]
    reached = {goal.what: goal.reached for goal in goals.all_goals([alone, both])}
    assert len(reached["tiny: 2 cores over 1"].values) == 1
    assert "tiny: 2 cores over 1" not in {goal.what for goal in goals.all_goals([alone])}


def test_whole_fits_beside_scikit_learn(tmp_path, capsys, monkeypatch):
    fit = pytest.importorskip("bench.sklearn_fit")
    rows = fit.make_classification(120, 20, random_state=0)
    monkeypatch.setattr(fit, "TABLES", {"small": fit.Table(lambda: rows, (8,), 3)})
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    page = tmp_path / "folder" / "fit.md"
    fit.main(["--tables", "small", "--rounds", "1", "--report", str(page)])
    assert before is None or os.sched_getaffinity(0) == before
    printed, text = capsys.readouterr().out, page.read_text("utf-8")
    found = [line for line in text.splitlines() if line.startswith("| small 120 × 20 | 20-8-1 |")]
    lines = [line.split(" | ") for line in found]
    assert [line[3:5] for line in lines] == 2 * [[s, d] for s in fit.SOLVERS for d in fit.DTYPES]
    assert all(float(line[-1].strip(" |")) < 1e-5 for line in lines)  # the losses
    assert all(fit.title(cores) in part for cores in fit.CORES for part in (printed, text))
    assert f"| commit | {bench.about([], None)['commit']} |" in text
    assert fit.flops(10, [4, 3, 2], 5) == 5 * 2 * 10 * (2 * 12 + 3 * 6)
    with pytest.raises(SystemExit):
        fit.main(["--tables", "large"])


# ---- tables ----


def test_tables():
    assert tables.text(("net", "µs"), [("a", "1.5"), ("long", "20")]) == "net    µs\na     1.5\nlong   20"
    assert tables.text(("a", "b"), [("1", "2")], least=(3,)) == "a    b\n1    2"
    assert tables.markdown(("net", "µs"), [("a", "1")]) == "| net | µs |\n| --- | ---: |\n| a | 1 |"
    numbers = [tables.number(value) for value in (None, math.nan, 0.12345, 12.345, 12345.6)]
    assert numbers == ["-", "-", "0.123", "12.3", "12346"]
    assert [tables.percent(value) for value in (None, 0.876)] == ["-", "88 %"]


def test_the_command_is_in_the_report(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench", "--cores", "1"])
    assert bench.about(["numpy"], None)["command"] == "python -m bench --cores 1"
