"""Ask a server for the answers of a part: retries, bounded concurrency, resume; no key anywhere.

The key comes from the environment variable that the config names and is sent only in the
request's header. A server's error may repeat it, so it is removed from every message.
"""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from tqdm import tqdm

from distill.contracts.schemas import ANSWERS_SCHEMA
from distill.core.addresses import without_secrets
from distill.core.completeness import check_some_text, count_empty
from distill.core.errors import UserError
from distill.core.files import write_text
from distill.core.parquet import read_rows, write_rows
from distill.teacher.served.replies import check_draws, check_thinking, read_answer
from distill.teacher.served.request import request_of

NO_KEY = "none"
"""Sent where the config names no key, because the client requires one."""


@dataclass(frozen=True)
class Connection:
    """Where a teacher is served, with time-outs and retries."""

    teacher: str
    url: str
    key_variable: str | None
    concurrency: int
    timeout: float
    """Seconds of one try."""
    retries: int


def read_key(connection: Connection) -> str:
    """The API key.

    Raises:
        UserError: The variable is unset, or its value cannot be a header.
    """
    if connection.key_variable is None:
        return NO_KEY
    key = os.environ.get(connection.key_variable, "")
    where = f"teachers.{connection.teacher}.server.key_variable"
    if not key:
        raise UserError(
            f"{where}: the environment variable {connection.key_variable} is not set; export the "
            "API key in it"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(
            f"{where}: the environment variable {connection.key_variable} holds a space, line "
            "break or other character that no key can contain; export the key alone"
        )
    return key


class _EndlessReplyError(httpx2.ReadError):
    """A reply is longer than any answer could be."""


class _Bounded(httpx2.SyncByteStream):
    """A reply's body with a total time limit: the client's timeout is per read."""

    def __init__(self, stream: Any, most: int, seconds: float) -> None:
        self.stream, self.most, self.ends = stream, most, time.monotonic() + seconds

    def __iter__(self) -> Iterator[bytes]:
        read = 0
        for piece in self.stream:
            read += len(piece)
            if read > self.most:
                raise _EndlessReplyError(f"more than {self.most / 1e6:.0f} MB")
            if time.monotonic() > self.ends:
                raise httpx2.ReadTimeout("the reply does not end")
            yield piece

    def close(self) -> None:
        self.stream.close()


def _most_bytes(spec: Mapping[str, Any]) -> int:
    """More bytes than a reply can need: a token, its alternatives and JSON around them."""
    return 4_000_000 + 1000 * spec["decoding"]["max_tokens"] * (1 + spec["server"]["top_logprobs"])


@contextmanager
def _client(connection: Connection, key: str, most: int) -> Iterator[openai.OpenAI]:
    """OpenAI's client: it retries transient errors, with back-off, jitter and Retry-After.

    Args:
        connection: Where, and how patiently.
        key: For the server.
        most: Bytes of a reply.
    """

    # A redirect would send prompts, and perhaps the key, to an address outside the config.
    def bound(response: httpx2.Response) -> None:
        """Set the limits before the body is read."""
        response.stream = _Bounded(response.stream, most, connection.timeout)

    with (
        openai.DefaultHttpxClient(
            follow_redirects=False, event_hooks={"response": [bound]}
        ) as http,
        openai.OpenAI(
            base_url=connection.url,
            api_key=key,
            timeout=connection.timeout,
            max_retries=connection.retries,
            http_client=http,
        ) as client,
    ):
        # The client reads these from the environment; only the config's values count.
        client.organization = client.project = client.admin_api_key = None
        yield client


def _refusal(error: openai.OpenAIError) -> str:
    """A short description of an error; a server's text is shortened and sanitised."""
    if isinstance(error, openai.APITimeoutError):
        return "gave no answer in time; raise server.timeout or lower server.concurrency"
    if isinstance(error.__cause__, _EndlessReplyError):
        return f"replies without end ({error.__cause__}); look after the server, or name another"
    if isinstance(error, openai.APIConnectionError):
        return (
            f"cannot be reached ({error.__cause__ or error}); check the address, and that it runs"
        )
    if not isinstance(error, openai.APIStatusError):
        return f"could not be asked ({error})"
    status = error.status_code
    if 300 <= status < 400:
        return f"redirects (HTTP {status}), which is not followed; name the final address"
    remedy = {
        401: "; check the key in server.key_variable",
        403: "; check the key in server.key_variable",
        404: "; check server.url (usually it ends in /v1) and server.model",
        429: "; lower server.concurrency, raise server.retries, or wait",
    }
    said: Any = error.body or "no more is said"
    said = said.get("message", said) if isinstance(said, dict) else said
    return f"answers HTTP {status}: {said}{remedy.get(status, '')}"


def _harmless(text: str, key: str) -> str:
    """External text sanitised for a log: one short printable line, without the key."""
    plain = without_secrets("".join(c if c.isprintable() else " " for c in text))
    hidden = plain.replace(key, "…") if key != NO_KEY else plain
    return hidden if len(hidden) <= 400 else f"{hidden[:400]}…"


def _ask(
    client: openai.OpenAI, connection: Connection, row: dict[str, Any], spec: dict[str, Any]
) -> dict[str, Any]:
    """The answer to one prompt."""
    path, body = request_of(row, spec)
    began = time.perf_counter()
    try:
        answer = read_answer(client.post(path, body=body, cast_to=object), spec)
    except openai.OpenAIError as error:
        what = _refusal(error)
    except ValueError as error:  # no JSON, or not what was asked
        what = f"answers the prompt {row['id']} with something else: {error}"
    else:
        seconds = (time.perf_counter() - began) / connection.concurrency
        return {"id": row["id"], **answer, "seconds": seconds}
    raise UserError(f"teachers.{connection.teacher}: {connection.url} {what}")


def _resumed(file: Path, tag: str) -> dict[str, dict[str, Any]]:
    """Answers of a killed job, by row; those of another spec are removed."""
    lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
    if lines[:1] != [json.dumps({"tag": tag})]:
        write_text(file, json.dumps({"tag": tag}) + "\n")
        return {}
    complete = lines[:-1]  # a killed write leaves a last line without an end
    write_text(file, "".join(f"{line}\n" for line in complete))
    try:
        return {answer["id"]: answer for answer in map(json.loads, complete[1:])}
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{file} is damaged; delete it and run the workflow again; the server is asked again"
        ) from None


