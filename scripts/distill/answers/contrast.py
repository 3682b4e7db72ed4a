"""Weighted sums of the mean losses of several sizes, with their intervals."""

from collections.abc import Mapping

import pandas as pd

from distill.stats.intervals import Estimate, Spread, estimate


def contrast(cells: pd.DataFrame, weights: Mapping[int, float], spread: Spread | None) -> Estimate:
    """Estimate Σ weight·mean over cells whose runs are independent.

    Smaller sizes are prefixes of larger ones, which can only make the error of a difference
    between sizes smaller than this.

    Args:
        cells: `mean` and `count` by sample count.
        weights: By sample count.
        spread: Standard deviation of one run; None gives no error bar.
    """
    value = sum(weight * float(cells.loc[n, "mean"]) for n, weight in weights.items())
    share = sum(weight**2 / float(cells.loc[n, "count"]) for n, weight in weights.items())
    return estimate(value, share, spread)
