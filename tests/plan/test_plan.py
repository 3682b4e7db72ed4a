from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from distill.config.checks.study import parse_study
from distill.contracts.run import Run
from distill.core.errors import UserError
from distill.core.keys import pool_order
from distill.plan.runs import run_table
from distill.plan.study import Plan
from distill.plan.teachers import Teachers
from pools import prompts_of


def plan(**changes: Any) -> Plan:
    config = tiny.study()
    for section, entries in changes.items():
        if isinstance(config[section], dict):
            config[section] |= entries
        else:
            config[section] = entries
    return Plan(parse_study(config))


def results(made: Plan) -> dict[str, Any]:
    """Everything that a study stores, with its spec, its training rows and its inputs."""
    found: dict[str, Any] = dict(made.outputs.stored_specs())
    for run in made.runs:
        if run.samples:
            found[made.shards.file(run)] = (made.rows.of(run), made.shards.texts(run))
        found[made.training.file(run, "initial")] = made.students.file(run.student)
    return found


def prompts(made: Plan) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pool = prompts_of(made)
    for split, parts in (("test", 2), ("validation", 1), ("train", 4)):
        for part in range(parts):
            path = pool.part(split, part)
            found[path] = (
                pool.filter_spec(split, part),
                pool.earlier_parts(split, part),
            )
            found[path + " raw"] = pool.raw_spec(split, part)
    return found


def test_runs_are_listed_once_with_one_untrained_student_per_teacher() -> None:
    block = tiny.study()["runs"][0]
    made = plan(runs=[block, block | {"teachers": ["calm", "big"], "samples": [48, 64]}])
    assert len(made.runs) == len(set(made.runs)) == len({run.folder for run in made.runs})
    # Two students and draws; sizes 16, 48, 64 of big and 48, 64 of calm; four untrained.
    assert len(made.runs) == 2 * 2 * (3 + 2) + 4
    untrained = [run for run in made.runs if run.samples == 0]
    assert untrained == [
        Run(student, teacher, "none", "raw", "none", 0, 0, 0)
        for student in ("fresh", "small")
        for teacher in ("big", "calm")
    ]
    assert made.runs == sorted(made.runs) == run_table(made.study)


@pytest.mark.slow
@given(st.integers(0, 3), st.integers(1, 60), st.integers(0, 2), st.integers(1, 40))
def test_a_draw_permutes_the_pool_stably(draw: int, pool: int, seed: int, more: int) -> None:
    order = pool_order(draw, pool, seed)
    assert sorted(order) == list(range(pool))
    larger = pool_order(draw, pool + more, seed)
    assert [row for row in larger if row < pool] == order
    if draw == 0:
        assert order == list(range(pool))


