"""A corpus in chunks: documents split by a hash of each, a stream of tokens per split, cut evenly.

Whether a document is held out depends on its own text and the seed, never on how much a study
trains on; the order within a split is that hash too, so the first chunks of a corpus are a random
sample of its documents. The answer of a masked chunk is its masked tokens.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasketch import MinHash, MinHashLSH
from tqdm import tqdm

from distill.contracts.schemas import CHUNK_SCHEMA, MASKED_SCHEMA, TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.core.parquet import (
    count_rows,
    read_groups,
    read_metadata,
    read_rows,
    read_schema,
    write_rows,
    write_table,
)
from distill.data.chunks import chunk_row, chunks, tokenised
from distill.data.near_duplicates import PERMUTATIONS, jaccard, shingles
from distill.models.masking import Special, mask_chunk
from distill.models.tokenizers import load_tokenizer

HELD_OUT = ("test", "validation")
SPLITS = (*HELD_OUT, "train")
_GROUP = 4096
"""Chunks of a file that are read together."""


def place_of(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on a document's text and the seed alone."""
    digest = hashlib.sha256(f"{seed}\0{text}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def split_documents(
    texts: Mapping[str, Sequence[str]], spec: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Documents of each split, each once, in the order of their hashes.

    Args:
        texts: Of `train`, and of held-out splits that have their own source.
        spec: held_out (the share of a split), splits (those held out) and seed.

    Returns:
        By split. A held-out split with a source is all of it; the others take their share of
        `train`. What is held out is nowhere trained on.
    """
    seed, splits = spec["seed"], {}
    order = {
        name: sorted(set(documents), key=lambda text: (place_of(text, seed), text))
        for name, documents in texts.items()
    }
    cut = 0.0
    for name in spec["splits"]:
        if name in order:
            splits[name] = order[name]
            continue
        low, cut = cut, cut + spec["held_out"]
        splits[name] = [text for text in order["train"] if low <= place_of(text, seed) < cut]
    held_out = {text for name in spec["splits"] for text in splits[name]}
    rest = [text for text in order["train"] if place_of(text, seed) >= cut and text not in held_out]
    return splits | {"train": rest}


def _signature(grams: Iterable[str]) -> MinHash:
    signature = MinHash(num_perm=PERMUTATIONS)
    signature.update_batch([gram.encode() for gram in sorted(grams)])
    return signature


def drop_resembling(
    documents: Sequence[str], held_out: Sequence[str], threshold: float
) -> tuple[list[str], float | None]:
    """Documents that resemble no held-out one, and the closest resemblance among these.

    Candidates come from MinHash at a lower threshold, as for prompts, and are decided by the exact
    Jaccard similarity of their shingles; None where there was no candidate.
    """
    index = MinHashLSH(threshold=0.6 * threshold, num_perm=PERMUTATIONS)
    known = [shingles(text) for text in held_out]
    for number, grams in enumerate(known):
        index.insert(number, _signature(grams))
    distinct, worst = [], None
    for text in tqdm(documents, desc="documents", mininterval=5, leave=False):
        grams = shingles(text)
        alike = [jaccard(grams, known[key]) for key in index.query(_signature(grams))]
        if max(alike, default=0.0) < threshold:
            distinct.append(text)
            worst = max([*alike, worst or 0.0]) if alike else worst
    return distinct, worst


def chunk_corpus(
    texts: Mapping[str, Sequence[str]],
    tokenizer: Any,
    spec: Mapping[str, Any],
    out: Mapping[str, str | Path],
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write all whole chunks of each split, and a record of the documents behind them.

    Args:
        texts: Of `train`, and of held-out splits that have their own source.
        tokenizer: Of the study.
        spec: length, held_out, splits, near_duplicate and seed.
        out: Paths of test, validation, train (Parquet) and record (JSON).
        data: Numbers of rows of the data set of `train`, for the record.

    Raises:
        UserError: The tokenizer cannot end a document.
    """
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is None:
        raise UserError(
            "the tokenizer of the corpus has no eos and no sep token, so documents cannot be "
            "separated; name another model under corpus.tokenizer"
        )
    documents = {name: list[str]() for name in SPLITS} | split_documents(texts, spec)
    held = [text for name in HELD_OUT for text in documents[name]]
    before = len(documents["train"])
    documents["train"], worst = drop_resembling(documents["train"], held, spec["near_duplicate"])
    record: dict[str, Any] = {
        "schema": 1,
        "spec": dict(spec),
        "unit": "documents",
        "test_prompts": len(held),
        "train_prompts": len(documents["train"]),
        "threshold": spec["near_duplicate"],
        "worst_similarity": worst,
        "pairs": [],
        "left_out": before - len(documents["train"]),
        "documents": {name: len(split_texts) for name, split_texts in documents.items()},
        "chunks": {},
        "data": dict(data) if data else None,
    }
    digest = tokenizer_sha256(tokenizer)
    for name in SPLITS:
        stream = chunks(tokenised(tokenizer, documents[name]), spec["length"])
        cut = [np.asarray(chunk, dtype=np.int32) for chunk in stream]
        table = pa.table({"ids": pa.array(cut, CHUNK_SCHEMA.field("ids").type)}, CHUNK_SCHEMA)
        table = table.replace_schema_metadata({"tokenizer_sha256": digest})
        write_table(out[name], table, row_group_size=_GROUP)
        record["chunks"][name] = len(cut)
    logging.info("chunks: %s", record["chunks"])
    write_json(out["record"], record)


def take_chunks(
    file: str | Path,
    tokenizer: Any,
    spec: Mapping[str, Any],
    split: str,
    first: int,
    rows: int,
    out: str | Path,
) -> None:
    """Write a part of a split as rows of text, masked if the study's task asks for it.

    Args:
        file: All chunks of the split.
        tokenizer: Of the study.
        spec: Of the text; stored in the part. Its `mask` is None for a causal model.
        split: test, validation or train.
        first: The part's first chunk.
        rows: How many.
        out: The part.

    Raises:
        UserError: The split has too few chunks, or the tokenizer no mask token.
    """
    there = count_rows(file)
    if first + rows > there:
        raise UserError(_too_few(split, first + rows, there, spec["corpus"]["length"]))
    if read_schema(file).metadata[b"tokenizer_sha256"].decode() != tokenizer_sha256(tokenizer):
        raise UserError(f"{file} was cut by another tokenizer; delete it and run again")
    mask = spec["mask"]
    special = Special.of(tokenizer, "the corpus") if mask else None
    out_rows = []
    for number, ids in enumerate(_read_chunks(file, first, rows), first):
        row = chunk_row(f"{split}-{number:07d}", number, ids, tokenizer)
        if special is not None:
            chunk = mask_chunk(row["id"], ids, special, mask)
            row |= {"prompt_ids": chunk.prompt, "response_ids": chunk.answer}
            row["positions"] = chunk.positions
        out_rows.append(row)
    digest = tokenizer_sha256(tokenizer)
    schema = TEXT_SCHEMA if special is None else MASKED_SCHEMA
    write_rows(out, out_rows, schema, spec=dict(spec), tokenizer_sha256=digest)


def _read_chunks(file: str | Path, first: int, rows: int) -> list[list[int]]:
    """Chunks from `first` on; only the file's groups of rows that hold them are read."""
    groups = range(first // _GROUP, (first + rows - 1) // _GROUP + 1)
    table = read_groups(file, list(groups), ["ids"])
    ids: list[list[int]] = table["ids"].slice(first - groups[0] * _GROUP, rows).to_pylist()
    return ids


def _too_few(split: str, needed: int, there: int, length: int) -> str:
    shortage = (
        f"corpus: the {split} text gives {there} chunks of {length} tokens, but {needed} are needed"
    )
    if split == "train":
        return f"{shortage}; set pool to {there} or less (shares of it follow), or lower length"
    return f"{shortage}; lower {split}, or raise held_out, or name a larger {split}_source"


def chunk_files(
    texts: Sequence[str | Path],
    model: str | Path,
    spec: Mapping[str, Any],
    out: Mapping[str, str | Path],
) -> None:
    """Cut a corpus into chunks of equal length; see `chunk_corpus`.

    Args:
        texts: Rows of text of each split that `spec` names under texts, in that order.
        model: A file in the directory that has the study's tokenizer.
        spec: As of `chunk_corpus`.
        out: As of `chunk_corpus`.
    """
    by_split = {
        split: [row["text"] for row in read_rows(path)]
        for split, path in zip(spec["texts"], texts, strict=True)
    }
    data = read_metadata(texts[list(spec["texts"]).index("train")], "data")
    chunk_corpus(by_split, load_tokenizer(Path(model).parent), spec, out, data)


def take_part(
    file: str | Path,
    model: str | Path,
    spec: Mapping[str, Any],
    split: str,
    first: int,
    rows: int,
    out: str | Path,
) -> None:
    """Write one part of a corpus's chunks as rows of text; see `take_chunks`.

    Args:
        model: A file in the directory that has the study's tokenizer.
        file, spec, split, first, rows, out: As of `take_chunks`.
    """
    take_chunks(file, load_tokenizer(Path(model).parent), spec, split, first, rows, out)
