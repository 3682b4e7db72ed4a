"""From the table of laws to laws.json: which runs share a law, what is refused and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from distill.contracts.points import GROUP_KEYS, KEYS, MEASURES
from distill.laws.bootstrap import is_odd, pair_covariance
from distill.laws.breaks import break_test
from distill.laws.choice import (
    Fitted,
    Fitter,
    Group,
    Settings,
    Standing,
    choose,
    fit_points,
    lacks,
    too_rich,
)
from distill.laws.common_text import fit_on_common_text
from distill.laws.extrapolation import Extrapolation
from distill.laws.forms import LAWS, laws_over, simplest
from distill.laws.isoflops import fit_isoflops
from distill.laws.judging import evaluate_holdout, extrapolation_of
from distill.laws.law import Law
from distill.laws.pilots import pilot_ladder
from distill.laws.points import Points, commonest, distinct, levels, points_of
from distill.laws.records import record_law
from distill.laws.related_scores import relate_scores
from distill.laws.rollouts import record_rollouts, roll_out
from distill.laws.staged import StagedFitter

TARGETS = ("loss", "gap")


@threadpool_limits.wrap(limits=1, user_api="blas")  # threads only wait in matrices of this size
def fit_laws(
    table: pd.DataFrame,
    settings: Settings | None = None,
    corpus_methods: Sequence[str] = (),
    references: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fit every law that the table allows; the content of laws.json.

    Args:
        table: From `trained_rows` (settings.shared) or `own_table` (not shared).
        settings: How to fit.
        corpus_methods: Methods that train without a teacher: their groups are compared with the
            others on one text.
        references: references.json, for the items and the floors of pass rates.

    Returns:
        schema; laws (records) and refused (records), in the table's order of groups. The record of
        a chosen law of the loss has `pilots` (`pilot_ladder`), that of the smooth law of size and
        data `break_test`. `common_text`: laws of groups trained on different text, fitted to
        one score for all (`fit_on_common_text`). `isoflops`: best sizes at equal FLOPs
        (`fit_isoflops`). `relations`: scores as functions of loss and data (`relate_scores`).
    """
    fitting = Fitting(table.reset_index(drop=True), settings or Settings())
    for target in TARGETS:
        fitting.fit_students(target)
        for size in MEASURES:
            fitting.fit_sizes(target, size)
            fitting.fit_teachers(target, size)
    fitting.fit_pilots()
    return fitting.document() | {
        "common_text": fit_on_common_text(
            fitting.table, corpus_methods, fitting.settings, fitting.fit
        ),
        "isoflops": fit_isoflops(fitting.table),
        "relations": relate_scores(
            fitting.table, references, fitting.laws, fitting.settings.shared
        ),
    }


