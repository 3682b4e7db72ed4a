import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from distill.config.checks.study import parse_study
from distill.config.reading import check_yaml
from distill.core.errors import UserError
from distill.plan.study import Plan


def changed(path: str, value: Any) -> dict[str, Any]:
    """The valid config with the value at a dotted path replaced."""
    config = tiny.study()
    place: Any = config
    *parents, last = path.split(".")
    for part in parents:
        if part == "caches":
            place.setdefault(part, {})
        place = place[int(part) if part.isdigit() else part]
    place[int(last) if last.isdigit() else last] = value
    return config


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("hub", r"sources.base: hub must be a"),
        ("path", r"sources.base.path: a path must not contain //"),
    ],
)
def test_a_source_at_an_address_is_refused_without_its_password(key: str, sentence: str) -> None:
    source = {key: "https://me:hunter2@node/a", "revision": "f" * 40}
    with pytest.raises(UserError, match=sentence) as caught:
        parse_study(changed("sources.base", source))
    assert "hunter2" not in str(caught.value)


def test_a_valid_config_parses() -> None:
    study = parse_study(tiny.study())
    assert study.runs[0].samples == [16, 48]
    assert study.train.learning_rate == 5e-5
    assert study.evaluate.combined_weights.pass_rate == 1 / 3