def ask_server(
    prompts: Sequence[dict[str, Any]],
    connection: Connection,
    spec: dict[str, Any],
    resume: Path,
    tag: str,
) -> list[dict[str, Any]]:
    """The answers of one part.

    Each is kept in `resume` as it comes, so that a killed or failed job does not ask (and pay)
    again. After an error no further prompt is sent, but requests in progress are completed.

    Args:
        prompts: Rows of a kept prompt part.
        connection: Where, and how patiently.
        spec: server, formatting and decoding.
        resume: File of answers so far; the workflow removes it when it has noted the part.
        tag: Names spec and prompts; a file with another tag is cleared.

    Returns:
        Rows of `ANSWERS_SCHEMA`, in the order of `prompts`.

    Raises:
        UserError: The server cannot be reached, refuses, answers something else, or does not draw
            from the distribution that it reports.
    """
    key, done = read_key(connection), _resumed(resume, tag)
    todo = [row for row in prompts if row["id"] not in done]
    if done:
        logging.info("%d of %d rows were answered before", len(done), len(prompts))
    failed: list[Exception] = []
    stop = threading.Event()

    def work(row: dict[str, Any]) -> dict[str, Any] | None:
        if stop.is_set():
            return None
        try:
            return _ask(client, connection, row, spec)
        except UserError:
            stop.set()
            raise

    with (
        _client(connection, key, _most_bytes(spec)) as client,
        ThreadPoolExecutor(connection.concurrency) as pool,
        resume.open("a", encoding="utf-8") as stream,
        tqdm(total=len(todo), desc="answers", unit="row", mininterval=2, leave=False) as bar,
    ):
        for future in as_completed([pool.submit(work, row) for row in todo]):
            try:
                answer = future.result()
            except UserError as error:
                failed.append(UserError(_harmless(str(error), key)))
                continue
            if answer is not None:
                stream.write(json.dumps(answer) + "\n")
                stream.flush()
                done[answer["id"]] = answer
                bar.update()
    if failed:
        raise failed[0]
    _report(done, connection.teacher)
    answers = [done[row["id"]] for row in prompts]
    where = f"teachers.{connection.teacher}: {connection.url}"
    try:
        check_thinking(answers, spec["decoding"]["max_tokens"], where)
        check_some_text(answers, where)
    except UserError:
        resume.unlink()  # or they would be taken up again
        raise
    if top_logprobs := spec["server"]["top_logprobs"]:
        try:
            check_draws(answers, top_logprobs - 1)
        except UserError as error:
            resume.unlink()  # answers of a wrong distribution are of no use
            raise UserError(f"{where}: {error}") from None
    return answers


def _report(done: Mapping[str, dict[str, Any]], teacher: str) -> None:
    """Log counts of the answers."""
    reasons = [answer["finish_reason"] for answer in done.values()]
    logging.info(
        "%s: %d answers, %d tokens; %d cut by length, %d by the server's filter, %d empty",
        teacher,
        len(done),
        sum(answer["tokens"] for answer in done.values()),
        reasons.count("length"),
        reasons.count("content_filter"),
        count_empty(list(done.values())),
    )


def ask_part(
    prompts: str | Path, server: str, out: str | Path, spec: dict[str, Any], code: str
) -> None:
    """Ask a server for the answers to one part of the prompts; see `ask_server`.

    Args:
        prompts: The part of the prompts.
        server: Where the server is and how it is reached, a `Connection` as JSON: text does not
            depend on it.
        out: The answers, rows of `ANSWERS_SCHEMA`.
        spec: server, formatting and decoding; stored with the answers.
        code: Digest of the code: answers that other code asked for are asked for again.
    """
    resume = Path(out).with_suffix(".resume.jsonl")
    tag = [spec, code, hashlib.sha256(Path(prompts).read_bytes()).hexdigest()]
    connection = Connection(**json.loads(server))
    answers = ask_server(read_rows(prompts), connection, spec, resume, json.dumps(tag))
    write_rows(out, answers, ANSWERS_SCHEMA, spec=spec)