@dataclass
class Fitting:
    """The laws of one table as they are fitted.

    Attributes:
        table: Points of laws, indexed from 0.
        settings: How to fit.
        laws: Records of fitted laws so far.
        refused: Records of laws that were not fitted, with the reason.
    """

    table: pd.DataFrame
    settings: Settings
    laws: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    _chosen: list[tuple[dict[str, Any], Law, Points]] = field(default_factory=list)
    _fits: dict[Any, Fitted] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The content of laws.json, so far."""
        return {"schema": 1, "laws": self.laws, "refused": self.refused}

    def fit(self, law: Law, points: Points, settings: Settings) -> Fitted:
        """`fit_points`, once for each law and set of points."""
        inputs = np.stack([points.target, *(points.values[name] for name in law.inputs)])
        key = (law.formula, settings, points.rows.tobytes(), inputs.tobytes())
        if key not in self._fits:
            self._fits[key] = fit_points(law, points, settings)
        return self._fits[key]

    def fit_students(self, target: str) -> None:
        """Laws over data, for each student."""
        # Of scattered points of a user's own table, every size is its own student.
        for selected, rows in self._groups(KEYS, target, least=1 if self.settings.shared else 2):
            group = self._usable(rows, target, selected, "params")
            if not len(group.points):
                continue
            if not self.settings.shared and distinct(group.points, "tokens") < 2:
                continue
            self._with_and_without_repeats(group, "data")

    def fit_sizes(self, target: str, size: str) -> None:
        """Laws over size, for the students of one teacher."""
        for selected, rows in self._groups(GROUP_KEYS, target, size):
            counts = rows[size].to_numpy(dtype=np.float64)
            if not np.isfinite(counts).all() or (counts <= 0).any():
                continue
            group = self._usable(rows, target, selected, size)
            if distinct(group.points, "params") < 2:
                continue
            plain = [law for law in laws_over(target, "size", "joint") if law.plain]
            if all(lacks(law, group.points) for law in plain):
                for law in plain:
                    self._refuse(law, group, lacks(law, group.points))
                continue
            fitted, group = self._with_and_without_repeats(group, "joint")
            self._fit_one_level(group, best=not fitted)

    def _fit_one_level(self, group: Group, best: bool) -> None:
        """Laws over size alone, at one amount of data."""
        laws = laws_over(group.target, "size")
        least = min(need.least for law in laws if law.plain for need in law.needs)
        level = _largest_shared(group.points, least)
        if level is None:
            reason = f"no number of tokens has {least} sizes: size and data cannot be separated "
            for law in laws:
                if law.plain:
                    self._refuse(law, group, reason + "one at a time")
            return
        alone = self._at_level(
            group, "tokens", level, "other tokens than the largest number with most sizes"
        )
        # The law of size and data already recorded what a broken law lacks.
        able = [law for law in laws if law.plain or not lacks(law, alone.points)]
        self._compete(alone, able, best)

    def fit_teachers(self, target: str, size: str) -> None:
        """Laws over several teachers, of students whose teacher's size is known."""
        keys = tuple(key for key in GROUP_KEYS if key != "teacher")
        for selected, rows in self._groups(keys, None, size):
            sizes = rows[[f"teacher_{size}", size]].to_numpy(dtype=np.float64)
            known = rows[np.isfinite(sizes).all(axis=1)]
            group = self._usable(known, target, selected, size)
            if distinct(group.points, "params") < simplest(target, "size").needs[0].least:
                continue
            laws = laws_over(target, "teachers")
            if self.settings.shared and target == "loss":
                for law in laws:
                    self._refuse(
                        law,
                        group,
                        "each teacher's students are scored on its own text, whose "
                        "entropy differs: only the gap compares across teachers",
                    )
                continue
            self._compete(group, laws, best=True)

    def fit_pilots(self) -> None:
        """Refit chosen laws of the loss to growing prefixes of their runs.

        A group has one pilot law: over all parameters, else one per student.
        """
        joint = [
            one["selected"] for one, _, _ in self._chosen if one["selected"]["size"] == "params"
        ]
        covered = [_without(selected, "student", "size") for selected in joint]
        for record, law, points in self._chosen:
            selected = record["selected"]
            if selected["size"] == "params" or (
                law.over == "data" and _without(selected, "student", "size") not in covered
            ):
                record["pilots"] = pilot_ladder(points, law, self.settings, self.fit)

    def _groups(
        self, keys: Sequence[str], target: str | None, size: str | None = None, least: int = 1
    ) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """At least so many runs with equal keys and some gap, if that is the target; and what
        they share."""
        table = self.table
        if least > 1:  # before the split, which takes long with many groups
            counts = table.groupby(list(keys), sort=False)["tokens"].transform("size")
            table = table[counts.to_numpy() >= least]
        for values, rows in table.groupby(list(keys), sort=False):
            if target == "gap" and not np.isfinite(rows["gap"].to_numpy()).any():
                continue
            selected: dict[str, Any] = dict.fromkeys(KEYS)
            selected.update(zip(keys, map(str, values), strict=True))
            yield {**selected, "size": size}, rows

    def _usable(
        self, rows: pd.DataFrame, target: str, selected: Mapping[str, Any], size: str
    ) -> Group:
        """The runs with a target, each once, with a record of each run that is left out."""
        keep = np.isfinite(rows[target].to_numpy()) & (rows[target].to_numpy() > 0)
        reasons = dict.fromkeys(rows.index[~keep], f"its {target} is not positive")
        again = rows.duplicated([*KEYS, "seed", "draw", "params", "tokens", "epochs", target])
        for row in rows.index[again.to_numpy() & keep]:
            reasons[row] = "the same run stands in an earlier row"
        points = points_of(rows, target, size, self.settings.shared)
        usable = points.where(np.array([row not in reasons for row in rows.index], dtype=bool))
        return Group(usable, target, selected, self._dropped(reasons))

    def _dropped(self, reasons: Mapping[int, str]) -> list[dict[str, Any]]:
        """Records of runs that are left out, from row and reason."""
        kinds = {"student": str, "teacher": str, "tokens": float, "seed": int, "draw": int}
        rows = self.table.loc[list(reasons), list(kinds)]
        columns = [map(kind, rows[name].tolist()) for name, kind in kinds.items()]
        return [
            {"row": int(row) + 1, **dict(zip(kinds, values, strict=True)), "reason": reason}
            for (row, reason), *values in zip(reasons.items(), *columns, strict=True)
        ]

    def _at_level(self, group: Group, name: str, level: int, why: str) -> Group:
        """The runs of one level of an input; the others are listed as dropped."""
        keep = levels(group.points.values[name], name) == level
        dropped = self._dropped(dict.fromkeys(group.points.rows[~keep], why))
        return replace(group, points=group.points.where(keep), dropped=[*group.dropped, *dropped])

    def _with_and_without_repeats(self, group: Group, over: str) -> tuple[bool, Group]:
        """Laws with repeats, on all runs; then the others, at the commonest epochs.

        Returns:
            Whether a law was fitted, and the runs at the commonest epochs.
        """
        laws = [law for law in LAWS[group.target].values() if law.over == over]
        laws = [law for law in laws if not law.inits or group.selected["init"] in law.inits]
        fitted = self._compete(group, [law for law in laws if law.repeats], best=True)
        if distinct(group.points, "epochs") > 1:
            level = commonest(group.points.values["epochs"], "epochs")
            why = "other epochs than most: this law does not know repeats"
            group = self._at_level(group, "epochs", level, why)
        plain = self._compete(group, [law for law in laws if not law.repeats], best=not fitted)
        return fitted or plain, group

    def _refuse(self, law: Law, group: Group, reason: str | None) -> None:
        """Record a refusal; the refusal of a special case is that of the general law."""
        if not law.limit_of:
            self.refused.append(
                {
                    "name": law.name,
                    "target": group.target,
                    "selected": dict(group.selected),
                    "reason": reason,
                }
            )

    def _compete(self, group: Group, laws: Sequence[Law], best: bool) -> bool:
        """Fit the laws that the points determine, choose, evaluate and record them.

        Args:
            group: The runs.
            laws: Candidates.
            best: Whether the winner is the law chosen for the group.

        Returns:
            Whether a law was fitted.
        """
        points, able = group.points, list[Law]()
        fitter: Fitter = self.fit
        for law in laws:
            stage = self._first_stage(law, group) if law.first_stage and not law.unfit else None
            if reason := stage if isinstance(stage, str) else lacks(law, points):
                self._refuse(law, group, reason)
                continue
            able.append(law)
            if law.first_stage and isinstance(stage, Points):
                fitter = StagedFitter(self.fit(law.first_stage, stage, self.settings))
        for law in [*able]:
            if (reason := too_rich(law, points)) is not None:
                able.remove(law)
                self.refused.append(
                    {
                        "name": law.name,
                        "target": group.target,
                        "selected": dict(group.selected),
                        "reason": reason,
                    }
                )
        if not able:
            return False
        winner, choice, fits = choose(able, points, self.settings, fitter)
        for place, fitted in enumerate(fits):
            won = place == winner
            held = beyond = None
            steps: list[dict[str, Any]] = []
            if won:
                # Only the winner is evaluated on the largest step, else that would select a law.
                held = evaluate_holdout(fitted.law, able, points, self.settings, fitter)
                rollouts = roll_out(fitted.law, able, points, self.settings, fitter)
                beyond = extrapolation_of(fitted.law, able, points, self.settings, fitter, rollouts)
                steps = record_rollouts(rollouts, held)
            if won or place == 0:  # the first has an exponent for each input, whatever won
                fitted = self._resampled(fitted, points)
            self._record(fitted, group, Standing(choice, best and won, held, steps), beyond)
        return True

    def _resampled(self, fitted: Fitted, points: Points) -> Fitted:
        """The law with the covariance of resampled pairs where runs share nothing and their noise
        is not normal."""
        plain = not self.settings.shared and not fitted.law.first_stage and points.weight is None
        if not plain or not is_odd(fitted.fit.residuals):
            return fitted
        covariance = pair_covariance(fitted.law, points, fitted.fit, self.settings.seed)
        by_run = covariance / fitted.uncertainty.variances.sum()
        return replace(fitted, uncertainty=replace(fitted.uncertainty, by_run=by_run))

    def _record(
        self, fitted: Fitted, group: Group, standing: Standing, beyond: Extrapolation | None
    ) -> None:
        record = record_law(fitted, group, standing, self.settings, beyond)
        law, points = fitted.law, group.points
        self.laws.append(record)
        if group.target != "loss" or group.selected["teacher"] is None:
            return
        if standing.best:
            self._chosen.append((record, law, points))
        if law.over == "joint" and group.selected["size"] == "params":
            for broken in laws_over("loss", "joint"):
                if broken.breaks == law.name:
                    record["break_test"] = self._break_test(law, broken, points)

    def _break_test(self, smooth: Law, broken: Law, points: Points) -> dict[str, Any]:
        """The test of a break in size, or why there is none."""
        sizes = points.values["params"]
        record = {
            "sizes": distinct(points, "params"),
            "smallest": float(sizes.min()),
            "largest": float(sizes.max()),
            "points": len(points),
        }
        if lacks(broken, points):
            return record
        test = break_test(points, smooth, broken, self.settings, self.fit)
        return record | ({"reason": test} if isinstance(test, str) else test.record())

    def _first_stage(self, law: Law, group: Group) -> Points | str:
        """The same students without a teacher, for the law's first stage; or why it has none."""
        assert law.first_stage is not None
        alone = ~np.isfinite(self.table["teacher_loss"].to_numpy(dtype=np.float64))
        for key in ("curation", "init", "group"):
            alone &= (self.table[key] == group.selected[key]).to_numpy()
        rows = self.table[alone]
        if not len(rows):
            return (
                "it needs the loss of the same students trained without a teacher: rows with no "
                "teacher_loss, same init, curation and group"
            )
        points = points_of(rows, "loss", group.selected["size"], self.settings.shared)
        if (reason := too_rich(law.first_stage, points)) is not None:
            return f"its supervised stage: {reason}"
        return points


def _without(selected: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(value for key, value in sorted(selected.items()) if key not in names)


def _largest_shared(points: Points, least: int) -> int | None:
    """Of the levels of tokens with the most sizes, the largest; None below `least` sizes."""
    ranks = levels(points.values["tokens"], "tokens")
    sizes = levels(points.values["params"], "params")
    counts = [len(np.unique(sizes[ranks == rank])) for rank in range(int(ranks.max()) + 1)]
    most = max(counts)
    return max(r for r, c in enumerate(counts) if c == most) if most >= least else None
