"""Forecasts of studies with trimmed vocabularies, trained teachers, corpora and curations."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import teaching
import tiny
from distill.config.checks.study import parse_study
from distill.contracts.run import Run
from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.errors import UserError
from distill.core.parquet import write_rows
from distill.costs.architectures import read_architecture, read_models
from distill.costs.jobs import RULES, Forecast
from distill.costs.row_lengths import read_lengths
from distill.costs.show import notes_of, render, summarise
from distill.costs.work import Architecture, saving_memory, student_bytes
from distill.models.building import build_student
from distill.models.flops import FlopModel, count_parameters
from distill.models.vocabulary import Vocabulary, expand_model
from distill.plan.study import Plan
from machines import MACHINE
from pools import prompts_of

TRIMMED = {"size": 120, "teacher": "big"}


def _config() -> dict[str, Any]:
    """A study with all that is more than a teacher, a student and rows of the pool."""
    config = tiny.study()
    config["prompts"] |= {"pool": 128, "max_tokens": 20}
    config["sources"]["books"] = {"path": "data/books.jsonl", "fields": {"text": "body"}}
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    config["students"] = {
        "small": {"init": "cut", "source": "base", "layers": 2},
        "fresh": {"init": "random", "source": "base", "config": small, "vocabulary": TRIMMED},
        "other": {"init": "random", "source": "base", "config": small | {"hidden_size": 24}},
    }
    config["train"] = {"epochs": 1, "batch_size": 4}
    config["caches"] = {
        "top": {"scheme": "top_k", "k": 4}, "exact": {"scheme": "final_hidden"},
    }  # fmt: skip
    config["methods"] |= {
        "kd": {"forward_kl": 1.0},
        "tuned": {"search": "rates"},
        "scratch": {"ce": 1.0, "corpus": "books", "corpus_tokens": 24},
    }
    space = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    config["searches"] = {
        "rates": {
            "student": "other", "teacher": "big", "method": "sft", "samples": 16,
            "trials": 3, "space": space,
        }
    }  # fmt: skip
    config["teachers"]["own"] = {
        "trained": {"student": "fresh", "teacher": "big", "method": "kd", "cache": "top",
                    "samples": 32},
    }  # fmt: skip
    config["curations"] = {
        "likely": {"surplus": 2.0, "teacher_loss": {"max_quantile": 0.7}},
        "swapped": {"corrupt": {"share": 0.5, "kind": "replace_response"}},
    }
    block = {"students": ["small"], "teachers": ["big"], "methods": ["sft"], "samples": [16, 40]}
    config["runs"] = [
        block | {"curations": ["raw", "likely", "swapped"]},
        block | {"methods": ["kd"], "caches": ["top", "exact"], "curations": ["likely"]},
        block | {"students": ["fresh"], "methods": ["scratch"], "draws": [0, 1]},
        block | {"teachers": ["own"], "methods": ["sft", "kd"], "caches": ["exact"]},
        block | {"methods": ["tuned"], "samples": [16]},
    ]
    return config


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan whose model is in place, and where it lies."""
    root, words = tmp_path_factory.mktemp("planned"), tiny.tokenizer()
    plan = Plan(parse_study(_config()))
    folder = (root / plan.sources.manifest("base")).parent
    tiny.save(folder, tiny.model("llama", len(words)), words)
    (folder / "manifest.json").write_text("{}")
    return plan, root


def _forecast(plan: Plan, root: Path) -> Forecast:
    models = read_models(plan, root)
    lengths = {
        name: read_lengths(plan, name, tokens, root) for name, tokens in models.template.items()
    }
    return Forecast(plan, models, lengths, MACHINE, ["perplexity"], root)


