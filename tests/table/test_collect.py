import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from distill.contracts.columns import COLUMNS, keys_in
from distill.contracts.run import Run
from distill.contracts.schemas import DECISIONS_SCHEMA, cost_fields
from distill.core.errors import UserError
from distill.core.files import sha256_of
from distill.core.parquet import read_rows, write_rows
from distill.stats.tokens import mcnemar
from distill.table.collect import (
    combined_scores,
    normalised_loss,
    read_responses,
    runs_table,
    write_runs,
)
from distill.table.references import mixtures, paired_tests, qualitative_samples
from distill.table.teacher_costs import teacher_costs

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        *cost_fields("teacher_"),
    ]
)
WEIGHTS = {"perplexity": 0.5, "pass_rate": 0.3, "tokens_per_second": 0.2}


def run(samples: int, student: str = "small", teacher: str = "big", draw: int = 0) -> Run:
    method = "sft" if samples else "none"
    return Run(student, teacher, method, "raw", "none", samples, draw, 0)


def shard(folder: Path, rows: range | list[int]) -> Path:
    path = folder / f"{'-'.join(map(str, rows))}.parquet"
    made = [
        {"row": row, "teacher_flops": 10.0**row, "teacher_seconds": row + 1}
        | {"teacher_kwh": 2.0**row, "teacher_kwh_estimated": 2.0**row / 4}
        for row in rows
    ]
    write_rows(path, made, SCHEMA)
    return path


def test_amortised_costs_sum_to_what_was_spent(tmp_path: Path) -> None:
    shards: dict[Run, str | Path | None] = {
        run(0): None,
        run(2): shard(tmp_path, range(2)),
        run(4): shard(tmp_path, range(4)),
        run(2, "other"): shard(tmp_path, range(2)),
        run(2, draw=1): shard(tmp_path, [3, 5]),
    }
    costs = teacher_costs(shards)
    assert costs[run(0)] == dict.fromkeys(costs[run(0)], 0.0)
    assert costs[run(4)]["teacher_flops"] == 1111
    assert costs[run(2)]["teacher_flops"] == 11
    assert costs[run(2)]["teacher_flops_amortised"] == pytest.approx(11 / 3)
    assert costs[run(2, draw=1)]["teacher_flops_amortised"] == pytest.approx(500 + 100_000)
    assert costs[run(4)]["teacher_seconds_amortised"] == pytest.approx(1 / 3 + 2 / 3 + 3 + 4 / 2)
    total = sum(cost["teacher_flops_amortised"] for cost in costs.values())
    assert total == pytest.approx(101_111)
    seconds = sum(cost["teacher_seconds_amortised"] for cost in costs.values())
    assert seconds == pytest.approx(1 + 2 + 3 + 4 + 6)
    assert costs[run(4)]["teacher_kwh"] == 1 + 2 + 4 + 8
    assert costs[run(4)]["teacher_kwh_amortised"] == pytest.approx(1 / 3 + 2 / 3 + 4 + 8 / 2)
    for name, share in (("teacher_kwh", 1), ("teacher_kwh_estimated", 0.25)):
        spent = sum(cost[f"{name}_amortised"] for cost in costs.values())
        assert spent == pytest.approx(share * (1 + 2 + 4 + 8 + 32))


def without_energy(path: Path) -> Path:
    """A shard as an earlier version wrote it."""
    old = path.with_suffix(".old.parquet")
    write_rows(old, read_rows(path), pa.schema(list(SCHEMA)[:3]))
    return old


def test_energy_that_is_not_known_is_null_not_nought(tmp_path: Path) -> None:
    path = shard(tmp_path, range(2))
    costs = teacher_costs({run(2): path, run(2, "other"): without_energy(path)})
    assert costs[run(2)]["teacher_kwh"] == 3
    assert costs[run(2, "other")]["teacher_kwh"] is None
    assert costs[run(2, "other")]["teacher_kwh_amortised"] is None
    assert costs[run(2, "other")]["teacher_flops"] == 11
    assert costs[run(2, "other")]["target_kwh"] == 0  # it reads none, so none was used


def test_teachers_do_not_share_costs(tmp_path: Path) -> None:
    path = shard(tmp_path, range(2))
    costs = teacher_costs({run(2): path, run(2, teacher="calm"): path})
    assert {cost["teacher_flops_amortised"] for cost in costs.values()} == {11.0}


