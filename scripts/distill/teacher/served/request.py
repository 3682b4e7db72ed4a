"""What a server is asked: one request per prompt, so that its answer is a draw from q.

Servers cut and penalise by defaults of their own or of the model's generation config (vLLM and
SGLang take over top-k, top-p and repetition penalty from the model; llama.cpp cuts at top-k 40,
top-p .95, min-p .05; `transformers serve` decodes greedily unless told to sample). Each request
therefore states the whole sampling distribution in its software's own fields.
"""

import hashlib
import json
from types import SimpleNamespace
from typing import Any

from distill.models.formatting import encoder


class _AsAsked:
    """Stands in for a tokenizer: a prompt comes out as messages or text instead of token ids."""

    chat_template = True
    eos_token_id = None

    def apply_chat_template(self, messages: Any, **_: Any) -> Any:
        return messages

    def __call__(self, text: str) -> Any:
        return SimpleNamespace(input_ids=text)


def row_seed(name: str, seed: int) -> int:
    """A row's own seed, below 2^31. Servers batch as requests come: text does not repeat by it."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:4], "big") >> 1


def request_of(row: dict[str, Any], spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The endpoint and the body of a row's request.

    Args:
        row: A row of a kept prompt part.
        spec: server (model, software, top_logprobs, extra), formatting and decoding.

    Returns:
        `/chat/completions` with messages where the template is the model's own (`chat`), which the
        server applies; else `/completions` with the finished text.
    """
    server, decoding, formatting = spec["server"], spec["decoding"], spec["formatting"]
    chat = formatting["template"] == "chat"
    asked: Any = encoder(_AsAsked(), **formatting)(row["prompt"], row["context"])
    body: dict[str, Any] = {
        "model": server["model"],
        "messages" if chat else "prompt": asked,
        # OpenAI's newer models refuse max_tokens in chats; others may not know its successor.
        "max_completion_tokens" if chat and server["software"] == "openai" else "max_tokens": (
            decoding["max_tokens"]
        ),
        "temperature": decoding["temperature"],
        "top_p": decoding["top_p"],
        "seed": row_seed(row["id"], decoding["seed"]),
    }
    body |= _whole_distribution(server["software"], decoding)
    if server["top_logprobs"]:
        body |= {"logprobs": True, "top_logprobs": server["top_logprobs"]}
        if server["software"] == "vllm":
            body["return_tokens_as_token_ids"] = True
    return "/chat/completions" if chat else "/completions", body | server["extra"]


def _whole_distribution(software: str, decoding: dict[str, Any]) -> dict[str, Any]:
    """Fields that turn off whatever a server would do to q by itself."""
    top_k = decoding["top_k"]
    if software in ("vllm", "sglang"):
        return {"top_k": top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
    if software == "llama.cpp":  # samplers that are not named (min-p, penalties, …) do not act
        return {"top_k": top_k, "samplers": ["temperature", "top_k", "top_p"]}
    if software == "transformers":
        names = ("temperature", "top_p", "top_k")
        settings = {"do_sample": True, **{name: decoding[name] for name in names}}
        return {"generation_config": json.dumps(settings)}
    return {}
