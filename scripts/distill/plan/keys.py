"""Shared by all parts of a plan: plain specs, readable names, cached methods."""

import re
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

RESOURCES = "resources"
"""Folder of outputs that several studies may share."""

Spec = dict[str, Any]
"""What an output depends on beyond its input files: plain values, keys in a fixed order."""
Names = ParamSpec("Names")
Value = TypeVar("Value")
Owner = TypeVar("Owner", bound="Part")


class Part:
    """One stage of a plan: specs, keys and paths, all functions of the config only."""

    def __init__(self) -> None:
        self._cache: dict[Any, Any] = {}


def cached(
    method: Callable[Concatenate[Owner, Names], Value],
) -> Callable[Concatenate[Owner, Names], Value]:
    """Cache the results of a part's method, which thousands of runs share.

    Dicts and lists are copied, so callers may add entries; callers must not modify nested values.
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
    """Sort the keys of free-form dicts: their order in the config must not change a spec."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (isinstance(key, str), key))  # layers: 1, 2, last
        return {key: plain(value[key]) for key in keys}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def part_name(split: str, part: int) -> str:
    """File name of a part of a split."""
    return f"{split}-{part:05d}.parquet"
