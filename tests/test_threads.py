"""How many threads: limits, environment, affinity and cgroups."""

import importlib
import os
import subprocess
import sys
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import threadpoolctl

import fastbp as bp

threads = importlib.import_module("fastbp.threads")  # fastbp.threads is the function


@pytest.fixture(autouse=True)
def restore():
    before = bp.get_num_threads()
    yield
    bp.set_num_threads(before)


def run(code, **environment):
    names = ("FASTBP_NUM_THREADS", "OMP_NUM_THREADS")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=inherited | environment
    )


def default_threads(**environment):
    return run("import fastbp as bp; print(bp.get_num_threads())", **environment)


@pytest.mark.parametrize("count", [1, 2, np.int64(3), 1000])
def test_the_limit_can_be_set(count):
    bp.set_num_threads(count)
    assert bp.get_num_threads() == count
    assert type(bp.get_num_threads()) is int


def test_a_limit_beyond_an_int_of_c_is_as_good_as_none():
    bp.set_num_threads(10**30)
    assert bp.get_num_threads() == 2**31 - 1


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_bad_limits_change_nothing(count, error):
    bp.set_num_threads(2)
    with pytest.raises(error, match="n must be a positive int, got"):
        bp.set_num_threads(count)
    with pytest.raises(error, match="n must be a positive int, got"), bp.threads(count):
        pass
    assert bp.get_num_threads() == 2


def test_a_limit_for_a_while():
    bp.set_num_threads(3)
    with bp.threads(1):
        assert bp.get_num_threads() == 1
        with bp.threads(2):
            assert bp.get_num_threads() == 2
        assert bp.get_num_threads() == 1
    assert bp.get_num_threads() == 3


def test_a_limit_for_a_while_ends_with_an_error_too():
    bp.set_num_threads(3)
    with pytest.raises(ZeroDivisionError), bp.threads(1):
        raise ZeroDivisionError
    assert bp.get_num_threads() == 3


def test_the_interpreter_hears_of_it(monkeypatch):
    told = []
    monkeypatch.setattr(threads.backend, "set_num_threads", told.append)
    with bp.threads(5):
        pass
    assert told == [5, bp.get_num_threads()]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FASTBP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"FASTBP_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"FASTBP_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
        ({}, threads.available_cores()),
        ({"OMP_NUM_THREADS": "many"}, threads.available_cores()),
        ({"OMP_NUM_THREADS": "0"}, threads.available_cores()),
    ],
)
def test_the_environment_sets_the_default(environment, expected):
    assert default_threads(**environment).stdout == f"{expected}\n"


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "²", "9" * 5000])
def test_a_wrong_environment_is_an_error(value):
    result = default_threads(FASTBP_NUM_THREADS=value)
    assert result.returncode != 0
    assert "ValueError: FASTBP_NUM_THREADS must be a positive integer, not" in result.stderr


def test_available_cores_respect_the_affinity_mask(monkeypatch):
    monkeypatch.setattr(threads, "_cgroup_quota", lambda root, own: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 5}, raising=False)
    assert threads.available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available_cores() == 1


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (2.5, 2), (3.0, 3), (100.0, 8)])
def test_available_cores_respect_the_quota(monkeypatch, quota, expected):
    monkeypatch.setattr(threads, "_cgroup_quota", lambda root, own: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert threads.available_cores() == expected


# ---- cgroups ----


def tree(folder, own, files):
    """A false /sys/fs/cgroup and /proc/self/cgroup; returns the quota found there."""
    (folder / "own").write_text(own)
    for name, text in files.items():
        file = folder / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return threads._cgroup_quota(f"{folder}/cgroup", f"{folder}/own")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"user/app/cpu.max": "150000 100000\n"}, 1.5),
        ({"user/app/cpu.max": "max 100000\n"}, None),
        ({"user/app/cpu.max": "max 100000\n", "user/cpu.max": "200000 100000\n"}, 2.0),
        ({"user/app/cpu.max": "400000 100000\n", "user/cpu.max": "200000 100000\n"}, 2.0),
        ({"user/app/cpu.max": "100000 100000\n", "user/cpu.max": "200000 100000\n"}, 1.0),
        ({"cpu.max": "300000 100000\n"}, 3.0),  # a container sees its own group as the root
        ({"other/cpu.max": "100000 100000\n"}, None),
        ({"user/app/cpu.max": "nonsense\n"}, None),
        ({"user/app/cpu.max": "100000 0\n"}, None),
        ({}, None),
    ],
)
def test_quotas_of_version_2(tmp_path, files, expected):
    assert tree(tmp_path, "0::/user/app\n", files) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("150000", "100000", 1.5), ("-1", "100000", None), ("0", "100000", None), ("x", "100000", None)],
)
@pytest.mark.parametrize("place", ["cpu/docker/1f/", "cpu/docker/", "cpu/"])
def test_quotas_of_version_1(tmp_path, quota, period, expected, place):
    own = "12:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n"
    files = {f"{place}cpu.cfs_quota_us": f"{quota}\n", f"{place}cpu.cfs_period_us": f"{period}\n"}
    assert tree(tmp_path, own, files) == expected


def test_both_versions_at_once(tmp_path):
    files = {
        "cpu/a/cpu.cfs_quota_us": "200000",
        "cpu/a/cpu.cfs_period_us": "100000",
        "cpu.max": "300000 100000",
    }
    assert tree(tmp_path, "3:cpu:/a\n0::/a\n", files) == 2.0


def test_no_cgroups(tmp_path):
    assert threads._cgroup_quota(str(tmp_path), f"{tmp_path}/missing") is None
    assert tree(tmp_path, "garbage\n", {}) is None


