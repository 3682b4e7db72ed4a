"""Open a tokenizer safely, without the library that runs models."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from distill.core.checksums import SAFE, check_files
from distill.core.errors import UserError


def load_tokenizer(path: str | Path) -> Any:
    """Load a tokenizer; a missing pad token becomes the EOS token (masks, not ids, hide padding).

    Raises:
        UserError: A file is damaged, or the tokenizer has no EOS token, so no response could end;
            masked models write none and need none.
    """
    check_files(path, weights=False)
    tokenizer = AutoTokenizer.from_pretrained(path, **SAFE)
    if tokenizer.eos_token_id is None and tokenizer.mask_token_id is None:
        raise UserError(f"the tokenizer in {path} has no eos_token; set one in its config")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_of(folder: str | Path) -> int | None:
    """Most tokens that the model in `folder` reads; None where its config does not say."""
    return getattr(AutoConfig.from_pretrained(folder, **SAFE), "max_position_embeddings", None)
