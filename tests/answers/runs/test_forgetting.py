import pytest

from distill.answers.runs import forgetting
from question_tables import ask, forgetful


@pytest.mark.parametrize(
    ("change", "init", "status"),
    [
        (0.2, "pretrained", "answered"),
        (-0.2, "pretrained", "answered"),
        (-0.2, "cut", "answered"),
        (0.0, "pretrained", "cannot_tell"),
        (-0.2, "random", "not_applicable"),
    ],
)
def test_what_was_forgotten(change: float, init: str, status: str) -> None:
    (found,) = ask(forgetful(change, init), forgetting)
    assert (found.status, found.numbers["init"]) == (status, init)
    last = found.numbers["steps"][-1]
    assert last["reference_rise_low"] <= change <= last["reference_rise_high"]


def test_forgetting_needs_the_student_before_training_and_noise() -> None:
    (found,) = ask(forgetful(0.2)[1:], forgetting)
    assert (found.status, found.needs[0].what) == ("cannot_tell", "untrained_student")
    once = [row for row in forgetful(0.2) if row["draw"] == 0]
    (found,) = ask(once, forgetting)
    assert (found.status, found.needs[0].what) == ("cannot_tell", "repeats")
    without = [row | {"reference_loss": None} for row in forgetful(0.2)]
    (found,) = ask(without, forgetting)
    assert found.needs[0].change == {"evaluate.reference": None}
