"""Work beside other work comes out in order, and what fails is told where its result is asked for."""

import threading
import time
from collections.abc import Iterator

import pytest

from integration_pipelines.lanes import abreast, ahead


def test_results_come_in_the_order_of_the_items_whoever_is_ready_first() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (3 - number % 4))
        return number * 2

    assert list(abreast(slow, range(9), lanes=3)) == [number * 2 for number in range(9)]


def test_no_more_lanes_are_taken_than_there_are() -> None:
    lock, busy, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.01)
        with lock:
            busy -= 1

    assert len(list(abreast(work, range(20)))) == 20
    assert most == 2


def test_a_failure_comes_out_at_its_place() -> None:
    results = abreast(lambda number: 1 // number, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_item_is_made_while_the_one_before_is_used() -> None:
    made: list[int] = []

    def coming() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    items = ahead(coming())
    assert next(items) == 0
    for _ in range(200):
        if made == [0, 1]:
            break
        time.sleep(0.01)
    assert made == [0, 1]
    assert list(items) == [1, 2]