@pytest.mark.parametrize("value", ["5e-5", 5e-5])
def test_numbers_as_text_are_numbers(value: Any) -> None:
    assert parse_study(changed("train", {"learning_rate": value})).train.learning_rate == 5e-5
    assert parse_study(changed("prompts.pool", "51")).rows.pool == 51


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("trian", {}, "'trian' is not a known key; did you mean train?"),
        ("prompts.poool", 3, "'prompts.poool' is not a known key; did you mean pool?"),
        ("teachers.big.temprature", 1, "'teachers.big.temprature' is not.*temperature?"),
        (
            "students.small.zzz",
            1,
            "'students.small.zzz' is not a known key; the keys there are init, source",
        ),
        ("runs.0.sample", [1], r"'runs\[0\].sample' is not.*did you mean samples?"),
        ("runs.0.students", ["smal"], r"runs\[0\].students: there is no student 'smal'; did you"),
        ("runs.0.teachers", ["huge"], r"no teacher 'huge'; there are big, calm"),
        ("runs.0.methods", ["kd"], r"no method 'kd'; there are sft"),
        ("teachers.big.source", "bass", "teachers.big.source: there is no source 'bass'; did you"),
        ("students.small.source", "prose", "source 'prose' must be a model"),
        ("evaluate.reference.source", "base", "source 'base' must be a data set"),
        ("evaluate.answers", {"temperature": 1}, "evaluate.answers.max_tokens is missing"),
        (
            "prompts.with_context",
            "{prompt}{context}",
            "needs a template that is your own text",
        ),
        ("evaluate.reference.source", "faq", "sources.faq.fields: name the text column"),
        ("prompts.teacher", "bog", "prompts.teacher: there is no teacher 'bog'; did you mean big"),
        ("prompts.teacher", None, "source magpie needs teacher"),
        ("prompts.source", "base", "source 'base' must be a data set"),
        ("prompts.source", "prose", "sources.prose.fields: name the prompt column"),
        ("prompts.template", "Q: ", "template must be chat, alpaca, or a text that contains"),
        ("prompts.draw_pool", 65, "draw_pool must not exceed pool"),
        ("prompts.draw_pool", 40, r"runs\[0\].samples: 48 is larger than prompts.draw_pool"),
        ("runs.0.samples", [16, 65], r"65 is larger than prompts.pool, 64; raise that or lower"),
        ("runs.0.samples", [16, 16], "has a duplicate"),
        ("runs.0.samples", [0], r"runs\[0\].samples\[0\]: input should be greater than 0"),
        ("runs.0.samples", [], r"runs\[0\].samples: list should have at least 1 item"),
        ("students.small.layers", None, "layers needs init: cut"),
        ("students.fresh.layers", 2, "layers needs init: cut"),
        ("students.small.config", {"a": 1}, "config needs init: random"),
        ("students.fresh.config", {}, "config needs init: random"),
        ("students.small.gpus", 0, "students.small.gpus"),
        (
            "students.small.gpus",
            3,
            r"methods.sft: 3 GPUs share a batch, but train.batch_size \(16\) is not a multiple of "
            r"gpus x micro_batch_size \(3 x 5\); change one",
        ),
        (
            "teachers.big.gpus",
            2,
            r"gpus needs device_map: auto \(a teacher split over several GPUs\) or trained",
        ),
        ("students.small.init", "cute", "should be 'cut', 'pretrained' or 'random'"),
        ("sources.base.hub", "o/n", "exactly one of wheel, hub, path and templates"),
        ("sources.base", {}, "exactly one of wheel, hub, path and templates"),
        ("sources.base", {"hub": "o/n"}, "a hub repository needs a revision"),
        (
            "sources.base",
            {"hub": "o/n", "revision": "main"},
            "the 40 hexadecimal digits of a commit",
        ),
        (
            "sources.base",
            {"hub": "o/n", "revision": "f" * 39},
            "the 40 hexadecimal digits of a commit",
        ),
        ("sources.base", {"hub": "../n", "revision": "f" * 40}, "hub must be a repository's name"),
        ("sources.base", {"wheel": "a==1", "file": "f"}, "a wheel needs file .* and sha256"),
        ("sources.base", {"wheel": "a>=1", "file": "f", "sha256": "0" * 64}, "match pattern"),
        ("sources.faq.rows", None, "downloaded data set needs rows"),
        ("sources.faq.fields", {"response": "a"}, "fields must name the prompt column"),
        ("teachers.big.text", "faq", "must equal prompts.source"),
        (
            "teachers.big",
            {"source": "base", "text": "faq", "top_k": 9},
            "remove top_k and top_p: on ready-made",
        ),
        (
            "teachers.big",
            {"source": "base", "text": "faq", "top_p": 0.9},
            "remove top_k and top_p: on ready-made",
        ),
        ("teachers.calm", {"text": "faq"}, "must equal prompts.source, 'magpie'"),
        ("evaluate.combined_weights", {"perplexity": 0.5}, "three weights must sum to 1"),
        ("evaluate.prices", {"hour": 2.0}, "evaluate.prices.teacher_million_tokens"),
        ("evaluate.prices", {"teacher_million_tokens": -1, "hour": 2.0}, "greater than or equal"),
        ("evaluate.prices", {"teacher_million_tokens": 0, "hour": 0}, "one price above 0"),
        ("evaluate.latency_repeats", 9, "greater than or equal to 10"),
        ("train", {"batch_size": 16, "micro_batch_size": 3}, "multiple of micro_batch_size"),
        ("train", {"learning_rate": "fast"}, "train.learning_rate: .* but it is 'fast'"),
        ("train", {"learning_rate": 100.0}, "train.learning_rate: .*less than or equal to 1"),
        ("train", {"learning_rate": float("nan")}, "train.learning_rate: .*finite"),
        ("methods.none", {"ce": 1.0}, "methods.none: the name is reserved"),
        (
            "methods.odd",
            {"kl": 1.0},
            "'methods.odd.kl' is not a known key; the keys there are ce, f",
        ),
        ("methods.empty", {}, "methods.empty: give at least one loss a weight above 0"),
        (
            "methods.odd",
            {"search": "tune", "ce": 1.0},
            "a method with search must have no other key",
        ),
        ("methods.lost", {"search": "tune"}, "methods.lost.search: there is no search 'tune'"),
        ("methods.hasty", {"ce": 1, "train": {"epoch": 3}}, "methods.hasty.train: .*mean epochs"),
        ("methods.hasty", {"ce": 1, "train": {"epochs": 0}}, "methods.hasty.train: epochs: .*0"),
        ("caches.a", {"scheme": "top_k"}, "caches.a: k needs scheme top_k"),
        ("caches.a", {"scheme": "final_hidden", "k": 3}, "caches.a: k needs scheme top_k"),
        ("caches.a", {"scheme": "sampled"}, "scheme sampled needs draws"),
        ("caches.a", {"scheme": "sampled", "draws": 70000}, "caches.a.draws: .*65535"),
        ("caches.a", {"scheme": "dense", "temperatures": [2]}, "supports every temperature"),
        (
            "caches.a",
            {"scheme": "top_k", "k": 2, "temperatures": [1]},
            "without 1, which every cache supports",
        ),
        (
            "caches.a",
            {"scheme": "sampled", "draws": 9, "temperatures": [2]},
            "temperatures with scheme sampled needs log_p: true",
        ),
        (
            "caches.a",
            {"scheme": "final_hidden", "teachers": {"big": 1, "calm": 1}},
            "final_hidden cannot store a mixture of several teachers",
        ),
        (
            "caches.a",
            {"scheme": "dense", "teachers": {"huge": 1}},
            "caches.a.teachers: there is no teacher 'huge'",
        ),
        (
            "caches.a",
            {"scheme": "dense", "hidden": {"layers": [1], "projection": "pca"}},
            "width needs projection random or pca",
        ),
        ("caches.none", {"scheme": "dense"}, "caches.none: the name is reserved"),
        ("study", "my study", "'my study' is not a valid name"),
        ("study", "..", "'..' is not a valid name"),
        ("study", "../up", "is not a valid name"),
        ("study", "a/b", "is not a valid name"),
        ("study", "a\n", "is not a valid name"),
        ("study", "", "is not a valid name"),
        ("study", "x" * 65, "at most 64 letters"),
        ("students.a b", {}, "'a b' is not a valid name"),
        ("teachers", {}, "teachers: dictionary should have at least 1 item"),
    ],
)
def test_a_mistake_gives_a_sentence_that_names_it(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        parse_study(changed(path, value))
    assert all(line.startswith("config: ") for line in str(caught.value).splitlines())


def test_a_data_set_too_small_for_the_pool_is_refused() -> None:
    config = tiny.study()
    config["prompts"] |= {"source": "faq", "template": "alpaca"}
    parse_study(config)
    config["sources"]["faq"]["rows"] = 91
    with pytest.raises(UserError, match=r"need 92 rows but faq has 91"):
        parse_study(config)
    config["sources"]["faq"]["rows"] = 92
    parse_study(config)


def test_several_mistakes_are_told_at_once() -> None:
    config = changed("prompts.poool", 3)
    config["train"] = {"epochs": 0}
    with pytest.raises(UserError) as caught:
        parse_study(config)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "line 5: the key 'c' is given twice"),
        ("a: 1\na: 1\n", "line 2: the key 'a' is given twice"),
        ("a: [1\n", "is not valid YAML"),
        ("a: 2024-13-45\n", "is not valid YAML"),
        ("- 1\n", "must hold a mapping"),
        ("", "must hold a mapping"),
    ],
)
def test_bad_yaml_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        check_yaml(path)


