"""Work on several threads: its order, its bounds and its errors."""

import os
import threading
import time

import pytest

from tevia_hf.io import parallel
from tevia_hf.io.parallel import on_all_cores


def test_results_come_in_order_from_several_threads_with_few_items_held(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setattr(parallel, "CPU_QUOTA", tmp_path / "none")
    threads, taken = set(), []

    def square(number):
        threads.add(threading.get_ident())
        time.sleep(0.01 if number % 2 else 0)
        return number**2

    def numbers():
        for number in range(40):
            taken.append(number)
            yield number

    results = on_all_cores(square, numbers())
    assert next(results) == (0, 0) and len(taken) < 12
    assert [result for _, result in results] == [number**2 for number in range(1, 40)] and len(threads) > 1


@pytest.mark.parametrize(
    ("cores", "quota", "expected"), [(64, "max 100000", 8), (64, "250000 100000", 3), (2, "800000 100000", 2)]
)
def test_no_more_threads_are_started_than_the_container_may_use(cores, quota, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(parallel, "CPU_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    pools, usual = [], parallel.ThreadPoolExecutor
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", lambda threads: pools.append(threads) or usual(threads))
    assert list(on_all_cores(abs, [-1])) == [(-1, 1)] and pools == [expected]


def test_an_error_of_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(on_all_cores(lambda number: 1 / number, [1, 0]))


def test_results_are_computed_ahead_while_the_caller_is_busy(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    monkeypatch.setattr(parallel, "CPU_QUOTA", tmp_path / "none")
    done = threading.Semaphore(0)
    results = on_all_cores(lambda _: done.release(), range(40), ahead=10)
    next(results)
    assert all(done.acquire(timeout=60) for _ in range(15)) and not done.acquire(timeout=0.1)
