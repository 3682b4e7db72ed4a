import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from distill.config.checks.study import parse_study
from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.files import read_json
from distill.core.parquet import write_rows
from distill.costs import calibration
from distill.costs.architectures import read_architecture, read_models
from distill.costs.jobs import Forecast
from distill.costs.row_lengths import read_lengths
from distill.costs.show import render, summarise, wall_seconds
from distill.costs.work import (
    Architecture,
    Lengths,
    Machine,
    Probe,
    Speed,
    Work,
    cache_bytes_per_token,
    checkpoint_bytes,
    forward_work,
    generation_work,
    layer_bytes_per_token,
    makespan,
    student_bytes,
    training_memory,
    training_work,
    updates_of,
)
from distill.models.flops import FlopModel, count_parameters
from distill.plan.study import Plan
from distill.targets.encoding import encode_targets
from distill.targets.format import Scheme, bytes_per_token, target_schema
from distill.training.run import train_student
from pools import prompts_of

FLOPS = FlopModel(1000, 10, 300)
TRAIN: dict[str, Any] = {
    "batch_size": 4, "micro_batch_size": None, "epochs": 2, "max_updates": None, "lora": None,
    "gradient_checkpointing": False, "early_stopping": None, "checkpoint_updates": 500,
}  # fmt: skip
CE = {"ce": 1.0, "soft": [], "tokens": "answer"}
KD = {"ce": 0.0, "soft": ["forward_kl"], "tokens": "all"}


def machine(speed: float = 1e9) -> Machine:
    return Machine(
        speed=lambda probe: Speed(speed, speed / 2),
        encoding=lambda spec, vocabulary, threads: 1e-4,
        precision=lambda named: "fp32",
        optimiser=1e-9,
        update=0.01,
        start=5.0,
        analysis_start=1.0,
        runtime=5e8,
    )


def test_work_agrees_with_the_closed_forms_of_flops() -> None:
    for length, answer in ((1, 1), (7, 3), (40, 40)):
        assert forward_work(FLOPS, length, answer).flops == FLOPS.sequence_forward(length, answer)
        assert generation_work(FLOPS, length, answer).flops == FLOPS.generation(length, answer)
    assert generation_work(FLOPS, 5, 0) == Work()
    assert forward_work(FLOPS, 7, 3).head == 3 * FLOPS.head_per_token


def test_training_work_counts_passes_epochs_and_the_scored_tokens() -> None:
    rows = Counter([(3.0, 2.0), (5.0, 4.0), (4.0, 1.0)])
    once = sum(FLOPS.sequence_training(int(p + a), int(a)) for p, a in rows)
    assert training_work(FLOPS, rows, CE, TRAIN).flops == 2 * once
    one = TRAIN | {"max_updates": 1}
    assert updates_of(3, one) == 1
    assert training_work(FLOPS, rows, CE, one).flops == once
    lora = TRAIN | {"epochs": 1, "lora": {"rank": 2}}
    assert training_work(FLOPS, rows, CE, lora).flops == pytest.approx(once * 2 / 3)
    again = TRAIN | {"epochs": 1, "gradient_checkpointing": True}
    assert training_work(FLOPS, rows, CE, again).flops == pytest.approx(once * 4 / 3)
    everywhere = training_work(FLOPS, rows, KD, TRAIN, teacher_head=50)
    scored = sum(p + a - 1 for p, a in rows)
    assert everywhere.head == 2 * (3 * FLOPS.head_per_token + 2 * 50) * scored
    assert training_work(FLOPS, Counter(), CE, TRAIN) == Work()
    many = Counter({(3.0, 2.0): 4 * 10**9})
    assert training_work(FLOPS, many, CE, TRAIN).flops == FLOPS.sequence_training(5, 2) * 8 * 10**9


def test_updates_round_the_last_batch_up() -> None:
    assert [updates_of(n, TRAIN) for n in (1, 4, 5, 9)] == [2, 2, 4, 6]


def test_known_rows_keep_their_lengths_and_answers_are_cut() -> None:
    lengths = Lengths(10.0, 20.0, measured=True, known={0: (4, 6), 2: (8, 30)})
    assert lengths.rows([0, 1, 2], 25) == Counter([(4, 6), (10.0, 15.0), (8, 17)])
    unknown = Lengths(10.0, 20.0)
    assert unknown.rows(range(10**9), 25) == {(10.0, 15.0): 10**9}


