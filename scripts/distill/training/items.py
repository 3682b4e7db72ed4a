"""A shard as training examples in a student's tokens, with the soft targets of its method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.parquet import read_metadata, read_rows
from distill.models.encoding import OTHER_TOKENS, encode_rows
from distill.models.opening import check_kind
from distill.models.shared_tokens import Reader
from distill.training.batches import Item, TargetReader
from distill.training.objective import Objective
from distill.training.spans import Aligner


def load_items(
    shard: str | Path,
    reader: Reader,
    spec: dict[str, Any],
    objective: Objective,
    config: Any,
    aligner: Aligner | None = None,
) -> tuple[list[Item], TargetReader | None]:
    """Training examples of a shard, and the reader of their soft targets if the method has any.

    Args:
        shard: Parquet file of the training set.
        reader: The tokenizer with which the student reads the shard.
        spec: shard, formatting, method and train.
        objective: The method's loss.
        config: The student's model config.
        aligner: For spans, of the teacher's and the student's tokens.

    Raises:
        UserError: The soft targets are of another tokenizer than the student's, or are read by
            spans and are not; or the student is a causal model and its rows are masked chunks, or
            the reverse.
    """
    rows, digest = read_rows(shard), read_metadata(shard, "tokenizer_sha256")
    tokenizer, other = reader.tokenizer, reader.apart or "their digests differ"
    check_kind(config, rows, "the student")
    if "corpus" in spec.get("shard", {}):
        if reader.own_sha256 != digest:
            raise UserError(
                "the chunks of a corpus use the tokenizer of the student's source, but the "
                "student's tokenizer is different; a method with corpus needs the source's "
                "tokenizer"
            )
        digest = tokenizer_sha256(tokenizer)  # which has the same ids
    if "corpus" in spec.get("shard", {}).get("text", {}) and tokenizer_sha256(tokenizer) != digest:
        raise UserError(OTHER_TOKENS)
    if objective.reads_targets:
        _check_comparable(objective, tokenizer_sha256(tokenizer) == digest, other)
    length = spec["train"]["max_length"]
    examples = encode_rows(rows, tokenizer, spec["formatting"], digest, length)
    if not objective.reads_targets:
        return [Item(example) for example in examples], None
    method, cache = spec["method"], spec["shard"].get("cache")
    if cache is None:  # a live teacher's
        return [Item(example, row) for example, row in zip(examples, rows, strict=True)], None
    head = objective.head
    vocabulary, width = 0, 0
    if cache["scheme"] == "final_hidden":
        assert head is not None
        width = head.weight.shape[1]
    else:
        vocabulary = read_metadata(shard, "vocabulary")
        if cache["scheme"] == "dense":
            objective.excluded = read_metadata(shard, "excluded")
    targets = TargetReader(method, cache, vocabulary, width)
    items = [Item(example, row) for example, row in zip(examples, rows, strict=True)]
    if aligner is None:
        return items, targets
    for number, (example, row) in enumerate(zip(examples, rows, strict=True)):
        spans = aligner.spans(row["response_ids"], example.answer, row["response"])
        items[number] = Item(example, row, spans)
    if not any(item.spans and item.spans.student for item in items):
        raise UserError(
            "the student's tokenizer and the teacher's have no span of any answer in common, so "
            "spans has nothing to compare; use uld, or ce on the text alone"
        )
    return items, targets


def _check_comparable(objective: Objective, same: bool, apart: str) -> None:
    """Check that a method's losses can compare the student's tokens with the teacher's.

    Args:
        objective: The method's loss.
        same: Whether student and text share tokens.
        apart: Why they do not.

    Raises:
        UserError: They cannot, or spans have nothing to align.
    """
    across = [name for name in objective.soft if name in ("uld", "spans")]
    if not same and (len(across) < len(objective.soft) or objective.needs_states):
        raise UserError(
            f"the student's tokenizer is not the teacher's ({apart}), so their distributions over "
            "tokens cannot be compared; use a cross-tokenizer method (spans, uld), or ce on the "
            "text alone"
        )
    if same and "spans" in across:
        raise UserError(
            "the student's tokenizer is the teacher's, so spans has nothing to align; use "
            "forward_kl instead"
        )


def held_out_items(
    validation: Sequence[str | Path], tokenizer: Any, spec: dict[str, Any]
) -> list[Item]:
    """Examples of held-out text, for early stopping or a search; none without text.

    Args:
        validation: Parts of held-out text.
        tokenizer: The student's.
        spec: formatting and train.
    """
    if not validation:
        return []
    rows, digest = read_rows(validation), read_metadata(validation[0], "tokenizer_sha256")
    length = spec["train"]["max_length"]
    examples = encode_rows(rows, tokenizer, spec["formatting"], digest, length)
    return [Item(example) for example in examples]
