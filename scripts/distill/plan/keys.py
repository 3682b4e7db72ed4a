"""What all parts of a plan share: plain specs, readable names, results that are computed once."""

import re
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

RESOURCES = "resources"
"""Folder of the work that any study could use."""

Spec = dict[str, Any]
"""What an output depends on beyond its input files: plain values, keys in a fixed order."""
Names = ParamSpec("Names")
Value = TypeVar("Value")
Owner = TypeVar("Owner", bound="Part")


class Part:
    """One stage of a plan: specs, keys and paths, all functions of the config alone."""

    def __init__(self) -> None:
        self._cache: dict[Any, Any] = {}


def cached(
    method: Callable[Concatenate[Owner, Names], Value],
) -> Callable[Concatenate[Owner, Names], Value]:
    """Compute what a part's method returns once for the same arguments: thousands of runs share it.

    A caller gets its own dict or list and may add to it; it must not change what these contain.
    """

    @wraps(method)
    def lookup(self: Owner, *names: Names.args, **more: Names.kwargs) -> Value:
        key = (method, names, *more.items())
        if key not in self._cache:
            self._cache[key] = method(self, *names, **more)
        value: Value = self._cache[key]
        return copy(value) if isinstance(value, (dict, list)) else value

    return lookup


def stem(key: str) -> str:
    """A key without its digest."""
    return re.sub(r"-[0-9a-f]{8}$", "", key)


def plain(value: Any) -> Any:
    """`value` with the keys of free-form dicts in order, so that their order changes no spec."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (isinstance(key, str), key))  # layers: 1, 2, last
        return {key: plain(value[key]) for key in keys}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def part_name(split: str, part: int) -> str:
    """File name of a part of a split."""
    return f"{split}-{part:05d}.parquet"
