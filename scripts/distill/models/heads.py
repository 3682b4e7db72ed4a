"""Saved output heads: from final hidden states to a teacher's log-probabilities."""

from pathlib import Path

import torch

from distill.models.decoding import Decoding, log_q
from distill.models.tensors import load_tensors, save_tensors


class OutputHead:
    """A saved output head: logits = softcap(scale * (hidden W^T + b))."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, cap: float, scale: float):
        self.weight, self.bias, self.cap, self.scale = weight, bias, cap, scale

    @property
    def is_matrix(self) -> bool:
        """Whether logits are exactly hidden W^T."""
        return self.bias is None and not self.cap and self.scale == 1

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [tokens, vocabulary] of hidden states [tokens, width]."""
        logits = torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.cap) * self.cap if self.cap else logits


def save_head(head: OutputHead, path: str | Path) -> None:
    """Write an output head as safetensors (bf16 or fp32, as loaded)."""
    tensors = {"weight": head.weight}
    if head.bias is not None:
        tensors["bias"] = head.bias
    save_tensors(tensors, path, {"cap": str(head.cap), "scale": str(head.scale)})


def load_head(path: str | Path, device: torch.device) -> OutputHead:
    """Read an output head.

    Raises:
        UserError: The file is damaged.
    """
    tensors, marks = load_tensors(path)
    placed = {name: tensor.to(device) for name, tensor in tensors.items()}
    return OutputHead(
        placed["weight"], placed.get("bias"), float(marks["cap"]), float(marks["scale"])
    )


def state_bytes(states: torch.Tensor) -> bytes:
    """bf16 [tokens, width] as bytes."""
    blob: bytes = states.to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy().tobytes()
    return blob


def hidden_states(blob: bytes, width: int) -> torch.Tensor:
    """bf16 [tokens, width] from the bytes of a row."""
    return torch.frombuffer(bytearray(blob), dtype=torch.bfloat16).view(-1, width)


def teacher_log_q(head: OutputHead, states: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """log q float32 [tokens, vocabulary] from final hidden states [tokens, width]."""
    return log_q(head.logits(states.to(head.weight.device)), decoding)
