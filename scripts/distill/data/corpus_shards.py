"""Training without a teacher: chunks of a corpus instead of responses.

Documents follow each other in the order of a draw, each with EOS at its end, as one stream of
tokens that is cut into chunks of equal length: n chunks are exactly n times as many tokens, and
the first chunks of a larger n are those of a smaller one.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.core.keys import pool_order
from distill.core.parquet import read_rows, write_rows
from distill.data.chunks import chunk_row, chunks, document_end, tokenised
from distill.models.tokenizers import load_tokenizer


def training_documents(
    rows: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]
) -> list[str]:
    """Texts of a corpus that may be trained on, in the file's order.

    Args:
        rows: Of the corpus.
        reference: The passages on which every model is evaluated.

    Returns:
        Each text once, without those that are (also) a reference passage.
    """
    passages = {row["text"].strip() for row in reference}
    return list(dict.fromkeys(row["text"] for row in rows if row["text"].strip() not in passages))


def build_corpus_shard(
    rows: Sequence[dict[str, Any]],
    reference: Sequence[dict[str, Any]],
    tokenizer: Any,
    spec: dict[str, Any],
    out: str | Path,
) -> None:
    """Write the first `samples` chunks of a corpus as a training set, with a record beside it.

    Every token of a chunk is learned. The token before it is BOS, as the reference text is scored,
    or EOS (which ends the document before) where the tokenizer has no BOS.

    Args:
        rows: Of the corpus, with `text`.
        reference: Rows of the reference text's data set; none without one.
        tokenizer: Of the student's source.
        spec: corpus (with tokens and passages), draw, order_seed (for draws above 0) and samples.
        out: `….parquet`; the record is `….json`.

    Raises:
        UserError: The corpus has too few tokens.
    """
    corpus, samples = spec["corpus"], spec["samples"]
    texts = training_documents(rows, reference[: corpus["passages"]])
    order = pool_order(spec["draw"], len(texts), spec.get("order_seed", 0))
    documents = [texts[number] for number in order]
    cut = list(islice(chunks(tokenised(tokenizer, documents), corpus["tokens"]), samples))
    if len(cut) < samples:
        raise UserError(
            f"{out}: the {len(texts)} training documents of the corpus give {len(cut)} chunks of "
            f"{corpus['tokens']} tokens, but {samples} are needed; lower "
            "samples or corpus_tokens, or name a larger corpus"
        )
    # A chunk is not a row of the pool, whose costs are split by row.
    rows_of_text = [
        chunk_row(f"chunk-{number:07d}", None, ids, tokenizer) for number, ids in enumerate(cut)
    ]
    digest = tokenizer_sha256(tokenizer)
    write_rows(out, rows_of_text, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest)
    record = {
        "schema": 1,
        "spec": spec,
        "rows": samples,
        "tokens": samples * corpus["tokens"],
        "document_ends": sum(ids.count(document_end(tokenizer)) for ids in cut),
        "documents": len(texts),
        "cache": None,
    }
    write_json(Path(out).with_suffix(".json"), record)


def build_shard_of_corpus(
    corpus: str | Path,
    reference: str | Path | None,
    model: str | Path,
    out: str | Path,
    spec: dict[str, Any],
) -> None:
    """Cut the chunks of a corpus that one student reads; see `build_corpus_shard`.

    Args:
        corpus: Rows of the corpus.
        reference: Rows of the reference text's data set; None without one.
        model: A file in the directory of the student's source.
        out: `….parquet`; the record is `….json`.
        spec: As of `build_corpus_shard`.
    """
    tokenizer = load_tokenizer(Path(model).parent)
    passages = read_rows(reference) if reference is not None else []
    build_corpus_shard(read_rows(corpus), passages, tokenizer, spec, out)
