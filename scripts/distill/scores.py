"""The teacher's distribution on its held-out text: exact, from its final hidden states.

A hidden state in bf16 takes two bytes per unit of width and token, and with the saved output head
it gives back q over the whole vocabulary, so that no evaluation of a student runs the teacher.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from distill.files import UserError, replacing
from distill.sampling import Decoding, log_q

SCORE_SCHEMA = pa.schema(
    [("id", pa.string()), ("hidden", pa.large_binary()), ("log_q", pa.list_(pa.float32())),
     ("entropy", pa.list_(pa.float32()))]
)  # fmt: skip
"""Per row: the final hidden states at the answer's positions, bf16 [tokens, width] as bytes, and
per answer token log q of the drawn token and the entropy of q, both in nats."""


class OutputHead:
    """A saved output head: logits = softcap(scale * (hidden W^T + b))."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, cap: float, scale: float):
        self.weight, self.bias, self.cap, self.scale = weight, bias, cap, scale

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [tokens, vocabulary] of hidden states [tokens, width]."""
        logits = torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.cap) * self.cap if self.cap else logits


def head_of(model: Any) -> OutputHead:
    """The output head of a causal language model.

    Raises:
        UserError: The head is more than a matrix with optional bias, scale and soft cap: its
            logits differ from the model's own.
    """
    module = model.get_output_embeddings()
    config = model.config
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):
        scale = 1.0 / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None) or 0.0
    head = OutputHead(module.weight.detach(), getattr(module, "bias", None), cap, scale)
    ids = torch.arange(8, device=model.device).unsqueeze(0) % config.vocab_size
    with torch.inference_mode():
        own = model(input_ids=ids).logits[0]
        ours = head.logits(final_hidden(model, ids, None)[0])
    if not torch.allclose(own.float(), ours.float(), atol=1e-2, rtol=1e-2):
        raise UserError(
            f"the output head of {config.model_type} is more than a matrix, so held-out KL cannot "
            "be had from its hidden states; use another teacher architecture"
        )
    return head


def final_hidden(model: Any, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What a causal language model hands to its output head: [batch, tokens, width]."""
    output = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def save_head(head: OutputHead, path: str | Path) -> None:
    """Write an output head as safetensors (bf16 or fp32, as loaded)."""
    tensors = {"weight": head.weight.contiguous()}
    if head.bias is not None:
        tensors["bias"] = head.bias.detach().contiguous()
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"cap": str(head.cap), "scale": str(head.scale)})


def load_head(path: str | Path, device: torch.device) -> OutputHead:
    """Read an output head."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        marks = file.metadata()
        bias = file.get_tensor("bias") if "bias" in file.keys() else None  # noqa: SIM118
        return OutputHead(
            file.get_tensor("weight"), bias, float(marks["cap"]), float(marks["scale"])
        )


@torch.inference_mode()
def score_text(
    model: Any, rows: Sequence[dict[str, Any]], decoding: dict[str, Any], batch_size: int = 16
) -> list[dict[str, Any]]:
    """Final hidden states, log q and entropy of a teacher at its own responses' tokens.

    Args:
        model: The teacher in eval mode.
        rows: Rows of a text part, with token ids.
        decoding: temperature, top_k and top_p of the sampling distribution.
        batch_size: Rows per forward pass.

    Returns:
        Rows of `SCORE_SCHEMA`, in the order of `rows`.
    """
    head = head_of(model)
    distribution = Decoding(decoding["temperature"], decoding["top_k"], decoding["top_p"])
    order = sorted(range(len(rows)), key=lambda row: -len(_ids(rows[row])))
    scored: dict[int, dict[str, Any]] = {}
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        width = max(len(_ids(rows[row])) for row in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for place, row in enumerate(batch):
            own = torch.tensor(_ids(rows[row]))
            ids[place, : len(own)] = own
            mask[place, : len(own)] = 1
        hidden = final_hidden(model, ids.to(model.device), mask.to(model.device))
        for place, row in enumerate(batch):
            start, answer = len(rows[row]["prompt_ids"]), rows[row]["response_ids"]
            states = hidden[place, start - 1 : start - 1 + len(answer)].to(torch.bfloat16)
            logs = log_q(head.logits(states), distribution)
            chosen = torch.tensor(answer, device=logs.device).unsqueeze(1)
            scored[row] = {
                "id": rows[row]["id"],
                "hidden": states.cpu().view(torch.int16).numpy().tobytes(),
                "log_q": logs.gather(1, chosen).squeeze(1).tolist(),
                "entropy": (-(logs.exp() * logs.clamp_min(-1e9)).sum(-1)).tolist(),
            }
    return [scored[row] for row in range(len(rows))]


def _ids(row: dict[str, Any]) -> list[int]:
    ids: list[int] = row["prompt_ids"] + row["response_ids"]
    return ids


def hidden_states(blob: bytes, width: int) -> torch.Tensor:
    """bf16 [tokens, width] from the bytes of a score row."""
    return torch.frombuffer(bytearray(blob), dtype=torch.bfloat16).view(-1, width)