def _expected(plan: Plan) -> set[str]:
    """Outputs that the rules make of a plan, one per job, by its own lists."""
    unlisted = [run for run in plan.teachers.trained_runs if run not in plan.runs]
    trained = [*plan.runs, *unlisted]
    fed = [run for run in trained if run.samples] + [
        plan.searches.run(n) for n in plan.searches.names
    ]
    read = [run for run in fed if plan.corpora.of(run) is None]
    texts = {
        path for run in read for path in plan.curations.texts(run) + plan.curations.donors(run)
    }
    texts |= set(plan.text.held_out("big", "test") + plan.text.held_out("own", "test"))
    texts |= set(plan.text.held_out("big", "validation"))  # of the vocabulary and the search
    cached = [run for run in read if run.cache != "none"]
    heads = {head for run in cached for head in plan.targets.heads(run.teacher, run.cache)}
    losses = {path for run in read for path in plan.curations.losses(run)}
    last = max(row for run in read for row in plan.rows.of(run)) // plan.pool.settings.part_size
    parts = [("train", part) for part in range(last + 1)]
    parts += [(s, p) for s in ("test", "validation") for p in plan.pool.parts(s)]
    shards = {plan.shards.file(run) for run in fed}
    return {
        *(prompts_of(plan).part(*part, raw=raw) for part in parts for raw in (True, False)),
        *texts, *heads, *losses, *map(plan.scorers.head, plan.teachers.models),
        *(path for run in cached for path in plan.shards.manifest(run)),
        *(path for run in cached if run.cache == "top" for path in plan.shards.targets(run)),
        *(plan.students.file(name) for name in plan.study.students),
        *plan.curations.files, *shards,
        *(str(Path(path).parents[1] / "README.md") for path in plan.shards.files),
        *map(plan.searches.file, plan.searches.names),
        *(plan.training.file(run, "training.json") for run in trained),
        *(plan.training.file(run, "metrics.json") for run in plan.runs),
        *map(plan.evaluation.teacher_file, plan.teachers.models),
        *plan.efficiency.files,
        *(f"{plan.results}/{name}" for name in (
            "near_duplicates.json", "runs.parquet", "laws.json", "answers.json", "report.html",
            "figures/perplexity.svg",
        )),
    }  # fmt: skip


def _run(plan: Plan, **wanted: Any) -> Run:
    return next(run for run in plan.runs if all(getattr(run, key) == wanted[key] for key in wanted))


@pytest.mark.slow
def test_jobs_are_those_of_the_plan(study: tuple[Plan, Path]) -> None:
    plan, root = study
    made = _forecast(plan, root)
    assert set(made.jobs) == _expected(plan)
    (unlisted,) = plan.teachers.trained_runs
    assert unlisted not in plan.runs
    assert [row["listed"] for row in made.rows] == [True] * len(plan.runs) + [False]
    last = made.rows[-1]
    assert (last["samples"], last["evaluate_job_seconds"]) == (32, 0)
    assert made.jobs[plan.training.file(unlisted, "training.json")].work.flops > 0
    # What a study stores with its spec has a job, or is the record beside a shard.
    for file, _ in plan.outputs.stored_specs():
        shard = file.endswith(".json") and "/shards/" in file
        assert (file.removesuffix("json") + "parquet" if shard else file) in made.jobs
    # 16 and 40 kept of twice as many candidates: five parts, and none beyond the pool's order.
    assert sum("/losses/" in file for file in made.jobs) == 5
    summary = summarise(list(made.jobs.values()), [2], 4)
    calibration = {
        "seconds": 9.0, "threads": 1, "bf16_gains": False, "hardware": {"gpu": None, "cpu": "CPU"},
        "gemm_flops_per_s": {"fp32": 5e10, "bf16": 4e10},
    }  # fmt: skip
    lines = render("demo", made.rows, summary, calibration, notes_of(made)).splitlines()
    assert sum(line.endswith(" teacher") for line in lines) == 1
    assert sum("has trained a teacher" in line for line in lines) == 1


@pytest.mark.slow
def test_a_trained_teacher_is_its_saved_student(study: tuple[Plan, Path]) -> None:
    plan, root = study
    made = _forecast(plan, root)
    models, words = made.models, len(tiny.tokenizer())
    assert models.teachers["own"] == models.saved["fresh"]
    assert (models.saved["fresh"].vocabulary, models.students["fresh"].vocabulary) == (words, 121)
    assert models.students["small"] == models.saved["small"]
    assert models.template["own"] == models.template["big"] > 0
    assert made.jobs[plan.scorers.head("own")].disk == 4 * 16 * words
    written = made.jobs[plan.text.part("own", "train", 0)]
    assert 0 < written.work.flops < made.jobs[plan.text.part("big", "train", 0)].work.flops
    timed = [made.jobs[plan.efficiency.of(*own)] for own in (("teachers", "own"), ("students", "fresh"))]  # fmt: skip  # noqa: E501
    assert timed[0] is timed[1]


def test_a_corpus_has_chunks_of_one_length(study: tuple[Plan, Path]) -> None:
    plan, root = study
    made, run = _forecast(plan, root), _run(study[0], method="scratch", samples=40, draw=1)
    row = made.rows[plan.runs.index(run)]
    flops = made.models.students["fresh"].flops
    assert row["tokens_basis"] == "measured"
    assert row["tokens_seen"] == 40 * 24
    assert row["train_flops"] == 40 * flops.sequence_training(25, 24)
    assert row["updates"] == 10


