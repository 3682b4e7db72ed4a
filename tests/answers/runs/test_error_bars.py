from distill.answers.runs import error_bars
from question_tables import ask, small_table
from synthetic_runs import make_runs


def test_error_bars_come_from_repeated_cells() -> None:
    (answer,) = ask(make_runs(), error_bars)
    assert answer.status == "answered"
    assert answer.numbers["pooled_cells"] == 12
    assert answer.numbers["sources"] == ["draw"]


def test_without_repeats_there_are_none() -> None:
    (answer,) = ask(small_table().query("draw == 0"), error_bars)
    assert (answer.status, answer.numbers["pooled_sd"]) == ("cannot_tell", None)
    assert answer.needs[0].change == {"runs[].draws": [0, 1]}
