"""Take the output head out of a language model, and check that it is all that makes the logits."""

from pathlib import Path
from typing import Any

import torch

from distill.models.forward import head_inputs, no_matrix
from distill.models.heads import OutputHead, save_head
from distill.models.opening import load_teacher
from distill.models.token_ids import ids_without_token
from distill.models.tokenizers import load_tokenizer
from distill.runtime.out_of_memory import SMALLER_TEACHER, memory_hint


def head_of(model: Any) -> OutputHead:
    """The output head of a language model: its matrix, and what else makes logits.

    Raises:
        UserError: The head is more than a matrix with optional bias, scale and soft cap: its
            logits differ from the model's own.
    """
    module, config = model.get_output_embeddings(), model.config
    if module is None:
        raise no_matrix(config)
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):
        scale = 1.0 / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None) or 0.0
    head = OutputHead(module.weight.detach(), getattr(module, "bias", None), cap, scale)
    ids = torch.arange(8, device=model.device).unsqueeze(0) % config.vocab_size
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0]
        ours = head.logits(final_hidden(model, ids, None)[0])
    if not torch.allclose(logits.float(), ours.float(), atol=1e-2, rtol=1e-2):
        raise no_matrix(config)
    return head


def model_head(model: Any, tokenizer: Any) -> OutputHead:
    """`head_of` a model, without the ids that have no token.

    Raises:
        UserError: As `head_of`.
    """
    head = head_of(model)
    head.excluded = ids_without_token(tokenizer, len(head.weight))
    return head


def final_hidden(model: Any, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What a language model hands to its output matrix: [batch, tokens, width]."""
    return head_inputs(model, ids, mask, torch.ones_like(ids, dtype=torch.bool)).view(
        *ids.shape, -1
    )


def extract_head(model: str | Path, out: str | Path, spec: dict[str, Any]) -> None:
    """Save the output head of a teacher.

    Args:
        model: A file in the teacher's directory.
        out: The head, safetensors.
        spec: How the teacher is loaded.

    Raises:
        UserError: As `head_of`; memory ran out.
    """
    folder = Path(model).parent
    with memory_hint("opening a teacher", SMALLER_TEACHER):
        opened = load_teacher(folder, spec, sequence=16)
        save_head(model_head(opened, load_tokenizer(folder)), out)
