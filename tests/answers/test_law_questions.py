"""All questions of laws at once: keys, plain JSON, own tables, templates."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.law_questions import answer_law_questions
from distill.answers.laws import claims
from distill.answers.wording import worded, wording_of
from law_worlds import SIZES, bent, chinchilla, fit_all, make_rows, ratio_world

pytestmark = pytest.mark.slow  # fits many laws


ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "report/answers"
STATED = {"corpus_methods": ["corpus"], "pretraining_tokens": {"t": 1e6}, "target_loss": 2.9}


def repeated(params: float, tokens: float, epochs: float) -> float:
    worth = tokens * (1 + 5 * (1 - np.exp(-(epochs - 1) / 5)))
    return chinchilla(params, worth, A=0.08, alpha=0.5)


def repeats_world() -> pd.DataFrame:
    """Repeats whose best split lies inside: the largest run has not the most of everything."""
    grid: dict[str, Any] = {"epochs": (1.0, 4.0, 16.0), "draws": 1, "teacher_params": 1e9}
    rows = make_rows(repeated, SIZES[::2], **grid)
    large = (rows["epochs"] > 10) & (rows["params"] > 3e6) & (rows["tokens"] > 1.5e6)
    return rows[~large].reset_index(drop=True)


def worlds() -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    """Tables that answer and refuse each question in most of its ways."""
    far = {"tokens": (2.5e5, 1e6, 4e6), "draws": 3, "reference": True}
    groups: list[dict[str, Any]] = [
        {"truth": lambda params, tokens: chinchilla(params, tokens / 0.15)},
        {"method": "corpus", "seed": 9},
        {"curation": "clean", "seed": 5},
        {"method": "sft", "seed": 1},
    ]
    yield pd.concat([make_rows(**far, **one) for one in groups], ignore_index=True), STATED
    yield make_rows(), {}
    few: dict[str, Any] = {"sizes": SIZES[:3], "tokens": (2.5e5, 1e6)}
    methods = [make_rows(**few), make_rows(method="sft", seed=1, **few)]
    yield pd.concat(methods, ignore_index=True), {"target_loss": 0.5}
    yield repeats_world(), STATED
    yield make_rows(sizes=(1e6,), tokens=(1e5, 2e5)), {}
    yield make_rows(sizes=(1e6,)), {}
    sizes, tokens = tuple(np.geomspace(4e5, 4e7, 8)), (2e5, 4e5, 8e5, 1.6e6)
    yield make_rows(bent, sizes, tokens, teacher_params=6e7), {}
    yield ratio_world(15.0, (3e6, 3e7, 3e8)), {}


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    found = []
    for rows, stated in worlds():
        document = fit_all(rows, stated.get("corpus_methods", []))
        found += answer_law_questions(rows, document, None, stated)
    return found


def test_every_template_words_every_status_that_occurs(answers: list[Answer]) -> None:
    records = worded(answers, wording_of(TEMPLATES))
    json.dumps(records, allow_nan=False)
    for record in records:
        assert record["question"]
        assert record["answer"].endswith((".", ")"))
        assert " ." not in record["answer"]
        assert not re.search(r"None|nan|\{|\bUndefined", record["answer"] + record["evidence"])
        if record["status"] == "cannot_tell":
            assert "Needed: " in record["answer"]
            assert record["needs"]
    statuses: dict[str, set[str]] = {}
    for record in records:
        statuses.setdefault(record["key"], set()).add(record["status"])
    always = {"reach", "missing"}
    for key, found in statuses.items():
        wanted = {"answered"} if key in always else {"answered", "cannot_tell"}
        assert wanted <= found, key
    assert len(statuses) == 20


def test_advice_comes_first_and_eight_claims_last(answers: list[Answer]) -> None:
    keys = [answer.question for answer in answers]
    assert keys[:4] == ["advice", "surer", "missing", "reach"]
    rows = make_rows()
    last = answer_law_questions(rows, fit_all(rows), None, {})[-8:]
    assert {answer.question for answer in last} == {claims.KEY}
    assert len({answer.numbers["claim"] for answer in last}) == 8


def test_a_users_own_table_is_not_told_to_change_a_config(answers: list[Answer]) -> None:
    # The worlds count no samples, like such a table.
    assert not any(need.change for answer in answers for need in answer.needs)
    rows = make_rows().assign(samples=lambda t: (t["tokens"] / 100).astype(int))
    studied = answer_law_questions(rows, fit_all(rows), None, {})
    assert any(need.change for answer in studied for need in answer.needs)


def test_a_runs_table_is_read_as_points() -> None:
    rows = make_rows()
    runs = rows.rename(columns={"flops": "train_flops", "gap": "kl_teacher"})
    runs = runs.drop(columns=["tokens", "epochs", "teacher_loss", "reference"]).assign(
        samples=100, tokens_unique=rows["tokens"], tokens_seen=rows["tokens"], loss_teacher=1.2
    )
    document = fit_all(rows)
    (first, *_), (second, *_) = (
        answer_law_questions(table, document, None, {}) for table in (rows, runs)
    )
    assert first.numbers == second.numbers


def test_no_code_reads_a_sentence_back() -> None:
    """Outside of rendering, nothing looks into an answer's, a refusal's or a warning's words."""
    fields = r"(answer|evidence|question|reason|warning\w*)"
    words = r"[\"'](Cannot|cannot tell|Claim|Not tested|Supported|Contradicted|Needed)"
    methods = r"(startswith|endswith|removeprefix|removesuffix|partition|rpartition|replace|split)"
    patterns = [
        rf"{methods}\({words}", rf"{words}[^\"']*[\"'] (not )?in ",
        rf"\[[\"']{fields}[\"']\]\.{methods}\(", rf"\b{fields}\.{methods}\(",
    ]  # fmt: skip
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in sorted((ROOT / "scripts").rglob("*.py"))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if any(re.search(pattern, line) for pattern in patterns)
    ]
    assert found == []
