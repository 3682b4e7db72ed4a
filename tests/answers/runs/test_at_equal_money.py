import pytest

from distill.answers.runs import at_equal_money
from question_tables import TOKENS, ask, slow_kd


@pytest.mark.slow
def test_prices_decide_at_equal_money() -> None:
    dear_text = {"teacher_million_tokens": 1000.0, "hour": 0.001}
    dear_hours = {"teacher_million_tokens": 0.001, "hour": 1000.0}
    better = []
    for prices in (dear_text, dear_hours):
        (found,) = ask(slow_kd(), at_equal_money, prices=prices)
        assert found.numbers["prices"] == prices
        better.append(found.numbers["totals"]["money"]["better"])
    assert better == ["kd", "sft"]
    money = TOKENS * 1024 / 1e6 * 1000 + 0.001 / 3600 * 0.2 * 1024
    (found,) = ask(slow_kd(), at_equal_money, prices=dear_text)
    assert found.numbers["totals"]["money"]["overlap"][1] == pytest.approx(money)
    # Text is shared among ten runs, as its FLOPs are.
    shared = found.numbers["totals"]["money_amortised"]["overlap"][1]
    assert shared == pytest.approx(money / 10, rel=1e-4)
    (unpriced,) = ask(slow_kd(), at_equal_money)
    assert unpriced.status == "cannot_tell"
    (need,) = unpriced.needs
    assert set(need.change) == {"evaluate.prices.teacher_million_tokens", "evaluate.prices.hour"}
