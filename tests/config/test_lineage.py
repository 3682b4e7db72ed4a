"""Teachers that a study trains, and training without a teacher: config, plan and lineage."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.config.checks.lineage import teacher_loops, teachers_behind
from distill.config.checks.study import parse_study
from distill.contracts.run import Run
from distill.core.errors import UserError
from distill.plan.study import Plan
from distill.plan.unused import unused_folders
from distill.workflow.startup import check_corpora
from pools import prompts_of

TRAINED: dict[str, Any] = {"student": "small", "teacher": "big", "method": "sft", "samples": 32}


def study(**teachers: Any) -> dict[str, Any]:
    """Runs on `own`, a teacher trained on big's text, and on a corpus; more teachers at will."""
    config = tiny.study()
    config["sources"]["books"] = {"path": "data/books.jsonl", "fields": {"text": "body"}}
    config["methods"] |= {
        "scratch": {"ce": 1.0, "corpus": "books", "corpus_tokens": 32},
        "half": {"ce": 0.5},
    }
    own = {"own": {"trained": TRAINED, "temperature": 0.8}}
    config["teachers"] |= copy.deepcopy({**own, **teachers})
    block = {"students": ["fresh"], "teachers": ["own"], "samples": [16]}
    config["runs"] = [
        block | {"methods": ["half"]},
        block | {"methods": ["scratch"], "samples": [8, 5000], "draws": [0, 1]},
    ]
    return config


def plan(change: Callable[[dict[str, Any]], Any] = lambda config: None, **teachers: Any) -> Plan:
    config = study(**teachers)
    change(config)
    return Plan(parse_study(config))


