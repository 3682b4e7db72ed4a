"""Units of a user's own table: conversion, and units that magnitudes or names give away.

A unit that the config states is not questioned. One that it does not state is the default, and an
implausible magnitude is an error that names the likely unit: nothing is converted unasked.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.core.errors import UserError
from distill.table.own_cells import Table
from distill.table.own_shapes import ROUGH, rises, roughness

Array = np.ndarray
Convert = Callable[[Array], Array]


def _times(factor: float) -> Convert:
    # Counts are whole, and 1.1 × 10⁹ in floats is not.
    return lambda values: _whole(values * factor)


def _whole(values: Array) -> Array:
    """Values with the error of a product taken off where they are whole."""
    nearest = np.round(values)
    return np.where(np.abs(values - nearest) <= 1e-12 * np.abs(values), nearest, values)


COUNT: dict[str, Convert] = {
    "ones": lambda values: values,
    "thousands": _times(1e3),
    "millions": _times(1e6),
    "billions": _times(1e9),
    "trillions": _times(1e12),
    "log10": lambda values: np.round(10.0**values),
    "log2": lambda values: np.round(2.0**values),
    "ln": lambda values: np.round(np.exp(values)),
}
"""Units of parameters and tokens; logarithms are of whole numbers."""
LOSS: dict[str, Convert] = {
    "nats": lambda values: values,
    "bits": lambda values: values * np.log(2.0),
    "perplexity": np.log,
    "hundredths": lambda values: values / 100.0,
}
COMPUTE: dict[str, Convert] = {
    "ones": lambda values: values,
    "teraflops": lambda values: values * 1e12,
    "petaflops": lambda values: values * 1e15,
    "exaflops": lambda values: values * 1e18,
    "zettaflops": lambda values: values * 1e21,
    "petaflop_days": lambda values: values * 8.64e19,
    "log10": lambda values: 10.0**values,
}
COUNTS = ("params", "params_non_embedding", "teacher_params", "tokens", "unique_tokens")
LOSSES = ("loss", "teacher_loss")
"""Losses on the held-out text, whose magnitude is checked."""
_CONVERTED = (*LOSSES, "reference_loss")
_INHERITED = {
    "params_non_embedding": "params",
    "teacher_params": "params",
    "unique_tokens": "tokens",
    "teacher_loss": "loss",
    "loss_stderr": "loss",
    "reference_loss": "loss",
}
"""Columns whose unit is that of another one unless it is stated."""
LEAST = {"params": 1e3, "params_non_embedding": 1e2, "teacher_params": 1e3, "tokens": 1e4,
         "unique_tokens": 1e3}  # fmt: skip
"""Smaller counts are more likely a unit than a number of parameters or tokens."""
LARGEST_LOSS = 12.0
"""ln of a vocabulary of 160,000 tokens: a uniform guess reaches it."""
_LEAST_LOSS = 0.1
"""If all losses are below this they are in another unit, or no losses per token."""
_LEAST_FLOPS = 1e8
_MOST_TOKENS = 1e16
_TOKENS_PER_PARAMETER = (1e-5, 1e6)
_MIXED = 1e3
"""A jump by this factor between neighbouring values, across the least count, mixes units."""
_APART = 2.5
"""A jump by this factor between neighbouring losses, the upper ones implausible, mixes units."""
_ISOLATED = 0.1
"""At most this share of rows, beyond a jump, are outliers."""
_NAMES = {
    "perplexity": re.compile(r"ppl|perplex", re.IGNORECASE),
    "bits": re.compile(r"(?<![a-z])bits?(?![a-z])|bpb|bpt|bpc", re.IGNORECASE),
}
_ACCURACY = re.compile(r"(?<![a-z])acc(uracy)?(?![a-z])", re.IGNORECASE)


def unit_of(name: str, units: Mapping[str, str]) -> str | None:
    """The stated unit of a column, its own or that of the column it goes with."""
    return units.get(name) or units.get(_INHERITED.get(name, name))


def convert(values: Mapping[str, Array], units: Mapping[str, str]) -> dict[str, Array]:
    """Columns in ones and nats per token.

    Args:
        values: By our name of the column, shape (rows,).
        units: As the config states them.
    """
    out = dict(values)
    for name, array in values.items():
        unit = unit_of(name, units)
        table = COUNT if name in COUNTS else LOSS if name in _CONVERTED else COMPUTE
        if unit is None or (name not in (*COUNTS, *_CONVERTED, "flops")):
            continue
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            out[name] = table[unit](array)
    if "loss_stderr" in values and (unit := unit_of("loss_stderr", units)):
        error = values["loss_stderr"]
        # To first order, the error of ln(perplexity) is that of the perplexity over it.
        out["loss_stderr"] = error / values["loss"] if unit == "perplexity" else LOSS[unit](error)
    return out


def check_units(table: Table, values: Mapping[str, Array], units: Mapping[str, str]) -> None:
    """Check that columns without a stated unit are plausible as ones and nats per token.

    Args:
        table: The table, for names of columns and rows.
        values: Converted columns (`convert`).
        units: As the config states them.

    Raises:
        UserError: One is not; the sentence names the rows, the likely unit and the key.
    """
    open_names = {name for name in values if unit_of(name, units) is None}
    for name in COUNTS:
        if name in open_names:
            _check_mixed(table, name, values[name])
    for name in LOSSES:
        if name in open_names:
            _check_loss(table, name, values)
    _check_counts(table, values, open_names)
    if "flops" in open_names:
        _check_flops(table, values, open_names)
    if "loss" in open_names:
        _check_name(table)


def _units_key(pairs: Mapping[str, str]) -> str:
    inside = ", ".join(f"{name}: {unit}" for name, unit in pairs.items())
    return f"runs_table.units: {{{inside}}}"


def _span(values: Array) -> str:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


def _check_mixed(table: Table, name: str, values: Array) -> None:
    """A column of counts whose values have a gap that only a change of unit explains."""
    known = np.sort(np.unique(values[np.isfinite(values)]))
    if len(known) < 2 or known[0] >= LEAST[name]:
        return
    jump = int(np.argmax(known[1:] / known[:-1]))
    below, above = known[jump], known[jump + 1]
    if above / below < _MIXED or above < LEAST[name]:
        return
    with np.errstate(invalid="ignore"):
        low, high = values <= below, values >= above
    raise UserError(
        f"runs_table: column {table.columns[name]!r} mixes units: {_held(table, low, values)}, "
        f"but {_held(table, high, values)}; write "
        f"all {_counted(name)} in one unit"
    )


def _held(table: Table, rows: Array, values: Array) -> str:
    """Rows and what they hold, such as `rows 1 to 10 hold 1 to 80`."""
    verb = "holds" if rows.sum() == 1 else "hold"
    return f"{table.rows_text(np.flatnonzero(rows))} {verb} {_span(values[rows])}"


def _as_read(values: Mapping[str, Array], loss: Array) -> pd.DataFrame:
    """Runs with another loss."""
    return pd.DataFrame({"params": values["params"], "tokens": values["tokens"], "loss": loss})


def _counted(name: str) -> str:
    return "tokens" if "tokens" in name else "parameters"


def _check_counts(table: Table, values: Mapping[str, Array], names: set[str]) -> None:
    """Counts that are too small by themselves, or for each other."""
    small = [n for n in COUNTS if n in names and np.nanmin(values[n], initial=np.inf) < LEAST[n]]
    if "tokens" in names and np.max(values["tokens"]) > _MOST_TOKENS:
        many = _held(table, values["tokens"] > _MOST_TOKENS, values["tokens"])
        raise UserError(
            f"runs_table: column {table.columns['tokens']!r}: {many} tokens, more than there are; "
            "if these are FLOPs, name the column as "
            f"runs_table.columns.flops, else set {_units_key({'tokens': 'ones'})}"
        )
    pair: list[str] = [name for name in ("params", "tokens") if name in names]
    if not small and "tokens" in values:
        ratio = values["tokens"] / values["params"]
        odd = (ratio < _TOKENS_PER_PARAMETER[0]) | (ratio > _TOKENS_PER_PARAMETER[1])
        if not odd.any() or not pair:
            return
        likely = _likely(values, pair)
        suspects = {name: unit for name, unit in likely.items() if unit != "ones"}
        described = (
            f"{table.rows_text(np.flatnonzero(odd))} have {_span(ratio[odd])} tokens per parameter"
        )
        _raise_unit(table, described, suspects or likely, pair)
    if not small:
        return
    main: list[str] = [name for name in small if name in ("params", "tokens")]
    likely = _likely(values, main) if main else {}
    for name in small:
        if name not in likely and _INHERITED.get(name) not in likely:
            likely[name] = _nearest(values[name], values["params"])
    first = small[0]
    low = np.flatnonzero(values[first] < LEAST[first])
    columns = " and ".join(f"{table.columns[name]!r} ({_span(values[name])})" for name in small)
    noun = " and ".join(dict.fromkeys(_counted(name) for name in small))
    described = (
        f"{'columns' if len(small) > 1 else 'column'} {columns}: {table.rows_text(low)} hold "
        f"fewer {noun} than a run can have"
    )
    _raise_unit(table, described, likely, main or small)


def _raise_unit(
    table: Table, described: str, likely: Mapping[str, str], questioned: Sequence[str]
) -> None:
    stated = dict.fromkeys(questioned, "ones")
    raise UserError(
        f"runs_table: {described}; probably {' and '.join(_phrase(*i) for i in likely.items())}: "
        f"set {_units_key(likely)}, or {_units_key(stated)} if the values are right as they are"
    )


def _phrase(name: str, unit: str) -> str:
    words = name.replace("_", " ")
    return f"{words} as {unit}" if unit.startswith("l") else f"{words} in {unit}"


def _is_logarithm(values: Array) -> bool:
    """Whether values look like logarithms: a narrow range of numbers with many digits."""
    known = np.unique(values[np.isfinite(values)])
    if not len(known) or known[0] < 2 or known[-1] > 55 or known[-1] > 4 * known[0]:
        return False
    digits = np.abs(known * 1000 - np.round(known * 1000)) > 1e-6
    return bool(digits.mean() > 0.5)


def _likely(values: Mapping[str, Array], names: list[str]) -> dict[str, str]:
    """The units with which tokens per parameter are most plausible."""
    rarity = {"ones": 0.0, "billions": 0.05, "millions": 0.1, "thousands": 0.6, "trillions": 0.6,
              "log10": 0.0, "ln": 0.2, "log2": 0.3}  # fmt: skip

    def options(name: str) -> list[str]:
        if name not in names:
            return ["ones"]
        if _is_logarithm(values[name]):
            return ["log10", "ln", "log2"]
        return ["thousands", "millions", "billions", "trillions"]

    def cost(params_unit: str, tokens_unit: str) -> float:
        with np.errstate(over="ignore"):
            params = COUNT[params_unit](values["params"])
            total = rarity[params_unit] + rarity[tokens_unit]
            total += _outside(params, 1e4, 1e13)
            if "tokens" not in values:
                return total
            tokens = COUNT[tokens_unit](values["tokens"])
            total += _outside(tokens, 1e6, 1e15)
        return total + abs(float(np.median(np.log10(tokens / params))) - np.log10(20.0))

    found = [*itertools.product(options("params"), options("tokens"))]
    if any(name in LEAST and np.min(values[name]) >= LEAST[name] for name in names):
        found += [("ones", unit) for unit in options("tokens")] * ("params" in names)
        found += [(unit, "ones") for unit in options("params")] * ("tokens" in names)
    params, tokens = min(found, key=lambda units: cost(*units))
    return {name: {"params": params, "tokens": tokens}[name] for name in names}


def _outside(values: Array, least: float, most: float) -> float:
    """Decades by which values leave a range, doubled."""
    with np.errstate(divide="ignore"):
        low, high = float(np.log10(np.min(values))), float(np.log10(np.max(values)))
    return 2 * (max(0.0, np.log10(least) - low) + max(0.0, high - np.log10(most)))


def _nearest(values: Array, params: Array) -> str:
    """The unit with which a size is nearest to the students' sizes."""
    known = values[np.isfinite(values)]
    options = ["log10", "ln"] if _is_logarithm(known) else ["thousands", "millions", "billions"]
    middle = np.log10(np.median(params))
    return min(
        options, key=lambda unit: abs(float(np.log10(np.median(COUNT[unit](known)))) - middle)
    )