def test_yaml_files_that_are_missing_or_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        check_yaml(tmp_path / "none.yaml")
    (tmp_path / "study.yaml").write_bytes("a: ü\n".encode("cp1252"))
    with pytest.raises(UserError, match="not valid YAML"):
        check_yaml(tmp_path / "study.yaml")
    (tmp_path / "good.yaml").write_text("a: {b: 1}\nc: {b: 1}\n")
    check_yaml(tmp_path / "good.yaml")


def places(config: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key of a config."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, (dict, list)):
            found += places(value, (*path, key))
    return found


FULL = parse_study(tiny.study()).model_dump(exclude_none=True)
FULL["students"]["small"].pop("config")
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JUNK = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(places(FULL)), JUNK, st.booleans(), st.text(max_size=5))
@pytest.mark.slow
def test_junk_anywhere_gives_a_user_error_or_parses(
    path: tuple[Any, ...], junk: Any, add: bool, name: str
) -> None:
    config = copy.deepcopy(FULL)
    place: Any = config
    for part in path[:-1]:
        place = place[part]
    place[name if add and isinstance(place, dict) else path[-1]] = junk
    with contextlib.suppress(UserError):
        study = parse_study(config)
        assert Plan(study).pool.key


def test_a_surplus_beyond_reason_is_a_user_error() -> None:
    config = changed("prompts.source", "faq")
    config["prompts"] |= {"template": "alpaca", "surplus": 1e308}
    with pytest.raises(UserError, match="surplus"):
        parse_study(config)


CACHES: dict[str, Any] = {
    "exact": {"scheme": "final_hidden"},
    "top": {"scheme": "top_k", "k": 8},
    "tail": {"scheme": "top_k_tail", "k": 8, "temperatures": [2.0]},
    "draws": {"scheme": "sampled", "draws": 50},
    "layers": {"scheme": "top_k", "k": 8, "hidden": {"layers": [2]}},
    "everywhere": {"scheme": "dense", "tokens": "all"},
}


