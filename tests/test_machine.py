import io

from fastbp import machine


def test_the_best_run_counts_and_there_are_three(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    assert machine._best_seconds(lambda: None, seconds=1.0) == 2.0


def test_runs_go_on_for_the_time_given(monkeypatch):
    runs = []
    clock = iter(float(n) for n in range(100))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    machine._best_seconds(lambda: runs.append(1), seconds=6.0)
    assert len(runs) == 6


def test_processor(monkeypatch):
    assert machine.processor()
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO("cpu: 0\nmodel name\t: Abacus 3000\n"))
    assert machine.processor() == "Abacus 3000"
