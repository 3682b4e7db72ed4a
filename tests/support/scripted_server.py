"""A server on loopback that answers as a test says, in the words of OpenAI, vLLM and llama.cpp."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], Any]
"""Status, headers and body: JSON, or bytes as they are."""


@dataclass
class Scripted:
    """A running server: its address and all that it was asked."""

    url: str
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0


@contextmanager
def serve(
    answer: Callable[[dict[str, Any], int], Reply], seconds: float = 0.0
) -> Iterator[Scripted]:
    """Answer each request by `answer(body, number)`, after so many seconds."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(made.bodies)
                made.paths.append(self.path)
                made.bodies.append(body)
                made.headers.append({name.lower(): value for name, value in self.headers.items()})
                made.under_way += 1
                made.most_under_way = max(made.most_under_way, made.under_way)
            time.sleep(seconds)
            status, headers, reply = answer(body, number)
            raw = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            with lock:
                made.under_way -= 1
            self.send_response(status)
            given = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}
            for name, value in given.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)
            self.close_connection = given["Content-Length"] != str(len(raw))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Scripted(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def trickle(seconds: float) -> Iterator[str]:
    """The address of a server whose replies come byte by byte, for a minute."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            with suppress(OSError):  # until the client has had enough
                for _ in range(round(60 / seconds)):
                    self.wfile.write(b" ")
                    time.sleep(seconds)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def chat(
    text: str | None,
    finish: str = "stop",
    prompt_tokens: int = 7,
    tokens: int = 3,
    logprobs: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    total = prompt_tokens + tokens
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": total}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "served"}
    return {**head, "choices": [choice], "usage": usage, **more}


Position = tuple[int, dict[int, float]]
"""A drawn token and log p of it and the likeliest."""


def vllm_logprobs(positions: Sequence[Position], wanted: int) -> dict[str, Any]:
    """vLLM with `return_tokens_as_token_ids`: the drawn token first, then others until `wanted`."""

    def entry(token: int, value: float) -> dict[str, Any]:
        name = f"token_id:{token}"
        return {"token": name, "logprob": value, "bytes": list(name.encode())}

    content = []
    for drawn, known in positions:
        others = sorted((token for token in known if token != drawn), key=lambda t: -known[t])
        top = [entry(token, known[token]) for token in [drawn, *others][:wanted]]
        content.append({**entry(drawn, known[drawn]), "top_logprobs": top})
    return {"content": content}


def llama_cpp_logprobs(positions: Sequence[Position], wanted: int) -> dict[str, Any]:
    """llama.cpp: ids beside the text of tokens, the likeliest by falling probability."""

    def entry(token: int, value: float) -> dict[str, Any]:
        return {"id": token, "token": "?", "bytes": [63], "logprob": value}

    content = []
    for drawn, known in positions:
        top = sorted(known, key=lambda token: -known[token])[:wanted]
        entries = [entry(token, known[token]) for token in top]
        content.append({**entry(drawn, known[drawn]), "top_logprobs": entries})
    return {"content": content}
