import pytest

from distill.answers.runs import students
from question_tables import ask
from synthetic_runs import make_runs


def test_students_are_compared_draw_by_draw() -> None:
    runs = make_runs()
    answer = ask(runs, students)[0]
    sft = runs[(runs["method"] == "sft") & (runs["samples"] == 64)]
    two, four = (sft[sft["student"] == f"layers-{k}"]["loss"].to_numpy() for k in (2, 4))
    first = answer.numbers["differences"][0]
    assert first["loss_difference"] == pytest.approx((two - four).mean())
    assert first["runs"] == 2
    assert {step["better"] for step in answer.numbers["differences"]} == {"layers-4"}
    assert answer.numbers["params"] == [35_400_000, 42_480_000]
    assert answer.numbers["inits"] == [["cut"], ["cut"]]
    assert answer.numbers["pooled_df"] == 3


def test_two_reasons_cannot_be_told_apart() -> None:
    runs = make_runs()
    runs.loc[runs["student"] == "layers-2", "init"] = "random"
    numbers = ask(runs, students)[0].numbers
    assert numbers["inits"] == [["random"], ["cut"]]
    assert numbers["params_non_embedding"] == [7_080_000, 14_160_000]