def test_draws_and_seeds_order_differently() -> None:
    orders = [pool_order(draw, 50, seed) for draw in (0, 1, 2) for seed in (0, 1)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 5


BLOCK = tiny.study()["runs"][0]
LIVE = {"gkd": {"forward_kl": 1.0, "on_policy": {"share": 0.5}}}


@pytest.mark.parametrize(
    "changes",
    [
        {"runs": [BLOCK | {"samples": [16, 32, 48]}]},
        {"runs": [BLOCK | {"samples": [48, 16]}]},
        {"runs": [BLOCK, BLOCK | {"teachers": ["calm"]}]},
        {"runs": [BLOCK | {"draws": [0, 1, 2], "seeds": [0, 1]}]},
        {"students": {"third": {"init": "pretrained", "source": "base"}},
         "runs": [BLOCK | {"students": ["third", "small", "fresh"]}]},
        {"teachers": {"warm": {"source": "base", "temperature": 1.5}},
         "runs": [BLOCK | {"teachers": ["warm", "big"]}]},
        {"methods": {"half": {"ce": 0.5}}, "runs": [BLOCK | {"methods": ["half", "sft"]}]},
        {"methods": LIVE, "runs": [BLOCK | {"methods": ["gkd", "sft"]}]},
        {"sources": {"other": {"path": "elsewhere"}}},
    ],
)  # fmt: skip
def test_more_of_anything_leaves_every_other_result_as_it_is(changes: dict[str, Any]) -> None:
    before, made = plan(), plan(**changes)
    after = results(made)
    assert {path: after[path] for path in results(before)} == results(before)
    assert prompts(made) == prompts(before)


def test_a_larger_pool_leaves_draw_zero_as_it_is() -> None:
    before, larger = plan(), plan(prompts={"pool": 640})
    old, new = results(before), results(larger)
    assert old.keys() == new.keys()
    changed = {path for path in old if old[path] != new[path]}
    assert changed
    assert all("draw1" in path for path in changed)
    fixed = plan(prompts={"pool": 640, "draw_pool": 64})
    assert results(fixed) == old
    assert prompts(larger) == prompts(before)


def test_shards_of_one_draw_begin_alike() -> None:
    made = plan()
    for draw in (0, 1):
        small, large = (
            made.rows.of(run)
            for run in made.runs
            if run.student == "small" and run.draw == draw and run.samples
        )
        assert large[:16] == small
        assert len(large) == len(set(large)) == 48


def test_parts_hold_the_rows_of_their_shard() -> None:
    made = plan()
    for run in made.runs:
        if run.samples:
            parts = {made.text.part(run.teacher, "train", row // 16) for row in made.rows.of(run)}
            assert set(made.shards.texts(run)) == parts


def test_the_order_of_free_entries_changes_nothing() -> None:
    turned = {
        "fresh": {
            "source": "base",
            "config": {"rope_parameters": {"b": 2, "a": 1}, "num_hidden_layers": 2},
            "init": "random",
        }
    }
    before, after = plan(), plan(students=turned)
    assert results(before) == results(after)
    # Equal as text too, as Snakemake compares parameters so.
    assert repr(results(before)) == repr(results(after))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts": {"seed": 1}},
        {"prompts": {"near_duplicate": 0.8}},
        {"prompts": {"system": "Be kind."}},
        {"prompts": {"test": 21}},
        {"teachers": {"big": {"source": "base", "temperature": 0.9}}},
        {"teachers": {"big": {"source": "base", "max_tokens": 64}}},
        {"sources": {"base": {"path": "models/other"}}},
    ],
)
def test_what_changes_the_text_changes_every_result_of_it(changes: dict[str, Any]) -> None:
    before, after = results(plan()), results(plan(**changes))
    paths = [path for path in before if "/students/" in path and path.endswith(".json")]
    trained = [path for path in paths if "/n0/" not in path]
    assert trained
    assert all(before[path] != after[path] for path in trained)


def test_held_out_parts_come_first_and_do_not_depend_on_runs() -> None:
    made = plan()
    pool = prompts_of(made)
    assert [pool.rows("test", part) for part in pool.parts("test")] == [16, 4]
    assert [pool.rows("validation", part) for part in pool.parts("validation")] == [8]
    slices = [
        pool.raw_spec("test", 0),
        pool.raw_spec("test", 1),
        pool.raw_spec("validation", 0),
    ]
    slices += [pool.raw_spec("train", 0), pool.raw_spec("train", 1)]
    assert [spec["slice"] for spec in slices] == [0, 1, 2, 3, 4]
    assert pool.earlier_parts("test", 0) == []
    held_out = [pool.part("test", 0), pool.part("test", 1)]
    held_out.append(pool.part("validation", 0))
    assert pool.earlier_parts("validation", 0) == held_out[:2]
    assert pool.earlier_parts("train", 1) == [
        *held_out,
        pool.part("train", 0),
    ]
    other = plan(runs=[BLOCK | {"samples": [1], "draws": [7]}])
    assert prompts(other) == prompts(made)
    assert made.text.held_out("big", "test") == other.text.held_out("big", "test")


def test_equal_architectures_are_timed_once() -> None:
    made = plan(
        students={"small-again": {"init": "cut", "source": "base", "layers": 2},
                  "again": {"init": "random", "source": "base", "seed": 5,
                            "config": tiny.study()["students"]["fresh"]["config"]}},
        runs=[BLOCK | {"students": ["small", "small-again", "fresh", "again"]}],
    )  # fmt: skip
    assert len(made.efficiency.by_key) == 3  # the teacher, the cut one, the random one
    assert made.efficiency.of("students", "fresh") == made.efficiency.of("students", "again")
    assert made.students.file("fresh") != made.students.file("again")
    assert made.students.file("small") == made.students.file("small-again")


def test_only_a_run_with_a_live_teacher_depends_on_its_model() -> None:
    search = {"student": "small", "teacher": "big", "method": "gkd", "samples": 8, "space":
              {"train.learning_rate": {"low": 1e-5, "high": 1e-3}}}  # fmt: skip
    config = tiny.study() | {"searches": {"rate": search}}
    config["methods"] |= LIVE | {"tuned": {"search": "rate"}}
    config["teachers"]["own"] = {"trained": {"student": "fresh", "teacher": "big", "method": "gkd", "samples": 16}}  # fmt: skip  # noqa: E501
    config["runs"][0] |= {"methods": ["sft", "gkd", "tuned"], "teachers": ["big", "own"]}
    made = Plan(parse_study(config))
    (trained,) = made.teachers.trained_runs
    assert trained.cache == "live"
    for run in (*made.runs, trained, made.searches.run("rate")):
        live = run.method in ("gkd", "tuned")
        spec = made.training.spec(run)
        assert (
            ("teacher" in spec) == live == (run.cache == "live") == bool(made.training.teacher(run))
        )
        if run.samples:
            assert ("on_policy" in spec["method"]) == live
            assert "/raw/none/" in made.shards.file(run)
        if live:
            assert made.training.teacher(run) == [made.teachers.file(run.teacher)]
            assert spec["teacher"]["model"] == made.teachers.spec(run.teacher)
    assert made.searches.spec("rate")["teacher"] == made.training.spec(trained)["teacher"]
    other = made.training.spec(
        next(r for r in made.runs if r.method == "gkd" and r.teacher == "own")
    )
    assert other["teacher"]["model"]["trained"] == made.training.spec(trained)


def test_only_targets_of_a_cut_teacher_depend_on_the_drawn_tokens() -> None:
    """And its own text alone was drawn from its distribution."""
    config = tiny.study() | {"caches": {"few": {"scheme": "top_k", "k": 9}}}
    config["caches"]["both"] = {"scheme": "dense", "teachers": {"big": 1.0, "calm": 1.0}}
    config["methods"] |= LIVE | {"kd": {"forward_kl": 1.0}}
    config["runs"][0] |= {"methods": ["kd"], "caches": ["few", "both"]}
    whole = Plan(parse_study(config))
    config["teachers"]["big"]["top_k"] = 40
    cut = Plan(parse_study(config))
    for cache in ("few", "both"):
        assert whole.targets.drawn("big", cache, "train", 1) == []
        drawn = cut.targets.drawn("big", cache, "train", 1)
        assert drawn == [cut.text.part("big", "train", 1)]
        assert cut.targets.drawn("calm", cache, "train", 1) == []
    scorers = cut.targets.spec("big", "both")["scorers"]
    assert ["drawn" in scorer for scorer in scorers] == [True, False]
    assert not any("drawn" in one for one in cut.targets.spec("calm", "both")["scorers"])
    assert cut.scorers.on_text("big", "big")["top_k"] == 40


def curated(**changes: Any) -> Plan:
    """The valid study with two curations, one block of runs each, and `raw`."""
    curations = {
        "clean": {"surplus": 2.0, "teacher_loss": {"max_quantile": 0.8}, "near_duplicates": {}},
        "noisy": {"corrupt": {"share": 0.1, "kind": "replace_response"}},
    }
    for name, entries in changes.items():
        curations[name] = curations[name] | entries
    block = BLOCK | {"students": ["small"], "samples": [8, 20]}
    runs = [block | {"curations": ["raw", "clean"]}, block | {"curations": ["noisy"]}]
    config = tiny.study() | {"curations": curations, "runs": runs}
    return Plan(parse_study(config))


def test_curations_are_crossed_and_raw_is_the_default() -> None:
    made = curated()
    found = {(run.curation, run.samples, run.draw) for run in made.runs if run.samples}
    assert len(found) == 3 * 2 * 2
    assert {run.curation for run in made.runs if not run.samples} == {"raw"}
    assert {run.curation for run in plan().runs} == {"raw"}


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("clean", {"near_duplicates": {"threshold": 0.9}}),
        ("clean", {"length": {"finished": True}}),
        ("noisy", {"corrupt": {"share": 0.2, "kind": "replace_response"}}),
    ],
)
def test_a_curations_settings_change_its_own_results_alone(
    name: str, entries: dict[str, Any]
) -> None:
    before, after = results(curated()), results(curated(**{name: entries}))
    assert before.keys() == after.keys()
    changed = {path for path in before if before[path] != after[path]}
    own = {
        path for path in before
        if f"/{name}/" in path and path.endswith((".json", ".parquet"))
    }  # fmt: skip
    specs = {path for path in own if path.endswith(".json")}
    assert changed == specs
    assert specs


