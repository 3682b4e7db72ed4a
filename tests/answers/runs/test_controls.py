import pytest
from scipy import stats

from distill.answers.runs import controls
from question_tables import METHODS, ask, controlled, gap, runs_of


@pytest.mark.slow
def test_controls_show_what_the_data_alone_bought() -> None:
    answers = ask(controlled(0.4), controls, {"methods": METHODS})
    gain = gap(64) - gap(1024)
    assert [a.numbers["control"] for a in answers] == ["updates", "stopping"]
    for found in answers:
        numbers = found.numbers
        assert numbers["gain_in_control"] == pytest.approx(0.4 * gain, abs=0.015)
        assert numbers["gain_lost"] == pytest.approx(0.6 * gain, abs=0.015)
        assert numbers["share_that_stays"] == pytest.approx(0.4, abs=0.05)
    assert [a.status for a in answers] == ["answered"] * 2
    assert all(a.numbers["gain_lost_low"] > 0 for a in answers)
    none = [ask(controlled(0.0, seed), controls, {"methods": METHODS})[0] for seed in range(8)]
    unknown = sum(found.status == "cannot_tell" for found in none)
    assert unknown >= stats.binom.ppf(0.001, 8, 0.9)
    whole = ask(controlled(1.0, 7), controls, {"methods": METHODS})[0]
    assert whole.numbers["gain_lost_low"] <= 0 <= whole.numbers["gain_lost_high"]


@pytest.mark.slow
def test_gains_in_controls_are_covered() -> None:
    gain, inside, repeats = gap(64) - gap(1024), [0, 0], 25
    for seed in range(repeats):
        for found in ask(controlled(0.4, seed), controls, {"methods": METHODS}):
            numbers = found.numbers
            for k, (name, share) in enumerate((("gain_in_control", 0.4), ("gain_lost", 0.6))):
                inside[k] += numbers[f"{name}_low"] <= share * gain <= numbers[f"{name}_high"]
    assert min(inside) >= stats.binom.ppf(0.001, 2 * repeats, 0.9)


def test_controls_need_a_partner() -> None:
    (found,) = ask(runs_of(lambda n: 1 + gap(n)), controls)
    assert (found.status, found.numbers["lines_at_equal_epochs"]) == ("cannot_tell", 1)
    (found,) = ask(runs_of(lambda n: 1 + gap(n)), controls, {"methods": METHODS})
    assert found.needs[0].change == {
        "methods.sft-max_updates": {"ce": 1.0, "train": {"max_updates": 16}},
        "runs[].methods": ["sft", "sft-max_updates"],
    }
    # Methods that are not known to be the same but for the control are not compared.
    (found,) = ask(controlled(0.4), controls)
    assert (found.status, found.needs[0].what) == ("cannot_tell", "control")
    apart = [
        row for row in controlled(0.4) if row["method"] != "early"
        and (row["samples"] < 256) == (row["method"] == "sft")
    ]  # fmt: skip
    (found,) = ask(apart, controls, {"methods": METHODS})
    assert (found.needs[0].what, found.needs[0].present) == ("common_sizes", 0)
    once = [row for row in controlled(0.4) if row["draw"] == 0]
    assert ask(once, controls, {"methods": METHODS})[0].needs[0].what == "repeats"
