"""The workflow on corpora: the masked miniature, a causal study, and what changes rerun."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from transformers import AutoModelForMaskedLM, AutoTokenizer

import corpus_inputs
import miniature
import tiny
from distill.contracts.columns import COLUMNS
from distill.core.parquet import read_rows

pytestmark = pytest.mark.workflow

CONFIG = corpus_inputs.CONFIG
RESULTS = "results/bert_wikitext_miniature"
AGGREGATES = {
    "collect_runs": 1,
    "fit_laws": 1,
    "answer_questions": 1,
    "plot_figures": 1,
    "write_report": 1,
    "write_provenance": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose masked miniature is done."""
    project = miniature.copy_project(tmp_path_factory.mktemp("corpus") / "project")
    corpus_inputs.make_inputs(project)
    miniature.snakemake(project, "--configfile", CONFIG)
    return project


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Path:
    """The finished project, free to be changed."""
    return miniature.moved(finished, tmp_path / "moved")


def _change(project: Path, change: Callable[[Any], Any]) -> None:
    config = yaml.safe_load((project / CONFIG).read_text())
    change(config)
    (project / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))


def _dry_run(project: Path, change: Callable[[Any], Any]) -> dict[str, int]:
    _change(project, change)
    return miniature.dry_run(project, CONFIG)


def test_the_miniature_comes_to_its_report(finished: Path) -> None:
    table = pd.read_parquet(finished / RESULTS / "runs.parquet")
    assert list(table.columns) == list(COLUMNS)
    assert set(table["task"]) == {"masked-lm"}
    sizes = table.groupby("method")["samples"].apply(lambda own: sorted(set(own))).to_dict()
    assert sizes == {"none": [0], "scratch": [320], "token": [32, 320], "embedding": [320]}
    asked = ["pass_rate", "combined", "bleu", "bits_per_byte", "ttft_ms", "reference_loss"]
    assert table[asked].isna().all(axis=None)
    told = ["loss", "kl_teacher", "pseudo_perplexity", "forward_ms", "tokens_per_second"]
    assert (table[told] > 0).all(axis=None)
    # 4 of 30 tokens of a chunk are to be found, and each is a token learned.
    largest = table[table["samples"] == 320]
    assert set(largest["tokens_unique"]) == {4 * 320}
    assert set(largest["tokens_seen"]) == {4 * 4 * 320}
    before = table[table["samples"] == 0].set_index("student")["loss"]
    assert (largest["loss"].to_numpy() < before[largest["student"]].to_numpy()).all()
    page = (finished / RESULTS / "report.html").read_text()
    assert "what distillation on more of the corpus gains" in page
    for gone in ("Pass rates", "What they write", "Loss identity", "Finished responses"):
        assert gone not in page
    for name in ("answers.json", "laws.json", "runs.csv"):
        assert (finished / RESULTS / name).stat().st_size > 100


def test_only_soft_targets_cost_a_teacher(finished: Path) -> None:
    table = pd.read_parquet(finished / RESULTS / "runs.parquet").set_index("method")
    assert (table["teacher_flops"] == 0).all()
    assert (table.loc["scratch", "target_flops"] == 0).all()
    assert (table.loc["token", "target_flops"] > 0).all()
    references = json.loads((finished / RESULTS / "references.json").read_text())
    teacher = references["teachers"]["bert-base"]
    assert teacher["train_flops"] > 0
    assert teacher["loss"] == pytest.approx(table["loss_teacher"].iloc[0], abs=2e-3)
    assert teacher["pseudo_perplexity"] > 1
    assert references["identity"] == []  # the text was not drawn from the teacher
    assert references["near_duplicates"]["unit"] == "documents"
    assert teacher["loss"] < table.loc["none", "loss"].min() - 1  # it was trained


def test_larger_shards_begin_with_the_smaller_and_scratch_has_the_same_masks(
    finished: Path,
) -> None:
    folder = finished / RESULTS / "shards/bert-base/raw"
    small, soft = (read_rows(folder / f"soft/draw0/n{n}.parquet") for n in (32, 320))
    assert soft[:32] == small
    large = read_rows(folder / "none/draw0/n320.parquet")
    names = ("id", "prompt_ids", "response_ids", "positions")
    assert [[row[n] for n in names] for row in soft] == [[row[n] for n in names] for row in large]
    assert all(row["target_tokens"] == len(row["positions"]) == 4 for row in soft)
    held = read_rows(next((finished / "resources/text").glob("*/test-00000.parquet")))
    assert len(held) == 24
    assert not {row["response"] for row in held} & {row["response"] for row in large}