# Config.


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["teachers"]["own"].update(source="base"), "teachers.own: give source .* not"),
        (lambda c: c["teachers"].update(none={}), "teachers.none: give source .*, .*server"),
        (
            lambda c: c["teachers"]["own"].update(trained=TRAINED | {"student": "smal"}),
            "teachers.own.trained.student: there is no student 'smal'; did you mean small?",
        ),
        (
            lambda c: c["teachers"]["own"].update(trained=TRAINED | {"teacher": "huge"}),
            "teachers.own.trained.teacher: there is no teacher 'huge'; there are big, calm, own",
        ),
        (
            lambda c: c["teachers"]["own"].update(trained=TRAINED | {"method": "kd"}),
            "teachers.own.trained.method: there is no method 'kd'",
        ),
        (
            lambda c: c["teachers"]["own"].update(trained=TRAINED | {"cache": "top"}),
            "teachers.own.trained.cache: there is no cache 'top'",
        ),
        (
            lambda c: c["teachers"]["own"].update(trained=TRAINED | {"curation": "clean"}),
            "teachers.own.trained.curation: there is no curation 'clean'",
        ),
        (
            lambda c: c["teachers"]["own"].update(trained=TRAINED | {"teacher": None}),
            "teachers.own.trained.teacher is missing; the method sft trains",
        ),
        (
            lambda c: c["teachers"]["own"].update(trained=TRAINED | {"samples": 65}),
            "teachers.own.trained.samples: 65 is larger than prompts.pool, 64",
        ),
        (
            lambda c: c.update(
                caches={"top": {"scheme": "top_k", "k": 4}},
                teachers=c["teachers"] | {"own": {"trained": TRAINED | {"cache": "top"}}},
            ),
            "teachers.own.trained.caches: none of the block's methods reads soft targets",
        ),
        (
            lambda c: c["teachers"].update(own={"trained": TRAINED | {"teacher": "own"}}),
            "teachers.own.trained: own learns from own, a cycle",
        ),
        (
            lambda c: c["teachers"].update(
                own={"trained": TRAINED | {"teacher": "next"}},
                next={"trained": TRAINED | {"teacher": "own"}},
            ),
            "teachers.own.trained: own learns from next learns from own, a cycle",
        ),
        (
            lambda c: c["prompts"].update(teacher="own"),
            "prompts.teacher: this study trains own only after",
        ),
        (
            lambda c: c["methods"]["scratch"].update(forward_kl=1.0),
            "methods.scratch: the corpus books has no teacher, .* for forward_kl;",
        ),
        (
            lambda c: c["methods"]["scratch"].update(corpus="base"),
            "methods.scratch.corpus: the source 'base' must be a data set",
        ),
        (
            lambda c: c["methods"]["scratch"].update(corpus="faq"),
            "sources.faq.fields: name the text column, which methods.scratch learns",
        ),
        (
            lambda c: c["methods"]["sft"].update(corpus_tokens=32),
            "methods.sft: corpus_tokens needs corpus",
        ),
        (
            lambda c: c["methods"]["scratch"].update(corpus_tokens=512),
            r"methods.scratch.corpus_tokens: 512 .* train.max_length \(512\)",
        ),
        (
            lambda c: (
                c["methods"]["scratch"].update(corpus="prose"),
                c["sources"]["prose"].update(rows=100),
            ),
            "methods.scratch.corpus: all 100 rows of prose are reference text",
        ),
        (
            lambda c: (
                c.update(caches={"top": {"scheme": "top_k", "k": 4}}),
                c["runs"][1].update(caches=["top"]),
            ),
            r"runs\[1\].caches: none of the block's methods reads soft targets; remove caches",
        ),
        (
            lambda c: c["runs"][1].update(methods=["scratch", "sft"]),
            r"runs\[1\].samples: 5000 is larger than prompts.pool",
        ),
        (
            lambda c: c.update(
                searches={
                    "s": {
                        "student": "small", "teacher": "big", "method": "scratch", "samples": 999,
                        "space": {"method.corpus_tokens": {"low": 8, "high": 16}},
                    }
                }
            ),
            "searches.s.space: method.corpus_tokens is not a numeric setting",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(change: Callable[[Any], Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        plan(change)
    assert len(str(caught.value).splitlines()) == 1


def test_a_chain_is_fine_and_a_corpus_needs_no_teacher() -> None:
    corpus = {"trained": TRAINED | {"method": "scratch", "teacher": None}}
    chain = {"trained": TRAINED | {"teacher": "own"}}
    made = parse_study(study(alone=corpus, second=chain))
    assert teacher_loops(made) == []
    assert teachers_behind(made, "fresh", "own", "sft", None) == ["own"]
    assert teachers_behind(made, "fresh", "own", "scratch", None) == []
    # Stopping early on its own text is a loop after all.
    stopping = study(alone=corpus)
    stopping["methods"]["scratch"]["train"] = {"early_stopping": {"patience": 1}}
    with pytest.raises(UserError, match="alone learns from alone"):
        parse_study(stopping)


def test_a_vocabulary_a_mixture_or_a_search_can_close_a_loop() -> None:
    config = study()
    config["students"]["small"]["vocabulary"] = {"size": 64, "teacher": "own"}
    with pytest.raises(UserError, match="own learns from own"):
        parse_study(config)
    config["students"]["small"]["vocabulary"]["teacher"] = "big"
    assert plan(lambda c: c.update(students=config["students"])).teachers.trained_runs == [OWN]
    config = study()
    config["caches"] = {"mixed": {"scheme": "dense", "teachers": {"big": 1, "own": 1}}}
    config["methods"]["kd"] = {"forward_kl": 1.0}
    config["teachers"]["own"]["trained"] = TRAINED | {"method": "kd", "cache": "mixed"}
    with pytest.raises(UserError, match="own learns from own"):
        parse_study(config)
    config = study()
    config["methods"]["tuned"] = {"search": "s"}
    config["searches"] = {
        "s": {"student": "small", "teacher": "own", "method": "sft", "samples": 16,
              "space": {"train.learning_rate": {"low": 1e-5, "high": 1e-3}}}
    }  # fmt: skip
    config["teachers"]["own"]["trained"] = TRAINED | {"method": "tuned"}
    with pytest.raises(UserError, match="own learns from own"):
        parse_study(config)


# Plan.


OWN = Run("small", "big", "sft", "raw", "none", 32, 0, 0)


def test_a_trained_teacher_is_the_student_of_its_run() -> None:
    made = plan()
    assert made.teachers.trained_run("own") == OWN
    assert made.teachers.trained_run("big") is None
    assert made.teachers.trained_runs == [OWN]
    assert OWN not in made.runs
    file = made.training.file(OWN, "model.safetensors")
    assert made.teachers.file("own") == file
    assert made.text.key("own").startswith("trained-cut-base-")
    listed = plan(
        lambda c: c["runs"].append(
            {"students": ["small"], "teachers": ["big"], "methods": ["sft"], "samples": [32]}
        )
    )
    assert OWN in listed.runs
    assert listed.teachers.file("own") == file
    assert listed.text.key("own") == made.text.key("own")
    stored = [path for path, _ in made.outputs.stored_specs()]
    assert made.training.file(OWN, "training.json") in stored
    assert len(stored) == len(set(stored))
    # Timed by its architecture, before it is trained.
    assert made.efficiency.model("teachers", "own") == made.students.file("small")
    assert made.efficiency.of("teachers", "own") == made.efficiency.of("students", "small")


def test_a_chain_names_every_teacher_that_must_be_trained() -> None:
    made = plan(
        lambda c: c["runs"][0].update(teachers=["third"]),
        second={"trained": TRAINED | {"teacher": "own", "student": "fresh"}},
        third={"trained": TRAINED | {"teacher": "second"}},
        idle={"trained": TRAINED | {"seed": 5}},
    )
    assert {(run.student, run.teacher, run.seed) for run in made.teachers.trained_runs} == {
        ("small", "big", 0), ("fresh", "own", 0), ("small", "second", 0),
    }  # fmt: skip
    spec = made.text.spec("third")["model"]["trained"]
    inner = spec["shard"]["text"]["model"]["trained"]["shard"]["text"]["model"]["trained"]
    assert inner == made.training.spec(OWN)


def keys(made: Plan) -> dict[str, str]:
    """Every content-keyed name that belongs to a teacher."""
    return {
        f"{kind} {name}": key
        for name in ("big", "own", "second")
        for kind, key in (("text", made.text.key(name)), ("scorer", made.scorers.key(name)))
    }


SECOND = {"trained": TRAINED | {"teacher": "own", "method": "half", "student": "fresh"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "others"),
    [
        (lambda c: c["students"]["small"].update(layers=1), {"own", "second"}),
        (lambda c: c["methods"]["sft"].update(ce=0.7), {"own", "second"}),
        (lambda c: c["methods"]["sft"].update(train={"epochs": 3}), {"own", "second"}),
        (lambda c: c["teachers"]["own"]["trained"].update(samples=33), {"own", "second"}),
        (lambda c: c["teachers"]["own"]["trained"].update(draw=1), {"own", "second"}),
        (lambda c: c["teachers"]["own"]["trained"].update(seed=1), {"own", "second"}),
        (lambda c: c.update(train={"learning_rate": 1e-4}), {"own", "second"}),
        (lambda c: c["methods"]["half"].update(ce=0.4), {"second"}),
        (lambda c: c["students"]["fresh"].update(seed=1), {"second"}),
        (lambda c: c["teachers"]["second"]["trained"].update(samples=8), {"second"}),
        (lambda c: c["teachers"]["big"].update(temperature=0.9), {"text big", "own", "second"}),
        (lambda c: c["teachers"]["own"].update(temperature=0.9), {"text own", "second"}),
        (lambda c: c["teachers"]["second"].update(max_tokens=9), {"text second"}),
        (lambda c: c["sources"]["base"].update(path="models/other"), {"big", "own", "second"}),
        (lambda c: c["methods"]["scratch"].update(corpus_tokens=16), set()),
        (lambda c: c["runs"].pop(), set()),
        (lambda c: c["runs"][0].update(samples=[16, 32], seeds=[3]), set()),
        (lambda c: c["prompts"].update(pool=640), set()),
        (lambda c: c["teachers"]["calm"].update(temperature=0.6), set()),
        (lambda c: c["evaluate"].update(batch_size=4), set()),
        (lambda c: c["teachers"].update(more={"trained": TRAINED}), set()),
    ],
)
def test_a_teachers_key_changes_exactly_with_what_made_it(
    change: Callable[[Any], Any], others: set[str]
) -> None:
    before, after = keys(plan(second=SECOND)), keys(plan(change, second=SECOND))
    changed = {name for name in before if before[name] != after[name]}
    expected = {
        name for name in before if any(other in (name, name.split()[1]) for other in others)
    }
    assert changed == expected


def test_two_studies_do_not_share_weights_that_lie_in_their_own_folders() -> None:
    other = plan(lambda c: c.update(study="other"))
    assert other.text.key("big") == plan().text.key("big")
    assert other.text.key("own") != plan().text.key("own")


def test_given_teachers_and_their_methods_have_the_specs_that_they_had() -> None:
    made = Plan(parse_study(tiny.study()))
    assert set(made.text.spec("big")["decoding"]) & {"trained", "source", "text"} == set()
    assert not {"corpus", "corpus_tokens"} & set(made.methods.spec("sft")["method"])
    assert not {"trained", "corpora"} & set(made.outputs.table_spec())


# Runs on a corpus.


def test_a_corpus_run_reads_its_corpus_and_no_teachers_text() -> None:
    made = plan()
    runs = [run for run in made.runs if run.method == "scratch"]
    assert {run.samples for run in runs} == {8, 5000}  # beyond the pool of prompts
    for run in runs:
        assert made.corpora.of(run) == "books"
        assert made.shards.texts(run) == made.shards.targets(run) == made.shards.manifest(run) == []
        assert made.teachers.behind(run) == []
        spec = made.shards.spec(run)
        assert spec["corpus"]["corpus"] == made.sources.spec("books")
        assert ("order_seed" in spec) == (run.draw > 0)
        assert "text" not in spec
        assert made.training.record(run)["corpus"] == "books"
        assert f"draw{run.draw}/n{run.samples}.parquet" in made.shards.file(run)
    assert len({made.shards.file(run) for run in runs}) == 4
    (key,) = {made.shards.file(run).split("/")[4] for run in runs}
    assert made.corpora.inputs(key) == {
        "corpus": made.sources.rows("books"),
        "reference": made.sources.rows("prose"),
        "model": made.sources.manifest("base"),
    }
    alone = plan(lambda c: c["runs"].pop(0))
    prompts = [prompts_of(made).part("train", part) for part in (0, 1)]  # own's
    assert alone.outputs.train_prompts == prompts


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        (lambda c: c["methods"]["scratch"].update(corpus_tokens=16), True),
        (lambda c: c["sources"]["books"].update(path="data/more.jsonl"), True),
        (lambda c: c["evaluate"]["reference"].update(passages=50), True),
        (lambda c: c["evaluate"]["reference"].update(max_tokens=50), False),
        (lambda c: c["methods"]["scratch"].update(train={"epochs": 5}), False),
        (lambda c: c["teachers"]["own"].update(temperature=0.9), False),
        (lambda c: c["prompts"].update(pool=640), False),
    ],
)
def test_a_corpus_shard_depends_on_its_chunks_alone(
    change: Callable[[Any], Any], moves: bool
) -> None:
    before, after = plan(), plan(change)
    same = [
        (before.shards.file(run), before.shards.spec(run))
        == (after.shards.file(run), after.shards.spec(run))
        for run in before.runs
        if run.method == "scratch"
    ]
    assert same == [not moves] * 4


def test_students_of_one_source_share_a_corpus_shard() -> None:
    made = plan(lambda c: c["runs"][1].update(students=["small", "fresh"]))
    runs = [run for run in made.runs if run.method == "scratch"]
    assert len(runs) == 8
    assert len({made.shards.file(run) for run in runs}) == 4


def test_a_local_corpus_that_cannot_suffice_is_refused_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    # 5000 chunks of 32 tokens; a row has 99 bytes and its end.
    Path("data/books.jsonl").write_text(('{"body": "' + "a" * 99 + '"}\n') * 1600)
    check_corpora(plan())
    Path("data/books.jsonl").write_text(('{"body": "' + "a" * 99 + '"}\n') * 1599)
    with pytest.raises(UserError, match=r"5000 samples of 32 tokens .* at most 159900 tokens"):
        check_corpora(plan())


def test_what_a_trained_teacher_needs_is_not_unused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = plan()
    kept = [made.training.file(OWN, "training.json"), made.shards.file(OWN)]
    other = made.training.file(Run("small", "big", "sft", "raw", "none", 31, 0, 0), "training.json")
    for path in (*kept, other):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    assert unused_folders(made) == [Path(other).parent]


def test_text_of_a_trained_teacher_may_be_curated_and_train_a_teacher_in_turn() -> None:
    def curated(config: dict[str, Any]) -> None:
        config["curations"] = {"short": {"surplus": 1.5, "length": {"max_tokens": 20}}}
        config["runs"][0]["curations"] = ["short"]
        config["teachers"]["own"]["trained"]["curation"] = "short"

    made = plan(curated)
    assert {run.curation for run in made.runs if run.method == "half"} == {"short"}
    assert {run.curation for run in made.runs if run.method == "scratch"} == {"raw"}
    assert [run.curation for run in made.teachers.trained_runs] == ["short"]
