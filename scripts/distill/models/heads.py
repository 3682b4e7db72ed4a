"""Saved output heads: from final hidden states to a teacher's log-probabilities."""

from collections.abc import Sequence
from pathlib import Path

import torch

from distill.models.decoding import Decoding, log_q, without
from distill.models.tensors import load_tensors, save_tensors


class OutputHead:
    """A saved output head: logits = softcap(scale * (hidden W^T + b)).

    Args:
        weight: W [vocabulary, width].
        bias: b [vocabulary], or None.
        cap: Soft cap; 0 for none.
        scale: Scale.
        excluded: Ids without a token (see `distill.models.decoding`): their logits are -inf.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        cap: float,
        scale: float,
        excluded: Sequence[int] = (),
    ) -> None:
        self.weight, self.bias, self.cap, self.scale = weight, bias, cap, scale
        self.excluded = list(excluded)

    @property
    def is_matrix(self) -> bool:
        """Whether logits are exactly hidden W^T, but for excluded ids."""
        return self.bias is None and not self.cap and self.scale == 1

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [tokens, vocabulary] of hidden states [tokens, width]."""
        logits = torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap:
            logits = torch.tanh(logits / self.cap) * self.cap
        return without(logits, self.excluded)


def save_head(head: OutputHead, path: str | Path) -> None:
    """Write an output head as safetensors (bf16 or fp32, as loaded)."""
    tensors = {"weight": head.weight}
    if head.bias is not None:
        tensors["bias"] = head.bias
    if head.excluded:
        tensors["excluded"] = torch.tensor(head.excluded)
    save_tensors(tensors, path, {"cap": str(head.cap), "scale": str(head.scale)})


def load_head(path: str | Path, device: torch.device) -> OutputHead:
    """Read an output head.

    Raises:
        UserError: The file is damaged.
    """
    tensors, marks = load_tensors(path)
    excluded = tensors.pop("excluded", torch.tensor([], dtype=torch.int64)).tolist()
    placed = {name: tensor.to(device) for name, tensor in tensors.items()}
    return OutputHead(
        placed["weight"], placed.get("bias"), float(marks["cap"]), float(marks["scale"]), excluded
    )


def state_dtype(model_dtype: torch.dtype, exact: bool) -> torch.dtype:
    """Type of stored hidden states: bf16, or float32 for exact ones of a model not in bf16."""
    return torch.float32 if exact and model_dtype != torch.bfloat16 else torch.bfloat16


def state_bytes(states: torch.Tensor, dtype: torch.dtype = torch.bfloat16) -> bytes:
    """Hidden states [tokens, width] as bytes of a `state_dtype`."""
    blob: bytes = states.to(dtype).cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return blob


def hidden_states(blob: bytes, width: int, tokens: int | None = None) -> torch.Tensor:
    """Hidden states [tokens, width] from the bytes of a row: bf16, or float32 where the number of
    tokens shows that a value has four bytes."""
    wide = tokens is not None and len(blob) == 4 * tokens * width
    dtype = torch.float32 if wide else torch.bfloat16
    return torch.frombuffer(bytearray(blob), dtype=dtype).view(-1, width)


def teacher_log_q(
    head: OutputHead,
    states: torch.Tensor,
    decoding: Decoding,
    drawn: torch.Tensor | None = None,
) -> torch.Tensor:
    """log q float32 [tokens, vocabulary] from final hidden states [tokens, width].

    Args:
        head: The teacher's output head.
        states: Its final hidden states.
        decoding: Its sampling distribution.
        drawn: int64 [tokens], as of `log_q`.
    """
    device = head.weight.device
    drawn = drawn if drawn is None else drawn.to(device)
    return log_q(head.logits(states.to(device)), decoding, drawn)
