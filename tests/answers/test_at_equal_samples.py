from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from distill.answers.runs.at_equal_flops import compare_at_equal_flops
from distill.answers.runs.at_equal_samples import (
    compare_methods,
    compare_students,
    paired,
    soft_against_plain,
)
from distill.table.lines import Line, lines_of, pooled_over, prepare_runs
from synthetic_runs import CACHES, make_runs

SIZES = (64, 128, 256)


def lines_from(runs: pd.DataFrame) -> list[Line]:
    return lines_of(prepare_runs(runs))


def planted(gains: dict[int, list[float]], student: str = "s") -> pd.DataFrame:
    """Return sft and kd with loss(sft) − loss(kd) = the gains given per size, one per draw.

    The draws themselves differ a hundred times as much as the gains.
    """
    rows = []
    for size, values in gains.items():
        for draw, gain in enumerate(values):
            loss = 3.0 - 0.1 * np.log2(size) + 0.5 * draw
            common = {"student": student, "samples": size, "draw": draw, "seed": 0}
            rows.append({**common, "method": "kd", "cache": "top64", "loss": loss - gain})
            rows.append({**common, "method": "sft", "cache": "none", "loss": loss})
    return pd.DataFrame(rows)


def test_plain_text_is_what_others_are_compared_with() -> None:
    (answer,) = compare_methods(lines_from(planted({64: [0.1, 0.12]})))
    assert answer["numbers"]["compared"] == ["sft", "kd"]
    assert answer["numbers"]["reads_cache"] == [False, True]
    assert answer["method"] == "sft vs kd"


def test_without_plain_text_the_first_line_is() -> None:
    runs = make_runs(caches=("top4", "hidden")).query("method != 'sft'")
    compared = [answer["numbers"]["compared"] for answer in compare_methods(lines_from(runs))]
    assert compared == [["kd · top4", "kd · hidden"]] * 2


def test_every_cache_of_a_method_is_a_line_of_its_own() -> None:
    answers = compare_methods(lines_from(make_runs(caches=("top4", "hidden"))))
    assert [a["method"] for a in answers[:2]] == ["sft vs kd · top4", "sft vs kd · hidden"]
    assert answers[0]["label"] == "layers-2 · sft or layers-2 · kd · top4"
    assert len(answers) == 4


def test_differences_are_paired_by_brute_force() -> None:
    runs = make_runs(caches=tuple(CACHES))
    lines = lines_from(runs)
    answer = next(a for a in compare_methods(lines) if a["method"] == "sft vs kd · drawn50")
    mine = runs[runs["student"] == "layers-2"]
    found: dict[int, list[float]] = {}
    for _, one in mine[mine["method"] == "sft"].iterrows():
        for _, other in mine[mine["cache"] == "drawn50"].iterrows():
            if (one["samples"], one["draw"]) == (other["samples"], other["draw"]):
                found.setdefault(one["samples"], []).append(one["loss"] - other["loss"])
    squares = sum(np.var(values) * len(values) for values in found.values())
    df = sum(len(values) - 1 for values in found.values())
    assert answer["numbers"]["pooled_df"] == df == 3
    sd = np.sqrt(squares / df)
    assert answer["numbers"]["pooled_sd"] == pytest.approx(sd)
    for step in answer["numbers"]["differences"]:
        values = found[step["samples"]]
        half = stats.t.ppf(0.95, df) * sd / np.sqrt(len(values))
        assert step["loss_difference"] == pytest.approx(np.mean(values))
        assert step["loss_difference_low"] == pytest.approx(np.mean(values) - half)
        assert step["loss_difference_high"] == pytest.approx(np.mean(values) + half)


def test_runs_without_a_partner_are_left_out() -> None:
    runs = planted({64: [0.1, 0.2], 128: [0.3, 0.4]})
    runs = runs[~((runs["method"] == "kd") & (runs["samples"] == 128) & (runs["draw"] == 1))]
    one, other = lines_from(runs)
    wanted = [(64, 0, 0), (64, 1, 0), (128, 0, 0)]
    assert list(paired(one, other, "loss")) == list(paired(other, one, "loss")) == wanted


