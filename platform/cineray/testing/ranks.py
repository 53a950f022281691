"""Ranks of a feed as threads of one process: their shards go in, what each made of its own comes out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def in_threads(ranks: list[Any], eat: Callable[[Any], Any] = lambda shard: list(shard.batches())) -> list[Any]:
    """What each rank makes of its shard, all at the same time, as ranks do."""
    results: list[Any] = [None] * len(ranks)

    def run(rank: int) -> None:
        try:
            results[rank] = eat(ranks[rank])
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results