def test_a_curation_reads_more_parts_than_its_rows_fill() -> None:
    made = curated()
    for run in made.runs:
        if run.samples:
            places = made.rows.of(run)
            need = {"raw": run.samples, "clean": 2 * run.samples, "noisy": run.samples}
            assert len(places) == need[run.curation]
            parts = [made.text.part("big", "train", part) for part in made.rows.parts(run)]
            assert made.curations.texts(run) == parts
            losses = made.curations.losses(run)
            if run.curation == "clean":
                # The cut points come from the first part, in every draw.
                assert losses[0] == made.losses.part("big", "train", 0)
                assert len(losses) == len({0, *made.rows.parts(run)})
            assert bool(losses) == (run.curation == "clean")
            assert bool(made.curations.donors(run)) == (run.curation == "noisy")
            own = [made.curations.file(run)] if run.curation != "raw" else parts
            assert made.shards.texts(run) == own
    assert len(made.curations.all_decisions) == len(set(made.curations.all_decisions)) == 2 * 2 * 2


def test_a_size_in_between_reads_no_new_part() -> None:
    made = curated()
    runs = [run for run in made.runs if run.curation == "clean" and run.draw == 1]
    small, large = sorted(runs, key=lambda run: run.samples)
    assert made.rows.of(large)[: len(made.rows.of(small))] == made.rows.of(small)
    assert set(made.curations.texts(small)) <= set(made.curations.texts(large))
    assert set(made.curations.losses(small)) <= set(made.curations.losses(large))


