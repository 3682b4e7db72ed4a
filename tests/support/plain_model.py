"""What a model says, by plain transformers: one row at a time, in fp32, without a cache."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM


def opened(folder: Path, attention: str | None = "eager") -> Any:
    """The model in a folder, with the library's plain attention unless another is named."""
    masked = str(AutoConfig.from_pretrained(folder).architectures[0]).endswith("ForMaskedLM")
    kind = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    return model.eval()


@torch.inference_mode()
def logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """float64 [tokens, vocabulary]."""
    settings = {} if "Masked" in type(model).__name__ else {"use_cache": False}
    result: torch.Tensor = model(input_ids=torch.tensor([list(ids)]), **settings).logits[0]
    return result.double()


def answer_logs(model: Any, row: Mapping[str, Any]) -> torch.Tensor:
    """Log-probabilities float64 [answer tokens, vocabulary] before each token of a row's answer."""
    prompt, answer = list(row["prompt_ids"]), list(row["response_ids"])
    return logits(model, prompt + answer)[len(prompt) - 1 : -1].log_softmax(-1)


def answer_nats(model: Any, row: Mapping[str, Any]) -> float:
    """Cross-entropy of a row's answer, summed."""
    logs, answer = answer_logs(model, row), torch.tensor(list(row["response_ids"]))
    return float(-logs.gather(1, answer.unsqueeze(1)).sum())


def greedy(model: Any, prompt: Sequence[int], stops: Sequence[int], most: int) -> list[int]:
    """The likeliest next tokens, up to a stop or `most` tokens."""
    new: list[int] = []
    while len(new) < most and not (new and new[-1] in stops):
        new.append(int(logits(model, [*prompt, *new])[-1].argmax()))
    return new


def is_drawn(
    model: Any, prompt: Sequence[int], answer: Sequence[int], uniforms: np.ndarray
) -> bool:
    """Whether each token is the inverse of the distribution function at its uniform."""
    row = {"prompt_ids": prompt, "response_ids": answer}
    upper = answer_logs(model, row).exp().cumsum(-1)
    for at, (token, uniform) in enumerate(zip(answer, uniforms, strict=False)):
        lower = float(upper[at, token - 1]) if token else 0.0
        if not lower - 1e-4 <= uniform <= float(upper[at, token]) + 1e-4:
            return False
    return True