def _check_loss(table: Table, name: str, values: Mapping[str, Array]) -> None:
    """Losses beyond a uniform guess, and scores that rise with compute."""
    loss, column = values[name], table.columns[name]
    known = np.isfinite(loss)
    with np.errstate(invalid="ignore"):
        high = loss > LARGEST_LOSS
    with_data = name == "loss" and "tokens" in values
    grows = with_data and rises(loss, values["params"], values["tokens"])
    top = float(np.max(loss[known], initial=0.0))
    if grows and (top <= 1.0 or LARGEST_LOSS < top <= 100.0 or _ACCURACY.search(column)):
        raise UserError(
            f"runs_table: column {column!r}: {table.rows_text(np.flatnonzero(known))} hold "
            f"{_span(loss)}, which rises with size and data as an accuracy does; a law describes a "
            "loss: name the column of the held-out loss, or, if these are losses, set "
            f"{_units_key({'loss': 'nats'})}"
        )
    if name == "loss" and 0 < top < _LEAST_LOSS:
        raise UserError(
            f"runs_table: column {column!r}: {table.rows_text(np.flatnonzero(known))} hold "
            f"{_span(loss)}, less than a language model's loss; write nats per token, or set "
            f"{_units_key({'loss': 'nats'})} if the values are right as they are"
        )
    if not high.any():
        return
    ordered = np.sort(loss[known])
    start = int(np.searchsorted(ordered, LARGEST_LOSS, side="right"))
    jumps = ordered[1:] / ordered[:-1]
    jump = int(np.argmax(jumps[:start])) if start else -1
    if jump >= 0 and jumps[jump] >= _APART:
        with np.errstate(invalid="ignore"):
            low, upper = loss <= ordered[jump], loss > ordered[jump]
        few = int(upper.sum()) <= max(1, _ISOLATED * len(ordered))
        where = np.flatnonzero(upper)
        if few:
            raise UserError(
                f"runs_table: {table.rows_text(where)}, column {column!r}: {_span(loss[upper])} "
                f"nats per token, where the other losses are {_span(loss[low])}; correct or drop "
                "the row"
            )
        raise UserError(
            f"runs_table: column {column!r} mixes units: {_held(table, upper, loss)}, but "
            f"{_held(table, low, loss)}; write all losses in one unit"
        )
    if with_data and roughness(_as_read(values, np.log(np.maximum(loss, 1.01)))) > ROUGH:
        raise UserError(
            f"runs_table: column {column!r} seems to mix units: {_held(table, high, loss)}, above "
            f"the loss of a uniform guess, and no one unit makes the values fall smoothly with "
            "size and data; write all losses in one unit"
        )
    hundredths = float(ordered[0]) >= 50 and float(ordered[-1]) <= 100 * LARGEST_LOSS
    units = ("hundredths", "perplexity") if hundredths else ("perplexity", "hundredths")
    raise UserError(
        f"runs_table: column {column!r} ({_span(loss)}): {table.rows_text(np.flatnonzero(high))} "
        f"are above {LARGEST_LOSS:g} nats per token, the loss of a uniform guess; probably "
        f"{units[0]}: set {_units_key({'loss': units[0]})} (or {units[1]}), or "
        f"{_units_key({'loss': 'nats'})} if the values are right as they are"
    )


