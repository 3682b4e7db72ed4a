"""Requests to a server: one per prompt, so that its answer is a draw from q.

Differences between servers are in `distill.contracts.dialects`.
"""

import hashlib
import json
from typing import Any

from distill.contracts.dialects.all import DIALECTS
from distill.models.formatting import asked, filled, messages_of, require_single


def row_seed(name: str, seed: int) -> int:
    """A row's own seed, below 2^31. Servers batch requests, so text is not reproducible."""
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
    dialect, chat = DIALECTS[server["software"]], formatting["template"] == "chat"
    text, context, system, turns = asked(row)
    prompt: Any
    if chat:
        first = formatting["system"] if system is None else system
        prompt = messages_of(text, context, first, json.loads(turns) if turns else ())
    else:
        require_single(system, turns)
        prompt = filled(formatting["template"], formatting.get("with_context"), text, context)
    body: dict[str, Any] = {
        "model": server["model"],
        "messages" if chat else "prompt": prompt,
        dialect.chat_length if chat else "max_tokens": decoding["max_tokens"],
        "temperature": decoding["temperature"],
        "top_p": decoding["top_p"],
        "seed": row_seed(row["id"], decoding["seed"]),
        **dialect.whole_distribution(decoding),
    }
    if decoding.get("stop"):
        body["stop"] = decoding["stop"]
    if chat and formatting.get("settings"):
        body["chat_template_kwargs"] = formatting["settings"]
    if server["top_logprobs"]:
        body |= {"logprobs": True, "top_logprobs": server["top_logprobs"], **dialect.log_probs}
    return "/chat/completions" if chat else "/completions", body | server["extra"]