def _soft(method: dict[str, Any], caches: list[str], **changes: Any) -> dict[str, Any]:
    """A study with one method that reads soft targets."""
    study = tiny.study() | {"caches": CACHES, **changes}
    study["methods"] = study["methods"] | {"kd": method}
    block = {"students": ["small"], "teachers": ["big"], "methods": ["kd"], "samples": [16]}
    return study | {"runs": [block | {"caches": caches}]}


@pytest.mark.parametrize(
    ("method", "caches", "sentence"),
    [
        (
            {"forward_kl": 1},
            [],
            r"runs\[0\].caches: the method kd needs soft targets; name a cache",
        ),
        ({"forward_kl": 1}, ["topp"], "there is no cache 'topp'; did you mean top"),
        ({"ce": 1}, ["top"], "none of the block's methods reads soft targets; remove caches"),
        ({"reverse_kl": 1}, ["draws"], "samples are biased .* use scheme top_k_tail"),
        ({"jsd": 1}, ["top"], "jsd is not sound on top_k targets"),
        ({"skew_kl": 1, "temperature": 3}, ["tail"], "no normalisers for temperature 3"),
        ({"forward_kl": 1, "temperature": 2}, ["draws"], "add it to temperatures and log_p: true"),
        ({"forward_kl": 1, "tokens": "all"}, ["top"], "set tokens: all in the cache"),
        ({"uld": 1}, ["draws"], "uld is not sound on sampled targets"),
        ({"uld": 1, "tokens": "all"}, ["everywhere"], "uld aligns answers"),
        ({"spans": 1}, ["tail"], "spans is not sound on top_k_tail .* use scheme dense or final"),
        (
            {"spans": 1, "uld": 1},
            ["exact"],
            "spans can be combined with ce only: the other soft losses",
        ),
        ({"spans": 1}, ["exact"], "small has the tokenizer of big, so spans has nothing to align"),
        ({"ce": 1, "hidden": {"layers": {1: 2}}}, ["top"], "give the cache hidden"),
        ({"ce": 1, "hidden": {"layers": {1: 3}}}, ["layers"], "matches the teacher's layer 3"),
        ({"ce": 1, "embedding": {}}, ["top"], "use scheme final_hidden, not top_k"),
    ],
)
def test_unsound_soft_targets_are_refused(
    method: dict[str, Any], caches: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_study(_soft(method, caches))


@pytest.mark.parametrize(
    ("method", "caches"),
    [
        ({"forward_kl": 1}, ["exact", "top", "tail", "draws"]),
        ({"reverse_kl": 1, "temperature": 2.0}, ["exact", "tail"]),
        ({"uld": 1, "ce": 0.1}, ["exact", "tail"]),
        ({"ce": 1, "hidden": {"layers": {1: 2}}}, ["layers"]),
        ({"ce": 0.5, "forward_kl": 0.1, "tokens": "all", "temperature": 0.7}, ["everywhere"]),
        ({"embedding": {"head": "teacher"}}, ["exact"]),
    ],
)
def test_sound_soft_targets_are_accepted(method: dict[str, Any], caches: list[str]) -> None:
    assert parse_study(_soft(method, caches)).methods["kd"].soft


def test_a_cut_teacher_has_no_reverse_divergence() -> None:
    study = _soft({"reverse_kl": 1}, ["exact"])
    study["teachers"]["big"] |= {"top_p": 0.9}
    with pytest.raises(UserError, match="infinite where top_k or top_p cut"):
        parse_study(study)
    study["methods"]["kd"] = {"jsd": 1, "jsd_beta": 0.5}
    assert parse_study(study).methods["kd"].soft == ["jsd"]


def _across(**changes: Any) -> dict[str, Any]:
    """A study whose student has a tokenizer of another source than the teacher's."""
    study = _soft({"spans": 1}, ["exact"], **changes)
    study["sources"]["words"] = {"path": "models/words"}
    study["students"]["small"]["source"] = "words"
    return study


def test_spans_are_for_another_tokenizer_and_a_teacher_without_a_cut() -> None:
    study = _across()
    assert parse_study(study).methods["kd"].soft == ["spans"]
    study["teachers"]["big"] |= {"top_k": 50}
    with pytest.raises(
        UserError,
        match=r"spans needs likelihoods above 0, .* a teacher without top_k and top_p",
    ):
        parse_study(study)
    study = _across()
    entry = {"student": "small", "teacher": "calm", "method": "sft", "samples": 16}
    study["teachers"]["big"] = {"trained": entry}
    study["prompts"]["teacher"] = "calm"
    with pytest.raises(UserError, match="small has the tokenizer of big"):
        parse_study(study)


def test_a_search_over_spans_uses_them() -> None:
    study = _across()
    study["methods"]["kd"] = {"ce": 1, "uld": 1}
    space = {"method.spans": {"low": 0.1, "high": 1}}
    entry = {"student": "small", "teacher": "big", "method": "kd", "cache": "exact"}
    study["searches"] = {"find": entry | {"samples": 16, "space": space}}
    with pytest.raises(UserError, match="does not use spans; give it a weight above 0"):
        parse_study(study)
    study["methods"]["kd"] = {"ce": 1, "spans": 1}
    assert parse_study(study).searches["find"].space


def test_text_alone_has_no_soft_targets() -> None:
    study = _soft({"forward_kl": 1}, ["top"])
    study["prompts"] = {
        "source": "faq",
        "pool": 64,
        "test": 20,
        "part_size": 16,
        "template": "alpaca",
    }
    study["teachers"] = {"big": {"text": "faq"}}
    with pytest.raises(UserError, match=r"teachers.big has no model to score its text; give it"):
        parse_study(study)
    study["teachers"] = {"big": {"text": "faq", "source": "base"}}
    assert parse_study(study).teachers["big"].writes is False


def test_nothing_trains_a_random_head_by_hidden_states_alone() -> None:
    study = _soft({"embedding": {}}, ["exact"])
    study["runs"][0]["students"] = ["fresh"]
    with pytest.raises(UserError, match="no loss would train the random output head of fresh"):
        parse_study(study)


LIVE: dict[str, Any] = {"jsd": 1.0, "on_policy": {"share": 0.5}}


def test_a_live_teacher_takes_the_place_of_a_cache() -> None:
    study = _soft(LIVE, [])
    assert not parse_study(study).methods["kd"].reads_cache
    study["methods"]["exact"] = {"forward_kl": 1.0}
    study["runs"][0] |= {"methods": ["sft", "kd", "exact"], "caches": ["exact", "top"]}
    table = {(run.method, run.cache) for run in Plan(parse_study(study)).runs if run.samples}
    assert table == {("sft", "none"), ("kd", "live"), ("exact", "exact"), ("exact", "top")}


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ({"jsd": 0, "ce": 1}, "on_policy needs a divergence from the teacher; give one of forward"),
        ({"uld": 1}, "on_policy compares distributions over the same tokens, which uld does not"),
        ({"hidden": {"layers": {1: 2}}}, "which hidden does not; remove hidden or on_policy"),
        ({"embedding": {}}, "which embedding does not; remove embedding"),
        (
            {"ce": 1, "on_policy": {"share": 1}},
            "share: 1 uses only the student's; lower share or remove ce",
        ),
        ({"corpus": "prose"}, "the corpus prose has no teacher"),
        ({"on_policy": {"share": 1.5}}, "on_policy.share"),
        ({"on_policy": {"tokens": 9}}, "did you mean max_tokens"),
    ],
)
def test_an_on_policy_method_that_cannot_work_is_refused(
    method: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        parse_study(_soft(LIVE | method, []))
    assert len(str(caught.value).splitlines()) == 1


def test_what_an_on_policy_run_needs() -> None:
    with pytest.raises(
        UserError, match=r"none of the block's methods .* runs the teacher instead\); remove"
    ):
        parse_study(_soft(LIVE, ["top"]))
    study = _soft(LIVE, [])
    study["teachers"]["big"] |= {"top_k": 5}
    assert parse_study(study)
    study["methods"]["kd"] = LIVE | {"jsd_beta": 1.0}
    with pytest.raises(UserError, match="infinite where top_k or top_p cut"):
        parse_study(study)
    study = _soft(LIVE, [])
    study["students"]["small"] |= {"vocabulary": {"size": 50, "teacher": "big"}}
    with pytest.raises(UserError, match="cannot sample tokens that its vocabulary drops"):
        parse_study(study)
    study = _soft(LIVE, [], searches={"tune": SEARCH | {"method": "kd", "cache": "top"}})
    with pytest.raises(UserError, match="the method kd reads no cache; remove it"):
        parse_study(study)
    study = _soft(LIVE, [])
    study["prompts"] = {"source": "faq", "pool": 64, "test": 20, "part_size": 16, "template": "alpaca"}  # fmt: skip  # noqa: E501
    study["teachers"] = {"big": {"text": "faq"}}
    with pytest.raises(UserError, match=r"but teachers.big has text only; give it a source"):
        parse_study(study)
    with pytest.raises(UserError, match=r"caches\.live: the name is reserved"):
        parse_study(tiny.study() | {"caches": {"live": {"scheme": "dense"}}})


SEARCH: dict[str, Any] = {
    "student": "small", "teacher": "big", "method": "sft", "samples": 16, "trials": 3,
    "space": {"train.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"student": "smal"}, "searches.tune.student: there is no student 'smal'"),
        ({"cache": "top"}, "searches.tune.cache: the method sft reads no cache"),
        ({"samples": 999}, "samples: 999 is larger than the pool of 64"),
        ({"space": {"train.schedule": {"low": 0, "high": 1}}}, "train.schedule is not a numeric"),
        ({"space": {"train.lr": {"low": 0, "high": 1}}}, "train.lr is not a numeric setting"),
        ({"space": {"method.ce": {"low": 1, "high": 1}}}, "low must be below high"),
        (
            {
                "method": "soft",
                "cache": "top",
                "space": {"method.temperature": {"low": 1, "high": 3}},
            },
            "method.temperature varies, but caches.top supports fixed temperatures only",
        ),
        ({"method": "tuned"}, "tuned is itself the result of a search"),
    ],
)
def test_a_search_that_cannot_run_is_refused(change: dict[str, Any], sentence: str) -> None:
    study = tiny.study() | {"searches": {"tune": SEARCH | change}, "caches": CACHES}
    study["methods"] |= {"tuned": {"search": "tune"}, "soft": {"forward_kl": 1.0}}
    with pytest.raises(UserError, match=sentence):
        parse_study(study)


def test_a_search_needs_validation_prompts() -> None:
    study = tiny.study() | {"searches": {"tune": SEARCH}}
    study["prompts"] |= {"validation": 0}
    with pytest.raises(UserError, match=r"a search needs prompts\.validation"):
        parse_study(study)
    study = tiny.study()
    study["prompts"] |= {"validation": 0}
    study["train"] = {"early_stopping": {"patience": 2}}
    with pytest.raises(UserError, match="early stopping needs held-out validation prompts"):
        parse_study(study)


def _curated(entries: dict[str, Any], **block: Any) -> dict[str, Any]:
    config = tiny.study()
    config["curations"] = {"own": entries}
    config["runs"][0] |= {"curations": ["own"], "samples": [16], **block}
    return config


ENDED = {"length": {"finished": True}}


@pytest.mark.parametrize(
    ("entries", "block", "sentence"),
    [
        ({}, {}, "curations.own: give at least one of length, language"),
        ({"lenght": {}}, {}, "'curations.own.lenght' is not a known key; did you mean length?"),
        ({"length": {"min": 3}}, {}, "the keys there are min_tokens, max_tokens, finished"),
        ({"length": {"min_tokens": 9, "max_tokens": 3}}, {}, "min_tokens must not exceed"),
        ({"length": {}}, {}, "give min_tokens, max_tokens or finished"),
        ({"language": {"keep": ["english"]}}, {}, "'english' is not a known language"),
        ({"teacher_loss": {}}, {}, "min_quantile must be below max_quantile"),
        ({"teacher_loss": {"max_quantile": 0.5}}, {}, "surplus must be at least 2; raise it"),
        (ENDED, {"curations": ["owns"]}, "no curation 'owns'; did you mean own?"),
        (ENDED, {"curations": ["own", "own"]}, "has a duplicate"),
        (ENDED, {"samples": [48]}, r"48 rows of curations.own need 72 candidates.*pool, 64"),
        (ENDED, {"samples": [65]}, "65 is larger than prompts.pool, 64"),
    ],
)
def test_a_curation_that_cannot_work_is_refused(
    entries: dict[str, Any], block: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        parse_study(_curated(entries, **block))
    assert len(str(caught.value).splitlines()) == 1


def test_draws_are_chosen_from_their_own_pool() -> None:
    config = _curated(ENDED)
    config["prompts"]["draw_pool"] = 20
    with pytest.raises(UserError, match=r"need 24 candidates.*prompts.draw_pool"):
        parse_study(config)
    config["runs"][0]["draws"] = [0]
    assert parse_study(config).curations["own"].candidates(16) == 24


def test_raw_is_no_curation_of_ones_own() -> None:
    config = tiny.study()
    config["curations"] = {"raw": ENDED}
    with pytest.raises(UserError, match=r"curations.raw: the name is reserved"):
        parse_study(config)


def test_corrupted_answers_have_no_soft_targets() -> None:
    corrupt = {"corrupt": {"share": 0.1, "kind": "shuffle_words"}}
    config = _soft({"ce": 0.5, "forward_kl": 0.5}, ["exact"])
    config["curations"] = {"own": corrupt, "clean": ENDED}
    config["runs"][0] |= {"curations": ["own"], "samples": [16]}
    with pytest.raises(UserError, match=r"curations.own: a corrupted answer has no soft targets"):
        parse_study(config)
    config["runs"][0]["curations"] = ["raw", "clean"]
    assert len(Plan(parse_study(config)).runs) > 2


def test_text_alone_cannot_be_chosen_by_tokens() -> None:
    for key, entry in (("teacher_loss", {"max_quantile": 0.9}), ("length", {"max_tokens": 9})):
        config = _curated({key: entry}, teachers=["authors"])
        config["prompts"] |= {"source": "faq"}
        config["teachers"]["authors"] = {"text": "faq"}
        with pytest.raises(UserError, match=rf"curations.own.{key} needs the tokens of a model"):
            parse_study(config)
        config["curations"]["own"] = ENDED
        assert parse_study(config).runs[0].curations == ["own"]


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        (
            "methods",
            None,
            r"config: methods\.new is empty; give it keys \(ce, ",
        ),
        ("students", "big", r"config: students\.new is 'big'; give it keys \(init, "),
    ],
)
def test_an_empty_entry_is_told_what_belongs_there(section: str, value: Any, message: str) -> None:
    config = tiny.study()
    config[section]["new"] = value
    with pytest.raises(UserError, match=message):
        parse_study(config)


