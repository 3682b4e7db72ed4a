"""A study whose models read a corpus: its config, its plan and what is refused, before any job."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import corpus_inputs
from distill.config.checks.study import parse_study
from distill.core.errors import UserError
from distill.costs.row_lengths import read_lengths
from distill.plan.study import Plan
from pools import corpus_of

SPOILT = {"share": 0.5, "kind": "shuffle_words"}
SERVER = {"url": "http://localhost:8000/v1", "model": "m", "software": "vllm"}
ROOT = Path(__file__).resolve().parents[2]


def config(name: str = corpus_inputs.CONFIG) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return loaded


def changed(path: str, value: Any) -> dict[str, Any]:
    """The miniature with one entry replaced (None removes it)."""
    study = copy.deepcopy(config())
    *way, last = path.split(".")
    place: Any = study
    for key in way:
        place = place[int(key) if key.isdigit() else key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return study


def test_shares_of_the_pool_become_numbers_of_chunks() -> None:
    study = parse_study(config())
    assert [block.samples for block in study.runs] == [[320], [320], [32], [320]]
    assert study.teachers["bert-base"].trained is not None
    assert study.teachers["bert-base"].trained.samples == 320
    assert parse_study(changed("runs.0.samples", ["0.01%", "2.5 %", 7])).runs[0].samples == [
        1,
        8,
        7,
    ]
    published = parse_study(config("studies/bert_wikitext.yaml"))
    assert published.runs[0].samples == [7680, 76_800, 768_000]
    with pytest.raises(UserError, match=r"640 is larger than corpus.pool, 320"):
        parse_study(changed("runs.0.samples", ["200%"]))


def test_samples_of_prompts_may_be_shares_too() -> None:
    study = config("studies/gpt2_alpaca.yaml")
    study["runs"][0]["samples"] = ["10%", 2000]
    assert parse_study(study).runs[0].samples == [1500, 2000]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("task", "instruction", "corpus needs task causal-lm or masked-lm"),
        ("corpus", None, "corpus is missing; it defines the text that task masked-lm learns"),
        ("prompts", {"source": "wikitext", "pool": 9}, "prompts needs task instruction"),
        ("corpus.source", "wiki", "corpus.source: there is no source 'wiki'"),
        ("corpus.tokenizer", "wikitext", "corpus.tokenizer: the source 'wikitext' must be a model"),
        ("corpus.test_source", "wikitext", "source, test_source and validation_source must differ"),
        ("corpus.validation_source", "wikitext-test", "validation_source needs validation above 0"),
        ("corpus.length", 31, "a chunk with its special tokens has 33 tokens, more than 32"),
        ("corpus.draw_pool", 400, "draw_pool must not exceed pool"),
        ("corpus.mask", {"share": 0}, "corpus.mask.share"),
        ("sources.wikitext.begins", "= (", "begins is not a regular expression"),
        ("sources.wikitext.fields", {"prompt": "text"}, "fields must name text only"),
        ("teachers.bert-base.text", "wikitext", "every teacher reads the corpus; remove text"),
        ("teachers.bert-base.top_p", 0.9, "remove top_k and top_p: on a corpus"),
        ("methods.scratch.corpus", "wikitext-test", "every method of this task learns"),
        ("methods.token.uld", 1.0, "all models of a corpus share one"),
        ("methods.scratch.spans", 1.0, "methods.scratch.spans is for different"),
        ("methods.token.on_policy", {"share": 0.5}, "methods.token.on_policy: students answer"),
        ("evaluate.benchmarks", {"b": {}}, "evaluate.benchmarks: the harness evaluates causal"),
        ("teachers.bert-base", {"server": SERVER}, "bert-base.server: a server cannot score"),
        ("methods.embedding.embedding", {}, "match the last layers with hidden"),
        ("methods.token.tokens", "all", "only masked tokens are predicted"),
        ("caches.soft.tokens", "all", "only masked tokens are predicted"),
        ("curations", {"c": {"length": {"min_tokens": 3}}}, "curations.c.length is for answers"),
        ("curations", {"c": {"corrupt": SPOILT}}, "curations.c.corrupt is for answers"),
        ("students.h1.params", 7, "params is 7 but config defines"),
        ("evaluate.reference", {"source": "wikitext"}, "wikitext is the corpus itself"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(path: str, value: Any, message: str) -> None:
    study = changed(path, value)
    if path == "students.h1.params":
        sizes = {"model_type": "bert", "vocab_size": 300, "max_position_embeddings": 64}
        study["students"]["h1"]["config"] |= sizes
    with pytest.raises(UserError, match=re.escape(message)):
        parse_study(study)


def test_a_mask_is_for_masked_models() -> None:
    study = changed("corpus.mask", {"share": 0.3})
    assert parse_study(study).mask is not None
    study["task"] = "causal-lm"
    with pytest.raises(UserError, match=re.escape("corpus.mask needs task masked-lm")):
        parse_study(study)


def test_what_is_asked_must_be_named_for_instructions() -> None:
    study = config("studies/gpt2_alpaca.yaml")
    without = {key: value for key, value in study.items() if key != "prompts"}
    with pytest.raises(UserError, match="prompts is missing"):
        parse_study(without)


# Specs and staleness.


def plan(study: dict[str, Any]) -> Plan:
    return Plan(parse_study(study))


def test_all_teachers_share_one_text_and_only_readers_wait_for_a_trained_one() -> None:
    study = config()
    study["teachers"]["given"] = {"source": "bert-base"}
    study["runs"][0]["teachers"] = ["bert-base", "given"]
    made = plan(study)
    assert made.text.spec("given") == made.text.spec("bert-base")
    assert len(made.text.by_key) == 1
    teacher = made.teachers.trained_run("bert-base")
    assert teacher is not None
    assert made.teachers.trained_runs == [teacher]
    assert made.teachers.behind(teacher) == []
    by_method = {run.method: made.teachers.behind(run) for run in made.runs if run.samples}
    assert by_method["scratch"] == []
    assert by_method["token"] in (["bert-base"], ["given"])
    # Each teacher scores the text for itself.
    token = [run for run in made.runs if run.method == "token" and run.samples == 320]
    assert len({made.shards.targets(run)[0] for run in token}) == 2


def test_parts_end_with_the_split_or_the_pool() -> None:
    study = changed("corpus.part_size", 100)
    study["corpus"]["validation"] = 150
    made = plan(study)
    assert [made.pool.rows("train", part) for part in range(4)] == [100, 100, 100, 20]
    assert [made.pool.rows("validation", part) for part in range(2)] == [100, 50]
    assert [corpus_of(made).first(part) for part in range(2)] == [0, 100]


def test_a_larger_pool_and_other_training_change_no_text() -> None:
    before = plan(config())
    after = plan(changed("corpus.pool", 400))
    assert corpus_of(after).text_spec == corpus_of(before).text_spec
    assert corpus_of(plan(changed("train.epochs", 9))).text_spec == corpus_of(before).text_spec


def test_another_mask_masks_anew_but_cuts_no_chunks() -> None:
    before, after = plan(config()), plan(changed("corpus.mask", {"seed": 5}))
    assert after.pool.key == before.pool.key
    assert corpus_of(after).text_key != corpus_of(before).text_key
    longer = plan(changed("corpus.length", 20))
    assert longer.pool.key != before.pool.key


def test_lengths_are_known_before_there_is_any_text() -> None:
    study = config()
    study["task"] = "causal-lm"
    made = plan(study)
    assert made.study.mask is None
    assert corpus_of(made).chunk.read == 31
    assert read_lengths(made, "bert-base", 0).answer == 30
    masked = read_lengths(plan(config()), "bert-base", 0)
    assert (masked.prompt, masked.answer, masked.measured) == (28, 4, True)


def test_scratch_is_what_learns_without_soft_targets() -> None:
    made = plan(config())
    assert made.outputs.answer_spec()["corpus_methods"] == ["pretrain", "scratch"]
    assert made.training.record(made.runs[0])["corpus"] == "wikitext"
    # Methods of a corpus are compared at equal chunks: none is set apart.
    assert all("corpus" not in entry for entry in made.outputs.table_spec()["methods"].values())


def test_evaluation_asks_nothing_and_says_how_chunks_are_masked() -> None:
    made = plan(config())
    spec = made.evaluation.spec("bert-base")
    assert "generated_instructions" not in spec
    assert spec["mask"]["share"] == 0.15
    assert spec["reference"] is None
    assert spec["written"] is False
    (key, *_) = made.efficiency.by_key
    speed = made.efficiency.spec(key)
    assert (speed["batch"], speed["length"], speed["scored"]) == (1, 32, 4)
    assert "new_tokens" not in speed
