"""Rows of a user's own table that are one run: duplicates, contradictions, learning rates."""

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from distill.contracts.points import KEYS
from distill.core.errors import UserError
from distill.table.own_cells import Table
from distill.table.own_notes import Note, note_of_rows

_CELL = [*KEYS, "params", "tokens", "epochs"]
_RUN = [*_CELL, "seed", "draw"]
_NEAR = 1e-3
"""Sizes and tokens within this are nearly the same."""
_DISAGREE = 0.03
"""Losses of nearly the same run further apart than this contradict each other."""
Reduced = tuple[pd.DataFrame, np.ndarray, list[Note]]


def check_names(table: Table, name: str, texts: Sequence[str]) -> None:
    """Check that no two names of a column differ by case, blanks or writing alone.

    Raises:
        UserError: Two do.
    """
    forms: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        first = forms.setdefault(_form(text), text)
        if first != text or text != text.strip():
            other = first if first != text else text.strip()
            places = [place for place, one in enumerate(texts) if one == text]
            raise UserError(
                f"runs_table: {table.rows_text(places)}, column {table.columns[name]!r}: {text!r} "
                f"differs from {other!r} by case, blanks or writing alone; write both alike"
            )


def _form(text: str) -> str:
    """A name without what people write in several ways: case, blanks, accents, `1` and `1.0`."""
    plain = " ".join(unicodedata.normalize("NFKC", text).split()).casefold()
    try:
        return repr(float(plain))
    except ValueError:
        return plain


def drop_duplicates(points: pd.DataFrame, rows: np.ndarray, rates: np.ndarray | None) -> Reduced:
    """Points with exact duplicates once.

    Args:
        points: Points of laws.
        rows: Row numbers of the file.
        rates: Learning rates; None where the table has none.
    """
    keyed = points if rates is None else points.assign(rate=rates)
    again = keyed.duplicated().to_numpy()
    return _kept(points, rows, ~again, note_of_rows("duplicates", rows[again]))


def best_rates(points: pd.DataFrame, rows: np.ndarray, rates: np.ndarray) -> Reduced:
    """Of runs that differ in their learning rate alone, those of the rate with the lowest loss.

    Seeds of one rate stay together: the rate with the lowest mean loss is the best.
    """
    keyed = points.assign(rate=rates)
    mean = keyed.groupby([*_CELL, "draw", "rate"], dropna=False)["loss"].transform("mean")
    cell = keyed.assign(mean=mean).groupby([*_CELL, "draw"], dropna=False)["mean"]
    best = (mean == cell.transform("min")).to_numpy(copy=True)
    # Of two rates that are equally good, the first one.
    tied = keyed[best].groupby([*_CELL, "draw"], dropna=False)["rate"].transform("first")
    best[np.flatnonzero(best)[(tied != keyed["rate"][best]).to_numpy()]] = False
    left_out = int((~best).sum())
    notes = [Note("best_rate", (), left_out, (), {"kept": int(best.sum())})] if left_out else []
    return _kept(points, rows, best, notes)


def _kept(points: pd.DataFrame, rows: np.ndarray, keep: np.ndarray, notes: list[Note]) -> Reduced:
    return points[keep].reset_index(drop=True), rows[keep], notes


def check_near(points: pd.DataFrame, rows: np.ndarray, columns: Mapping[str, str]) -> list[Note]:
    """Check rows that are the same run, or nearly the same one.

    Rows that are equal in all but the loss are repeats if the losses are near each other: they get
    seeds of their own, in place.

    Raises:
        UserError: The same run, or nearly the same one, has two losses that differ much.
    """
    places = points.groupby(_RUN, dropna=False, sort=False).ngroup().to_numpy()
    again, near = np.flatnonzero(points.duplicated(_RUN)), []
    for place in again:
        other = int(np.flatnonzero(places == places[place])[0])
        near.append((other, int(place)))
        if abs(np.log(points["loss"][other] / points["loss"][place])) <= _DISAGREE:
            continue
        raise UserError(
            f"runs_table: rows {rows[other]} and {rows[place]} are the same run with two values of "
            f"{columns['loss']!r}{_losses(points, other, int(place))}; give a seed column or drop "
            "one"
        )
    points.loc[again, "seed"] = points["seed"].max() + 1 + np.arange(len(again))
    names = [key for key in _RUN if key not in ("student", "params", "tokens", "epochs")]
    alike = points[points.duplicated(names, keep=False)]
    for _, group in alike.groupby(names, dropna=False, sort=False):
        ordered = group.sort_values(["params", "tokens", "epochs"])
        sizes = np.log(ordered[["params", "tokens", "epochs"]].to_numpy(dtype=float))
        for first in np.flatnonzero((np.abs(np.diff(sizes, axis=0)) < _NEAR).all(axis=1)):
            near.append((int(ordered.index[first]), int(ordered.index[first + 1])))
    for one, two in sorted((min(pair), max(pair)) for pair in near):
        if abs(np.log(points["loss"][one] / points["loss"][two])) > _DISAGREE:
            raise UserError(
                f"runs_table: rows {rows[one]} and {rows[two]} are nearly the same run (parameters "
                f"and tokens differ by less than {100 * _NEAR:g} %) with two values of "
                f"{columns['loss']!r}{_losses(points, one, two)}; give a seed column or drop one"
            )
    return note_of_rows("near", sorted({int(rows[place]) for pair in near for place in pair}))


def _losses(points: pd.DataFrame, one: int, two: int) -> str:
    return f" ({points['loss'][one]:.6g} and {points['loss'][two]:.6g})"
