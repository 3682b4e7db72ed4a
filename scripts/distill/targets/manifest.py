"""The manifest of a cache: its teachers, their distributions and their tokenizer."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.models.shared_tokens import difference
from distill.models.tokenizers import load_tokenizer


def write_manifest(
    models: Sequence[str | Path], names: Sequence[str], spec: dict[str, Any], out: str | Path
) -> None:
    """Write the manifest of a cache.

    Args:
        models: Per teacher a file in the directory of its tokenizer.
        names: Names of the teachers.
        spec: The cache's spec.
        out: Path of the manifest, JSON.

    Raises:
        UserError: The teachers of a mixture have different tokenizers.
    """
    tokenizers = [load_tokenizer(Path(path).parent) for path in models]
    entries = [
        {
            "teacher": name,
            "model": scorer["model"],
            "revision": scorer["model"].get("revision"),
            "weight": scorer["weight"],
            "quantisation": scorer["quantisation"],
            "distribution": {key: scorer[key] for key in ("temperature", "top_k", "top_p")},
            "tokenizer_sha256": tokenizer_sha256(tokenizer),
            "chat_template_sha256": hashlib.sha256(
                str(tokenizer.chat_template or "").encode()
            ).hexdigest(),
        }
        for name, scorer, tokenizer in zip(names, spec["scorers"], tokenizers, strict=True)
    ]
    for tokenizer in tokenizers[1:]:
        if apart := difference(tokenizers[0], tokenizer):
            raise UserError(
                f"the teachers {', '.join(names)} of a cache have different tokenizers ({apart}), "
                "so their distributions cannot be mixed; mix teachers with the same tokenizer"
            )
    settings = (
        "scheme",
        "k",
        "draws",
        "systematic",
        "log_p",
        "bits",
        "temperatures",
        "tokens",
        "seed",
    )
    write_json(out, {"schema": 1, **{key: spec.get(key) for key in settings}, "teachers": entries})
