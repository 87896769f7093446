from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ddfm.video.overlap import WAITING, Behind, prefetch


def test_items_come_in_order_and_are_made_on_one_other_thread() -> None:
    threads = set()

    def items() -> Iterator[int]:
        for n in range(20):
            threads.add(threading.current_thread())
            yield n

    assert list(prefetch(items())) == list(range(20))
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_no_more_is_made_than_may_wait() -> None:
    made = []

    def items() -> Iterator[int]:
        for n in range(100):
            made.append(n)
            yield n

    coming = prefetch(items())
    assert next(coming) == 0
    coming.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(made) <= 1 + WAITING


def test_an_error_comes_after_what_was_made_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    coming = prefetch(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="broken"):
        next(coming)


def test_calls_are_made_in_order_and_all_of_them() -> None:
    done: list[int] = []
    with Behind() as behind:
        for n in range(20):
            behind(done.append, n)
    assert done == list(range(20))


def test_what_a_call_raises_comes_out_at_the_end_at_the_latest() -> None:
    with pytest.raises(ZeroDivisionError), Behind() as behind:
        behind(divmod, 1, 0)


def test_an_error_of_the_caller_is_not_hidden_by_one_behind() -> None:
    def fails_itself() -> None:
        with Behind() as behind:
            behind(divmod, 1, 0)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fails_itself()
