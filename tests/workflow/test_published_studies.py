"""Published studies as miniatures, to the report: question answering, and adapters with a 4-bit
teacher of another tokenizer."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import miniature
import tiny
from distill.config.checks.study import parse_study
from distill.contracts.run import Run
from distill.core.checksums import tokenizer_sha256
from distill.core.files import read_json
from distill.core.parquet import read_rows
from distill.evaluation.text_metrics import text_similarity
from distill.plan.study import Plan

pytestmark = pytest.mark.workflow


def _finished(folder: Path, make: Callable[[Path], None], config: str) -> Path:
    project = miniature.copy_project(folder / "project")
    make(project)
    miniature.snakemake(project, "--configfile", config)
    return project


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose study of question answering is done."""
    return _finished(tmp_path_factory.mktemp("qa"), miniature.make_inputs, miniature.QA)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose study of adapters is done."""
    return _finished(tmp_path_factory.mktemp("dolly"), miniature.make_dolly_inputs, miniature.DOLLY)


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def _plan(project: Path, config: str, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(project)  # shares are counted in a local file
    return Plan(parse_study(dict(miniature.read_config(project, config))))


def _table(project: Path, study: str) -> pd.DataFrame:
    results = project / "results" / study
    assert (results / "report.html").stat().st_size > 10_000
    return pd.read_parquet(results / "runs.parquet")


def _memory_is_measured(table: pd.DataFrame, project: Path, plan: Plan) -> None:
    trained = table[table["samples"] > 0]
    assert (trained["train_peak_memory_mb"] > 100).all()
    assert table[table["samples"] == 0]["train_peak_memory_mb"].isna().all()
    teachers = read_json(project / plan.results / "references.json")["teachers"]
    for teacher in teachers.values():
        assert teacher["job_peak_memory_mb"] > 100
        assert teacher["job_peak_memory_of"] == "process"
        assert teacher["peak_memory_mb"] > 0


def test_questions_are_split_by_shares_and_answered_by_the_csvs_own_answers(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(asked, miniature.QA, monkeypatch)
    given = csv_rows(asked / "studies/data/accounting_qa.csv")
    answers = {row["question"]: row["answer"] for row in given}
    prompts = plan.pool.settings
    assert (prompts.pool, prompts.validation, prompts.test) == (54, 54, 54)
    splits = {
        split: read_rows(asked / plan.text.part("tutor", split, 0))
        for split in ("test", "validation", "train")
    }
    seen: set[str] = set()
    for rows in splits.values():
        own = {row["prompt"] for row in rows}
        assert len(own) == len(rows) == 54
        assert not own & seen
        seen |= own
        assert all(answers[row["prompt"]] == row["response"] for row in rows)
    words = tiny.tokenizer(chat=False)
    row = splits["test"][0]
    assert words.decode(row["prompt_ids"]) == f"Question: {row['prompt']}\nAnswer:"


def test_the_teacher_is_fine_tuned_on_the_training_split_first(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(asked, miniature.QA, monkeypatch)
    table = _table(asked, plan.study.study)
    assert list(table["method"]) == ["none", "searched"]
    assert list(table["samples"]) == [0, 54]
    run = plan.teachers.trained_run("tutor")
    assert run is not None
    made = read_json(asked / plan.training.file(run, "training.json"))
    losses = [entry["loss"] for entry in made["validation"]]
    assert min(losses) < losses[0]
    tutor = read_json(asked / plan.results / "references.json")["teachers"]["tutor"]
    assert tutor["trained"]["samples"] == 54
    assert tutor["trained"]["teacher"] == "authors"
    # Its own text is the CSV's: a loss well below that of a student that knows nothing yet.
    assert tutor["loss"] < table["loss"].iloc[0] - 0.5
    assert (table["loss"].iloc[1:] < table["loss"].iloc[0]).all()
    assert table["loss_teacher"].to_numpy() == pytest.approx(tutor["loss"], abs=2e-3)
    _memory_is_measured(table, asked, plan)


def test_the_dual_loss_has_both_terms_at_the_weights_that_the_search_found(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(asked, miniature.QA, monkeypatch)
    (run,) = [run for run in plan.runs if run.samples]
    best = read_json(asked / plan.searches.file("weights"))
    assert len(best["trials"]) == 2
    record = read_json(asked / plan.training.file(run, "training.json"))
    found = record["settings"]
    assert found == best["settings"]
    assert set(found) == {"method.ce", "method.forward_kl", "train.learning_rate"}
    alpha, beta = found["method.ce"], found["method.forward_kl"]
    terms = zip(record["terms"]["ce"], record["terms"]["forward_kl"], strict=True)
    wanted = [alpha * ce + beta * 0.7**2 * kl for ce, kl in terms]
    assert record["losses"] == pytest.approx(wanted, rel=1e-3)
    (row, *_) = read_rows(asked / plan.shards.file(run))
    assert row["target_tokens"] == len(row["prompt_ids"]) + len(row["response_ids"]) - 1
    assert list((asked / plan.training.file(run, "tensorboard")).glob("events*"))


def test_bleu_is_of_sampled_answers_on_both_splits(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(asked, miniature.QA, monkeypatch)
    table = _table(asked, plan.study.study).set_index("method")
    for run in plan.runs:
        file = asked / plan.training.file(run, "responses.jsonl")
        answers = [json.loads(line) for line in file.read_text().splitlines()]
        for name, column in (("reference", "bleu"), ("validation", "bleu_validation")):
            own = [answer for answer in answers if answer["set"] == name]
            split = {"reference": "test"}.get(name, name)
            rows = {row["id"]: row for row in read_rows(asked / plan.text.part("tutor", split, 0))}
            assert [answer["id"] for answer in own] == list(rows)[:24]
            found = text_similarity(
                [rows[answer["id"]]["reference"] for answer in own],
                [answer["text"] for answer in own],
            )
            assert table.loc[run.method, column] == found["bleu"]
            assert max(answer["tokens"] for answer in own) <= 24


def test_a_csv_of_ones_own_needs_its_path_and_columns_alone(asked: Path, tmp_path: Path) -> None:
    project = miniature.moved(asked, tmp_path / "moved")
    rows = csv_rows(project / "studies/data/accounting_qa.csv")
    own = pd.DataFrame(rows[:100]).rename(columns={"question": "Frage", "answer": "Antwort"})
    own.insert(0, "Nr.", range(100))
    own.to_csv(project / "data/own.csv", index=False, encoding="utf-8-sig")

    def change(config: dict[str, Any]) -> None:
        fields = {"prompt": "Frage", "response": "Antwort"}
        config["sources"]["qa"] = {"path": "data/own.csv", "fields": fields}
        del config["prompts"]["part_size"]
        config["prompts"] |= {"pool": "70%", "validation": "15%", "test": "15%"}

    miniature.edit(project, change, miniature.QA)
    counts = miniature.dry_run(project, miniature.QA)
    assert counts["slice_prompts"] == 20
    own.loc[41, "Antwort"] = None  # a row that is left out
    own.to_csv(project / "data/own.csv", index=False)
    assert miniature.dry_run(project, miniature.QA)["slice_prompts"] == 20
    own.loc[:60, "Antwort"] = None
    own.to_csv(project / "data/own.csv", index=False)
    said = miniature.snakemake(project, "-n", "--configfile", miniature.QA, ok=False)
    assert (
        "data/own.csv: 61 of 100 rows would be left out, more than 50%: 61 without Antwort" in said
    )
    assert "Traceback" not in said


def test_finished_studies_rerun_nothing(asked: Path, adapted: Path) -> None:
    assert miniature.dry_run(asked, miniature.QA) == {}
    assert miniature.dry_run(adapted, miniature.DOLLY) == {}


def _run(plan: Plan, method: str) -> Run:
    (run,) = [run for run in plan.runs if run.method == method]
    return run


def test_a_four_bit_teacher_of_another_tokenizer_teaches(
    adapted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(adapted, miniature.DOLLY, monkeypatch)
    table = _table(adapted, plan.study.study)
    assert sorted(table["method"]) == ["kd", "none"]
    run = _run(plan, "kd")
    (entry,) = read_json(adapted / plan.shards.manifest(run)[0])["teachers"]
    assert entry["quantisation"] == "nf4"
    theirs, own = (
        tokenizer_sha256(AutoTokenizer.from_pretrained((adapted / path).parent))
        for path in (plan.teachers.file("mistral"), plan.training.file(run, "config.json"))
    )
    assert entry["tokenizer_sha256"] == theirs != own
    assert table["kl_teacher"].isna().all()  # across vocabularies there is no KL per token
    record = read_json(adapted / plan.training.file(run, "training.json"))
    assert set(record["terms"]) == {"uld", "ce"}
    assert record["terms"]["ce"][-1] < record["terms"]["ce"][0]
    assert record["precision"] == "bf16"
    quantised = read_json(adapted / plan.efficiency.of("teachers", "mistral"))
    folder = (adapted / plan.teachers.file("mistral")).parent
    whole = sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())
    assert quantised["size_mb"] < 0.4 * whole / 1024**2
    _memory_is_measured(table, adapted, plan)


@pytest.mark.long
def test_two_teachers_at_once_and_layer_by_layer(adapted: Path, tmp_path: Path) -> None:
    project = miniature.moved(adapted, tmp_path / "moved")
    blocks = [
        {"students": ["phi-2"], "methods": ["kd"], "caches": ["both"]},
        {"students": ["mistral-2"], "methods": ["layer-wise"], "caches": ["layers"]},
    ]

    def change(config: dict[str, Any]) -> None:
        config["runs"] = [b | {"teachers": ["mistral"], "samples": ["100%"]} for b in blocks]

    miniature.edit(project, change, miniature.DOLLY)
    plan = Plan(parse_study(dict(miniature.read_config(project, miniature.DOLLY))))
    kd, layers = _run(plan, "kd"), _run(plan, "layer-wise")
    wanted = [plan.training.file(run, "training.json") for run in (kd, layers)]
    miniature.snakemake(project, *wanted, "--configfile", miniature.DOLLY)
    manifest = read_json(project / plan.shards.manifest(kd)[0])
    assert [entry["teacher"] for entry in manifest["teachers"]] == ["instruct", "mistral"]
    assert {entry["quantisation"] for entry in manifest["teachers"]} == {"nf4"}
    assert len({json.dumps(entry["model"]) for entry in manifest["teachers"]}) == 2
    both, layered = (read_json(project / path)["terms"] for path in wanted)
    assert set(both) == {"uld", "ce"}
    assert set(layered) == {"forward_kl", "ce", "hidden"}
    assert layered["hidden"][-1] < layered["hidden"][0]


def test_adapters_move_only_linear_layers_and_are_merged(
    adapted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(adapted, miniature.DOLLY, monkeypatch)
    run = _run(plan, "kd")
    folder = (adapted / plan.training.file(run, "model.safetensors")).parent
    assert not list(folder.glob("adapter*"))
    before = load_file((adapted / plan.students.file("phi-2")).parent / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    assert set(before) == set(after)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    for name in moved:
        assert name.endswith(("proj.weight", "dense.weight", "fc1.weight", "fc2.weight")), name
        rank = torch.linalg.matrix_rank((after[name] - before[name]).float(), rtol=1e-3)
        assert rank <= 4
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == "phi"


def test_contexts_are_part_of_the_prompt(adapted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan(adapted, miniature.DOLLY, monkeypatch)
    rows = read_rows([adapted / plan.text.part("mistral", split, 0) for split in ("train", "test")])
    words, kinds = tiny.tokenizer(chat=False), set()
    for row in rows:
        text = words.decode(row["prompt_ids"])
        kinds.add(bool(row["context"]))
        assert ("### Context:\n" in text) == bool(row["context"])
        assert text.startswith("### Instruction:\n")
        assert text.endswith("\n\n### Response:\n")
    assert kinds == {True, False}


def test_a_plain_kl_between_vocabularies_is_refused(adapted: Path, tmp_path: Path) -> None:
    project = miniature.moved(adapted, tmp_path / "moved")

    def change(config: dict[str, Any]) -> None:
        config["methods"]["kd"] = {"forward_kl": 0.5, "ce": 0.5, "temperature": 3}

    miniature.edit(project, change, miniature.DOLLY)
    said = miniature.snakemake(project, "--configfile", miniature.DOLLY, ok=False)
    assert "the student's tokenizer is not the teacher's" in said
    assert "use a cross-tokenizer method (spans, uld)" in said
