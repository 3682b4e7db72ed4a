"""Sources of the error bars of the gains, and what they exclude."""

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.needs import need_repeats
from distill.table.lines import mean_of, noise_sources

KEY = "error_bars"


def answer(study: Measured) -> list[Answer]:
    """The spread between runs of a cell, pooled over the table."""
    spread = study.spread
    trained = study.table[study.table["samples"] > 0]
    numbers = {
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
        "pooled_cells": spread.cells if spread else 0,
        "heldout_stderr": mean_of(trained, "loss_stderr"),
        "sources": noise_sources(trained),
    }
    if spread is None:
        return [Answer(KEY, {}, "cannot_tell", numbers, (need_repeats(),))]
    return [Answer(KEY, numbers=numbers)]
