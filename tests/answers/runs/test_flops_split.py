from typing import Any

import pytest

from distill.answers.runs import flops_split
from question_tables import TOKENS, ask, gap, runs_of


def test_flops_split_is_counted_both_ways() -> None:
    soft: dict[str, Any] = {
        "target_flops": lambda n: 5e7 * n,
        "target_flops_amortised": lambda n: 2e7 * n,
    }
    rows = runs_of(lambda n: 1 + gap(n)) + runs_of(
        lambda n: 1 + gap(n), method="kd", cache="c", **soft
    )
    sft, kd = ask(rows, flops_split)
    train = 6e6 * TOKENS * 2
    assert sft.numbers["teacher_share_marginal"] == pytest.approx([1e8 / (1e8 + train)] * 2)
    assert sft.numbers["teacher_share_amortised"] == pytest.approx([1e7 / (1e7 + train)] * 2)
    assert kd.numbers["teacher_share_marginal"] == pytest.approx([1.5e8 / (1.5e8 + train)] * 2)
    assert kd.numbers["teacher_share_amortised"] == pytest.approx([3e7 / (3e7 + train)] * 2)
    assert kd.about["label"] == "kd · c"
    corpus = ask(runs_of(lambda n: 2.0), flops_split, corpus_methods=["sft"])[0]
    assert corpus.status == "not_applicable"
    lacking = ask([row | {"teacher_flops": None} for row in rows], flops_split)[0]
    assert lacking.status == "cannot_tell"
    assert lacking.needs[0].what == "column"
