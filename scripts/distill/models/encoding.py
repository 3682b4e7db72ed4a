"""Rows of text as token ids of a model, and batches of them."""

from collections.abc import Sequence
from typing import Any

import torch

from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.models.formatting import asked, encoder
from distill.models.rows import Example
from distill.models.tokenizers import check_held
from distill.models.turns import Turns, answer_ids, turns_of

OTHER_TOKENS = (
    "the chunks of the corpus are in the tokens of corpus.tokenizer, but a model's tokenizer is "
    "another; name students and teachers with that tokenizer"
)


def encode_rows(
    rows: Sequence[dict[str, Any]],
    tokenizer: Any,
    formatting: dict[str, Any],
    text_tokenizer: str | None,
    max_length: int,
    limit: str = "train.max_length",
) -> list[Example]:
    """Token ids of text rows for a model.

    If the model has the teacher's tokenizer, the teacher's token ids are used, because encoding the
    decoded text can give others. Otherwise, and for a row without ids (corrupted by a curation),
    the text is encoded, with the end of a turn if the answer ended.

    Args:
        rows: Rows of a text part or shard.
        tokenizer: The model's tokenizer.
        formatting: template and system.
        text_tokenizer: `tokenizer_sha256` of the text, None for ready-made text.
        max_length: Longest example in tokens; longer answers are truncated and have no end. Masked
            chunks are never truncated.
        limit: Key that sets `max_length`, for errors.

    Raises:
        UserError: A prompt leaves no room for an answer, a token is beyond the model's
            embeddings, or chunks have another tokenizer.
    """
    same = text_tokenizer is not None and tokenizer_sha256(tokenizer) == text_tokenizer
    encode = encoder(tokenizer, **formatting)
    turns: Turns | None = None
    examples = []
    for row in rows:
        if "positions" in row:
            if not same:
                raise UserError(OTHER_TOKENS)
            ids = [list(row[name]) for name in ("prompt_ids", "response_ids", "positions")]
            examples.append(Example(*ids))
            continue
        if same and row["response_ids"] is not None:
            prompt, answer = list(row["prompt_ids"]), list(row["response_ids"])
            check_held(tokenizer, [*prompt, *answer], f"the text of {row['id']}")
        else:
            turns = turns or turns_of(tokenizer, formatting["template"])
            prompt = encode(*asked(row))
            finished = row["finish_reason"] == "stop"
            answer, _ = answer_ids(tokenizer, row["response"], turns, finished)
        if len(prompt) >= max_length:
            raise UserError(
                f"the prompt {row['id']} has {len(prompt)} tokens and leaves no room in {limit} "
                f"({max_length}); raise that or lower prompts.max_tokens"
            )
        if not prompt:
            raise UserError(f"the prompt {row['id']} has no tokens; use a template with some text")
        examples.append(Example(prompt, answer[: max_length - len(prompt)]))
    return examples


def collate(examples: Sequence[Example], pad: int) -> dict[str, torch.Tensor]:
    """Pad examples on the right.

    Returns:
        input_ids and attention_mask [batch, length]; shift_labels [batch, length], the answer token
        that a position predicts (in a causal model the next one), and -100 elsewhere. Labels follow
        from lengths rather than ids, so a pad token equal to EOS hides no EOS.
    """
    each = [example.tokens for example in examples]
    shape = (len(examples), max(map(len, each)))
    batch = {
        "input_ids": torch.full(shape, pad),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "shift_labels": torch.full(shape, -100),
    }
    for number, (example, ids) in enumerate(zip(examples, each, strict=True)):
        batch["input_ids"][number, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][number, : len(ids)] = 1
        batch["shift_labels"][number, list(example.predicting)] = torch.tensor(
            example.answer, dtype=torch.long
        )
    return batch
