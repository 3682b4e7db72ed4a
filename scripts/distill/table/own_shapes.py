"""Shapes of losses that no law of a falling loss describes: rising, U-shaped, constant, flat."""

import numpy as np
import pandas as pd

from distill.contracts.points import GROUP_KEYS
from distill.table.own_notes import Note, note_of_rows

Array = np.ndarray
_RISE = 0.002
"""Relative rise of a loss that counts as one."""
_SHARE = 0.6
"""Share of the rows of a grid that must have a shape."""
_FEWEST = 8
"""Fewer runs show no trend by a permutation test of any size."""
_LABELS = 6
_FAR = 0.2
"""A log loss further than this from a smooth surface is remarkable."""
ROUGH = 0.1
"""Runs that scatter by more, in log units, are not of one law, or not in one unit."""
_STEPS = 40


def rises(loss: Array, params: Array, tokens: Array) -> bool:
    """Whether a loss rises with size and data, by ranks."""
    known = np.isfinite(loss)
    return known.sum() >= 5 and _rank_correlation(loss[known], (params * tokens)[known]) > 0.5


def _rank_correlation(first: Array, second: Array) -> float:
    ranks = [pd.Series(values).rank().to_numpy() for values in (first, second)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def shape_notes(points: pd.DataFrame, rows: Array) -> list[Note]:
    """What the losses of each group show that a law cannot.

    Args:
        points: Points of laws, indexed from 0.
        rows: Row numbers of the file, shape (points,).
    """
    found: dict[str, list[str]] = {}
    places: dict[str, list[int]] = {}
    far: list[int] = []
    for key, group in points.groupby(list(GROUP_KEYS), sort=False):
        label = " · ".join(part for part in map(str, key) if part)
        outliers = _outliers(group)
        far += group.index[outliers].tolist()
        for what in _shapes(group[~outliers]):
            found.setdefault(what, []).append(label)
            places.setdefault(what, []).extend(rows[group.index].tolist())
    notes = []
    for what, labels in found.items():
        named = tuple(label for label in labels if label)
        few = tuple(places[what][:_LABELS])
        notes.append(Note(what, few, len(places[what]), named[:_LABELS], {"groups": len(labels)}))
    losses = [float(points["loss"][place]) for place in far[:1]]
    notes += note_of_rows("outliers", rows[far], losses=losses)
    return [*notes, *_below_teacher(points, rows)]


def _terms(group: pd.DataFrame) -> Array:
    """Terms of a quadratic surface in the logs of what varies, shape (runs, terms)."""
    inputs = [
        np.log(group[name].to_numpy(dtype=float))
        for name in ("params", "tokens", "epochs")
        if name in group and group[name].nunique() > 1
    ]
    centred = [(values - values.mean()) / values.std() for values in inputs]
    squares = [a * b for place, a in enumerate(centred) for b in centred[place:]]
    return np.stack([np.ones(len(group)), *centred, *squares], axis=1)


def roughness(group: pd.DataFrame) -> float:
    """Standard deviation of the log loss around a smooth surface in size and data.

    Args:
        group: Runs of one law: loss, params, tokens and, if known, epochs.

    Returns:
        In log units; 0 where there are too few runs to tell.
    """
    terms = _terms(group)
    if len(group) < max(_FEWEST, 2 * terms.shape[1]):
        return 0.0
    log = np.log(group["loss"].to_numpy(dtype=float))
    residual = log - terms @ np.linalg.lstsq(terms, log, rcond=None)[0]
    return float(np.sqrt((residual**2).sum() / (len(group) - terms.shape[1])))


def _outliers(group: pd.DataFrame) -> Array:
    """Whether each loss of a group is far from a smooth surface through the others, shape (n,)."""
    terms = _terms(group)
    if len(group) < max(_FEWEST, 2 * terms.shape[1]):
        return np.zeros(len(group), dtype=bool)
    log = np.log(group["loss"].to_numpy(dtype=float))
    residual, weights = log, np.ones(len(log))
    for _ in range(_STEPS):  # least absolute deviations
        root = np.sqrt(weights)
        fit = np.linalg.lstsq(terms * root[:, None], log * root, rcond=None)[0]
        residual = log - terms @ fit
        weights = 1.0 / np.maximum(np.abs(residual), 1e-6)
    spread = 1.4826 * float(np.median(np.abs(residual)))
    return np.asarray(np.abs(residual) > max(_FAR, 8 * spread))


def _shapes(group: pd.DataFrame) -> list[str]:
    """Keys of the shapes of one group's losses."""
    if len(group) == 1:
        return ["one_run"]
    loss = group["loss"].to_numpy(dtype=float)
    if np.ptp(loss) <= 1e-9 * loss.max():
        return ["constant"]
    if roughness(group) > ROUGH:
        return ["rough"]
    found = []
    for axis, other in (("params", "tokens"), ("tokens", "params")):
        keys = [other, "epochs"] if axis == "params" else [other]
        several = group[group.groupby(keys)[axis].transform("size") >= 3]
        shapes = [
            shape
            for _, cell in several.groupby(keys)
            if (shape := _shape(cell[axis], cell["loss"]))
        ]
        for shape in ("rising", "u_shape"):
            if shapes and shapes.count(shape) >= _SHARE * len(shapes):
                found.append(f"{shape}_{axis}")
    if not found and np.unique(group["params"] * group["tokens"]).size >= _FEWEST:
        work = (group["params"] * group["tokens"] * group["epochs"]).to_numpy(dtype=float)
        if _rank_correlation(loss, work) > 0.5:
            return ["rising_compute"]
        if not _has_trend(group):
            return ["no_trend"]
    return found


def _shape(values: pd.Series, loss: pd.Series) -> str:
    """rising, u_shape, or other, of one row of a grid; empty with fewer than three levels."""
    means = loss.groupby(values).mean().to_numpy(dtype=float)
    if len(means) < 3:
        return ""
    least = int(np.argmin(means))
    if least == 0 and means[-1] > means[0] * (1 + _RISE):
        return "rising"
    rise = min(means[0], means[-1]) / means[least] - 1
    steps = np.diff(means)  # noise has no single turn
    turns = bool((steps[:least] < 0).all() and (steps[least:] > 0).all())
    return "u_shape" if turns and 0 < least < len(means) - 1 and rise > 0.02 else "other"


def _has_trend(group: pd.DataFrame) -> bool:
    """Whether losses depend on log size and log data, by a permutation test at 5 %."""
    inputs = [
        np.log(group[name].to_numpy(dtype=float))
        for name in ("params", "tokens", "epochs")
        if group[name].nunique() > 1
    ]
    if not inputs:
        return True
    centred = np.stack([values - values.mean() for values in inputs], axis=1)
    basis, _ = np.linalg.qr(centred)
    loss = np.log(group["loss"].to_numpy(dtype=float))
    loss = loss - loss.mean()
    rng = np.random.default_rng(0)
    shuffled = np.stack([loss, *(rng.permutation(loss) for _ in range(199))])
    explained = ((shuffled @ basis) ** 2).sum(axis=1)
    return bool((explained[1:] >= explained[0]).mean() < 0.05)


def _below_teacher(points: pd.DataFrame, rows: Array) -> list[Note]:
    """Losses at or below the teacher's, whose gap no law can take."""
    known = points["teacher_loss"].notna().to_numpy()
    below = known & (points["loss"] <= points["teacher_loss"]).to_numpy()
    what = "all_below_teacher" if below.any() and below[known].all() else "below_teacher"
    return note_of_rows(what, rows[below], of=int(known.sum()))
