"""Laws of a table of runs, in Python: no workflow, no model, no torch.

from distill.api import fit_table

fit = fit_table("runs.csv", params="N", tokens="D", loss="val_loss")
print(fit.predict(params=1e9, tokens=2e10))
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distill.ask.study import Study, make_study, pick_groups
from distill.ask.subject import find_subject
from distill.config.own_table import TableStudy
from distill.config.reading import validate
from distill.contracts.points import GROUP_KEYS
from distill.core.display import listed
from distill.core.errors import UserError
from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.fitted import FittedLaw, Predictions
from distill.laws.runs import trained_rows
from distill.table.own_table import runs_of_table


@dataclass(frozen=True)
class Refused:
    """A law that was not fitted.

    Attributes:
        name: The law.
        target: `loss` or `gap`.
        selected: Which runs: key to value, None where they differ.
        reason: One sentence.
    """

    name: str
    target: str
    selected: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class TableFit:
    """The laws of a table.

    Attributes:
        runs: The table in the columns of any study's runs table.
        laws: Each fitted law: `predict`, `extrapolation`, and its record of laws.json, with
            coefficients, intervals, held-out error and warnings.
        refused: Each law that was not fitted, with the reason.
        document: All of it as the content of laws.json.
        references: Teachers' sizes and losses, as the content of references.json.
        study: What `distill.ask` asks.
    """

    runs: pd.DataFrame = field(repr=False)
    laws: tuple[FittedLaw, ...]
    refused: tuple[Refused, ...]
    document: Mapping[str, Any] = field(repr=False)
    references: Mapping[str, Any] = field(repr=False)
    study: Study = field(repr=False)

    def predict(
        self, params: Any, tokens: Any, epochs: float | None = None, **names: str
    ) -> Predictions:
        """Predict losses by the chosen law of size and data of one group of runs.

        Args:
            params: Parameters, a number or shape (m,).
            tokens: Unique training tokens, a number or shape (m,).
            epochs: How often each is seen; None: as in most runs.
            names: `method`, `init`, `group` or `teacher` of the runs, where the table has several.

        Returns:
            Nats per token, with 90 % intervals of the mean and of a new run, shape (m,).

        Raises:
            UserError: Several groups of runs have these names, or none; or no law of theirs is
                determined, or not as far as a point (`distill.ask.study.NoLaw`).
        """
        if unknown := names.keys() - set(GROUP_KEYS):
            raise UserError(
                f"{listed(sorted(unknown))} is no name of runs; use {', '.join(GROUP_KEYS)}"
            )
        groups = pick_groups(self.study, names, None)
        if len(groups) > 1:
            raise UserError(
                "the table has several groups of runs: "
                f"{listed([group.label for group in groups])}; name one by "
                f"{', '.join(GROUP_KEYS)}"
            )
        sizes, amounts = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in (params, tokens))
        )
        if not sizes.size or not all((np.isfinite(v) & (v > 0)).all() for v in (sizes, amounts)):
            raise UserError("params and tokens must be positive and finite; give at least one each")
        for size, amount in zip(sizes, amounts, strict=True):
            subject = find_subject(self.study, groups[0], size=float(size), epochs=epochs)
            subject.require_exponents(float(amount))
        return subject.law.predict({**subject.inputs(amounts), "params": sizes})


def fit_table(
    table: pd.DataFrame | str | Path,
    *,
    params: str = "params",
    tokens: str = "tokens",
    loss: str = "loss",
    settings: Settings | None = None,
    units: Mapping[str, str] | None = None,
    **columns: str,
) -> TableFit:
    """Fit every law that a table of runs allows, as a study of `runs_table` does.

    Args:
        table: One row per run: a frame, or a file of `runs_table.path`.
        params: Column of the parameters of the model, counted one by one.
        tokens: Column of training tokens seen, repeats counted.
        loss: Column of the held-out loss, nats per token.
        settings: How to fit; by default as a study does.
        units: Units of columns, as `runs_table.units`.
        columns: Further columns by the names of `runs_table.columns`: `flops`, `group`, `seed`, …

    Returns:
        Laws, refusals and predictions.

    Raises:
        UserError: A column is missing, or a value cannot be one of a run; the sentence names it.
    """
    frame = table if isinstance(table, pd.DataFrame) else None
    chosen = {"params": params, "tokens": tokens, "loss": loss, **columns}
    path = "table.csv" if frame is not None else str(table)
    section = {"path": path, "columns": chosen, "units": dict(units or {})}
    study = validate(TableStudy, {"study": "table", "runs_table": section})
    runs, references = runs_of_table(study, frame)
    rows, how = trained_rows(runs, references), settings or Settings(shared=False)
    document = fit_laws(rows, how, references["corpus_methods"], references)
    finished = make_study(runs, document, references)
    refused = tuple(Refused(**entry) for entry in document["refused"])
    return TableFit(runs, tuple(finished.laws), refused, document, references, finished)
