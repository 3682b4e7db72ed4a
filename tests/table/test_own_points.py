"""Rows of a user's own table: repeats, learning rates, kinds of runs, names and shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.contracts.points import size_name
from distill.core.errors import UserError
from distill.table.own_notes import Note
from distill.table.own_points import OwnPoints, own_points
from own_tables import NAMES, SIZES, changed, grid, loss_at


def read(table: pd.DataFrame, **columns: str) -> OwnPoints:
    return own_points(table, {**NAMES, **columns})


def told(table: pd.DataFrame, **columns: str) -> str:
    with pytest.raises(UserError) as error:
        read(table, **columns)
    return str(error.value)


def note(found: OwnPoints, what: str) -> Note:
    (one,) = (one for one in found.notes if one.what == what)
    return one


def test_a_sound_table_has_nothing_to_note() -> None:
    found = read(grid())
    assert found.notes == ()
    assert not found.distils


def test_sizes_that_differ_have_different_names() -> None:
    assert size_name(1.1e9) == "1100000000"
    assert size_name(1.1) == "1.1"
    assert len({size_name(size) for size in (1.1, 1.4, 1e18, 1e18 + 1024)}) == 4


def test_exact_duplicates_count_once() -> None:
    table = pd.concat([grid(), grid().iloc[[3, 7]]], ignore_index=True)
    found = read(table)
    assert len(found.points) == 30
    assert note(found, "duplicates").rows == (31, 32)


def test_repeats_that_contradict_each_other_are_errors_and_near_ones_are_told() -> None:
    table = grid()
    again = table.iloc[[3]].assign(L=table["L"][3] * 1.2)
    assert "rows 4 and 31 are the same run with two values of 'L'" in told(
        pd.concat([table, again], ignore_index=True)
    )
    near = again.assign(D=again["D"] + 1)
    assert "rows 4 and 31 are nearly the same run" in told(
        pd.concat([table, near], ignore_index=True)
    )
    alike = near.assign(L=table["L"][3] * 1.002)
    found = read(pd.concat([table, alike], ignore_index=True))
    assert note(found, "near").rows == (4, 31)
    assert len(found.points) == 31


def test_seeds_of_the_best_learning_rate_are_kept() -> None:
    tables = [
        grid(seed=seed).assign(lr=rate, s=seed, L=lambda rows, worse=worse: rows["L"] * worse)
        for seed in (0, 1)
        for rate, worse in ((1e-3, 1.05), (3e-3, 1.0), (1e-2, 1.2))
    ]
    found = read(pd.concat(tables, ignore_index=True), learning_rate="lr", seed="s")
    assert len(found.points) == 60
    assert note(found, "best_rate").numbers == {"kept": 60}
    assert note(found, "best_rate").count == 120
    kept = found.points.sort_values(["seed", "params", "tokens"])["loss"]
    np.testing.assert_allclose(kept, [*grid(seed=0)["L"], *grid(seed=1)["L"]])


def test_untrained_models_are_left_out_where_the_start_is_named() -> None:
    table = pd.concat([grid(), grid().iloc[:6].assign(D=0)], ignore_index=True)
    assert "trained on 0 tokens is no point of a law" in told(table)
    found = read(table.assign(start="pretrained"), init="start")
    assert len(found.points) == 30
    assert note(found, "untrained").count == 6


@pytest.mark.parametrize("other", ["Web", "web ", " web", "WEB", "\uff57eb"])
@pytest.mark.parametrize("name", ["group", "method", "init"])
def test_names_that_differ_by_case_or_blanks_are_told(other: str, name: str) -> None:
    table = grid().assign(g=["web"] * 20 + [other] * 10)
    sentence = told(table, **{name: "g"})
    assert "rows 21 to 30, column 'g'" in sentence
    assert "by case, blanks or writing alone; write both alike" in sentence


@pytest.mark.parametrize(
    ("kinds", "right"),
    [
        (("KD", "SFT"), ("distilled", "supervised")),
        (("distillation", "pre-trained"), ("distilled", "supervised")),
        (("Distilled", "from scratch"), ("distilled", "supervised")),
    ],
)
def test_kinds_of_runs_become_methods(kinds: tuple[str, str], right: tuple[str, str]) -> None:
    table = pd.concat([grid().assign(k=kind) for kind in kinds], ignore_index=True)
    found = read(table, kind="k")
    assert found.distils
    assert tuple(dict.fromkeys(found.points["method"])) == right
    assert found.supervised == ("supervised",)


def test_a_method_of_both_kinds_is_split() -> None:
    halves = [grid().assign(k=kind, m="ours") for kind in ("distilled", "supervised")]
    found = read(pd.concat(halves, ignore_index=True), kind="k", method="m")
    assert set(found.points["method"]) == {"ours (distilled)", "ours (supervised)"}
    assert found.supervised == ("ours (supervised)",)


def test_the_method_may_say_what_a_run_is() -> None:
    halves = [grid().assign(m=method) for method in ("kd", "sft")]
    found = read(pd.concat(halves, ignore_index=True), kind="m", method="m")
    assert set(found.points["method"]) == {"kd", "sft"}
    assert found.supervised == ("sft",)


def test_numbers_as_names_are_written_alike() -> None:
    table = grid().assign(g=["1"] * 20 + ["1.0"] * 10)
    assert "'1.0' differs from '1'" in told(table, group="g")


def test_other_kinds_and_teachers_of_supervised_runs_are_errors() -> None:
    assert "row 1, column 'k': the kind of a run must be distilled or supervised" in told(
        grid().assign(k="magic"), kind="k"
    )
    table = grid().assign(k="supervised", t="big")
    assert "a supervised run has no teacher" in told(table, kind="k", teacher="t")


def test_teachers_are_named_and_say_which_runs_are_distilled() -> None:
    table = grid().assign(t=["big"] * 20 + [None] * 10, m=["kd"] * 20 + ["plain"] * 10)
    found = read(table, teacher="t", method="m")
    assert found.points["teacher"].tolist() == ["big"] * 20 + [""] * 10
    assert found.distils
    assert found.supervised == ("plain",)


def test_a_teacher_without_a_name_is_named_by_what_is_known() -> None:
    table = grid().assign(t=1.9, n=7e9)
    both = read(table, teacher_loss="t", teacher_params="n")
    assert set(both.points["teacher"]) == {"7000000000, loss 1.9"}
    assert set(read(table, teacher_loss="t").points["teacher"]) == {"loss 1.9"}
    assert set(read(table, teacher_params="n").points["teacher"]) == {"7000000000"}


def test_the_size_without_embeddings_is_read() -> None:
    found = read(grid().assign(body=lambda rows: 0.8 * rows["N"]), params_non_embedding="body")
    np.testing.assert_allclose(found.points["params_non_embedding"], 0.8 * grid()["N"])
    larger = grid().assign(body=lambda rows: 1.1 * rows["N"])
    assert "more parameters without embeddings than in total" in told(
        larger, params_non_embedding="body"
    )


SHAPES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "rising_params": lambda t: 2 + 0.1 * np.log10(t["N"]) - 0.01 * np.log10(t["D"]),
    "rising_tokens": lambda t: 3 - 0.1 * np.log10(t["N"]) + 0.02 * np.log10(t["D"]),
    "u_shape_params": lambda t: loss_at(t["N"], t["D"]) + 0.3 * np.log10(t["N"] / 3e8) ** 2,
    "u_shape_tokens": lambda t: loss_at(t["N"], t["D"]) + 0.3 * np.log10(t["D"] / 2e10) ** 2,
    "rough": lambda t: t["L"] * np.where(np.arange(len(t)) % 2, 1.0, 1 / np.log(2)),
    "no_trend": lambda t: 2.5 + 0.03 * np.random.default_rng(3).normal(size=len(t)),
    "outliers": lambda t: t["L"] * np.where(np.arange(len(t)) == 12, 1.9, 1.0),
}


@pytest.mark.parametrize("what", SHAPES)
def test_a_shape_that_no_law_describes_is_told(what: str) -> None:
    table = grid()
    found = read(table.assign(L=SHAPES[what](table)))
    assert [one.what for one in found.notes] == [what]


def test_the_row_of_an_outlier_is_told() -> None:
    table = grid()
    found = read(table.assign(L=SHAPES["outliers"](table)))
    assert note(found, "outliers").rows == (13,)


def test_scattered_runs_that_rise_are_told() -> None:
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(7, 10, 30), 10 ** rng.uniform(9, 11, 30)
    loss = 1 + 0.1 * np.log10(params * tokens)
    found = read(pd.DataFrame({"N": params, "D": tokens, "L": loss}))
    assert [one.what for one in found.notes] == ["rising_compute"]


def test_one_loss_for_all_runs_is_nothing_to_fit() -> None:
    assert "all 30 losses are 2.5, so there is nothing to fit" in told(
        changed(L=lambda loss: 0 * loss + 2.5)
    )


def test_groups_of_one_run_and_of_one_loss_are_counted() -> None:
    table = grid().assign(g=[f"g{place}" for place in range(30)])
    found = note(read(table, group="g"), "one_run")
    assert (found.numbers["groups"], found.groups[:2]) == (30, ("g0", "g1"))
    assert note(read(grid().iloc[[4]]), "one_run").count == 1
    mixed = grid().assign(g="a", L=lambda rows: rows["L"].where(rows["N"] < SIZES[3], 2.5))
    mixed["g"] = np.where(mixed["N"] < SIZES[3], "a", "b")
    assert note(read(mixed, group="g"), "constant").groups == ("b",)


def test_losses_below_the_teachers_are_counted() -> None:
    some = read(grid().assign(t=2.4), teacher_loss="t")
    below = int((grid()["L"] <= 2.4).sum())
    assert 0 < below < 30
    assert (note(some, "below_teacher").count, note(some, "below_teacher").numbers["of"]) == (
        below,
        30,
    )
    assert note(read(grid().assign(t=9.0), teacher_loss="t"), "all_below_teacher").count == 30


def test_a_standard_error_is_kept_and_must_be_one() -> None:
    found = read(grid().assign(se=0.01), loss_stderr="se")
    assert found.points["loss_stderr"].tolist() == [0.01] * 30
    assert "more than half the loss" in told(grid().assign(se=2.0), loss_stderr="se")


def test_further_scores_are_kept_and_must_be_what_they_are_named() -> None:
    table = grid().assign(acc=0.5, n=100, other=2.0, w=4.0)
    table.loc[0, "acc"], table.loc[1, "acc"] = 0.0, np.nan
    found = read(table, accuracy="acc", items="n", reference_loss="other", weight="w").points
    assert found["accuracy"].tolist()[:3] == pytest.approx([0.0, np.nan, 0.5], nan_ok=True)
    assert found["items"].tolist() == [100.0] * 30
    assert found["weight"].tolist() == [4.0] * 30
    assert found["reference_loss"].tolist() == [2.0] * 30
    assert "accuracy" not in read(grid()).points
    assert "a share from 0 to 1" in told(table.assign(acc=45.0), accuracy="acc")
    assert "divide percentages by 100" in told(table.assign(acc=45.0), accuracy="acc")
    assert "row 1, column 'n'" in told(table.assign(n=0), accuracy="acc", items="n")
    assert "row 1, column 'w'" in told(table.assign(w=-1.0), weight="w")


def test_runs_that_are_equal_but_for_the_noise_of_their_losses_are_repeats() -> None:
    table = grid()
    again = table.iloc[[3, 3]].assign(L=[table["L"][3] * 1.004, table["L"][3] * 0.997])
    found = read(pd.concat([table, again], ignore_index=True))
    assert len(found.points) == 32
    assert note(found, "near").rows == (4, 31, 32)
    assert len(set(found.points["seed"][[3, 30, 31]])) == 3
