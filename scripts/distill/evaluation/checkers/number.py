"""The last number of an answer equals a number, as in tasks of arithmetic (GSM8K, Cobbe 2021)."""

import math
import re

_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+")


def numbers_in(text: str) -> list[float]:
    """The numbers of a text, in order; commas between groups of three digits are left out."""
    found = _NUMBER.findall(text)
    return [float(number.replace(",", "").replace("\u2212", "-")) for number in found]


def passes(answer: str, number: float | str) -> bool:
    """Whether the answer's last number equals the last number of `number`.

    Raises:
        ValueError: `number` is a text without a number.
    """
    wanted = numbers_in(str(number))
    if not wanted:
        raise ValueError(f"{number!r} holds no number")
    found = numbers_in(answer)
    return bool(found) and math.isclose(found[-1], wanted[-1], rel_tol=1e-6, abs_tol=1e-12)
