import pytest

from distill.answers.runs import flops_split_scales
from question_tables import TOKENS, ask, gap, runs_of


@pytest.mark.slow
def test_a_split_across_scales_needs_tokens_and_epochs_varied() -> None:
    fixed = runs_of(lambda n: 1 + gap(n))
    found = ask(fixed, flops_split_scales)[0]
    assert found.status == "cannot_tell"
    assert [need.what for need in found.needs] == ["epochs"]
    assert found.numbers["by_tokens"][0]["factor"] == 16
    one_size = runs_of(lambda n: 2.0, sizes=(64,))
    one_size += runs_of(lambda n: 2.0, sizes=(64,), method="long", epochs=8.0)
    (alone,) = ask(one_size, flops_split_scales)
    assert [(n.what, n.change) for n in alone.needs] == [
        ("unique_tokens", {"runs[].samples": [64, 128]})
    ]
    both = fixed + runs_of(lambda n: 1 + gap(n), method="long", epochs=8.0)
    found = ask(both, flops_split_scales)[0]
    assert found.status == "answered"
    assert found.numbers["constant"] is False
    change = found.numbers["by_epochs"][0]
    assert (change["from"], change["to"]) == (2, 8)
    assert change["to_share"] == pytest.approx(1e8 / (1e8 + 6e6 * TOKENS * 8))
