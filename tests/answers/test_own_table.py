"""Answers about a user's own table: what does not apply, words for scaling runs, many groups."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers import own_table
from distill.answers.answer import Answer, Need
from distill.answers.laws import (
    against_scratch,
    claims,
    common_text,
    compute_optimal,
    teacher_ratio,
)
from distill.answers.own_table import (
    NO_TEACHER,
    NOT_IN_TABLE,
    applicable,
    merge_groups,
    reading_answers,
)
from distill.answers.questions import answer_questions
from distill.answers.wording import worded, wording_of
from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.runs import trained_rows
from distill.table.own_notes import Note
from distill.table.own_table import parse_table_study, runs_of_table
from own_tables import config_of, grid

TEMPLATES = Path(__file__).parents[2] / "report/answers"


def answers_of(folder: Path, table: pd.DataFrame, **columns: str) -> list[dict[str, Any]]:
    """The records of answers.json of a table."""
    table.to_csv(folder / "table.csv", index=False)
    runs, references = runs_of_table(parse_table_study(config_of(folder / "table.csv", columns)))
    rows = trained_rows(runs, references)
    laws = fit_laws(rows, Settings(starts=8, shared=False), references["corpus_methods"])
    stated: dict[str, Any] = {"cost": None, "corpus_methods": []}
    return answer_questions(runs, references, laws, stated, TEMPLATES)["answers"]


@pytest.fixture(scope="module")
def scaling(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return answers_of(tmp_path_factory.mktemp("scaling"), grid())


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    tables = [grid(seed=seed).assign(k=kind) for seed, kind in enumerate(("kd", "scratch"))]
    table = pd.concat(tables, ignore_index=True)
    return answers_of(tmp_path_factory.mktemp("distilled"), table, kind="k")


@pytest.mark.slow
def test_an_accuracy_is_asked_of_by_its_relation(
    tmp_path: Path, scaling: list[dict[str, Any]]
) -> None:
    table = grid()
    share = 0.1 + 0.8 / (1 + np.exp(3 * (table["L"] - table["L"].median())))
    table["right"] = (200 * share).round() / 200
    records = answers_of(tmp_path, table.assign(asked=200), accuracy="right", items="asked")
    (record,) = [one for one in records if one["key"] == "task_score"]
    assert record["status"] == "answered"
    assert "Accuracy at the lowest loss measured" in record["answer"]
    assert "the model of 6.90 × 10⁹ parameters is predicted" in record["answer"]
    assert "student" not in record["answer"] + record["evidence"]
    assert "task_metric" not in {one["key"] for one in records}
    assert "task_metric" in {one["key"] for one in scaling}
    assert "task_score" not in {one["key"] for one in scaling}


@pytest.mark.slow
def test_runs_without_teachers_are_asked_nothing_about_distillation(
    scaling: list[dict[str, Any]],
) -> None:
    told = [record for record in scaling if record["status"] != "not_applicable"]
    words = " ".join(f"{r['question']} {r['answer']} {r['evidence']}" for r in told)
    for word in ("student", "teacher", "distil", "draw of", "second draw", "compression"):
        assert word not in words.replace("draws of its coefficients", "")
    reasons = {r["key"]: r["numbers"]["reason"] for r in scaling if r not in told}
    assert reasons["claim"] == reasons["teacher_ratio"] == reasons["efficiency"] == NO_TEACHER
    assert reasons["energy_quality"] == reasons["forgetting"] == NOT_IN_TABLE
    claims = [record for record in scaling if record["key"] == "claim"]
    assert len(claims) == 8
    assert all("verdict" not in record["numbers"] for record in claims)
    alpha = next(r["numbers"]["alpha"] for r in told if r["key"] == "exponents")
    (interval,) = alpha.values()
    assert interval["low"] < 0.32 < interval["high"]


@pytest.mark.slow
def test_runs_with_kinds_are_compared_as_distilled_and_supervised(
    distilled: list[dict[str, Any]],
) -> None:
    verdicts = {
        (record["numbers"]["claim"], record["method"]): record["numbers"]["verdict"]
        for record in distilled
        if record["key"] == "claim" and record["numbers"].get("measured")
    }
    assert verdicts["alpha_distilled", "distilled"] == "supported"
    assert verdicts["alpha_scratch", "supervised"] == "contradicted"
    (against,) = (r for r in distilled if r["key"] == "scratch_exponents")
    assert against["status"] == "answered"


def test_the_names_of_questions_are_their_keys() -> None:
    keys = {
        claims.KEY, teacher_ratio.KEY, against_scratch.DATA, against_scratch.BREAK_EVEN,
        against_scratch.EFFICIENCY, common_text.AGAINST_SCRATCH, compute_optimal.TEACHER_SHARE,
    }  # fmt: skip
    assert keys == own_table._OF_TEACHERS
    assert common_text.CURATION in own_table._MEASURED
    assert claims.CURATED.name == "curated"


def test_a_study_is_asked_everything() -> None:
    answers = [Answer("claim", numbers={"claim": "split"}), Answer("forgetting")]
    assert applicable(answers, {"teachers": {}}) == answers
    assert applicable(answers, None) == answers
    taught = applicable(answers, {"own_table": True, "distils": True})
    assert [answer.status for answer in taught] == ["answered", "not_applicable"]


def test_many_groups_that_cannot_be_told_are_one_answer_with_their_count() -> None:
    needs = (Need("larger_data", 5, 4),)
    answers = [
        Answer(
            "collapse",
            {"label": f"g{place}"},
            "cannot_tell",
            {"reason": "few_sizes", "sizes": 3 if place < 5 else 4},
            needs,
        )
        for place in range(8)
    ]
    answers.append(Answer("collapse", {"label": "g8"}, "cannot_tell", {"reason": "no_law"}))
    wording = wording_of(TEMPLATES, own_table=True, distils=False)
    (merged,) = merge_groups(worded(answers, wording), wording)
    assert merged["answer"].startswith("Cannot tell for 9 groups. Most often (5 groups): Cannot")
    assert merged["evidence"] == "g0; g1; g2; g3; 5 more."
    assert [reason["groups"] for reason in merged["numbers"]["reasons"]] == [5, 3, 1]
    assert len(merged["needs"]) == 1
    few = worded(answers[:3], wording)
    assert merge_groups(few, wording) == few


NOTES = [
    Note("duplicates", (3,), 1),
    Note("duplicates", tuple(range(8)), 20),
    Note("untrained", (3, 4), 2),
    Note("tokens_from_flops"),
    Note("best_rate", (), 4, (), {"kept": 2}),
    Note("near", (3, 4), 2),
    Note("one_run", (1,), 1, (), {"groups": 1}),
    Note("one_run", (1, 2), 2, ("a", "b"), {"groups": 2}),
    Note("constant", (1, 2), 2, ("a",), {"groups": 1}),
    Note("outliers", (7,), 1, (), {"losses": [9.5]}),
    Note("rough", (1, 2), 30, (), {"groups": 1}),
    Note("no_trend", (1, 2), 30, (), {"groups": 1}),
    Note("below_teacher", (1, 2), 2, (), {"of": 9}),
    Note("all_below_teacher", (1, 2), 2, (), {"of": 2}),
    *(
        Note(f"{shape}_{axis}", (1, 2, 3), 30, ("a", "b"), {"groups": 9})
        for shape in ("rising", "u_shape")
        for axis in ("params", "tokens")
    ),
    Note("rising_compute", (1, 2, 3), 30, (), {"groups": 1}),
]


@pytest.mark.parametrize("note", NOTES, ids=lambda note: f"{note.what}-{note.count}")
def test_every_note_of_the_reading_has_words(note: Note) -> None:
    answers = reading_answers({"notes": [note.record()]})
    (record,) = worded(answers, wording_of(TEMPLATES, own_table=True))
    assert record["question"] == "How was the table read?"
    assert record["answer"].endswith(".")
    assert record["answer"][0].isupper() or record["answer"][0].isdigit()
    assert " ." not in record["answer"]
    assert " ," not in record["answer"]
    if 0 < note.count <= 2 and note.what in ("duplicates", "near", "below_teacher"):
        assert f"row{'s' if note.count > 1 else ''} {note.rows[0]}" in record["answer"].lower()


@pytest.mark.slow
def test_a_group_of_one_loss_has_no_law(tmp_path: Path) -> None:
    table = grid().assign(g="a")
    flat = grid().assign(g="b", L=2.5)
    records = answers_of(tmp_path, pd.concat([table, flat], ignore_index=True), group="g")
    exponents = [record for record in records if record["key"] == "exponents"]
    assert [record["label"] for record in exponents] == ["a"]
    (note,) = (record for record in records if record["key"] == "reading")
    assert "All losses are equal in 1 group (b)" in note["answer"]
