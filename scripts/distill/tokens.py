"""What a tokenizer is, for deciding whether two models share their tokens."""

import hashlib
import json
from typing import Any


def tokenizer_sha256(tokenizer: Any) -> str:
    """A digest of a tokenizer's vocabulary, merges and EOS: equal digests, equal token ids."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: state.get(key) for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
    text = json.dumps([kept, tokenizer.eos_token_id], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
