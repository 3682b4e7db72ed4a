"""Sentences: every template for every status, and no code that reads them back."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.runs.questions import OF_ALL, OF_SAMPLES, answer_runs
from distill.answers.wording import listed, plural, rounded, worded, wording_of
from question_tables import (
    EPOCHS,
    METHODS,
    TOKENS,
    controlled,
    curated,
    epochs_study,
    forgetful,
    gap,
    planted,
    rated,
    runs_of,
    slow_kd,
    small_table,
    starts,
)
from synthetic_runs import make_references, make_runs

PROJECT = Path(__file__).parents[2]
TEMPLATES = PROJECT / "report/answers"
KEYS = [question.KEY for question in (*OF_SAMPLES, *OF_ALL)]
NEVER = {
    "learned": ["cannot_tell"],
    "summary": ["cannot_tell"], "largest_size": ["cannot_tell"], "more_responses": ["answered"],
}  # fmt: skip
"""Statuses that a question does not have; not_applicable is had by the two below alone."""
NOT_APPLICABLE = ["flops_split", "forgetting"]
PRICES = {"teacher_million_tokens": 10.0, "hour": 2.0}


CURATIONS: list[dict[str, Any]] = [
    {"students": 1, "better": 0.1}, {"students": 1, "longer": 1.5}, {"shift": 0.15},
]  # fmt: skip


def studies() -> Iterator[Measured]:
    """Tables that together ask every question in each of its states."""
    references = make_references() | {"benchmarks": _benchmarks()}
    everything = make_runs(caches=("hidden", "top64"))
    yield Measured(everything, references, {"prices": PRICES, "cost": {"samples": 7e-4}})
    yield Measured(make_runs().assign(task="causal-lm"), references, {"corpus_methods": ["sft"]})
    for unigram in (0.1, float(make_runs()["loss"].median())):
        yield Measured(make_runs().assign(unigram_loss=unigram))
    for cost in (1e-7, 1.0):
        yield Measured(make_runs(), {}, {"cost": {"samples": cost}})
    yield Measured(make_runs()[["student", "method", "samples", "draw", "loss"]])
    yield Measured(make_runs(caches=("hidden", "top64")).drop(columns="cache_bytes_per_token"))
    yield Measured(make_runs(caches=("hidden", "top64")).drop(columns=["kl_teacher", "ece"]))
    for draws in ({0}, {0, 1}):
        yield Measured(small_table()[small_table()["draw"].isin(draws)])
    yield Measured(
        small_table().assign(loss=[2.0, 2.4, 1.6, 1.9, 1.6]), {}, {"cost": {"samples": 1e-3}}
    )
    yield Measured(small_table().query("samples == 100"))
    for gains in ({64: [-0.02, -0.021], 128: [0.001, -0.001], 256: [0.02, 0.022]}, {64: [0.5]}):
        yield Measured(planted(gains))
    yield Measured(pd.concat([planted({64: [0.02, 0.021 + k / 10]}, f"s{k}") for k in range(4)]))
    tables: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
        (epochs_study(1.5), {"methods": EPOCHS}),
        (epochs_study(1.5), {}),
        *((starts(factor), {}) for factor in (0.05, 1.0, 3.0, 100.0)),
        *((forgetful(change), {}) for change in (-0.2, 0.0, 0.2)),
        (forgetful(-0.2, "random"), {}),
        (forgetful(0.2)[1:], {}),
        (rated(lambda n: 0.1 + n / 3000), {"floor": {"fixed": 0.06, "large": 0.06}}),
        (rated(lambda n: 0.06), {"floor": {"fixed": 0.06, "large": 0.06}}),
        (rated(lambda n: 0.5), {}),
        *((curated(**kind), {}) for kind in CURATIONS),
        *((controlled(share), {"methods": METHODS}) for share in (-0.5, 0.0, 0.4, 1.0)),
        (runs_of(lambda n: 1 + gap(n), epochs=lambda n: 2048 / n), {}),
        (runs_of(lambda n: 1.5, epochs=lambda n: 2048 / n, draws=1), {}),
    ]  # fmt: skip
    for rows, known in tables:
        yield Measured(pd.DataFrame(rows), known)
    for rows in (starts(3.0), forgetful(0.2), curated(students=1), controlled(0.4)):
        once = [row for row in rows if row["draw"] == 0]
        yield Measured(pd.DataFrame(once), {"methods": METHODS})
    for apart in (1.0, 1e6):
        rows = [
            row | ({"train_seconds": apart * row["samples"]} if row["method"] == "kd" else {})
            for row in slow_kd()
        ]
        yield Measured(pd.DataFrame(rows), {}, {"prices": PRICES})
    three = runs_of(lambda n: 2.0, sizes=(64,))
    for k, method in enumerate("ab", start=1):
        three += runs_of(lambda n: 2.0, sizes=(64,), method=method, train_seconds=100.0 * 7**k)
    yield Measured(pd.DataFrame(three), {}, {"prices": PRICES})
    energy = {"total_kwh_amortised": lambda n: 1e-6 * n, "kwh_estimated": 0.3}
    for loss in (2.0, 6.0):
        rows = runs_of(lambda n, loss=loss: loss, **energy)
        yield Measured(pd.DataFrame(rows), {"unigram_entropy": {"t": 5.0}})
    own = [
        {"student": f"{n}", "method": "sft", "loss": 2.0, "tokens_unique": TOKENS, "params": n}
        for n in (10, 100)
    ]
    yield Measured(pd.DataFrame(own))


def _benchmarks() -> dict[str, Any]:
    line = {"teacher": "smol", "student": "layers-2", "method": "sft", "curation": "none"}
    ends = {"stderr": 0.01, "low": 0.02, "high": 0.06}
    names = ("difference", "above_chance", "share", "share_above_chance")
    known = dict.fromkeys(names, 0.04)
    known |= {f"{name}_{end}": value for name in names for end, value in ends.items()}
    cell = {
        **line,
        "cache": "none",
        "samples": 1024,
        "runs": 1,
        "cut": 0,
        "value": 0.6,
        "stderr": 0.1,
    }
    none = dict.fromkeys(known)
    task = {"metric": "acc", "n": 1, "higher_is_better": True}
    return {
        "cells": [
            {**cell, "task": "quiz", **known},
            {**cell, "task": "alone", **none},
            {**cell, "task": "down", **known, "share": None, "runs": 2},
        ],
        "tasks": {"quiz": task, "alone": task, "down": task | {"higher_is_better": False, "n": 3}},
    }  # fmt: skip


@cache
def answered() -> list[tuple[Answer, dict[str, Any]]]:
    wording = wording_of(TEMPLATES)
    answers = []
    for study in studies():
        questions = [*(OF_SAMPLES if study.trained_here else ()), *OF_ALL]
        found = answer_runs(study, questions)
        answers += list(zip(found, worded(found, wording), strict=True))
    return answers


def test_every_question_has_a_template_and_a_key_of_its_own() -> None:
    assert len(KEYS) == len(set(KEYS))
    names = {path.stem for path in TEMPLATES.glob("*.j2") if not path.stem.startswith("_")}
    assert set(KEYS) <= names


@pytest.mark.slow
def test_every_template_is_rendered_for_every_status() -> None:
    wanted = {(key, status) for key in KEYS for status in ("answered", "cannot_tell")}
    wanted -= {(key, status) for key, statuses in NEVER.items() for status in statuses}
    wanted |= {(key, "not_applicable") for key in NOT_APPLICABLE}
    assert {(answer.question, answer.status) for answer, _ in answered()} == wanted


@pytest.mark.slow
def test_sentences_are_whole() -> None:
    for answer, record in answered():
        assert record["question"].endswith("?")
        for part in ("answer", "evidence"):
            text = record[part]
            assert text.endswith(".") or (part == "evidence" and not text), record
            # No missing or extra space, no number of the wrong form, nothing of Python.
            plain = re.sub(r"\b(evaluate|train|references)\.\w+", "key", text)
            wrong = re.search(
                r"[.;:!?,][A-Za-z]| [.,;:!?)]|\( |\.\.|,,|\bNone\b|\bnan\b|[{}]|_tell\b"
                r"|(?<![\d.,])1 (samples|sizes|lines|runs|models|pairs|cells|draws|items"
                r"|cases|students|comparisons|degrees|documents)\b",
                plain,
            )
            assert wrong is None, (answer.question, wrong, text)


@pytest.mark.slow
def test_a_sentence_and_its_status_agree() -> None:
    without = re.compile(r"cannot tell|not reached|not within|no error bars", re.IGNORECASE)
    for answer, record in answered():
        if answer.status == "cannot_tell":
            assert without.search(record["answer"]), record
            assert record["needs"]
        elif answer.question != "summary":
            assert not record["answer"].startswith("Cannot tell"), record
            assert not record["needs"]


def test_counts_agree_with_their_nouns() -> None:
    assert [plural(count, "prompt") for count in (0, 1, 2, 1500)] == [
        "0 prompts", "1 prompt", "2 prompts", "1,500 prompts",
    ]  # fmt: skip
    assert plural(2, "match", "matches") == "2 matches"
    assert [rounded(value) for value in (99.6, 100.4, -1234.5, 0.0)] == [
        "100",
        "100",
        "−1,234",
        "0",
    ]
    assert [listed(names) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_a_misspelt_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "odd.j2").write_text(
        "{% macro question(a) %}{{ a.numbers.missing }}{% endmacro %}"
        "{% macro answer(a) %}{% endmacro %}{% macro evidence(a) %}{% endmacro %}"
    )
    with pytest.raises(Exception, match="missing"):
        worded([Answer("odd")], wording_of(tmp_path))


def test_a_template_may_name_what_an_answer_is_about(tmp_path: Path) -> None:
    macro = "{{% macro {}(a) %}}{}{{% endmacro %}}"
    parts = {
        "question": "Why?",
        "answer": "So.",
        "evidence": "",
        "label": "all of {{ a.numbers.n }}",
    }
    (tmp_path / "odd.j2").write_text("".join(macro.format(*part) for part in parts.items()))
    (record,) = worded([Answer("odd", {"label": "x"}, numbers={"n": 3})], wording_of(tmp_path))
    assert record["label"] == "all of 3"
    assert record["key"] == "odd"


SENTENCES = {"answer", "evidence", "question", "verdict"}
READING = {
    "startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split",
    "rsplit", "replace", "find", "index", "count", "lower",
}  # fmt: skip


def _sentence(node: ast.AST) -> bool:
    """Whether a node takes a sentence out of a record: `record["answer"]`."""
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and node.slice.value in SENTENCES
    )


def _phrase(node: ast.AST) -> bool:
    """Whether a node is a phrase of an answer."""
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.lower().startswith(("cannot tell", "not reached", "claim:"))
    )


def readings(tree: ast.AST) -> Iterator[int]:
    """Lines that read a sentence: a method of strings or a comparison with a phrase."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            reads = node.func.attr in READING
            if reads and (_sentence(node.func.value) or any(map(_phrase, node.args))):
                yield node.lineno
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            texts = [s for s in sides if isinstance(s, ast.JoinedStr) or _long(s)]
            if any(map(_phrase, sides)) or (texts and any(map(_sentence, sides))):
                yield node.lineno


def _long(node: ast.AST) -> bool:
    """Whether a node is a constant of several words, which no code is."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value


@pytest.mark.slow
def test_no_code_reads_a_sentence_back() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{line}"
        for room in ("answers", "report", "figures", "ask")
        for path in sorted((PROJECT / "scripts/distill" / room).rglob("*.py"))
        for line in readings(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        'record["answer"].startswith("Cannot tell")',
        'text.removeprefix("cannot tell, ")',
        '"cannot tell" in text',
        'answer["question"] == "Is there a sweet spot?"',
        'total["verdict"].partition(",")',
    ],
)
def test_such_a_reading_would_be_seen(code: str) -> None:
    assert list(readings(ast.parse(code))) == [1]
    assert not list(readings(ast.parse('record["status"] == "cannot_tell"')))
