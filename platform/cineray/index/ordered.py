"""Things done side by side by threads that wait for child processes: items in, results out in the order of the items.

Few items are taken ahead, so memory is flat and a slow reader slows the work. Whoever goes away in the middle (by an
error, Ctrl-C, a generator that is closed) does not wait for what is being done: the children are ended first, and their
answers with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    do: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    ahead: int,
    name: str,
    abandoned: Callable[[], AbstractContextManager[None]],
) -> Iterator[Result]:
    """`do` of each item, `workers` at once, at most `ahead` taken before their turn; `name` is that of the threads.

    `abandoned()` is entered when the rest is not wanted any more: inside, whatever `do` waits for must end soon.
    """
    waiting: deque[Future[Result]] = deque()
    threads = ThreadPoolExecutor(workers, thread_name_prefix=name)
    try:
        for item in items:
            waiting.append(threads.submit(do, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        with abandoned():
            threads.shutdown(wait=True)
        raise
    threads.shutdown(wait=True)