def test_jobs_are_packed_on_cores() -> None:
    jobs = [(4.0, 1), (3.0, 1), (2.0, 1), (1.0, 1)]
    assert [makespan(jobs, cores) for cores in (1, 2, 4)] == [10, 5, 4]
    assert makespan(jobs, 4, most=1) == 10
    assert makespan([(2.0, 2), (2.0, 2)], 3) == 4
    assert makespan([(2.0, 8)], 2) == 2  # a job never takes more than all cores
    assert makespan([], 2) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "llama-tied", "gpt2", "qwen2"])
def test_an_architecture_is_that_of_the_model_with_weights(kind: str, tmp_path: Path) -> None:
    words = tiny.tokenizer()
    model = tiny.model(kind, len(words))
    found = read_architecture(tiny.save(tmp_path, model, words))
    assert (found.params, found.body_params) == count_parameters(model)
    assert found.flops == FlopModel.from_model(model)
    saved = (tmp_path / "model.safetensors").stat().st_size
    assert 4 * found.params == pytest.approx(saved, rel=0.1)  # the header is large in a tiny file
    assert student_bytes(found) - found.files == 4 * found.params
    ids = torch.arange(5).unsqueeze(0)
    cache = model(input_ids=ids, use_cache=True).past_key_values
    held = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert found.kv * 5 == held


def test_students_are_read_without_weights(tmp_path: Path) -> None:
    words = tiny.tokenizer()
    folder = tiny.save(tmp_path, tiny.model("llama", len(words)), words)
    (tmp_path / "model.safetensors").unlink()  # only the config is needed
    cut = read_architecture(folder, {"init": "cut", "layers": 1, "config": {}, "seed": 0})
    assert (cut.params, cut.body_params) == count_parameters(
        tiny.model("llama", len(words), num_hidden_layers=1)
    )
    entries = {"hidden_size": 16, "num_hidden_layers": 1}
    random = read_architecture(
        folder, {"init": "random", "layers": None, "config": entries, "seed": 0}
    )
    assert count_parameters(tiny.model("llama", len(words), **entries)) == (
        random.params, random.body_params,
    )  # fmt: skip


def test_memory_is_the_sum_of_what_is_held() -> None:
    model = Architecture(1000, 400, FLOPS, 8, 100, 2, 2, activations=60, kv=16)
    train = TRAIN | {"micro_batch_size": 2}
    parts = 16 * 1000 + 2 * 10 * 60 * 4 + 3 * 2 * 2 * 100 * 2 * 4 + 8 * 100 * 4
    parts += 2 * 2 * 5 * 100 * 4
    assert training_memory(model, train, 10, 5, "fp32", 1e6) == 1e6 + parts
    less = train | {"lora": {"rank": 1}}
    assert training_memory(model, less, 10, 5, "fp32", 0) < training_memory(
        model, train, 10, 5, "fp32", 0
    )
    assert checkpoint_bytes(model, TRAIN, 500) == 0
    assert checkpoint_bytes(model, TRAIN, 501) == 12 * 1000
    assert checkpoint_bytes(model, TRAIN | {"early_stopping": {"every": 1}}, 1) == 2 * 12 * 1000


@pytest.mark.parametrize(
    ("settings", "measured"),
    [
        ({"draws": 600}, 59.0), ({"draws": 250}, 39.1), ({"draws": 100}, 26.7),
        ({"draws": 200}, 32.6), ({"draws": 50}, 18.7), ({"draws": 12}, 11.2),
        ({"k": 16}, 47.1), ({"k": 8}, 25.2),
    ],
)  # fmt: skip
def test_bytes_per_token_are_near_those_measured(
    settings: Mapping[str, int], measured: float
) -> None:
    scheme = "sampled" if "draws" in settings else "top_k"
    spec = {"scheme": scheme, "k": None, "draws": None, "log_p": False, "bits": 8}
    found = cache_bytes_per_token(spec | {"temperatures": []} | dict(settings), 576, 49_152)
    assert found == pytest.approx(measured, rel=0.12)


def test_bytes_per_token_bound_what_is_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    logs = torch.log_softmax(torch.randn(400, 300), -1)
    for entry in (
        {"scheme": "top_k", "k": 5}, {"scheme": "top_k_tail", "k": 9, "bits": 16},
        {"scheme": "dense"}, {"scheme": "top_k", "k": 4, "temperatures": (2.0,)},
    ):  # fmt: skip
        scheme = Scheme(**entry)
        row = {"id": "a", "tokens": 400, "flops": 0.0, "seconds": 0.0}
        row |= encode_targets(logs, scheme, "a")
        write_rows(tmp_path / "c.parquet", [row], target_schema(scheme))
        spec = {"k": None, "draws": None, "log_p": False, "bits": 8, "temperatures": ()}
        bound = cache_bytes_per_token(spec | entry, 32, 300)
        assert 0.6 * bound < bytes_per_token([tmp_path / "c.parquet"]) <= 1.05 * bound + 1
    layers = {"layers": [1, 2], "width": None, "bits": 8}
    assert layer_bytes_per_token(layers, 32) == 2 * (32 + 4)
    assert layer_bytes_per_token(None, 32) == 0