# ---- what the threads do ----


TRAINING = """
import hashlib, numpy as np, fastbp as bp
rng = np.random.default_rng(0)
X, y = rng.normal(size=(300, 50)), rng.integers(0, 3, 300)
model = bp.Sequential([bp.layers.Dense(65, "relu"), bp.layers.Dropout(0.5), bp.layers.Dense(3, "softmax")],
                      loss="cross_entropy", seed=0)
model.fit(X, y, epochs=3, batch_size=50)
print(hashlib.sha256(model.parameters.tobytes() + model.predict(X).tobytes()).hexdigest())
"""


def test_the_same_bits_in_processes_of_1_2_and_4_threads():
    native = threads.backend.native()
    small_work_too = "from fastbp.engine import _native; _native.set_grain(1.0)\n" if native else ""
    hashes = {run(small_work_too + TRAINING, FASTBP_NUM_THREADS=count).stdout for count in "124"}
    assert len(hashes) == 1 and len(hashes.pop()) == 65


if threads.backend.native():  # the reference leaves threads to NumPy

    def test_limits_of_threadpoolctl_hold():
        native = threads.backend.native()
        with threads.threads(4):
            usual = native.team_size(1e12)
            with threadpoolctl.threadpool_limits(1):
                assert native.team_size(1e12) == 1
            assert native.team_size(1e12) == usual == 4

    def sizes(limits, seconds, batches=100):
        """Size of the team of each batch; a run of so many takes 50 ms times seconds(run, members)."""
        return threads.backend.native().team_sizes(limits, lambda *run: 0.05 * seconds(*run), batches)

    def test_a_team_that_pays_stays_whole():
        found = sizes([16] * 500, lambda run, members: 1 / members)
        assert found[:100] == [16] * 100
        assert found.count(16) > 0.99 * len(found)

    def test_a_team_that_does_not_pay_is_given_up():
        found = sizes([16] * 500, lambda run, members: 1 + 0.1 * members)
        assert set(found[2000:]) <= {1, 2}
        assert found[2000:].count(1) > 0.99 * len(found[2000:])

    def test_the_best_size_lies_between():
        found = sizes([64] * 500, lambda run, members: 1 / members + members / 100)
        assert found[2000:].count(8) + found[2000:].count(16) > 0.99 * len(found[2000:])

    def test_a_difference_within_the_noise_changes_nothing():
        found = sizes([2] * 500, lambda run, members: 1 if members == 2 else 0.98)
        assert found.count(1) < 0.01 * len(found)

    def test_a_neighbour_that_comes_and_leaves_is_noticed():
        found = sizes([2] * 500, lambda run, members: 1 if members == 1 else 2 if 200 <= run < 300 else 0.5)
        assert found[15000:20000].count(2) > 4950
        assert found[20500:30000].count(1) > 9400  # the average has to move first
        assert found[34500:].count(2) > 15400  # two seconds are forty runs

    def test_one_disturbed_batch_is_not_a_neighbour():
        found = sizes(
            [2] * 9000, lambda run, members: (9 if run % 900 == 0 else 1) / members / 100, batches=1
        )
        assert found.count(1) < 0.01 * len(found)

    def test_a_lower_limit_starts_anew():
        limits = [16] * 100 + [5] * 200
        found = sizes(limits, lambda run, members: members if run > 99 else 1 / members)
        assert max(found[10000:]) == 5
        assert found[15000:].count(1) > 14850

    def test_the_first_run_after_another_size_does_not_count():
        last = []

        def seconds(run, members):
            last.append(members)
            moved = len(last) < 2 or last[-2] != members
            return (3 if moved else 1) * (1 if members == 1 else 1.1)

        found = sizes([2] * 500, seconds)
        assert found[2000:].count(2) < 0.01 * len(found)

    def test_a_trial_waits_until_it_costs_little():
        found = sizes([2] * 200, lambda run, members: 2 / members, batches=1)  # a run is a batch of 50 ms
        trials = [run for run, members in enumerate(found) if members == 1]
        assert trials == [40, 41, 82, 83, 124, 125, 166, 167]  # two batches each, after 2 s

    def test_trials_become_rare_where_the_size_stands():
        found = sizes([2] * 120, lambda run, members: 2 / members, batches=100)  # of 0.5 ms
        starts = [i for i in range(1, len(found)) if (found[i - 1], found[i]) == (2, 1)]
        waits = [later - earlier for earlier, later in pairwise(starts)]
        assert waits[0] <= 100 and all(1.5 < b / a < 2.5 for a, b in pairwise(waits[:5]))
        assert max(waits) < 4200  # two seconds, and what is left of a run

    def test_models_in_two_threads_share_the_limit():
        native, limit = threads.backend.native(), 4
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(2000, 200)), rng.normal(size=(2000, 10))

        def train(results, number):
            layers = [bp.layers.Dense(300, "relu"), bp.layers.Dense(10)]
            model = bp.Sequential(layers, "mean_squared_error", seed=number)
            model.fit(X, y, epochs=8, batch_size=250)
            results[number] = model.parameters.tobytes()

        alone, together = {}, {}
        with threads.threads(limit):
            for number in range(2):
                train(alone, number)
            workers = [threading.Thread(target=train, args=(together, number)) for number in range(2)]
            for worker in workers:
                worker.start()
            most = 0
            while any(worker.is_alive() for worker in workers):
                most = max(most, native.members_in_use())
                time.sleep(0.0005)
        assert most <= limit + 1  # a caller's own thread cannot be refused
        assert together == alone
        assert native.members_in_use() == 0
