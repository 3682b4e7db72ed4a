import numpy as np
import pandas as pd
import pytest

from distill.core.errors import UserError
from distill.table.lines import lines_of, noise_sources, pooled_over, prepare_runs
from synthetic_runs import CACHES, make_runs


def small_table() -> pd.DataFrame:
    runs = {"student": "s", "method": "sft", "samples": [100, 100, 200], "draw": [0, 1, 0]}
    return pd.DataFrame(runs | {"loss": [2.0, 2.1, 1.5]})


def test_a_table_of_ones_own_is_checked() -> None:
    with pytest.raises(UserError, match="no column loss"):
        prepare_runs(small_table().drop(columns="loss"))
    broken = small_table()
    broken.loc[0, "loss"] = np.nan
    with pytest.raises(UserError, match="column loss"):
        prepare_runs(broken)
    with pytest.raises(UserError, match="samples > 0"):
        prepare_runs(small_table().assign(samples=0))


def test_lines_are_told_apart_by_what_they_need() -> None:
    labels = [line.label for line in lines_of(prepare_runs(make_runs()))]
    assert labels[:2] == ["layers-2 · sft", "layers-2 · kd"]
    several = lines_of(prepare_runs(make_runs(caches=tuple(CACHES))))
    assert [line.label for line in several[:3]] == [
        "layers-2 · sft",
        "layers-2 · kd · top64",
        "layers-2 · kd · hidden",
    ]
    assert len({line.label for line in several}) == len(several) == 10
    assert [line.reads_cache for line in several[:2]] == [False, True]


def test_a_line_holds_its_runs_and_its_student_before_training() -> None:
    runs = make_runs()
    for line in lines_of(prepare_runs(runs)):
        mine = (runs["student"] == line.student) & (runs["method"] == line.method)
        assert list(line.runs["loss"]) == list(runs.loc[mine, "loss"])
        assert (line.before["samples"] == 0).all()
        assert list(line.before["student"]) == [line.student]


def test_runs_are_indexed_by_what_pairs_them() -> None:
    (line,) = lines_of(prepare_runs(small_table()))
    assert line.by_run("loss") == {
        (100, 0, 0): 2.0,
        (100, 1, 0): 2.1,
        (200, 0, 0): 1.5,
    }
    spread = pooled_over([line], "loss")
    assert spread is not None
    assert spread.sd == pytest.approx(0.1 / np.sqrt(2))
    assert pooled_over([line], "kl_teacher") is None


def test_the_source_of_noise_is_named() -> None:
    table = prepare_runs(small_table())
    assert noise_sources(table) == ["draw"]
    assert noise_sources(table.assign(seed=[1, 2, 3])) == ["draw", "seed"]
    assert noise_sources(table.assign(draw=0)) == []
