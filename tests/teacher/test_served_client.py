"""A server is asked again where that may help, never with its key shown, never twice for a row."""

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from distill.core.errors import UserError
from distill.teacher.served.client import Connection, ask_server
from scripted_server import Reply, Scripted, chat, serve, trickle

KEY = "sk-secret-4711"
SPEC: dict[str, Any] = {
    "server": {
        "model": "served", "revision": None, "software": "openai", "top_logprobs": 0, "extra": {},
    },
    "formatting": {"template": "chat", "system": "Be brief."},
    "decoding": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 9, "seed": 0},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-named-by-the-config")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-not-named")


def prompts(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"train-{number:07d}", "row": number, "prompt": f"Say {number}", "context": None}
        for number in range(count)
    ]


def connection(server: Scripted | str, **settings: Any) -> Connection:
    url = server if isinstance(server, str) else server.url
    given: dict[str, Any] = {
        "key_variable": "TEACHER_KEY",
        "concurrency": 2,
        "timeout": 5.0,
        "retries": 3,
    }
    return Connection("big", url, **(given | settings))


def ask(
    folder: Path, server: Scripted | str, rows: int = 3, tag: str = "a", **settings: Any
) -> list[dict[str, Any]]:
    resume = folder / "train-00000.resume.jsonl"
    return ask_server(prompts(rows), connection(server, **settings), SPEC, resume, tag)


def echo(body: dict[str, Any], _: int) -> Reply:
    return 200, {}, chat(f"You said: {body['messages'][-1]['content']}")


def failing(times: int, reply: Reply) -> Callable[[dict[str, Any], int], Reply]:
    """The first requests get `reply`, further ones an answer."""
    return lambda body, number: reply if number < times else echo(body, number)


@pytest.mark.slow
def test_answers_come_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    with serve(echo) as server:
        answers = ask(tmp_path, server, 8)
    assert [row["id"] for row in answers] == [row["id"] for row in prompts(8)]
    assert answers[7]["response"] == "You said: Say 7"
    assert (answers[7]["prompt_tokens"], answers[7]["tokens"]) == (7, 3)
    assert set(server.paths) == {"/v1/chat/completions"}
    first = next(body for body in server.bodies if body["messages"][-1]["content"] == "Say 0")
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (first["temperature"], first["top_p"], first["max_completion_tokens"]) == (1.0, 1.0, 9)
    assert len({body["seed"] for body in server.bodies}) == 8
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert not any("not-named" in str(headers) for headers in server.headers)


@pytest.mark.slow
def test_requests_under_way_are_bounded(tmp_path: Path) -> None:
    with serve(echo, seconds=0.01) as server:
        ask(tmp_path, server, 9, concurrency=3)
    assert server.most_under_way == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("times", "reply"),
    [
        (3, (429, {"Retry-After": "0.02"}, {"error": {"message": "slow down"}})),
        (2, (500, {}, b"oops")),
        (2, (503, {"Retry-After": "0.01"}, {"error": "loading model"})),
        (1, (200, {"Content-Length": "9999"}, b'{"choices": [')),  # the connection breaks off
    ],
)
def test_what_may_pass_is_tried_again(tmp_path: Path, times: int, reply: Reply) -> None:
    with serve(failing(times, reply)) as server:
        answers = ask(tmp_path, server, 1, concurrency=1)
    assert answers[0]["response"] == "You said: Say 0"
    assert len(server.bodies) == times + 1
    assert len({body["seed"] for body in server.bodies}) == 1


