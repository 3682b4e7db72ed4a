import numpy as np
import pandas as pd
import pytest
from scipy import stats

from distill.answers.paired import paired
from distill.answers.runs import at_equal_samples
from distill.table.lines import Line, lines_of, prepare_runs
from question_tables import ask, planted
from synthetic_runs import CACHES, make_runs


def lines_from(runs: pd.DataFrame) -> list[Line]:
    return lines_of(prepare_runs(runs))


def test_plain_text_is_what_others_are_compared_with() -> None:
    (answer,) = ask(planted({64: [0.1, 0.12]}), at_equal_samples)
    assert answer.numbers["compared"] == ["sft", "kd"]
    assert answer.numbers["reads_cache"] == [False, True]
    assert answer.about["method"] == "sft vs kd"


def test_without_plain_text_the_first_line_is() -> None:
    runs = make_runs(caches=("top4", "hidden")).query("method != 'sft'")
    compared = [answer.numbers["compared"] for answer in ask(runs, at_equal_samples)]
    assert compared == [["kd · top4", "kd · hidden"]] * 2


def test_every_cache_of_a_method_is_a_line_of_its_own() -> None:
    answers = ask(make_runs(caches=("top4", "hidden")), at_equal_samples)
    assert [a.about["method"] for a in answers[:2]] == ["sft vs kd · top4", "sft vs kd · hidden"]
    assert answers[0].about["label"] == "layers-2 · sft or layers-2 · kd · top4"
    assert len(answers) == 4


def test_differences_are_paired_by_brute_force() -> None:
    runs = make_runs(caches=tuple(CACHES))
    answer = next(
        a for a in ask(runs, at_equal_samples) if a.about["method"] == "sft vs kd · drawn50"
    )
    mine = runs[runs["student"] == "layers-2"]
    found: dict[int, list[float]] = {}
    for _, one in mine[mine["method"] == "sft"].iterrows():
        for _, other in mine[mine["cache"] == "drawn50"].iterrows():
            if (one["samples"], one["draw"]) == (other["samples"], other["draw"]):
                found.setdefault(one["samples"], []).append(one["loss"] - other["loss"])
    squares = sum(np.var(values) * len(values) for values in found.values())
    df = sum(len(values) - 1 for values in found.values())
    assert answer.numbers["pooled_df"] == df == 3
    sd = np.sqrt(squares / df)
    assert answer.numbers["pooled_sd"] == pytest.approx(sd)
    for step in answer.numbers["differences"]:
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
    (answer,) = ask(planted(steady), at_equal_samples)
    assert answer.numbers["better_from"] == {"name": "kd", "samples": 256}
    better = {step["samples"]: step["better"] for step in answer.numbers["differences"]}
    assert better == {64: "sft", 128: None, 256: "kd", 512: "kd"}
    assert answer.status == "answered"


def test_a_lead_that_is_lost_is_no_lead() -> None:
    (answer,) = ask(planted({64: [0.02, 0.021], 128: [0.001, -0.001]}), at_equal_samples)
    assert answer.numbers["better_from"] is None
    assert [step["better"] for step in answer.numbers["differences"]] == ["kd", None]


def test_nothing_is_called_better_without_an_error_bar() -> None:
    (answer,) = ask(planted({64: [0.5], 128: [0.6]}), at_equal_samples)
    assert (answer.status, answer.needs[0].what) == ("cannot_tell", "repeats")
    assert [step["better"] for step in answer.numbers["differences"]] == [None, None]
