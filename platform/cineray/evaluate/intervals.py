"""How sure a number is: rows of clips go in, 95 % intervals come out. All follows from the rows and a seed.

Rates have their exact interval (Clopper and Pearson). All else is resampled: clips are drawn again with replacement, a
thousand times, and the middle 95 % of the statistic is the interval. Two sets that share their clips' names are drawn
together, so that what all clips have in common (an easy prompt, a hard one) does not count as noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SURE = 0.95


def clopper_pearson(hits: int, n: int, *, sure: float = SURE) -> tuple[float, float]:
    """The exact interval of a rate: what it may be when `hits` of `n` were seen; (0, 1) when nothing was."""
    from scipy.special import betaincinv

    aside = (1 - sure) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, aside))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - aside))
    return low, high


def draws(n: int, times: int, *, seed: int, stream: int = 0) -> Integers:
    """Which of `n` clips each resample holds, (times, n). Streams of one seed have nothing to do with each other."""
    generator = np.random.Generator(np.random.Philox(key=[seed, stream]))
    return generator.integers(0, n, (times, n), dtype=np.int64)


def middle(values_R: Reals, *, sure: float = SURE) -> tuple[float, float]:
    """Between which two values the middle lies; nan where none of the resamples has a value."""
    values_R = values_R[np.isfinite(values_R)]
    if len(values_R) == 0:
        return float("nan"), float("nan")
    aside = (1 - sure) / 2
    low, high = np.quantile(values_R, [aside, 1 - aside])
    return float(low), float(high)
