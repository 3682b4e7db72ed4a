"""A served teacher in the config: what is refused, and what its text depends on."""

from typing import Any

import pytest

import tiny
from distill.config.checks.study import parse_study
from distill.core.errors import UserError
from distill.plan.study import Plan
from distill.workflow.startup import check_server_keys

SERVER: dict[str, Any] = {
    "url": "http://node:8000/v1", "model": "Qwen/Qwen3-32B", "software": "vllm",
    "key_variable": "TEACHER_KEY", "tokenizer": "base", "top_logprobs": 20,
}  # fmt: skip


def config(teacher: dict[str, Any] | None = None, **server: Any) -> dict[str, Any]:
    """A study whose teacher is served, prompts being another's."""
    study = tiny.study()
    study["teachers"]["far"] = {"server": SERVER | server, **(teacher or {})}
    study["caches"] = {"top": {"scheme": "top_k_tail", "k": 19}}
    study["methods"]["kd"] = {"forward_kl": 1.0}
    study["runs"] = [
        {"students": ["small"], "teachers": ["far"], "methods": ["sft", "kd"], "caches": ["top"],
         "samples": [16]}
    ]  # fmt: skip
    return study


def plan(teacher: dict[str, Any] | None = None, **server: Any) -> Plan:
    return Plan(parse_study(config(teacher, **server)))


def test_a_served_teacher_is_accepted() -> None:
    study = plan().study
    teacher = study.teachers["far"]
    assert (teacher.has_model, teacher.has_tokens, teacher.writes) == (False, True, False)
    alone = config(tokenizer=None, top_logprobs=0)
    alone["runs"][0] |= {"methods": ["sft"], "caches": []}
    assert parse_study(alone).teachers["far"].has_tokens is False


@pytest.mark.parametrize(
    ("teacher", "server", "sentence"),
    [
        ({}, {"url": "http://me:hunter2@node/v1"}, "url must not hold a user name or password"),
        ({}, {"url": "https://hunter2@node/v1"}, "url must not hold a user name or password"),
        ({}, {"url": "node:8000/hunter2"}, "url is not an address; begin it with http://"),
        ({}, {"url": "http://[hunter2/v1"}, "url is not an address; begin it with http://"),
        ({}, {"url": "http://node/v1?api_key=hunter2"}, "without [?] and #"),
        ({}, {"key_variable": "sk-hunter2"}, "the name of an environment variable .*never the key"),
        ({}, {"key_variable": "hunter2"}, "the name of an environment variable"),
        ({}, {"api_key": "hunter2"}, "'teachers.far.server.api_key' is not a known key"),
        ({}, {"extra": {"temperature": 0}}, "extra must not set temperature"),
        ({}, {"extra": {"api_key": "hunter2"}}, r"must not hold a key or password \(api_key\)"),
        ({}, {"extra": {"a": [{"Authorization": "hunter2"}]}}, "extra must not hold a key"),
        ({}, {"software": "openai"}, "openai does not return the token ids .* only vllm and llama"),
        ({}, {"tokenizer": None}, "top_logprobs needs tokenizer"),
        ({}, {"tokenizer": "bass"}, "server.tokenizer: there is no source 'bass'"),
        ({}, {"tokenizer": "prose"}, "source 'prose' must be a model"),
        ({}, {"top_logprobs": 1}, "top_logprobs must be at least 2"),
        ({}, {"top_logprobs": 19}, r"k is 19, but only 18 of server.top_logprobs: 19 are certain"),
        ({}, {"top_logprobs": 0}, "server returns text only; set server.top_logprobs"),
        ({"temperature": 0.7}, {}, "top_logprobs needs temperature 1 without top_k and top_p"),
        ({"top_p": 0.9}, {}, "top_logprobs needs temperature 1"),
        ({"top_k": 9}, {"software": "openai", "top_logprobs": 0}, "top_k is not a field of Open"),
        ({"text": "faq"}, {}, r"give server .* or text, not both"),
        ({"trained": {"student": "small", "method": "sft", "samples": 8}}, {}, "or trained, not b"),
        ({"quantisation": "nf4"}, {}, "quantisation has no effect on a served model"),
        ({"source": "base"}, {}, "server.tokenizer and server.top_logprobs are for a teacher with"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_asked_is_refused(
    teacher: dict[str, Any], server: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        plan(teacher, **server)
    assert "hunter2" not in str(caught.value)
    assert all(line.startswith("config: ") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("cache", "sentence"),
    [
        (
            {"scheme": "final_hidden"},
            "a server returns only its most likely tokens; use scheme top_k",
        ),
        ({"scheme": "sampled", "draws": 50}, "a server returns only its most likely tokens"),
        ({"temperatures": [2.0]}, "temperatures needs a local model"),
        ({"tokens": "all"}, "tokens: all needs a local model"),
        ({"teachers": {"big": 1.0}}, "teachers needs a local model"),
        ({"hidden": {"layers": [1]}}, "hidden needs a local model"),
    ],
)
def test_a_cache_that_log_probs_do_not_give_is_refused(
    cache: dict[str, Any], sentence: str
) -> None:
    study = config()
    scheme = {} if "scheme" in cache else {"scheme": "top_k_tail", "k": 4}
    study["caches"]["top"] = scheme | cache
    with pytest.raises(UserError, match=rf"methods.kd with caches.top: {sentence}"):
        parse_study(study)


def test_log_probs_are_of_chats() -> None:
    study = config()
    study["prompts"]["template"] = "alpaca"
    with pytest.raises(UserError, match="servers return log-probabilities for chats"):
        parse_study(study)


def test_magpie_needs_a_model_here() -> None:
    study = config()
    study["prompts"]["teacher"] = "far"
    with pytest.raises(UserError, match="Magpie needs a teacher with a local model"):
        parse_study(study)


def test_one_name_at_two_addresses_is_refused() -> None:
    study = config()
    study["teachers"]["near"] = {"server": SERVER | {"url": "http://other/v1"}, "seed": 1}
    with pytest.raises(
        UserError, match=r"teachers.near.server.model: teacher far has the same .* at another"
    ):
        parse_study(study)
    study["teachers"]["near"]["server"]["revision"] = "4 bits"
    assert len(Plan(parse_study(study)).served.by_key) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://elsewhere:9/v1"}, {"key_variable": None}, {"concurrency": 1},
        {"timeout": 1.0}, {"retries": 0},
    ],
)  # fmt: skip
def test_text_does_not_depend_on_where_and_how_a_server_is_reached(change: dict[str, Any]) -> None:
    one, two = plan(), plan(**change)
    assert one.served.key("far") == two.served.key("far")
    assert one.text.key("far") == two.text.key("far")
    assert one.served.connection(one.served.key("far")) != two.served.connection(
        two.served.key("far")
    )


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"model": "other"}, True), ({"revision": "b"}, True), ({"software": "llama.cpp"}, True),
        ({"top_logprobs": 30}, True), ({"extra": {"a": 1}}, True), ({"params": 1e9}, False),
    ],
)  # fmt: skip
def test_answers_are_asked_again_for_what_they_depend_on_alone(
    change: dict[str, Any], asked: bool
) -> None:
    one, two = plan(), plan(**change)
    assert (one.served.key("far") != two.served.key("far")) is asked
    assert one.text.key("far") != two.text.key("far")
    assert one.text.key("big") == two.text.key("big")