def test_from_which_size_on_one_is_better() -> None:
    steady = {64: [-0.02, -0.021], 128: [0.001, -0.001], 256: [0.02, 0.022], 512: [0.03]}
    (answer,) = compare_methods(lines_from(planted(steady)))
    assert answer["numbers"]["better_from"] == {"name": "kd", "samples": 256}
    assert answer["answer"] == "Better: sft at n = 64; kd at n = 256, 512; cannot tell at n = 128."
    text, numbers = soft_against_plain([answer], [], "draws")
    assert "Yes for s, from n = 256 on: kd lowers the loss of sft by 0.0300 nats" in text
    assert "Between draws such a difference varies by a standard deviation of 0.0012 nats" in text
    assert numbers is not None
    assert numbers["better_at_largest"] == 1


def test_a_lead_that_is_lost_is_no_lead() -> None:
    (answer,) = compare_methods(lines_from(planted({64: [0.02, 0.021], 128: [0.001, -0.001]})))
    assert answer["numbers"]["better_from"] is None
    assert "Cannot tell for s" in soft_against_plain([answer], [], "draws")[0]


def test_soft_targets_that_hurt_are_called_worse() -> None:
    (answer,) = compare_methods(lines_from(planted({64: [-0.02, -0.021]})))
    text, numbers = soft_against_plain([answer], [], "seeds")
    assert "No for s: kd raises the loss of sft by 0.0205 nats (90 % interval 0.0" in text
    assert numbers is not None
    assert (numbers["better_at_largest"], numbers["worse_at_largest"]) == (0, 1)


def test_nothing_is_called_better_without_an_error_bar() -> None:
    (answer,) = compare_methods(lines_from(planted({64: [0.5], 128: [0.6]})))
    assert answer["answer"] == "Cannot tell: no error bar. kd is lower at n = 128."
    assert [step["better"] for step in answer["numbers"]["differences"]] == [None, None]
    text, _ = soft_against_plain([answer], [], "draws")
    assert "the loss of kd is 0.600 nats lower than that of sft, without an error bar" in text


def test_many_comparisons_are_counted() -> None:
    gains: list[list[float]] = [[0.02, 0.021], [0.04, 0.042], [-0.03, -0.032], [0.01, -0.01]]
    runs = pd.concat([planted({64: g}, f"s{k}") for k, g in enumerate(gains)])
    lines = lines_from(runs)
    text, numbers = soft_against_plain(compare_methods(lines), [], "draws")
    assert "more than the noise in 2 of 4 comparisons, and are worse in 1" in text
    assert "They change the loss by between −0.041 and +0.031 nats" in text
    assert numbers is not None
    assert numbers["comparisons"] == 4


def test_without_soft_targets_nothing_is_said_of_them() -> None:
    lines = lines_from(make_runs().query("method != 'kd'"))
    assert soft_against_plain(compare_methods(lines), [], "draws") == ("", None)


def test_the_summary_counts_work() -> None:
    lines = lines_from(make_runs())
    spread = pooled_over(lines, "loss")
    text, numbers = soft_against_plain(
        compare_methods(lines), compare_at_equal_flops(lines, spread), "draws"
    )
    assert "At equal FLOPs, all of the teacher's work counted, " in text
    assert numbers is not None
    equal: Any = numbers["equal_flops"]
    assert equal["comparisons"] == 2


def test_students_are_compared_draw_by_draw() -> None:
    runs = make_runs()
    answer = compare_students(lines_from(runs))[0]
    sft = runs[(runs["method"] == "sft") & (runs["samples"] == 64)]
    two, four = (sft[sft["student"] == f"layers-{k}"]["loss"].to_numpy() for k in (2, 4))
    first = answer["numbers"]["differences"][0]
    assert first["loss_difference"] == pytest.approx((two - four).mean())
    assert first["runs"] == 2
    assert answer["answer"] == "Better: layers-4 at every size."
    assert "parameters (35,400,000 against 42,480,000)" in answer["evidence"]
    assert answer["numbers"]["pooled_df"] == 3


def test_two_reasons_cannot_be_told_apart() -> None:
    runs = make_runs()
    runs.loc[runs["student"] == "layers-2", "init"] = "random"
    evidence = compare_students(lines_from(runs))[0]["evidence"]
    assert "cannot say which of these is the cause" in evidence
