"""The programs of the pages of evidence, on simulated tables of the same shapes."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import public_tables
import refits
from distill.laws.choice import Settings
from distill.laws.forms import LAWS
from rows import replace_table
from size_study import size_runs

TRUTH = {"E": 1.7, "A": 400.0, "alpha": 0.35, "B": 800.0}


def scattered(cells: int, noise: float) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"params": 1e7 * 200 ** rng.random(cells),
                          "tokens": 1e9 * 200 ** rng.random(cells)})  # fmt: skip
    losses = LAWS["loss"]["tied"].predict(TRUTH, table)
    return table.assign(loss=losses * np.exp(noise * rng.normal(size=cells)))


def test_published_values_are_compared_with_intervals() -> None:
    runs = public_tables.points(scattered(60, 0.003))
    published = TRUTH | {"B": 8000.0}
    rows = public_tables.coefficient_rows("made up", runs, LAWS["loss"]["tied"], published)
    inside = {row.split("|")[4].strip(): row.split("|")[8].strip() for row in rows}
    assert inside == {"E": "yes", "A": "yes", "alpha": "yes", "B": "no"}


@pytest.mark.slow
def test_a_split_is_predicted_by_ours_and_by_least_squares() -> None:
    split = public_tables.cut("made up", public_tables.points(scattered(60, 0.003)), 0.1)
    assert split.below.compute.max() < 0.1 * split.there.compute.max()
    assert len(split.below) + len(split.there) == 60
    assert public_tables.plain_error(split) < 0.01
    cells = [cell.strip() for cell in public_tables.split_row(split).split("|")]
    assert float(cells[6].removesuffix(" %")) < 1.0
    hits, _, runs = cells[7].split()
    assert int(runs) == len(split.there)
    assert int(hits) >= 0.8 * int(runs)


@pytest.mark.slow
def test_the_largest_size_step_is_left_out_of_the_refit() -> None:
    runs = size_runs()
    below, top = refits.split(runs)
    assert below["samples"].max() < top["samples"].min()
    rows = refits.loss_rows(runs, Settings(starts=4, replicates=19))
    assert len(rows) == len(top)
    measured = [float(row.split("|")[6]) for row in rows]
    assert sorted(measured) == pytest.approx(sorted(top["loss"]), abs=1e-3)
    assert sum(row.split("|")[8].strip() == "yes" for row in rows) >= 0.8 * len(rows)


def test_a_change_of_gain_beyond_noise_is_told() -> None:
    cells = pd.DataFrame(
        [
            {"student": "a", "method": method, "samples": n, "seed": seed,
             "loss": loss + 0.001 * seed}
            for method, losses in (("sft", (3.0, 2.8, 2.6)), ("kd", (3.0, 2.9, 2.5)))
            for n, loss in zip((1, 2, 4), losses, strict=True)
            for seed in (0, 1)
        ]
    )  # fmt: skip
    verdicts = [row.split("|")[5].strip() for row in refits.gain_rows(cells)]
    assert sorted(verdicts) == ["no", "yes"]


def test_only_the_named_table_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- a -->\n| x |\n|---|\n| old |\n\n<!-- b -->\n| y |\n|---|\n| kept |\n")
    replace_table(page, "a", ["| 1 |", "| 2 |"])
    assert re.sub(r"\s+", " ", page.read_text()) == (
        "<!-- a --> | x | |---| | 1 | | 2 | <!-- b --> | y | |---| | kept | "
    )
