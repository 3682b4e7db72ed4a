from distill.answers.runs import more_responses, prompts_or_epochs
from question_tables import EPOCHS, ask, epochs_study, gap, runs_of


def test_more_prompts_or_more_epochs() -> None:
    found = ask(epochs_study(1.5), prompts_or_epochs, {"methods": EPOCHS})[0]
    totals = found.numbers["totals"]
    # Eight epochs cost the training of four times the prompts and are worth 1.5 times.
    assert totals["train_flops"]["better"] == "2.00 epochs"
    assert totals["train_flops"]["points"][0]["loss_difference_high"] < 0
    # Repeats that are worth nearly as much win once the teacher's text is dear.
    dear = [row | {"total_flops": row["train_flops"] + 1e11 * row["samples"]} for row in
            epochs_study(3.0)]  # fmt: skip
    found = ask(dear, prompts_or_epochs, {"methods": EPOCHS})[0]
    assert found.numbers["totals"]["total_flops"]["better"] == "8.00 epochs"
    assert found.numbers["totals"]["total_flops"]["points"][0]["loss_difference_low"] > 0


def test_epochs_are_compared_only_where_nothing_else_differs() -> None:
    unknown = ask(epochs_study(1.5), prompts_or_epochs)[0]
    assert unknown.needs[0].what == "methods_differing_in_epochs"
    assert unknown.needs[0].change == {}  # without the method's settings none can be varied
    known = ask(runs_of(lambda n: 1 + gap(n)), prompts_or_epochs, {"methods": EPOCHS})[0]
    assert known.needs[0].change == {
        "methods.sft-epochs": {"ce": 1.0, "train": {"epochs": 4}},
        "runs[].methods": ["sft", "sft-epochs"],
    }
    other = EPOCHS | {"long": {"ce": 0.5, "forward_kl": 0.5, "train": {"epochs": 8}}}
    found = ask(epochs_study(1.5), prompts_or_epochs, {"methods": other})[0]
    assert found.status == "cannot_tell"
    # In a table of one's own the method is the same, and only the epochs tell runs apart.
    own = [row | {"method": "sft"} for row in epochs_study(1.5)]
    found = ask(own, prompts_or_epochs)[0]
    assert found.numbers["totals"]["train_flops"]["better"] == "2.00 epochs"
    (responses,) = ask(own, more_responses)
    assert responses.status == "cannot_tell"


def test_equal_updates_show_prompts_against_epochs() -> None:
    rows = runs_of(lambda n: 1 + gap(n), epochs=lambda n: 2048 / n)
    found = ask(rows, prompts_or_epochs)[0]
    assert found.status == "answered"
    assert found.numbers["epochs"] == [32, 2]
    low, high = (found.numbers[f"loss_gain_{end}"] for end in ("low", "high"))
    assert 0 < low <= gap(64) - gap(1024) <= high
    flat = ask(runs_of(lambda n: 1.5, epochs=lambda n: 2048 / n), prompts_or_epochs)[0]
    assert (flat.status, flat.needs[0].what) == ("cannot_tell", "precision")
