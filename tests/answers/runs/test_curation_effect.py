import pytest

from distill.answers.runs import curation_effect
from question_tables import ask, curated, gap, runs_of


@pytest.mark.slow
def test_curation_is_held_out_on_both_texts() -> None:
    answers = ask(curated(better=0.1), curation_effect)
    assert len(answers) == 5
    for found in answers:
        texts = found.numbers["texts"]
        assert found.status == "answered"
        assert (texts["loss"]["better"], texts["reference_loss"]["better"]) == ("clean", "raw")
        top = texts["reference_loss"]["points"][0]
        assert top["loss_difference"] == pytest.approx(-0.05, abs=0.005)
        assert found.numbers["pairs"] == 9
    flat = ask(curated(), curation_effect)
    assert sum(found.numbers["texts"]["loss"]["better"] is None for found in flat) >= 3
    (none,) = ask(runs_of(lambda n: 1 + gap(n)), curation_effect)
    assert (none.status, none.numbers["curations"]) == ("cannot_tell", ["raw"])
    assert none.needs[0].change == {"runs[].curations": ["raw", None]}


def test_curation_is_compared_at_equal_tokens() -> None:
    # Longer answers: at equal samples a lower loss, at equal tokens none.
    for found in ask(curated(longer=1.5), curation_effect):
        assert found.numbers["pairs"] == 0
        point = found.numbers["texts"]["loss"]["points"][1]
        assert point["loss_difference_low"] <= 0 <= point["loss_difference_high"]