@pytest.mark.parametrize("layer_kwh", [0.25, None])
def test_soft_targets_are_shared_by_the_runs_of_their_cache(
    tmp_path: Path, layer_kwh: float | None
) -> None:
    schema = SCHEMA
    for prefix in ("target_", "layer_"):
        for field in cost_fields(prefix):
            schema = schema.append(pa.field(*field))
    rows: list[dict[str, Any]] = [
        {"row": row, "teacher_flops": 1.0, "teacher_seconds": 1.0, "target_flops": 10.0**row}
        | {"target_seconds": row + 1.0, "layer_flops": 2.0, "layer_seconds": None}
        | {"target_kwh": row + 0.5, "target_kwh_estimated": 0.0, "layer_kwh": layer_kwh}
        | {"layer_kwh_estimated": layer_kwh}
        for row in range(2)
    ]
    path, text = tmp_path / "soft.parquet", shard(tmp_path, range(2))
    write_rows(path, rows, schema)
    soft, small = replace(run(2), cache="c"), replace(run(2, "other"), cache="c")
    other = replace(soft, cache="d")
    costs = teacher_costs({soft: path, small: path, other: path, run(2): text})
    assert costs[run(2)]["target_flops"] == 0
    assert costs[soft]["target_flops"] == 1 + 10 + 2 * 2
    assert costs[soft]["target_seconds"] == 1 + 2
    assert costs[soft]["target_flops_amortised"] == pytest.approx(15 / 2)
    wanted = None if layer_kwh is None else pytest.approx((0.5 + 1.5 + 2 * 0.25) / 2)
    assert costs[soft]["target_kwh_amortised"] == wanted
    assert costs[run(2)]["target_kwh"] == 0
    assert costs[other]["target_flops_amortised"] == pytest.approx(15)
    # Text is shared by all four, whatever they read beside it.
    assert costs[other]["teacher_flops_amortised"] == pytest.approx(2 / 4)


def chosen(path: Path, read: dict[int, str | None], filter_flops: float) -> Path:
    """Decisions of a curation: why each row was dropped, None where it was kept."""
    rows = [
        {"id": str(row), "row": row, "dropped": reason, "corrupted": False, "teacher_loss": None,
         "teacher_flops": 10.0**row, "teacher_seconds": row + 1.0, "filter_flops": filter_flops,
         "filter_seconds": filter_flops / 100, "teacher_kwh": 2.0**row,
         "teacher_kwh_estimated": 0.0, "filter_kwh": filter_flops / 10,
         "filter_kwh_estimated": filter_flops / 10}
        for row, reason in read.items()
    ]  # fmt: skip
    write_rows(path, rows, DECISIONS_SCHEMA)
    return path


def test_rows_that_a_curation_dropped_are_counted_and_shared(tmp_path: Path) -> None:
    raw = run(3)
    clean, scored = (replace(run(2), curation=name) for name in ("clean", "scored"))
    shards: dict[Run, str | Path | None] = {
        raw: shard(tmp_path, range(3)),
        clean: shard(tmp_path, [0, 3]),
        scored: shard(tmp_path, [1, 3]),
    }
    dropped = {0: None, 1: "too long", 2: "too long", 3: None}
    unlikely = {0: "high teacher loss", 1: None, 3: None}
    decisions: dict[Run, str | Path | None] = {
        raw: None,
        clean: chosen(tmp_path / "clean.parquet", dropped, 0.0),
        scored: chosen(tmp_path / "scored.parquet", unlikely, 5.0),
    }
    costs = teacher_costs(shards, decisions)
    assert costs[raw]["teacher_flops"] == 111
    assert costs[clean]["teacher_flops"] == 1111
    assert costs[scored]["teacher_flops"] == 1011 + 3 * 5
    assert costs[scored]["teacher_seconds"] == pytest.approx(1 + 2 + 4 + 3 * 0.05)
    assert costs[scored]["teacher_kwh"] == pytest.approx(1 + 2 + 8 + 3 * 0.5)
    # Rows 0 and 1 are used by all three, 2 by raw and clean, 3 by clean and scored.
    share = 1 / 3 + 10 / 3 + 100 / 2
    assert costs[raw]["teacher_flops_amortised"] == pytest.approx(share)
    assert costs[clean]["teacher_flops_amortised"] == pytest.approx(share + 1000 / 2)
    total = sum(cost["teacher_flops_amortised"] for cost in costs.values())
    assert total == pytest.approx(1111 + 3 * 5)
    again = replace(scored, student="other")
    twice = teacher_costs(
        {**shards, again: shards[scored]}, {**decisions, again: decisions[scored]}
    )
    total = sum(cost["teacher_flops_amortised"] for cost in twice.values())
    assert total == pytest.approx(1111 + 3 * 5)


