"""Two lines compared at an equal total (FLOPs, seconds, money, tokens), between measured sizes.

No two runs of two methods cost the same, so losses are interpolated between the sizes measured,
never beyond them, on a straight line in log loss against the log of the total. Its weights carry
the noise of the runs into the difference, that which runs of both lines share included.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from distill.answers.answer import Need
from distill.answers.needs import need_precision, smallest
from distill.answers.paired import better_of, loss_differences
from distill.stats.intervals import Estimate, Spread, estimate, pooled_spread, read_estimate
from distill.table.lines import Line, Run, has_values


def compare_total(
    one: Line,
    other: Line,
    names: tuple[str, str],
    column: str,
    spread: Spread | None,
    blur: Spread | None = None,
) -> dict[str, Any]:
    """Compare two lines at up to three points of one total, where both were measured.

    Args:
        one: A line.
        other: Another.
        names: What to call them.
        column: The total, which grows with the samples; its points are under `flops`.
        spread: Standard deviation of a run's loss; None gives no error bar.
        blur: Standard deviation of the logarithm of a run's total, where it is measured (seconds);
            widens the intervals.

    Returns:
        `verdict`: better, no_error_bar or within_noise at the largest total; column_missing,
        not_growing or no_overlap where nothing can be compared. `better`: the name of the line with
        the lower loss, else null. `overlap`: lowest and highest total of both. `points`: from the
        largest total down. `lacking`: which columns of which lines are missing or do not grow.
        `reaches`: without an overlap, the samples at which the cheaper line would reach the other.
    """
    out: dict[str, Any] = {
        "verdict": "column_missing",
        "better": None,
        "overlap": None,
        "points": [],
        "lacking": [],
    }
    missing = [line for line in (one, other) if not has_values(line.runs, column)]
    if missing:
        return out | {"lacking": [{"column": column, "label": line.label} for line in missing]}
    first, second = (Interpolated.of(line, column) for line in (one, other))
    if first is None or second is None:
        label = (one if first is None else other).label
        lacking = [{"column": column, "label": label}]
        return out | {"verdict": "not_growing", "lacking": lacking}
    low, high = max(first.flops[0], second.flops[0]), min(first.flops[-1], second.flops[-1])
    if low > high * (1 + 1e-9):
        cheaper, curve = (one, first) if first.flops[-1] < low else (other, second)
        samples = math.ceil(round(cheaper.sizes[-1] * low / curve.flops[-1], 6))
        return out | {"verdict": "no_overlap", "reaches": {cheaper.label: samples}}
    low = min(low, high)
    between = pooled_spread(loss_differences(one, other).values())
    for flops in (high, math.sqrt(low * high), low) if low < high else (high,):
        difference = difference_at(first, second, flops, spread, between)
        if blur is not None and difference.tested:
            variance = first.shift_variance(flops) + second.shift_variance(flops)
            difference = _widened(difference, estimate(0.0, variance, blur))
        out["points"].append(
            {
                "flops": flops,
                "losses": [curve.read_off(flops)[0] for curve in (first, second)],
                "better": better_of(difference, names),
            }
            | difference.numbers("loss_difference")
        )
    better = out["points"][0]["better"]
    tested = out["points"][0]["loss_difference_stderr"] is not None
    verdict = "better" if better else "within_noise" if tested else "no_error_bar"
    return out | {"verdict": verdict, "better": better, "overlap": [low, high]}


def needs_of(totals: Iterable[Mapping[str, Any]], one: Line, other: Line) -> tuple[Need, ...]:
    """What two lines lack for a comparison at one of several totals.

    Args:
        totals: Results of `compare_total`.
        one: A line.
        other: Another.
    """
    return smallest(_need(total, one, other) for total in totals if total["verdict"] != "better")


def _need(total: Mapping[str, Any], one: Line, other: Line) -> Need:
    if total["verdict"] in ("column_missing", "not_growing"):
        names = {entry["column"] for entry in total["lacking"]}
        what = "column" if total["verdict"] == "column_missing" else "growing_total"
        return Need(what, sorted(names))
    if total["verdict"] == "no_overlap":
        (label, samples), *_ = total["reaches"].items()
        sizes = (one if one.label == label else other).sizes
        return Need("larger_size", samples, sizes[-1], {"runs[].samples": [*sizes, samples]})
    top = total["points"][0]
    runs = min(int(line.cells("loss")["count"].iloc[-1]) for line in (one, other))
    return need_precision(read_estimate(top, "loss_difference"), runs)


@dataclass(frozen=True)
class Interpolated:
    """Loss against FLOPs of one line: its sizes in ascending order of FLOPs.

    `flops` are geometric means over the runs of a size, `losses` arithmetic ones; `runs` names the
    runs of each size by samples, draw and seed.
    """

    flops: tuple[float, ...]
    losses: tuple[float, ...]
    runs: tuple[tuple[Run, ...], ...]

    @classmethod
    def of(cls, line: Line, column: str) -> "Interpolated | None":
        """Return a line's curve over a column of FLOPs.

        None where FLOPs do not grow with the samples, or a loss or FLOPs are not above 0.
        """
        flops, losses = line.by_run(column), line.by_run("loss")
        cells: dict[int, list[Run]] = {}
        for run in flops:
            if run in losses:
                cells.setdefault(run[0], []).append(run)
        if not cells or any(min(flops[run], losses[run]) <= 0 for run in flops if run in losses):
            return None
        places = [
            math.exp(_mean([math.log(flops[run]) for run in runs])) for runs in cells.values()
        ]
        if any(b <= a for a, b in pairwise(places)):
            return None
        means = (_mean([losses[run] for run in runs]) for runs in cells.values())
        return cls(tuple(places), tuple(means), tuple(map(tuple, cells.values())))

    def read_off(self, flops: float) -> tuple[float, dict[Run, float]]:
        """Interpolate a loss on a straight line in log loss against log FLOPs between two sizes.

        log L(F) = (1 − u) log L_a + u log L_b, u = log(F/F_a) / log(F_b/F_a), for the sizes a and b
        on either side of F. By the delta method ∂L/∂L_a = (1 − u) L/L_a and ∂L/∂L_b = u L/L_b; a
        run of size a has the share ∂L/∂L_a / runs of it.

        Args:
            flops: F, within the curve's range.

        Returns:
            L(F), and its slope with respect to the loss of each run that it uses.
        """
        if len(self.flops) == 1:
            return self.losses[0], {run: 1 / len(self.runs[0]) for run in self.runs[0]}
        a, u = self._place(flops)
        value = float(self.losses[a] ** (1 - u) * self.losses[a + 1] ** u)
        slopes = {}
        for place, weight in ((a, 1 - u), (a + 1, u)):
            for run in self.runs[place]:
                slopes[run] = float(weight * value / self.losses[place] / len(self.runs[place]))
        return value, slopes

    def _place(self, flops: float) -> tuple[int, float]:
        """Return the size to the left and u, the share of the way to the next."""
        places = np.log(self.flops)
        b = min(max(int(np.searchsorted(places, math.log(flops))), 1), len(places) - 1)
        u = (math.log(flops) - places[b - 1]) / (places[b] - places[b - 1])
        return b - 1, min(max(float(u), 0.0), 1.0)

    def bend(self, flops: float) -> float:
        """Estimate how far a bent curve lies from the straight line at F, in nats.

        |L · f[a, b, c] (x − x_a)(x_b − x)|, x = log F and f[a, b, c] the second divided difference
        of log loss over a, b and a size next to them: exact for a parabola. Of two neighbours the
        one that bends more; 0 for fewer than three sizes.
        """
        if len(self.flops) < 3:
            return 0.0
        a, u = self._place(flops)
        x, y = np.log(self.flops), np.log(self.losses)
        slope = (y[a + 1] - y[a]) / (x[a + 1] - x[a])
        bends = [
            ((y[c] - y[a]) / (x[c] - x[a]) - slope) / (x[c] - x[a + 1])
            for c in (a - 1, a + 2)
            if 0 <= c < len(x)
        ]
        width = x[a + 1] - x[a]
        return float(self.read_off(flops)[0] * max(map(abs, bends)) * u * (1 - u) * width**2)

    def shift_variance(self, flops: float) -> float:
        """Return the variance of L(F) where log FLOPs of a run have variance 1.

        A size that lies δ further right moves the line by −dL/dx · (share of that size) · δ, with
        x = log F; the line is assumed straight.
        """
        if len(self.flops) == 1:
            return 0.0
        a, u = self._place(flops)
        x, y = np.log(self.flops), np.log(self.losses)
        slope = self.read_off(flops)[0] * (y[a + 1] - y[a]) / (x[a + 1] - x[a])
        shares = (1 - u) ** 2 / len(self.runs[a]) + u**2 / len(self.runs[a + 1])
        return float(slope**2 * shares)


def _widened(value: Estimate, error: Estimate) -> Estimate:
    """Add the half-width of an independent error to an interval, in quadrature."""
    assert value.low is not None
    assert value.high is not None
    assert error.high is not None
    low = math.hypot(value.value - value.low, error.high)
    high = math.hypot(value.high - value.value, error.high)
    stderr = math.hypot(value.stderr or 0.0, error.stderr or 0.0)
    return Estimate(value.value, stderr, value.value - low, value.value + high)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def difference_at(
    first: Interpolated,
    second: Interpolated,
    flops: float,
    spread: Spread | None,
    between: Spread | None,
) -> Estimate:
    """Estimate the loss of the first curve minus that of the second at equal FLOPs.

    With slopes a_r and c_r of both losses with respect to runs r (samples, draw, seed), the
    variance of a run s², that of the difference of two runs with the same r d² = 2 s² (1 − ρ):

        var = Σ_r (a_r² + c_r²) s² − 2 a_r c_r ρ s² = Σ_r (a_r − c_r)² s² + a_r c_r d²

    At equal costs this is the paired comparison of equal samples; for curves with no run in common
    that of independent runs. Degrees of freedom are Satterthwaite's for the two parts. The interval
    is widened on both sides by how far the curves may lie from the straight lines
    (`Interpolated.bend`).

    Args:
        first: the one curve.
        second: the other.
        flops: within both ranges.
        spread: s, pooled over the runs of a cell; None gives no error bar.
        between: d, pooled over sizes; None takes the runs to be independent, d² = 2 s².
    """
    (one, a), (other, c) = first.read_off(flops), second.read_off(flops)
    if spread is None:
        return estimate(one - other, 1.0, None)
    keys = set(a) | set(c)
    pairs = sum(a.get(key, 0.0) * c.get(key, 0.0) for key in keys)
    apart = sum((a.get(key, 0.0) - c.get(key, 0.0)) ** 2 for key in keys) * spread.sd**2
    if between is None:
        variance, df = apart + 2 * pairs * spread.sd**2, spread.df
    else:
        both = pairs * between.sd**2
        variance, parts = apart + both, apart**2 / spread.df + both**2 / between.df
        df = variance**2 / parts if parts else spread.df
    straight = estimate(one - other, 1.0, Spread(math.sqrt(variance), df, 0))
    assert straight.low is not None
    assert straight.high is not None
    bent = first.bend(flops) + second.bend(flops)
    low, high = straight.low - bent, straight.high + bent
    return Estimate(straight.value, straight.stderr, low, high)
