from distill.answers.runs import largest_size
from question_tables import ask
from synthetic_runs import make_runs


def test_the_largest_size_is_that_of_any_run() -> None:
    (answer,) = ask(make_runs(), largest_size)
    assert answer.numbers == {"largest_samples": 1024}