def test_combined_scores_by_hand() -> None:
    scores = combined_scores(WEIGHTS, 4.0, 0.5, 100.0, 0.8, 300.0)
    assert scores["combined"] == pytest.approx(0.5 / 4 + 0.3 * 0.5 + 0.2 * 100)
    assert scores["combined_normalised"] == pytest.approx(0.4 + 0.15 + 0.2 * 0.25)
    assert scores["combined_mean"] == pytest.approx(0.65)
    for missing in ((None, 300.0), (0.8, None)):
        alone = combined_scores(WEIGHTS, 4.0, 0.5, 100.0, *missing)
        mean = None if missing[0] is None else scores["combined_mean"]
        assert alone == {**scores, "combined_normalised": None, "combined_mean": mean}
    disturbed = combined_scores(WEIGHTS, 4.0, 0.5, None, 0.8, 300.0)
    both = {"combined": None, "combined_normalised": None}
    assert disturbed == {**both, "combined_mean": scores["combined_mean"]}


@pytest.mark.parametrize(
    ("loss", "entropy", "teacher", "score"),
    [
        (1.0, 5.0, 1.0, 1.0),
        (0.5, 5.0, 1.0, 1.0),
        (2.0, 5.0, 1.0, 0.75),
        (5.0, 5.0, 1.0, 0.0),
        (9.0, 5.0, 1.0, 0.0),
        (5.0, 3.0, 4.0, 0.0),  # a teacher worse than word frequencies
        (5.0, 3.0, 3.0, 0.0),
        (2.0, 3.0, 4.0, 1.0),
    ],
)
def test_the_normalised_loss_lies_between_its_anchors(
    loss: float, entropy: float, teacher: float, score: float
) -> None:
    assert normalised_loss(loss, entropy, teacher) == pytest.approx(score)


RECORD: dict[str, Any] = {
    "model": {"params": 1000, "params_non_embedding": 400, "size_mb": 1.5},
    "training": {"updates": 3, "tokens_seen": 80, "tokens_unique": 40, "train_flops": 10**12,
                 "train_seconds": 2.5, "peak_memory_mb": 640.0, "energy_kwh": 3.0,
                 "energy_kwh_estimated": 3.0},
    "heldout": {"unseen_token_share": 0.1, "loss": 2.0, "loss_stderr": 0.1, "loss_teacher": 1.0,
                "perplexity": math.exp(2), "bits_per_byte": 0.9, "kl_teacher": 1.1, "kl_floor": 0.0,
                "top1_agreement": 0.5, "ece": 0.07, "unigram_entropy": 5.0},
    "answers": None,
    "answers_validation": None,
    "reference": {"loss": 3.0, "bits_per_byte": 1.2},
    "instructions": {"fixed": {"rate": 0.2, "low": 0.1, "high": 0.3}, "large": {"rate": 0.25}},
}  # fmt: skip
for name in ("model", "training", "heldout"):  # columns that no test here is about
    RECORD[name] = dict.fromkeys(keys_in(name), 0.5) | RECORD[name]
SPEED = {"tokens_per_second": 100.0, "tokens_per_second_median": 101.0, "ttft_ms": 2.0,
         "peak_memory_mb": 9.0, "flops_per_token": 2000, "disturbed": 0}  # fmt: skip
SPEC = {"study": "demo", "task": "instruction", "init": {"small": "cut"}, "weights": WEIGHTS}


