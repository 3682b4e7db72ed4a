"""What training one more student costs, from what the runs of a study cost.

Costs are proportional to tokens: seconds and FLOPs of training to tokens seen, the teacher's work
and soft targets to unique tokens. Rates are ratios of sums over a student's runs, so the largest
runs weigh most; between students, training rates and model size are log-linear in size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.core.units import BYTES_PER_MB

TEACHER_RATES = ("teacher_seconds", "teacher_flops", "target_seconds", "target_flops")
_FLOPS_PER_PARAMETER = 6


@dataclass(frozen=True)
class Prices:
    """Money, in one currency.

    Attributes:
        hour: For an hour of this machine; None where not stated.
        million_tokens: For a million tokens that the teacher writes; None where not stated.
    """

    hour: float | None = None
    million_tokens: float | None = None


@dataclass(frozen=True)
class Rates:
    """Costs per token of one student, by one method, on one teacher's text; None where unknown.

    Attributes:
        train_seconds: Per token seen.
        train_flops: Per token seen.
        teacher: Seconds and FLOPs of text and soft targets per unique token (`TEACHER_RATES`).
        teacher_tokens: Tokens that a teacher writes per unique token: 1, or 0 where the text was
            no teacher's work.
        cache_bytes: Soft targets per unique token; 0 where only text is read.
        model_bytes: The saved student.
        estimated: Whether FLOPs are 6 N D, because none were counted.
    """

    train_seconds: float | None
    train_flops: float | None
    teacher: Mapping[str, float | None]
    teacher_tokens: float
    cache_bytes: float | None
    model_bytes: float | None
    estimated: bool

    def cost(self, tokens: float, epochs: float, prices: Prices | None = None) -> dict[str, Any]:
        """What a run on so many unique tokens costs; None where a rate is unknown.

        Args:
            tokens: Unique training tokens.
            epochs: Tokens seen over unique ones.
            prices: For `money`. The hour pays for training and soft targets, and for the teacher's
                text where tokens have no price of their own.

        Returns:
            train_seconds, train_flops, teacher_tokens, teacher_* and target_*, total_seconds,
            total_flops, cache_bytes, disk_bytes (model and cache), money.
        """
        out: dict[str, Any] = {
            "train_seconds": _times(self.train_seconds, tokens * epochs),
            "train_flops": _times(self.train_flops, tokens * epochs),
            "teacher_tokens": self.teacher_tokens * tokens,
        }
        out |= {name: _times(self.teacher[name], tokens) for name in TEACHER_RATES}
        for kind in ("seconds", "flops"):
            parts = [out[f"{part}_{kind}"] for part in ("train", "teacher", "target")]
            out[f"total_{kind}"] = _total(parts)
        out["cache_bytes"] = _times(self.cache_bytes, tokens)
        out["disk_bytes"] = _total([out["cache_bytes"], self.model_bytes])
        out["money"] = _money(out, prices)
        return out


def _times(rate: float | None, amount: float) -> float | None:
    return None if rate is None else rate * amount


def _total(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _money(cost: Mapping[str, Any], prices: Prices | None) -> float | None:
    if prices is None or (prices.hour is None and prices.million_tokens is None):
        return None
    parts: list[float | None] = []
    if prices.million_tokens is not None:
        parts.append(cost["teacher_tokens"] / 1e6 * prices.million_tokens)
    if prices.hour is not None:
        by_hour = ["train_seconds", "target_seconds"]
        by_hour += ["teacher_seconds"] if prices.million_tokens is None else []
        parts += [_times(cost[name], prices.hour / 3600) for name in by_hour]
    return _total(parts)


@dataclass(frozen=True)
class TeacherRates:
    """What a teacher's work costs per unique token, whatever the student.

    Attributes:
        rates: By name of `TEACHER_RATES`.
        cache_bytes: Bytes of soft targets.
    """

    rates: dict[str, float | None]
    cache_bytes: float | None


def teacher_rates(group: pd.DataFrame) -> TeacherRates:
    """Rates of a teacher.

    Args:
        group: All trained runs of one group (columns of the runs table).
    """
    rates = {name: _ratio(group, name, "tokens_unique") for name in TEACHER_RATES}
    if not _text_only(group):
        return TeacherRates(rates, _mean(group, "cache_bytes_per_token"))
    rates |= {name: 0.0 for name in ("target_seconds", "target_flops") if not rates[name]}
    return TeacherRates(rates, 0.0)


def student_rates(rows: pd.DataFrame, teacher: TeacherRates) -> Rates:
    """Rates of one student.

    Args:
        rows: Its trained runs of one group (columns of the runs table).
        teacher: Rates of the teacher of that group.
    """
    seen, size = _sum(rows, "tokens_seen"), _mean(rows, "params")
    flops = _ratio(rows, "train_flops", "tokens_seen")
    estimated = flops is None and size is not None
    megabytes = _mean(rows, "size_mb")
    return Rates(
        train_seconds=_ratio(rows, "train_seconds", "tokens_seen") if seen else None,
        train_flops=_FLOPS_PER_PARAMETER * size if estimated and size else flops,
        teacher=teacher.rates,
        teacher_tokens=0.0 if teacher.rates["teacher_flops"] == 0 else 1.0,
        cache_bytes=teacher.cache_bytes,
        model_bytes=None if megabytes is None else megabytes * BYTES_PER_MB,
        estimated=estimated,
    )


def _text_only(group: pd.DataFrame) -> bool:
    return "cache" not in group or set(group["cache"].fillna("").astype(str)) <= {"", "none"}


def _numbers(rows: pd.DataFrame, column: str) -> np.ndarray:
    if column not in rows:
        return np.full(len(rows), np.nan)
    return np.asarray(pd.to_numeric(rows[column], errors="coerce"), dtype=np.float64)


def _sum(rows: pd.DataFrame, column: str) -> float:
    return float(np.nansum(_numbers(rows, column)))


def _mean(rows: pd.DataFrame, column: str) -> float | None:
    values = _numbers(rows, column)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _ratio(rows: pd.DataFrame, column: str, per: str) -> float | None:
    """Sum over sum, of the rows that have both."""
    above, below = _numbers(rows, column), _numbers(rows, per)
    both = ~np.isnan(above) & (below > 0)
    return float(above[both].sum() / below[both].sum()) if both.any() else None


def rates_between(known: Mapping[float, Rates], size: float) -> Rates | None:
    """Rates of a student of another size: log-linear between students.

    Args:
        known: Rates by size, of one group.
        size: Parameters in the same measure. Outside the students' sizes the nearest two continue.

    Returns:
        None where one student alone is no line.
    """
    if size in known:
        return known[size]
    if len(known) < 2:
        return None
    first = next(iter(known.values()))
    names = ("train_seconds", "train_flops", "model_bytes")
    between = {
        name: _log_linear({n: getattr(rates, name) for n, rates in known.items()}, size)
        for name in names
    }
    return Rates(
        teacher=first.teacher,
        teacher_tokens=first.teacher_tokens,
        cache_bytes=first.cache_bytes,
        estimated=any(rates.estimated for rates in known.values()),
        **between,
    )


def _log_linear(known: Mapping[float, float | None], size: float) -> float | None:
    points = sorted((n, value) for n, value in known.items() if value is not None and value > 0)
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points)).T
    place = int(np.clip(np.searchsorted(x, np.log(size)), 1, len(x) - 1))
    slope = (y[place] - y[place - 1]) / (x[place] - x[place - 1])
    return float(np.exp(y[place - 1] + slope * (np.log(size) - x[place - 1])))
