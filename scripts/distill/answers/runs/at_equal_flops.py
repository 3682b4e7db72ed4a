"""Which method is better at equal FLOPs, the teacher's share counted.

No two runs of two methods cost the same, so losses are read off between the sizes measured, never
beyond them, on a straight line in log loss against log FLOPs. Its weights carry the noise of the
runs into the difference, that which runs of both methods share included.
"""

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from distill.answers.record import record
from distill.answers.runs.at_equal_samples import better_of, by_student, loss_differences
from distill.stats.intervals import Estimate, Spread, estimate, number, pooled_spread, read_estimate
from distill.table.lines import Line, Run, has_values

METHODS_FLOPS = "Which method is better at equal FLOPs?"
TOTALS = {
    "total_flops": "all of the teacher's work counted",
    "total_flops_amortised": "the teacher's work shared among the runs that use it",
}
"""Columns of FLOPs that methods are compared at, and what they count."""


def compare_at_equal_flops(lines: list[Line], spread: Spread | None) -> list[dict[str, Any]]:
    """Compare every two methods (and caches) of a student at equal total FLOPs.

    Args:
        lines: the lines of the runs table.
        spread: standard deviation of a run's loss, pooled over all cells of the table.
    """
    answers = []
    for group, names in by_student(lines):
        for (one, first), (other, second) in combinations(zip(group, names, strict=True), 2):
            answers.append(_at_equal_flops(one, other, (first, second), spread))
    return answers


def _at_equal_flops(
    one: Line, other: Line, names: tuple[str, str], spread: Spread | None
) -> dict[str, Any]:
    totals = {name: compare_total(one, other, names, name, spread) for name in TOTALS}
    verdicts = [f"{words}: {totals[name]['verdict']}" for name, words in TOTALS.items()]
    told = [_told_points(totals[name], names, words) for name, words in TOTALS.items()]
    ratio = _flops_ratio(one, other, names)
    evidence = " ".join(text for text in (*told, ratio.pop("words", "")) if text)
    if any(total["points"] for total in totals.values()):
        evidence += (
            " Between two sizes the loss is read off a straight line in log loss against log "
            "FLOPs; how far the curve may bend away from it is in the interval."
        )
    answer = "; ".join(verdicts) + "."
    numbers = {
        "compared": list(names),
        "reads_cache": [one.reads_cache, other.reads_cache],
        "totals": totals,
        "flops_ratio": ratio or None,
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
    }
    found = record(METHODS_FLOPS, one, answer[0].upper() + answer[1:], evidence.strip(), numbers)
    found["method"] = f"{names[0]} vs {names[1]}"
    found["label"] = f"{one.label} or {other.label}"
    return found


def compare_total(
    one: Line,
    other: Line,
    names: tuple[str, str],
    column: str,
    spread: Spread | None,
    unit: str = "FLOPs",
    blur: Spread | None = None,
) -> dict[str, Any]:
    """Compare two lines at up to three points of one total, where both were measured.

    Args:
        one: a line.
        other: another.
        names: what to call them.
        column: the total, which grows with the samples; its points are under `flops`.
        spread: standard deviation of a run's loss; None gives no error bar.
        unit: what the column counts, for the sentences.
        blur: standard deviation of the logarithm of a run's total, where it is measured (seconds);
            widens the intervals.
    """
    out: dict[str, Any] = {"verdict": "", "better": None, "overlap": None, "points": []}
    if missing := [line.label for line in (one, other) if not has_values(line.runs, column)]:
        out["verdict"] = f"cannot tell, column {column} is missing for {' and '.join(missing)}"
        return out
    first, second = (Curve.of(line, column) for line in (one, other))
    if first is None or second is None:
        label = (one if first is None else other).label
        out["verdict"] = f"cannot tell, {column} of {label} does not grow with the samples"
        return out
    low, high = max(first.flops[0], second.flops[0]), min(first.flops[-1], second.flops[-1])
    if low > high * (1 + 1e-9):
        out["verdict"] = f"cannot tell, the ranges of {unit} do not overlap"
        return out
    low = min(low, high)
    out["overlap"] = [low, high]
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
    top = out["points"][0]
    out["better"] = top["better"]
    if top["better"]:
        out["verdict"] = f"{top['better']} is better"
    elif top["loss_difference_stderr"] is None:
        out["verdict"] = "cannot tell, no error bar"
    else:
        out["verdict"] = "cannot tell, the difference is within the noise"
    return out