@pytest.fixture
def study(tmp_path: Path) -> tuple[Plan, Path]:
    """A plan whose model is in place, and where it lies."""
    config = tiny.study()
    config["students"]["fresh"]["config"] = {"num_hidden_layers": 1, "hidden_size": 16}
    config["train"] = {"epochs": 1, "batch_size": 4}
    config["prompts"]["max_tokens"] = 20
    config["caches"] = {"top": {"scheme": "top_k", "k": 4}}
    config["methods"]["kd"] = {"forward_kl": 1.0}
    config["runs"].append(config["runs"][0] | {"methods": ["kd"], "caches": ["top"]})
    plan, words = Plan(parse_study(config)), tiny.tokenizer()
    folder = (tmp_path / plan.sources.manifest("base")).parent
    tiny.save(folder, tiny.model("llama", len(words)), words)
    (folder / "manifest.json").write_text("{}")
    return plan, tmp_path


def forecast(plan: Plan, root: Path) -> Forecast:
    models = read_models(plan, root)
    lengths = {
        name: read_lengths(plan, name, tokens, root) for name, tokens in models.template.items()
    }
    return Forecast(plan, models, lengths, machine(), ["perplexity"], root)


def test_every_promised_file_has_one_job(study: tuple[Plan, Path]) -> None:
    plan, root = study
    jobs = forecast(plan, root).jobs
    for run in plan.runs:
        expected = {plan.training.file(run, name) for name in ("training.json", "metrics.json")}
        expected |= {plan.students.file(run.student)}
        if run.samples:
            expected |= {plan.shards.file(run), *plan.shards.texts(run), *plan.shards.targets(run)}
        assert expected <= jobs.keys()
    assert set(plan.efficiency.files) <= jobs.keys()
    assert {prompts_of(plan).part("test", part) for part in (0, 1)} <= jobs.keys()
    assert sum("/raw/train" in name for name in jobs if "prompts" in name) == 4
    assert all(job.seconds > 0 and not job.done for job in jobs.values())


@pytest.mark.slow
def test_limits_hold_until_text_exists_and_then_its_own_lengths(study: tuple[Plan, Path]) -> None:
    plan, root = study
    before = forecast(plan, root)
    assert {row["tokens_basis"] for row in before.rows} == {"limit"}
    run = next(r for r in plan.runs if r.samples == 16 and r.draw == 0 and r.method == "sft")
    row = before.rows[plan.runs.index(run)]
    assert row["tokens_seen"] == 16 * plan.study.teachers["big"].max_tokens
    words = tiny.tokenizer()
    texts = [tiny.text_row(words, number, "Bake bread.", "a" * (number + 1)) for number in range(16)]  # fmt: skip  # noqa: E501
    part = root / plan.text.part("big", "train", 0)
    write_rows(part, texts, TEXT_SCHEMA, spec={})
    after = forecast(plan, root)
    row = after.rows[plan.runs.index(run)]
    flops = after.models.students[run.student].flops
    sizes = [(len(text["prompt_ids"]), len(text["response_ids"])) for text in texts]
    assert row["tokens_basis"] == "measured"
    assert row["tokens_seen"] == sum(answer for _, answer in sizes)
    assert row["train_flops"] == sum(flops.sequence_training(p + a, a) for p, a in sizes)
    assert [job.done for name, job in after.jobs.items() if name.endswith("train-00000.parquet")
            and "/text/" in name] == [True]  # fmt: skip


def test_the_plan_is_printed(study: tuple[Plan, Path]) -> None:
    plan, root = study
    made = forecast(plan, root)
    jobs = list(made.jobs.values())
    summary = summarise(jobs, [1, 2], 4)
    one, two = summary["wall"]
    assert one["seconds"] == pytest.approx(summary["all"]["seconds"])
    assert one["seconds"] / 2 <= two["seconds"] < one["seconds"]
    assert wall_seconds([], 2, 4) == 0
    assert math.isclose(sum(s["flops"] for s in summary["stages"].values()),
                        summary["all"]["flops"])  # fmt: skip
    calibration = {
        "seconds": 9.0, "threads": 1, "bf16_gains": False, "hardware": {"gpu": None, "cpu": "CPU"},
        "gemm_flops_per_s": {"fp32": 5e10, "bf16": 4e10},
    }  # fmt: skip
    text = render("demo", made.rows, summary, calibration, ["A note."])
    lines = text.splitlines()
    assert "estimates, calibrated for 9 s on CPU" in lines[0]
    assert sum(line.startswith(("small", "fresh")) for line in lines) == len(plan.runs)
    assert "Wall time on 2 core(s)" in text
    assert lines[-1] == "A note."
    assert max(map(len, lines[4:])) < 160