def test_a_wait_that_the_server_names_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(openai._base_client.time, "sleep", slept.append)
    with serve(failing(2, (429, {"Retry-After": "17"}, {}))) as server:
        ask(tmp_path, server, 1, concurrency=1)
    assert [seconds for seconds in slept if seconds] == [17, 17]


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up(tmp_path: Path) -> None:
    with (
        serve(echo, seconds=0.5) as server,
        pytest.raises(UserError, match=rf"teachers.big: {server.url} gave no answer in time"),
    ):
        ask(tmp_path, server, 1, timeout=0.05, retries=1)
    assert len(server.bodies) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ((401, {}, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
         r"answers HTTP 401: .*provided: ….*; check the key in server.key_variable"),
        ((404, {}, {"detail": "Not Found"}), "HTTP 404: .*ends in /v1.* and server.model"),
        ((400, {}, {"error": {"message": "top_k\x1b[31m: extra\nfields"}}),
         r"HTTP 400: .*top_k.*31m: extra.*fields"),
        ((307, {"Location": "http://127.0.0.1:1/v1"}, b""),
         r"redirects \(HTTP 307\), which is not followed; name the final address"),
        ((200, {}, b'{"choices": [{"index": 0,'), "the prompt train-0000000 with something else"),
        ((200, {"Content-Type": "text/html"}, b"<html>Welcome</html>"), "something else"),
        ((200, {}, chat("a") | {"choices": []}), "something else: choices: .*at least 1 item"),
        ((200, {}, {k: v for k, v in chat("a").items() if k != "usage"}), "else: usage: field req"),
        ((200, {}, chat("a", finish="tool_calls")), "finish_reason is 'tool_calls'"),
        ((200, {}, chat("a", tokens=10)), "it has 10 tokens, 9 were allowed"),
    ],
)  # fmt: skip
def test_what_will_not_pass_is_one_sentence_without_the_key(
    tmp_path: Path, reply: Reply, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        serve(lambda *_: reply) as server,
        pytest.raises(UserError, match=sentence) as caught,
    ):
        ask(tmp_path, server, 1)
    text = str(caught.value)
    assert text.startswith(f"teachers.big: {server.url} ")
    assert KEY not in text + caplog.text
    assert text.isprintable()
    assert caught.value.__cause__ is None
    assert len(server.bodies) == 1
    assert not any(KEY in path.read_text() for path in tmp_path.iterdir())


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/v1 cannot be reached \(.*refused"):
        ask(tmp_path, "http://127.0.0.1:9/v1", 1, retries=1)


def test_an_unset_or_broken_key_is_told_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", f"{KEY}\n")
    with pytest.raises(UserError, match="holds a space, line break") as caught:
        ask(tmp_path, "http://127.0.0.1:9/v1", 1)
    assert KEY not in str(caught.value)
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(UserError, match=r"teachers.big.server.key_variable: .*TEACHER_KEY is not"):
        ask(tmp_path, "http://127.0.0.1:9/v1", 1)
    with serve(echo) as server:
        ask(tmp_path, server, 1, key_variable=None)
    assert server.headers[0]["authorization"] == "Bearer none"


@pytest.mark.slow
def test_answered_rows_survive_a_failure_and_are_not_asked_again(tmp_path: Path) -> None:
    enough = threading.Event()

    def breaks(body: dict[str, Any], number: int) -> Reply:
        if number < 6:
            return echo(body, number)
        enough.set()
        return 400, {}, {"error": {"message": "no more"}}

    with serve(breaks) as server, pytest.raises(UserError, match="no more"):
        ask(tmp_path, server, 12)
    assert enough.is_set()
    assert len(server.bodies) <= 8  # after an error no further prompt is sent
    resume = tmp_path / "train-00000.resume.jsonl"
    kept = resume.read_text()
    assert len(kept.splitlines()) == 1 + 6
    resume.write_text(kept + '{"id": "train-00000')  # a write that was killed
    with serve(echo) as server:
        answers = ask(tmp_path, server, 12)
    assert len(server.bodies) == 6
    assert [row["response"] for row in answers] == [f"You said: Say {n}" for n in range(12)]
    assert all(json.loads(line) for line in resume.read_text().splitlines())
    with serve(echo) as server:
        ask(tmp_path, server, 12, tag="another spec")
    assert len(server.bodies) == 12


@pytest.mark.slow
def test_a_server_that_says_nothing_is_one_sentence_and_asked_again(tmp_path: Path) -> None:
    with serve(lambda body, number: (200, {}, chat(None if number % 2 else " "))) as server:
        with pytest.raises(UserError, match=r"teachers.big: http.* of the 8 prompts .* no text"):
            ask(tmp_path, server, 8)
        few = ask(tmp_path / "few", server, 3)  # may be an accident
        assert [row["response"].strip() for row in few] == ["", "", ""]
    with serve(echo) as server:
        assert ask(tmp_path, server, 8)[0]["response"] == "You said: Say 0"
        assert len(server.bodies) == 8


@pytest.mark.slow
def test_a_reply_without_end_is_given_up(tmp_path: Path) -> None:
    def endless(body: dict[str, Any], number: int) -> Reply:
        return 200, {}, chat("word " * 1_000_000)

    sentence = r"replies without end \(more than 4 MB\); look after"
    with serve(endless) as server, pytest.raises(UserError, match=sentence):
        ask(tmp_path, server, retries=0)


@pytest.mark.slow
def test_a_reply_that_trickles_is_given_up_in_time(tmp_path: Path) -> None:
    """Each byte comes in time. A client that waits for the last one raises another error."""
    sentence = r"gave no answer in time; raise server\.timeout"
    with trickle(seconds=0.05) as url, pytest.raises(UserError, match=sentence):
        ask(tmp_path, url, rows=1, timeout=0.5, retries=1)


@pytest.mark.slow
def test_damaged_answers_of_a_killed_job_are_named(tmp_path: Path) -> None:
    resume = tmp_path / "train-00000.resume.jsonl"
    with serve(echo) as server:
        ask(tmp_path, server)
        whole = resume.read_text()
        for wrong in (whole.replace('"id"', '"i'), whole.replace('"id"', '"it"')):
            resume.write_text(wrong)
            with pytest.raises(UserError, match=rf"{resume} is damaged; delete it and run the wor"):
                ask(tmp_path, server)
        resume.unlink()
        assert len(ask(tmp_path, server)) == 3
