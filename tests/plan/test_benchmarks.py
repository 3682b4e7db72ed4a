"""Benchmarks in the config, the plan, the runs table, the answers and the report."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tiny
from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.runs import benchmarks
from distill.config.checks.study import parse_study
from distill.contracts.columns import benchmark_columns
from distill.contracts.run import Run
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.plan.study import Plan
from distill.plan.unused import unused_folders
from distill.report.benchmarks import benchmark_section
from distill.table.benchmarks import add_benchmarks, benchmark_summary, with_benchmarks
from distill.table.lines import lines_of, prepare_runs
from distill.workflow.startup import check_benchmarks, check_harness
from report_page import render, tables_of


def config(*blocks: dict[str, Any], **tasks: dict[str, Any]) -> dict[str, Any]:
    made = tiny.study()
    made["evaluate"]["benchmarks"] = tasks
    base = made["runs"][0]
    made["runs"] = [base | block for block in blocks or ({},)]
    return made


def plan(made: dict[str, Any]) -> Plan:
    return Plan(parse_study(made))


# Config.


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (config({"benchmarks": ["mmlo"]}, mmlu={}), r"runs\[0\].benchmarks: .*did you mean mmlu"),
        (config({"benchmarks": ["mmlu"]}), r"no benchmark 'mmlu'; there are none"),
        (config({"benchmarks": ["mmlu", "mmlu"]}, mmlu={}), "has a duplicate"),
        (config(mmlu={"shots": 5}), "'evaluate.benchmarks.mmlu.shots' is not a known key"),
        (config(mmlu={"limit": 0}), "evaluate.benchmarks.mmlu.limit: .*greater than 0"),
        (
            config(a={}, a_stderr={}),
            "evaluate.benchmarks.a_stderr: its column would have the same name as",
        ),
        (config(**{"a b": {}}), "'a b' is not a valid name"),
    ],
)
def test_a_mistake_is_one_sentence(made: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        parse_study(made)
    assert "\n" not in str(caught.value)


# Who is judged on what.


def test_a_study_without_benchmarks_has_none() -> None:
    made = plan(tiny.study())
    assert made.benchmarks.tasks == made.benchmarks.files == []
    assert made.benchmarks.table_spec() == {}


def test_a_run_is_held_out_on_the_tasks_of_all_blocks_that_hold_it() -> None:
    made = plan(
        config(
            {"students": ["small"], "benchmarks": ["mmlu"]},
            {"students": ["small"], "samples": [16], "benchmarks": ["gsm8k"]},
            {"students": ["fresh"], "benchmarks": []},
            {"students": ["fresh"], "teachers": ["calm"]},
            gsm8k={},
            mmlu={},
            unused={},
        )
    )
    found = {
        (run.student, run.teacher, run.samples): tasks
        for run, tasks in made.benchmarks.of_run.items()
    }
    assert found["small", "big", 48] == ["mmlu"]
    assert found["small", "big", 16] == ["gsm8k", "mmlu"]
    assert found["small", "big", 0] == ["gsm8k", "mmlu"]
    assert found["fresh", "big", 48] == found["fresh", "big", 0] == []
    assert found["fresh", "calm", 16] == ["gsm8k", "mmlu", "unused"]
    assert ("big", "unused") not in made.benchmarks.teachers
    assert len(made.benchmarks.teachers) == len(set(made.benchmarks.teachers)) == 5


def test_ready_made_text_is_not_judged() -> None:
    made = config(mmlu={})
    made["teachers"]["faq"] = {"text": "faq"}
    made["prompts"] = {
        "source": "faq",
        "template": "alpaca",
        "pool": 48,
        "test": 16,
        "part_size": 16,
    }
    made["sources"]["faq"]["rows"] = 500
    made["runs"][0]["teachers"] = ["faq"]
    found = plan(made)
    assert found.benchmarks.teachers == []
    assert found.benchmarks.students


def test_no_other_spec_knows_of_benchmarks() -> None:
    with_them, without = (Plan(parse_study(made)) for made in (config(mmlu={}), tiny.study()))
    assert dict(with_them.outputs.stored_specs()) == dict(without.outputs.stored_specs())
    assert with_them.outputs.table_spec() == without.outputs.table_spec()
    assert with_them.outputs.answer_spec() == without.outputs.answer_spec()


def test_a_task_costs_no_more_than_itself() -> None:
    one, two = plan(config(mmlu={})), plan(config(mmlu={}, gsm8k={"fewshot": 5}))
    before, after = dict(one.benchmarks.stored_specs()), dict(two.benchmarks.stored_specs())
    assert before.items() <= after.items()
    changed = dict(plan(config(mmlu={"fewshot": 5})).benchmarks.stored_specs())
    assert changed.keys() == before.keys()
    assert all(changed[path] != before[path] for path in before)


def test_the_files_of_ones_own_tasks_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("b.yaml", "data/a.jsonl"):
        (tmp_path / name).write_text("x")
    made = plan(config(own={"include": str(tmp_path)}, mmlu={}))
    assert made.benchmarks.task_files("own") == [
        str(tmp_path / name) for name in ("b.yaml", "data/a.jsonl")
    ]
    assert made.benchmarks.task_files("mmlu") == []


def test_a_missing_folder_of_tasks_is_told_when_the_study_is_planned(tmp_path: Path) -> None:
    lost = Plan(parse_study(config(own={"include": str(tmp_path / "none")})))
    with pytest.raises(UserError, match=r"benchmarks.own.include: the folder .*none is missing"):
        check_benchmarks(lost)


def test_a_missing_harness_is_told_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.chdir(tmp_path)
    asked = plan(config(mmlu={}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_harness(asked, environments=True)
    check_harness(Plan(parse_study(tiny.study())), environments=False)
    with pytest.raises(UserError, match="is not installed here; run pip install -r envs/req"):
        check_harness(asked, environments=False)
    # With all scores at hand, nothing is left to be run.
    for path, spec in asked.benchmarks.stored_specs():
        write_json(path, {"spec": spec})
    check_harness(asked, environments=False)
    changed = plan(config(mmlu={"fewshot": 5}))
    with pytest.raises(UserError, match="is not installed here"):
        check_harness(changed, environments=False)


def test_scores_of_tasks_no_longer_named_are_unused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = plan(config(mmlu={}, gsm8k={})), plan(config(mmlu={}))
    for path in [
        *before.benchmarks.files,
        *map(before.benchmarks.prepared, before.benchmarks.tasks),
    ]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("{}")
    assert unused_folders(before) == []
    unused = unused_folders(after)
    assert {path.name for path in unused} == {"gsm8k.json"}
    assert len(unused) == len(before.benchmarks.files) // 2 + 1


# Table, answers, report.


def run(samples: int, draw: int = 0, method: str = "sft", teacher: str = "big") -> Run:
    return Run("small", teacher, method if samples else "none", "raw", "none", samples, draw, 0)


def scored(documents: list[float], chance: float | None = 0.25, **other: Any) -> dict[str, Any]:
    series = pd.Series(documents, dtype=float)
    return {
        "value": series.mean(), "stderr": series.sem(), "documents": documents, "chance": chance,
        "n": len(documents), "metric": "acc", "filter": "none", "fewshot": 0, "version": 1,
        "documents_sha256": "d", "higher_is_better": True, "cut": 0, "spec": {"limit": None},
    } | other  # fmt: skip


GOOD, FAIR, POOR = [1.0] * 36 + [0.0] * 4, [1.0] * 24 + [0.0] * 16, [1.0] * 10 + [0.0] * 30


def table(*runs: Run) -> pd.DataFrame:
    rows = [
        {name: getattr(one, name) for name in Run.__dataclass_fields__} | {"loss": 1.0 + one.draw}
        for one in runs
    ]
    return pd.DataFrame(rows)


def summary(students: dict[Run, dict[str, Any]], teacher: dict[str, Any] | None) -> dict[str, Any]:
    theirs = {} if teacher is None else {("big", "quiz"): teacher}
    return benchmark_summary(
        ["quiz"], {(one, "quiz"): record for one, record in students.items()}, theirs
    )


def test_the_table_gains_two_columns_per_task_at_its_end() -> None:
    runs = table(run(0), run(8))
    found = with_benchmarks(runs, ["quiz", "maths"], {(run(8), "quiz"): scored(FAIR)})
    assert list(found.columns) == [
        *runs.columns, *benchmark_columns("quiz"), *benchmark_columns("maths"),
    ]  # fmt: skip
    assert found["benchmark_quiz"].tolist()[1] == 0.6
    assert found["benchmark_quiz"].isna().tolist() == [True, False]
    assert found["benchmark_quiz_stderr"][1] == pytest.approx(pd.Series(FAIR).sem())
    assert found["benchmark_maths"].isna().all()
    assert found["benchmark_maths"].dtype == "float64"


def test_all_scores_are_read_in_the_order_of_the_plan(tmp_path: Path) -> None:
    made = plan(config(quiz={}))
    files = []
    for number, _ in enumerate(made.benchmarks.files):
        files.append(str(tmp_path / f"{number}.json"))
        own = scored([1.0] * number + [0.0] * (40 - number))
        write_json(files[-1], own | {"versions": {"lm_eval": "1" if number else "2"}})
    references: dict[str, Any] = {"versions": {}, "warnings": []}
    runs, asked = made.runs, made.benchmarks.table_spec()["benchmarks"]
    found = add_benchmarks(table(*runs), references, asked, runs, files)
    assert found["benchmark_quiz"].tolist() == [number / 40 for number in range(len(runs))]
    assert references["benchmarks"]["teachers"]["big"]["quiz"]["value"] == len(runs) / 40
    assert references["versions"] == {"lm_eval": ["1", "2"]}
    assert references["warnings"] == ["benchmarks mix lm_eval 1 and 2"]


def test_a_cell_is_compared_with_teacher_and_guessing() -> None:
    found = summary({run(8): scored(FAIR), run(0): scored(POOR)}, scored(GOOD))
    fair, poor = found["cells"]
    assert fair["share"] == pytest.approx(0.6 / 0.9)
    assert fair["share_above_chance"] == pytest.approx(0.35 / 0.65)
    assert fair["share_low"] < fair["share"] < fair["share_high"] < 1
    assert fair["difference_high"] < 0 < fair["above_chance_low"]
    assert poor["above_chance_low"] < 0 < poor["above_chance_high"]
    assert found["teachers"] == {"big": {"quiz": {"value": 0.9, "stderr": pytest.approx(0.048, abs=1e-3), "cut": 0}}}  # fmt: skip  # noqa: E501
    assert found["tasks"]["quiz"]["chance"] == 0.25


def test_the_runs_of_a_cell_are_averaged_by_document() -> None:
    (cell,) = summary({run(8): scored(GOOD), run(8, draw=1): scored(POOR)}, scored(GOOD))["cells"]
    assert cell["runs"] == 2
    assert cell["value"] == pytest.approx((0.9 + 0.25) / 2)


def test_no_share_where_lower_is_better_or_there_is_no_teacher() -> None:
    down = {"higher_is_better": False, "chance": None}
    (cell,) = summary({run(8): scored(FAIR, **down)}, scored(GOOD, **down))["cells"]
    assert cell["share"] is None
    assert cell["difference"] is not None
    (alone,) = summary({run(8): scored(FAIR)}, None)["cells"]
    assert alone["share"] is alone["difference"] is alone["share_above_chance"] is None
    assert alone["above_chance"] == pytest.approx(0.35)


@pytest.mark.parametrize("key", ["documents_sha256", "version", "n"])
def test_scores_of_different_forms_are_not_mixed(key: str) -> None:
    with pytest.raises(UserError, match=rf"different forms of the benchmark quiz \({key}"):
        summary({run(8): scored(FAIR)}, scored(GOOD) | {key: "other"})


def answers(found: dict[str, Any], *runs: Run) -> list[Answer]:
    return benchmarks.answer(Measured(table(*runs), {"benchmarks": found}))


def test_the_answer_is_about_the_largest_size() -> None:
    runs = (run(0), run(8), run(16))
    found = summary({runs[1]: scored(POOR), runs[2]: scored(FAIR)}, scored(GOOD))
    (answer,) = answers(found, *runs)
    numbers = answer.numbers
    assert (answer.status, answer.about["label"]) == ("answered", "small · sft · quiz")
    assert (numbers["samples"], numbers["metric"], numbers["value"]) == (16, "acc", 0.6)
    assert numbers["stderr"] == pytest.approx(0.078, abs=1e-3)
    assert numbers["share"] == pytest.approx(2 / 3)
    assert numbers["share_above_chance"] == pytest.approx(0.35 / 0.65)
    assert numbers["against"] == {"teacher": "worse", "guessing": "better"}


def test_what_is_not_told_apart_is_said() -> None:
    near = [*GOOD[1:], 1.0]
    (answer,) = answers(summary({run(8): scored(near)}, scored(GOOD)), run(8))
    assert answer.numbers["against"] == {"teacher": "within_noise", "guessing": "better"}
    (answer,) = answers(summary({run(8): scored(POOR)}, scored(GOOD)), run(8))
    assert answer.numbers["against"]["guessing"] == "within_noise"
    (answer,) = answers(summary({run(8): scored(POOR)}, scored(POOR)), run(8))
    assert answer.numbers["share_above_chance"] is None
    (answer,) = answers(summary({run(8): scored(FAIR)}, None), run(8))
    assert (answer.status, answer.needs[0].what) == ("cannot_tell", "teacher_model")
    down = {"higher_is_better": False, "chance": None}
    (answer,) = answers(summary({run(8): scored(FAIR, **down)}, scored(GOOD, **down)), run(8))
    assert (answer.status, answer.needs[0].what) == ("cannot_tell", "higher_is_better")
    assert answer.numbers["against"] == {"teacher": "better"}


def test_the_report_shows_every_score_and_what_is_kept() -> None:
    runs = (run(0), run(8), run(8, draw=1), run(16))
    found = summary(
        {runs[0]: scored(POOR), runs[1]: scored(FAIR), runs[2]: scored(FAIR, cut=7)}, scored(GOOD)
    )
    lines = lines_of(prepare_runs(table(*runs)))
    section = benchmark_section(lines, {"benchmarks": found})
    assert section is not None
    page = render("benchmarks.html.j2", benchmarks=section)
    scores, (kept,) = tables_of(page)
    assert [list(row.values()) for row in scores] == [
        ["guessing", "–", "–", "0.250"],
        ["big (teacher)", "–", "–", "0.900 ± 0.048"],
        ["small · sft", "8", "2", "0.600 ± 0.078"],
        ["small before training", "0", "1", "0.250 ± 0.069"],
    ]
    label, size, task, gap, share, above, result = kept.values()
    assert (label, size, task) == ("small · sft", "8", "quiz")
    assert gap.startswith("−0.300 (−0.")
    assert share.startswith("66.7 % (")
    assert above.startswith("53.8 % (")
    assert result == "worse than the teacher, better than guessing"
    warning = "7 prompts of quiz are longer than the context of small and lost their start"
    assert [warning in line for line in page.splitlines() if "Warning" in line] == [True]
    assert benchmark_section(lines, {}) is None