@pytest.mark.slow
def test_the_default_study_is_planned_from_its_teachers_config(tmp_path: Path) -> None:
    import yaml

    file = Path(__file__).parents[2] / "config.yaml"
    plan, words = Plan(parse_study(yaml.safe_load(file.read_text()))), tiny.tokenizer()
    source = plan.study.students["layers2"].source
    folder = (tmp_path / plan.sources.manifest(source)).parent
    shape = tiny.config("llama-tied", 49_152, hidden_size=576, intermediate_size=1536,
                        num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3)  # fmt: skip  # noqa: E501
    shape.save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "manifest.json").write_text("{}")
    made = forecast(plan, tmp_path)
    teacher = made.models.teachers["smollm2"]
    assert (teacher.params, teacher.body_params) == (134_515_008, 106_203_456)
    assert len(made.rows) == len(plan.runs)
    rows = {(r["student"], r["samples"]): r for r in made.rows}
    assert rows["layers2", 160]["params"] == 35_392_320
    assert rows["layers2", 160]["updates"] == 20
    assert rows["layers4", 0]["train_flops"] == 0


@pytest.mark.slow
def test_estimates_match_a_real_run(tmp_path: Path) -> None:
    words = tiny.tokenizer()
    initial = tiny.save(tmp_path / "initial", tiny.model("llama", len(words)), words)
    texts = tiny.uneven_rows(words, 10)
    shard = tiny.shard(tmp_path / "shard.parquet", words, texts)
    study = parse_study(tiny.study() | {"train": {"epochs": 2, "batch_size": 4, "max_length": 90}})
    spec = {
        "formatting": {"template": "{prompt}", "system": None},
        "method": study.methods["sft"].model_dump(exclude={"train", "search"}),
        "train": study.train.model_dump(), "seed": 0, "shard": {},
    }  # fmt: skip
    out = tmp_path / "student" / "training.json"
    run = {"student": "s", "samples": 10, "teacher": "t", "study": "x", "init": "cut",
           "method": "sft", "draw": 0, "seed": 0}  # fmt: skip
    train_student(initial, shard, out, spec, run, tag="t")
    record, model = read_json(out), read_architecture(initial)
    known = {n: (len(t["prompt_ids"]), len(t["response_ids"])) for n, t in enumerate(texts)}
    each = Lengths(1, 1, True, known).rows(range(10), 90)
    assert record["updates"] == updates_of(10, study.train.model_dump())
    assert record["tokens_seen"] == 2 * sum(answer * count for (_, answer), count in each.items())
    found = training_work(model.flops, each, CE, study.train.model_dump()).flops
    assert found == pytest.approx(record["train_flops"], rel=1e-12)
    kept = ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json",
            "generation_config.json", "chat_template.jinja")  # fmt: skip
    size = sum((out.parent / name).stat().st_size for name in kept)
    assert student_bytes(model) == pytest.approx(size, rel=0.05)


@pytest.mark.slow
def test_calibration_measures_each_speed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "BUDGET", 0.01)
    made = calibration.Calibration(1)
    for kind in ("train", "score", "decode", "single"):
        probe = Probe(kind, 32, 300, "fp32", 1, 4 if kind == "decode" else 1)
        first = made.speed(probe)
        assert made.speed(probe) is first
        assert 1e5 < first.body < 1e15
        assert 1e5 < first.head < 1e15
    spec = {"scheme": "top_k", "k": 4, "draws": None, "log_p": False, "bits": 8,
            "temperatures": [], "seed": 0}  # fmt: skip
    few = made.encoding(spec, 300, 1)
    assert 0 < few == made.encoding(spec, 300, 1) < made.encoding(spec, 50_000, 1)
    assert len(made.encodings) == 2
    assert 0 < calibration.optimiser_seconds(1) < calibration.update_seconds()
    assert torch.get_num_threads() == 1


@pytest.mark.slow
def test_a_starting_job_is_timed() -> None:
    seconds, held = calibration.start_of_job("json")
    more_seconds, more_held = calibration.start_of_job("pandas")
    assert 0 < seconds < more_seconds
    assert 0 < held < more_held
