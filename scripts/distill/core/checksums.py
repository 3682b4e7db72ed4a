"""A model's files are compared with the record of them before the model is opened.

Hashing takes about a second per GB, as much as reading from a fast disk; a wrong weight would
silently be in every number made with it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.files import altered, read_json, sha256_of

RECORDS = {"manifest.json": "manifest.json", "training.json": "model.safetensors"}
"""Files that list a model's others (the first there is), and what is to be deleted for each so that
the model is made again."""
READ = {".json", ".safetensors", ".txt", ".model", ".jinja"}
"""Endings of files that a model or its tokenizer is read from."""
WEIGHTS = ".safetensors"


def list_files(folder: str | Path) -> list[dict[str, Any]]:
    """Name, bytes and SHA-256 of each file that a model in a folder is read from."""
    files = sorted(file for file in Path(folder).iterdir() if file.suffix in READ)
    return [
        {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in files
        if file.name not in RECORDS
    ]


def check_files(folder: str | Path, weights: bool = True) -> None:
    """Compare a model's files with the record beside them, where there is one.

    Args:
        folder: Of the model.
        weights: Whether the weights are compared too.

    Raises:
        UserError: A file is missing, or is not as it was when the model was made.
    """
    found = [name for name in RECORDS if (Path(folder) / name).is_file()]
    for entry in read_json(Path(folder) / found[0]).get("files", []) if found else []:
        file, remedy = Path(folder) / entry["name"], Path(folder) / RECORDS[found[0]]
        if file.suffix == WEIGHTS and not weights:
            continue
        if not file.is_file():
            raise UserError(f"{file} is missing; delete {remedy} and run the workflow again")
        if sha256_of(file) != entry["sha256"]:
            raise altered(file, remedy)


SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""No code from a model's repository, no network."""


def tokenizer_sha256(tokenizer: Any) -> str:
    """A digest of a tokenizer's vocabulary, merges and EOS: equal digests, equal token ids."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: state.get(key) for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
    text = json.dumps([kept, tokenizer.eos_token_id], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
