"""Work that goes on beside other work, in the order in which it was given.

Threads here are daemons: a run that is interrupted does not wait for an answer that may never come.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")
_END = object()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made while the one before is used: computing and storing overlap."""
    following = partial(next, items, _END)
    coming = _begun(following)
    while (item := coming.result()) is not _END:
        coming = _begun(following)
        yield item


def abreast(do: Callable[[T], U], items: Iterable[T], lanes: int = 2) -> Iterator[U]:
    """What is done with each item, in their order; so many at a time. It pays where most of the time passes in compiled code
    or in the database. All of them have ended when the last one comes out."""
    under_way: deque[Future[U]] = deque()
    for item in items:
        under_way.append(_begun(partial(do, item)))
        if len(under_way) == lanes:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _begun(make: Callable[[], Any]) -> "Future[Any]":
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(make())
        except BaseException as problem:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(problem)

    Thread(target=copy_context().run, args=(work,), daemon=True).start()
    return future