def table(
    tmp_path: Path,
    record: dict[str, Any],
    teacher: float | None = 300.0,
    caches: dict[Run, dict[str, Any] | None] | None = None,
) -> Any:
    runs = [run(2), run(0)]
    return runs_table(
        {runs[0]: record, runs[1]: RECORD},
        {runs[0]: shard(tmp_path, range(2)), runs[1]: None},
        dict.fromkeys(runs, SPEED),
        {"big": teacher},
        SPEC,
        caches or {},
    )


def test_the_runs_table_has_a_row_per_run(tmp_path: Path) -> None:
    made = table(tmp_path, RECORD)
    assert list(made.columns) == list(COLUMNS)
    assert list(made["samples"]) == [0, 2]
    assert list(made["method"]) == ["none", "sft"]
    assert list(made["teacher_flops"]) == [0, 11]
    wanted = combined_scores(WEIGHTS, math.exp(2), 0.2, 100.0, 0.75, 300.0)
    for name, value in wanted.items():
        assert made[name][0] == pytest.approx(value)
    write_runs(made, tmp_path / "runs.parquet", tmp_path / "runs.csv")
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert lines[0].split(",") == list(COLUMNS)
    assert len(lines) == 3


def test_what_differs_between_rows_is_said() -> None:
    def made(**changed: Any) -> dict[str, Any]:
        training = {"precision": changed.pop("trained", "bf16")}
        machine = {"cpu": changed.pop("cpu", "A"), "cpus": 2, "gpu": None}
        versions = {"torch": changed.pop("torch", "1")}
        return {"training": training, "hardware": machine, "versions": versions,
                "precision": changed.pop("judged", "bf16")}  # fmt: skip

    untrained = made(trained=None)
    teacher = made(judged="fp32")
    del teacher["training"]
    assert mixtures([made(), untrained, teacher]) == []
    for changed, words in (
        ({"trained": "fp32"}, "trained in bf16 and fp32"),
        ({"judged": "fp32"}, "evaluated in bf16 and fp32"),
        ({"cpu": "B"}, "several machines"),
        ({"torch": "2"}, "rows mix torch 1 and 2"),
    ):
        (said,) = mixtures([made(), untrained, made(**changed)])
        assert words in said


def test_the_energy_of_a_run_is_its_trainings_and_its_teachers(tmp_path: Path) -> None:
    made = table(tmp_path, RECORD).iloc[1]
    assert made["train_kwh"] == 3
    assert made["teacher_kwh_amortised"] == made["teacher_kwh"] == 1 + 2
    assert made["total_kwh"] == made["total_kwh_amortised"] == 3 + 3
    assert made["kwh_estimated"] == pytest.approx((3 + 3 / 4) / 6)


def test_a_record_of_an_earlier_version_has_no_energy(tmp_path: Path) -> None:
    record = copy.deepcopy(RECORD)
    del record["training"]["energy_kwh"], record["training"]["energy_kwh_estimated"]
    made = table(tmp_path, record).iloc[1]
    assert made[["train_kwh", "total_kwh", "total_kwh_amortised", "kwh_estimated"]].isna().all()
    assert made["teacher_kwh"] == 3
    assert made["total_flops"] == 10**12 + 11


def test_a_live_teachers_work_belongs_to_its_run_alone(tmp_path: Path) -> None:
    record = copy.deepcopy(RECORD)
    record["training"]["target_flops"] = 7 * 10**11
    plain, live = table(tmp_path, RECORD).iloc[1], table(tmp_path, record).iloc[1]
    for suffix in ("", "_amortised"):
        assert live[f"target_flops{suffix}"] == 7e11
        assert live[f"total_flops{suffix}"] == plain[f"total_flops{suffix}"] + 7e11
    for name in ("train_flops", "teacher_flops", "train_seconds", "target_seconds"):
        assert live[name] == plain[name]


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("heldout", "loss", float("nan")),
        ("heldout", "kl_teacher", float("nan")),
        ("heldout", "bits_per_byte", float("inf")),
        ("heldout", "loss_stderr", None),
        ("heldout", "ece", None),
        ("training", "train_flops", float("nan")),
        ("training", "train_seconds", None),
    ],
)
def test_a_metric_that_is_no_number_is_refused_with_its_run(
    tmp_path: Path, section: str, name: str, value: Any
) -> None:
    record = copy.deepcopy(RECORD)
    record[section][name] = value
    with pytest.raises(UserError, match=f"{name} of small, sft, n = 2 is {value}"):
        table(tmp_path, record)