def test_a_surplus_changes_no_spec() -> None:
    before, after = curated(), curated(clean={"surplus": 3.0})
    assert dict(before.outputs.stored_specs()) == dict(after.outputs.stored_specs())
    sizes = [
        sum(len(made.rows.of(run)) for run in made.runs if run.curation == "clean")
        for made in (before, after)
    ]
    assert sizes[1] == 1.5 * sizes[0]


def test_gpus_are_of_training_and_of_a_spread_teacher() -> None:
    """They belong to a trained student's spec where there are several, and to nothing else."""
    own = {"student": "fresh", "teacher": "big", "method": "sft", "samples": 16}
    teachers: dict[str, Any] = {
        "own": {"trained": own},
        "wide": {"source": "base", "device_map": "auto"},
    }
    block = {"students": ["small", "fresh"], "teachers": ["own", "wide"], "methods": ["sft"], "samples": [16]}  # fmt: skip  # noqa: E501
    before = plan(teachers=teachers, runs=[block])
    config = tiny.study()
    config["teachers"]["own"] = {"trained": own, "gpus": 4}
    config["teachers"]["wide"] = {**teachers["wide"], "gpus": 2}
    config["students"]["small"]["gpus"] = 2
    config["runs"] = [block]
    after = Plan(parse_study(config))
    (maker,) = after.teachers.trained_runs
    assert after.training.gpus(maker) == 4
    assert after.training.spec(maker) == before.training.spec(maker) | {"gpus": 4}
    for run in after.runs:
        several = run.student == "small" and run.samples
        assert after.training.gpus(run) == (2 if several else 1)
        spec = after.training.spec(run)
        assert spec.pop("gpus", 1) == after.training.gpus(run)
        if run.teacher == "wide":
            assert spec == before.training.spec(run)
    assert [after.teachers.gpus(name) for name in ("big", "own", "wide")] == [1, 1, 2]
    assert after.text.key("wide") == before.text.key("wide")
    assert after.scorers.key("wide") == before.scorers.key("wide")
    assert after.students.by_key == before.students.by_key


