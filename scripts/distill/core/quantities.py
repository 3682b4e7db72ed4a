"""Numbers, durations and sizes as text."""

import math
from typing import Any

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DURATIONS = (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0), ("min", 60.0))
_SIZES = (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_COUNTS = (("B", 1e9), ("M", 1e6), ("k", 1e3))


def power_of_ten(power: int) -> str:
    """Write a power of ten: 10⁻³."""
    return f"10{str(power).translate(_RAISED)}"


def number(value: Any, digits: int = 3) -> str:
    """Format a number with separated thousands, and with a power of ten if it is extreme.

    Values of type int keep all digits; null and NaN become an en dash.

    Args:
        value: A number or boolean of Python, numpy or pandas; or null.
        digits: Significant digits.
    """
    if value is None or str(value) == "<NA>":  # as pandas writes its null
        return "–"
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    value = float(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    if not -3 <= int(power) < 7:
        return f"{mantissa} × {power_of_ten(int(power))}".replace("-", "−")
    rounded = float(f"{mantissa}e{power}")
    return f"{rounded:,.{max(0, digits - 1 - int(power))}f}".replace("-", "−")


def percent(share: float) -> str:
    """Format a signed share as per cent, with two significant digits."""
    sign = "+" if share > 0 else ""
    return f"{sign}{number(100 * share, 2)} %"


def duration(seconds: float | None, digits: int = 3) -> str:
    """Format seconds in the largest unit that gives at least 2; None becomes an en dash."""
    if seconds is None:
        return "–"
    for unit, length in _DURATIONS:
        if seconds >= 2 * length:
            return f"{number(seconds / length, digits)} {unit}"
    return f"{number(seconds, digits)} s"


def data_size(size: float | None, digits: int = 3) -> str:
    """Format bytes with a decimal unit; None becomes an en dash."""
    if size is None:
        return "–"
    for unit, length in _SIZES:
        if size >= length:
            return f"{number(size / length, digits)} {unit}"
    return f"{number(size, digits)} B"


def whole(value: float | None) -> str:
    """Write a count that was computed: whole below ten million; an en dash where unknown."""
    return "–" if value is None else number(round(value) if value < 1e7 else float(value))


def short_count(value: float, digits: int = 3) -> str:
    """Format a count briefly: 12 k, 3.5 M."""
    for unit, length in _COUNTS:
        if value >= length:
            return f"{number(value / length, digits)} {unit}"
    return number(value, digits)