def test_a_ready_made_teacher_leaves_its_columns_null(tmp_path: Path) -> None:
    record = copy.deepcopy(RECORD)
    record["heldout"] |= dict.fromkeys(("loss_teacher", "kl_teacher", "kl_floor", "top1_agreement"))
    made = table(tmp_path, record, teacher=None)
    nulls = ["loss_teacher", "kl_teacher", "kl_floor", "top1_agreement"]
    nulls += ["combined_normalised", "combined_mean"]
    nulls += ["pseudo_perplexity", "forward_ms"]
    nulls += ["bleu", "rouge_l", "bleu_validation"]
    nulls += ["cache_bytes_per_token", "cache_kept_mass", "cache_entropy"]
    assert made.iloc[1][nulls].isna().all()
    assert made.iloc[1].drop(nulls).notna().all()


def test_totals_caches_and_answers_are_in_the_row(tmp_path: Path) -> None:
    record = copy.deepcopy(RECORD)
    record["answers"] = {"bleu": 0.12, "rouge_l": 0.3}
    record["answers_validation"] = {"bleu": 0.2, "rouge_l": 0.4}
    cache = {"bytes_per_token": 96.5, "kept_mass": 0.97, "entropy": 1.1, "tokens": 9}
    row = table(tmp_path, record, caches={run(2): cache}).iloc[1]
    assert row["total_flops"] == row["train_flops"] + row["teacher_flops"] == 10**12 + 11
    assert row["total_flops_amortised"] == 10**12 + 11
    assert (row["bleu"], row["rouge_l"], row["ece"]) == (0.12, 0.3, 0.07)
    assert (row["bleu_validation"], row["train_peak_memory_mb"]) == (0.2, 640.0)
    kept = (row["cache_bytes_per_token"], row["cache_kept_mass"], row["cache_entropy"])
    assert kept == (96.5, 0.97, 1.1)


def test_samples_show_draw_zero_and_the_first_seed() -> None:
    answers: list[dict[str, Any]] = [
        {"set": "fixed", "id": "f", "prompt": "p", "text": "no", "passed": True},
        {"set": "test", "id": "test-1", "prompt": "p", "text": "yes", "passed": None},
    ]
    shown = qualitative_samples({run(2): answers, run(2, draw=1): answers}, {"big": answers})
    (prompt,) = shown["prompts"]
    assert prompt["teacher"] == {"big": "yes"}
    assert [entry["text"] for entry in prompt["students"]] == ["yes"]


def test_altered_responses_are_named(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    path.write_text('{"set": "test", "text": "Boats."}\n')
    digest = sha256_of(path)
    assert read_responses(path, digest) == [{"set": "test", "text": "Boats."}]
    for wrong in ('{"set": "test", "text": "Boots."}\n', '{"set": "te'):
        path.write_text(wrong)
        with pytest.raises(
            UserError, match=rf"{path} is not as it was written .*; delete it and run"
        ):
            read_responses(path, digest)
    path.unlink()
    with pytest.raises(UserError, match=rf"{path} is not as it was written"):
        read_responses(path, digest)


def test_students_are_compared_within_their_draw_and_seed() -> None:
    dummy = {"fixed": {"a": True, "b": False}}
    runs = [run(2, name, draw=draw) for draw in (0, 1) for name in ("small", "large")]
    results = [{"a": True, "b": n % 2 == 0} for n in range(4)]
    records = {
        one: {"instructions": {"fixed": {"results": found}}}
        for one, found in zip(runs, results, strict=True)
    }
    tests = paired_tests(records, dummy)
    found = {(t["student"], t["draw"], t["against"]): t["only_first"] for t in tests}
    assert len(tests) == len(found) == 4 + 2
    assert found["small", 0, "dummy"] == 1
    assert found["large", 1, "dummy"] == 0
    assert {key[:2] for key in found if key[2] == "small"} == {("large", 0), ("large", 1)}
    assert all(t["only_second"] == 1 for t in tests if t["against"] == "small")
    assert all(test | mcnemar([True] * test["only_first"] + [False] * test["only_second"],
                              [False] * test["only_first"] + [True] * test["only_second"]) == test
               for test in tests)  # fmt: skip
