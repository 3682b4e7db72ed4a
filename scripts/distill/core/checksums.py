"""Compare a model's files with their recorded checksums before the model is opened.

Hashing takes about 1 s per GB. An altered weight would change all later results unnoticed.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.files import altered, read_json, sha256_of

RECORDS = {"manifest.json": "manifest.json", "training.json": "model.safetensors"}
"""Records that list a model's files (the first that exists counts), and for each the file to delete
so that the model is rebuilt."""
READ = {".json", ".safetensors", ".txt", ".model", ".jinja"}
"""Suffixes of the files of a model and its tokenizer."""
WEIGHTS = ".safetensors"


def list_files(folder: str | Path) -> list[dict[str, Any]]:
    """Name, size in bytes and SHA-256 of each file of the model in a folder."""
    files = sorted(file for file in Path(folder).iterdir() if file.suffix in READ)
    return [
        {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in files
        if file.name not in RECORDS
    ]


def check_files(folder: str | Path, weights: bool = True) -> None:
    """Compare a model's files with the record beside them, if it exists.

    Args:
        folder: Folder of the model.
        weights: Whether to compare the weights too.

    Raises:
        UserError: A file is missing or altered.
    """
    records = [name for name in RECORDS if (Path(folder) / name).is_file()]
    for entry in read_json(Path(folder) / records[0]).get("files", []) if records else []:
        file, remedy = Path(folder) / entry["name"], Path(folder) / RECORDS[records[0]]
        if file.suffix == WEIGHTS and not weights:
            continue
        if not file.is_file():
            raise UserError(f"{file} is missing; delete {remedy} and run the workflow again")
        if sha256_of(file) != entry["sha256"]:
            raise altered(file, remedy)


SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""No code from a model's repository, no network."""


def tokenizer_sha256(tokenizer: Any) -> str:
    """A digest of a tokenizer's vocabulary, merges and EOS: the identity of a text's token ids.

    Equal digests mean equal ids; unequal ones say nothing (`distill.models.shared_tokens`).
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python, as of ByT5
        state: dict[str, Any] = {
            "model": [type(tokenizer).__name__, tokenizer.get_vocab()],
            "added_tokens": {
                number: [token.content, token.special]
                for number, token in tokenizer.added_tokens_decoder.items()
            },
        }
    else:
        state = json.loads(backend.to_str())
    names = ("model", "normalizer", "pre_tokenizer", "added_tokens")
    text = json.dumps(
        [{key: state.get(key) for key in names}, tokenizer.eos_token_id], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()