@dataclass(frozen=True)
class Curve:
    """Loss against FLOPs of one line: its sizes in ascending order of FLOPs.

    `flops` are geometric means over the runs of a size, `losses` arithmetic ones; `runs` names the
    runs of each size by samples, draw and seed.
    """

    flops: tuple[float, ...]
    losses: tuple[float, ...]
    runs: tuple[tuple[Run, ...], ...]

    @classmethod
    def of(cls, line: Line, column: str) -> "Curve | None":
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
        """Read a loss off a straight line in log loss against log FLOPs between two sizes.

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
        x = log F; the line is taken as straight.
        """
        if len(self.flops) == 1:
            return 0.0
        a, u = self._place(flops)
        x, y = np.log(self.flops), np.log(self.losses)
        slope = self.read_off(flops)[0] * (y[a + 1] - y[a]) / (x[a + 1] - x[a])
        shares = (1 - u) ** 2 / len(self.runs[a]) + u**2 / len(self.runs[a + 1])
        return float(slope**2 * shares)


def _widened(found: Estimate, other: Estimate) -> Estimate:
    """Add the half-width of an independent error to an interval, in quadrature."""
    assert found.low is not None
    assert found.high is not None
    assert other.high is not None
    low = math.hypot(found.value - found.low, other.high)
    high = math.hypot(found.high - found.value, other.high)
    stderr = math.hypot(found.stderr or 0.0, other.stderr or 0.0)
    return Estimate(found.value, stderr, found.value - low, found.value + high)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def difference_at(
    first: Curve, second: Curve, flops: float, spread: Spread | None, between: Spread | None
) -> Estimate:
    """Estimate the loss of the first curve minus that of the second at equal FLOPs.

    With slopes a_r and c_r of both losses with respect to runs r (samples, draw, seed), the
    variance of a run s², that of the difference of two runs with the same r d² = 2 s² (1 − ρ):

        var = Σ_r (a_r² + c_r²) s² − 2 a_r c_r ρ s² = Σ_r (a_r − c_r)² s² + a_r c_r d²

    At equal costs this is the paired comparison of equal samples; for curves with no run in common
    that of independent runs. Degrees of freedom are Satterthwaite's for the two parts. The interval
    is widened on both sides by how far the curves may lie from the straight lines (`Curve.bend`).

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
    own = sum((a.get(key, 0.0) - c.get(key, 0.0)) ** 2 for key in keys) * spread.sd**2
    if between is None:
        variance, df = own + 2 * pairs * spread.sd**2, spread.df
    else:
        both = pairs * between.sd**2
        variance, parts = own + both, own**2 / spread.df + both**2 / between.df
        df = variance**2 / parts if parts else spread.df
    found = estimate(one - other, 1.0, Spread(math.sqrt(variance), df, 0))
    assert found.low is not None
    assert found.high is not None
    bent = first.bend(flops) + second.bend(flops)
    return Estimate(found.value, found.stderr, found.low - bent, found.high + bent)


def _told_points(total: dict[str, Any], names: tuple[str, str], words: str) -> str:
    """Say the differences at the points of one total."""
    if not total["points"]:
        return ""
    told = [
        f"{read_estimate(point, 'loss_difference').text('nats')} at {number(point['flops'])} FLOPs"
        for point in total["points"]
    ]
    return (
        f"{words[0].upper()}{words[1:]}, the loss of {names[0]} minus that of {names[1]} is "
        + ", ".join(told)
        + "."
    )


def _flops_ratio(one: Line, other: Line, names: tuple[str, str]) -> dict[str, Any]:
    """Return FLOPs of the second line over those of the first at the largest size of both."""
    common = sorted(set(one.sizes) & set(other.sizes))
    out: dict[str, Any] = {}
    told = []
    for column, words in TOTALS.items():
        if not common or not all(has_values(line.runs, column) for line in (one, other)):
            continue
        costs = [line.cells(column)["mean"].get(common[-1]) for line in (one, other)]
        if costs[0] and costs[1]:
            out |= {"samples": common[-1], column: float(costs[1] / costs[0])}
            told.append(f"{number(out[column])} × with {words}")
    if told:
        out["words"] = (
            f"At n = {out['samples']:,} {names[1]} costs, in FLOPs of {names[0]}, "
            f"{' and '.join(told)}."
        )
    return out