@pytest.mark.slow
def test_a_curation_trains_on_what_it_keeps_of_what_is_written(study: tuple[Plan, Path]) -> None:
    plan, root = study
    made, run = _forecast(plan, root), _run(study[0], curation="likely", method="sft", samples=40)
    raw = _run(plan, curation="raw", student="small", teacher="big", method="sft", samples=40)
    rows = {one: made.rows[plan.runs.index(one)] for one in (run, raw)}
    assert len(plan.rows.of(run)) == 80
    for key in ("tokens_seen", "train_flops", "updates", "shard_bytes"):
        assert rows[run][key] == rows[raw][key] > 0
    words = tiny.tokenizer()
    kept = [tiny.text_row(words, n, "Bake bread.", "a" * (n % 7 + 1)) for n in range(40)]
    write_rows(root / plan.curations.file(run), kept, TEXT_SCHEMA, spec={})
    after = _forecast(plan, root).rows[plan.runs.index(run)]
    (root / plan.curations.file(run)).unlink()
    assert after["tokens_seen"] == sum(len(row["response_ids"]) for row in kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "kind"), [("random", "llama-tied"), ("cut", "llama"), ("pretrained", "gpt2")]
)
def test_a_trimmed_student_is_counted_as_it_is_built(init: str, kind: str, tmp_path: Path) -> None:
    words = tiny.tokenizer(chat=False)
    source = tiny.save(tmp_path / "source", tiny.model(kind), words)
    config = {"hidden_size": 16, "num_hidden_layers": 2} if init == "random" else {}
    spec = {"init": init, "source": {}, "layers": 2 if init == "cut" else None, "seed": 0,
            "config": config, "vocabulary": {"size": 60}}  # fmt: skip
    text = teaching.write_text(tmp_path / "text.parquet", tiny.uneven_rows(words, 9), words)
    build_student(spec, source, tmp_path / "built" / "manifest.json", [text])
    built = AutoModelForCausalLM.from_pretrained(tmp_path / "built")
    small = read_architecture(source, spec)
    assert (small.params, small.body_params) == count_parameters(built)
    assert (small.vocabulary, small.flops) == (61, FlopModel.from_model(built))
    vocabulary = Vocabulary.load(tmp_path / "built")
    assert vocabulary is not None
    expand_model(built, vocabulary, AutoTokenizer.from_pretrained(source)).save_pretrained(
        tmp_path / "saved"
    )
    whole = read_architecture(source, spec, saved=True)
    assert (whole.params, whole.body_params) == count_parameters(built)
    assert (whole.vocabulary, whole.flops) == (300, FlopModel.from_model(built))
    size = (tmp_path / "saved" / "model.safetensors").stat().st_size
    header = 8 + int.from_bytes((tmp_path / "saved/model.safetensors").read_bytes()[:8], "little")
    assert student_bytes(whole) - whole.files == size - header
    assert small.files == whole.files
    assert whole.files - read_architecture(source).files >= len(json.dumps(vocabulary.kept))
    with pytest.raises(UserError, match=r"lower vocabulary\.size or remove vocabulary"):
        read_architecture(source, spec | {"vocabulary": {"size": 300}})


def test_a_small_vocabulary_is_saved_with_the_full_tables_beside_it() -> None:
    flops = FlopModel(1000, 10, 300)
    small = Architecture(1000, 400, flops, 8, 100, 2, 2, activations=60, kv=16)
    whole = Architecture(9000, 400, flops, 8, 1100, 2, 2, activations=60, kv=16)
    assert saving_memory(small, whole, {"lora": None}, 7.0) == 7 + 16 * 1000 + 8 * 8000
    assert saving_memory(small, small, {"lora": None}, 0.0) == 16 * 1000


def test_every_rule_is_priced_or_left_out() -> None:
    """What is left out is fetched, is a benchmark, reads a table of one's own, or is a record."""
    left_out = {
        "all", "plan", "fetch_model", "fetch_data", "prepare_benchmark", "benchmark_student",
        "benchmark_teacher", "take_runs_table", "write_provenance",
    }  # fmt: skip
    project = Path(__file__).parents[2]
    files = [project / "Snakefile", *(project / "rules").glob("*.smk")]
    text = "\n".join(file.read_text() for file in files)
    rules = re.findall(r"^ *rule (\w+):", text, re.M)
    assert set(rules) - left_out == set(RULES)
    assert left_out < set(rules)
