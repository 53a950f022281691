"""The process in which videos are looked at: `python -m cineray.curate.child`, started and watched by `IndexPool`.

A decoder that crashes, hangs or eats memory costs one video. There is a child per core, so each computes with one
thread; NumPy's libraries must be told before they are loaded, and reserve memory by the thread, which is limited here.
"""

from __future__ import annotations

import os
import sys

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Answer until the parent closes the pipe."""
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    from cineray.curate.asks import ASKS
    from cineray.index.child import serve

    serve(asks=ASKS)


if __name__ == "__main__":
    main()
    sys.exit(0)