def test_a_masked_student_opens_with_the_library(finished: Path) -> None:
    folder = next(finished.glob(f"{RESULTS}/students/h2/bert-base/embedding/*/*/*/n320"))
    model, words = (kind.from_pretrained(folder) for kind in (AutoModelForMaskedLM, AutoTokenizer))
    ids = words("Ada built the [MASK] in spring .", return_tensors="pt").input_ids
    assert model(ids).logits.shape[-1] == model.config.vocab_size
    card = (folder / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card
    assert "after 320 chunks of wikitext" in card


# Staleness.


def test_a_finished_study_reruns_nothing(moved: Path) -> None:
    assert miniature.dry_run(moved, CONFIG) == {}
    shutil.rmtree(moved / ".snakemake")
    assert miniature.dry_run(moved, CONFIG) == {}


def test_another_size_costs_no_teacher_job(moved: Path) -> None:
    counts = _dry_run(moved, lambda config: config["runs"][0]["samples"].append("50%"))
    assert counts == {
        "build_shard": 1, "train_student": 2, "evaluate_student": 2, **AGGREGATES
    }  # fmt: skip


def test_another_mask_cuts_no_chunks_anew(moved: Path) -> None:
    counts = _dry_run(moved, lambda config: config["corpus"].update(mask={"seed": 1}))
    assert "chunk_corpus" not in counts
    assert counts["take_chunks"] == 2
    assert counts["train_student"] == 6  # five runs and the teacher


def test_how_the_pseudo_perplexity_is_taken_trains_nothing(moved: Path) -> None:
    counts = _dry_run(moved, lambda config: config["evaluate"].update(pseudo_chunks=3))
    assert counts == {"evaluate_student": 7, "evaluate_teacher": 1, **AGGREGATES}


def test_too_large_a_pool_is_one_sentence_before_the_first_job(moved: Path) -> None:
    _change(moved, lambda config: config["corpus"].update(pool=90_000))
    output = miniature.snakemake(moved, "-n", "--configfile", CONFIG, ok=False)
    assert "90000 chunks of 30 tokens are needed" in output
    assert "Traceback" not in output


@pytest.mark.long
def test_a_causal_model_learns_a_corpus_too(finished: Path, tmp_path: Path) -> None:
    """Teacher and students share GPT-2's kind of tokens; a curation chooses the chunks."""
    project = miniature.copy_project(tmp_path / "causal")
    corpus_inputs.make_inputs(project)
    shutil.rmtree(project / "models/bert")
    words = tiny.tokenizer(chat=False)
    model = tiny.model("gpt2", vocabulary=len(words), initializer_range=0.05)
    tiny.save(project / "models/bert", model, words)

    def causal(config: dict[str, Any]) -> None:
        config |= {"task": "causal-lm", "study": "causal"}
        config["corpus"] |= {"length": 24, "pool": 120, "part_size": 60}
        config["teachers"] = {"bert-base": {"source": "bert-base"}}
        size = {"n_embd": 16, "n_head": 2}
        config["students"] = {
            f"l{n}": {"init": "random", "source": "bert-base", "config": {"n_layer": n, **size}}
            for n in (1, 2)
        }
        config["curations"] = {
            "clean": {
                "surplus": 1.5,
                "teacher_loss": {"max_quantile": 0.8},
                "language": {"keep": ["en"]},
            }
        }
        config["methods"] = {
            "scratch": {"ce": 1.0}, "token": {"forward_kl": 1.0},
            "embedding": {"ce": 1.0, "embedding": {"weight": 0.1}},
        }  # fmt: skip
        config["caches"] = {"exact": {"scheme": "final_hidden"}}
        block = {"students": ["l1", "l2"], "teachers": ["bert-base"], "samples": ["25%", "50%"]}
        config["runs"] = [
            block | {"methods": ["scratch", "token"], "caches": ["exact"]},
            block | {"methods": ["embedding"], "caches": ["exact"], "samples": [60]},
            block | {"methods": ["scratch"], "curations": ["clean"], "samples": [60]},
        ]

    _change(project, causal)
    miniature.snakemake(project, "--configfile", CONFIG)
    table = pd.read_parquet(project / "results/causal/runs.parquet")
    assert set(table["task"]) == {"causal-lm"}
    assert table[["pass_rate", "pseudo_perplexity", "forward_ms"]].isna().all(axis=None)
    assert table[["bits_per_byte", "ttft_ms", "tokens_per_second"]].notna().all(axis=None)
    trained = table[table["samples"] == 60]
    assert set(trained["tokens_unique"]) == {60 * 24}
    before = table[table["samples"] == 0].set_index("student")
    # The teacher is a random model: who learns it comes nearer to it, not to the text.
    for column, learned in (("kl_teacher", ["token"]), ("loss", ["scratch", "embedding"])):
        rows = trained[trained["method"].isin(learned)]
        assert (rows[column].to_numpy() < before.loc[rows["student"], column].to_numpy()).all()
    assert set(table["curation"]) == {"raw", "clean"}