def test_several_gpus_and_a_spread_live_teacher_exclude_each_other() -> None:
    method = {"forward_kl": 1.0, "on_policy": {"share": 0.5, "max_tokens": 8}}
    config = tiny.study()
    config["teachers"]["big"]["device_map"] = "auto"
    config["methods"]["gkd"] = method
    config["runs"][0] |= {"students": ["small"], "methods": ["gkd"]}
    parse_study(config)
    config["students"]["small"]["gpus"] = 2
    with pytest.raises(UserError, match=r"on_policy with gpus loads .* teachers\.big\.device_map"):
        parse_study(config)


def test_what_runs_share_is_worked_out_once_and_told_apart_by_its_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, calls = plan(), list[str]()
    plain = Teachers.spec

    def counted(self: Teachers, teacher: str) -> dict[str, Any]:
        calls.append(teacher)
        return plain(self, teacher)

    monkeypatch.setattr(Teachers, "spec", counted)
    assert made.text.spec("big") == made.text.spec("big")
    assert calls == ["big"]
    assert made.text.key("big") != made.text.key("calm")
    assert made.students.spec("small") != made.students.spec("fresh")
    other = plan()
    assert other.text.spec("big") is not made.text.spec("big")
    assert other.text.spec("big") == made.text.spec("big")


def test_what_is_asked_for_first_changes_nothing() -> None:
    """What runs share is worked out once: nobody may add to it for the others."""
    config = tiny.study()
    config["caches"] = {"own": {"scheme": "final_hidden", "hidden": {"layers": [1]}}}
    config["methods"]["states"] = {"hidden": {"weight": 1.0, "layers": {1: 1}}}
    config["runs"].append(
        {"students": ["small"], "teachers": ["big"], "methods": ["states"], "caches": ["own"],
         "samples": [16]}
    )  # fmt: skip
    study = parse_study(config)
    wanted, made = Plan(study).targets.spec("big", "own"), Plan(study)
    assert "hidden" in made.targets.full_spec("big", "own")
    assert made.targets.spec("big", "own") == wanted
    made.pool.formatting["system"] = "changed"
    assert made.pool.formatting == Plan(study).pool.formatting


def test_evaluate_may_be_left_out() -> None:
    config = tiny.study() | {
        "methods": {"sft": {"ce": 1.0}, "plain": {"ce": 1.0, "corpus": "prose"}}
    }
    config["runs"][0]["methods"] = ["sft", "plain"]
    with_reference = Plan(parse_study(config))
    del config["evaluate"]
    made = Plan(parse_study(config))
    assert made.evaluation.spec("big")["reference"] is None
    assert made.evaluation.inputs("big")["reference"] == []
    others = [{**one.evaluation.spec("big"), "reference": 0} for one in (made, with_reference)]
    assert others[0] == others[1]
    (key,) = {made.corpora.key("plain", name) for name in ("small", "fresh")}
    assert made.corpora.inputs(key)["reference"] == []
    assert (made.corpora.spec("plain", "small")["passages"]) == 0
    assert key not in with_reference.corpora.by_key  # the reference text is no training text


@pytest.mark.parametrize("number", [0, 1, 2769])
def test_any_number_of_generated_instructions(number: int) -> None:
    made = plan(evaluate={"generated_instructions": number})
    assert made.evaluation.spec("big")["generated_instructions"] == number


def test_more_instructions_than_the_templates_make_are_refused() -> None:
    with pytest.raises(UserError, match=r"generated_instructions: .*less than or equal to 2769"):
        plan(evaluate={"generated_instructions": 2770})