def _check_name(table: Table) -> None:
    """A name of the loss's column that speaks of another unit."""
    column = table.columns["loss"]
    for unit, pattern in _NAMES.items():
        if pattern.search(column):
            raise UserError(
                f"runs_table: the name of column {column!r} speaks of {unit}; set "
                f"{_units_key({'loss': unit})} if its values are that per token, or "
                f"{_units_key({'loss': 'nats'})} to fit them as they are"
            )


def _check_flops(table: Table, values: Mapping[str, Array], names: set[str]) -> None:
    """FLOPs that are too few, or far from 6 per parameter and token."""
    flops = values["flops"]
    known = np.isfinite(flops)
    if not known.any():
        return
    work = 6.0 * values["params"] * values.get("tokens", 20.0 * values["params"])
    share = float(np.median(np.log10(flops[known] / work[known])))
    small = bool(flops[known].min() < _LEAST_FLOPS)
    if not small and (abs(share) < 2.5 or "tokens" not in values):
        return
    options: dict[str, Any] = {unit: to for unit, to in COMPUTE.items() if unit != "ones"}
    with np.errstate(over="ignore"):
        distance = {
            unit: abs(float(np.median(np.log10(to(flops[known]) / work[known]))))
            for unit, to in options.items()
        }
    unit = min(distance, key=lambda name: distance[name])
    found = (
        f"{_span(flops)} FLOPs are too few for a run"
        if small
        else f"{_span(flops)} FLOPs are {10**share:.2g} times 6 params tokens"
    )
    raise UserError(
        f"runs_table: column {table.columns['flops']!r}: {found}; probably {unit}: set "
        f"{_units_key({'flops': unit})}, or {_units_key({'flops': 'ones'})} if the values are "
        "right as they are"
    )
