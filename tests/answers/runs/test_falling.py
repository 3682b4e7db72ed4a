from distill.answers.runs import falling
from question_tables import ask, small_table


def test_a_rise_of_perplexity_is_a_warning() -> None:
    runs = small_table()
    runs.loc[runs["samples"] == 400, "loss"] = 2.6
    (answer,) = ask(runs, falling)
    assert [(r["from"], r["to"]) for r in answer.numbers["rises"]] == [(200, 400)]
    assert answer.numbers["rises"][0]["clear"] is True
    (answer,) = ask(small_table(), falling)
    assert (answer.status, answer.numbers["rises"]) == ("answered", [])


def test_one_size_neither_falls_nor_rises() -> None:
    (answer,) = ask(small_table().query("samples == 100"), falling)
    assert (answer.status, answer.numbers["steps"]) == ("cannot_tell", 0)