def test_no_key_and_no_address_stands_in_a_spec() -> None:
    made = plan()
    for spec in (made.text.spec("far"), made.served.spec("far"), made.targets.spec("far", "top")):
        assert "TEACHER_KEY" not in str(spec)
        assert "node:8000" not in str(spec)
    assert "server" not in made.text.spec("big")["decoding"]


def test_a_local_model_may_score_what_a_server_writes() -> None:
    made = plan({"source": "base"}, tokenizer=None, top_logprobs=0)
    assert made.teachers.has_model("far")
    assert made.evaluation.spec("far")["written"] is True
    assert "/own/" not in made.scorers.states("far", "far", "answer", "test", 0)
    assert made.text.keys_from("server") == [made.text.key("far")]
    assert made.text.key("far") in made.text.keys_scored(True)


def test_flops_that_nobody_states_are_a_warning() -> None:
    assert plan().outputs.table_spec()["uncounted"] == ["far"]
    assert "uncounted" not in plan(params=1e9).outputs.table_spec()


def test_a_missing_key_is_told_before_the_first_job(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    made = plan()
    with pytest.raises(
        UserError, match=r"config: teachers.far.server.key_variable: .* TEACHER_KEY is not"
    ):
        check_server_keys(made)
    monkeypatch.setenv("TEACHER_KEY", "hunter2")
    check_server_keys(made)
    monkeypatch.delenv("TEACHER_KEY")
    for part in [*made.text.served_test("far"), made.served.part("far", "train", 0)]:
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).touch()
    check_server_keys(made)  # nothing is left to be asked


def test_settings_of_a_request_are_given_once() -> None:
    served = {"tokenizer": None, "top_logprobs": 0}
    for key, value in (("stop", ["\n"]), ("chat_template_kwargs", {"enable_thinking": False})):
        with pytest.raises(UserError, match=f"{key} is set here and in server.extra; keep one"):
            parse_study(config({key: value}, extra={key: value}))
    with pytest.raises(UserError, match="thinking: keep needs a local model"):
        parse_study(config({"thinking": "keep"}))
    study = config({"stop": ["\n"], "thinking": "drop"}, **served)
    study["runs"][0] |= {"methods": ["sft"], "caches": []}
    spec = Plan(parse_study(study)).served.spec("far")
    assert spec["decoding"]["stop"] == ["\n"]
    assert (spec["decoding"]["thinking"], spec["decoding"]["thinking_end"]) == ("drop", "</think>")


def test_variables_of_the_template_in_extra_format_prompts_here_too() -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    made = plan(extra=extra)
    assert made.text.spec("far")["formatting"]["settings"] == extra["chat_template_kwargs"]
    assert "settings" not in made.served.spec("far")["formatting"]
    own = plan(extra)
    assert own.served.spec("far")["formatting"]["settings"] == extra["chat_template_kwargs"]
    assert own.text.spec("far")["formatting"] == made.text.spec("far")["formatting"]