def test_a_template_with_context_holds_both_fields() -> None:
    config = changed("prompts.template", "{prompt}:")
    config["prompts"]["with_context"] = "{prompt} {context}:"
    assert parse_study(config).rows.with_context == "{prompt} {context}:"
    for text in ("{prompt}:", "{context}:"):
        config["prompts"]["with_context"] = text
        with pytest.raises(UserError, match="with_context must contain"):
            parse_study(config)


def test_validation_prompts_can_be_answered_only_where_there_are_any() -> None:
    config = changed("evaluate.answers", {"max_tokens": 8, "validation": True})
    assert Plan(parse_study(config)).text.answered_validation("big")
    config["prompts"]["validation"] = 0
    with pytest.raises(
        UserError, match=r"evaluate\.answers\.validation: .* set prompts\.validation"
    ):
        parse_study(config)


def test_settings_that_are_not_used_stand_in_no_spec() -> None:
    plain = Plan(parse_study(tiny.study()))
    assert set(plain.pool.formatting) == {"template", "system"}
    assert "answers" not in plain.evaluation.spec("big")
    assert plain.text.answered_validation("big") == []
    config = changed("evaluate.answers", {"max_tokens": 8})
    assert Plan(parse_study(config)).evaluation.spec("big")["answers"]["max_tokens"] == 8


def test_a_pool_of_a_billion_is_planned_without_listing_its_rows() -> None:
    config = tiny.study()
    config["prompts"] |= {"pool": 10**9, "part_size": 10**6}
    config["runs"][0] |= {"samples": [10**9], "draws": [0]}
    plan = Plan(parse_study(config))
    run = next(run for run in plan.runs if run.samples)
    assert plan.rows.of(run) == range(10**9)
    assert len(plan.shards.texts(run)) == len(plan.outputs.train_prompts) == 1000
    with pytest.raises(UserError, match="more than 100000 parts; raise part_size to 10000"):
        parse_study(config | {"prompts": config["prompts"] | {"part_size": 100}})
    config["runs"][0]["draws"] = [0, 1]
    with pytest.raises(UserError, match=r"at most 10000000 rows; set prompts.draw_pool"):
        parse_study(config)
