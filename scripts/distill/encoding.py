"""Rows of text as token ids of a model, and batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distill.files import UserError
from distill.formatting import encoder
from distill.tokens import tokenizer_sha256


@dataclass(frozen=True)
class Example:
    """One prompt and answer in a model's tokens; the answer has its end token if it ended."""

    prompt: list[int]
    answer: list[int]


def encode_rows(
    rows: Sequence[dict[str, Any]],
    tokenizer: Any,
    formatting: dict[str, Any],
    text_tokenizer: str | None,
    max_length: int,
) -> list[Example]:
    """Token ids of text rows for a model.

    Where the model's tokenizer is the teacher's own, the very tokens that the teacher drew are
    used: decoding and encoding again can give others. Else, and for a row without tokens (a
    curation changed its words), the text is encoded anew, and EOS follows where the answer ended.

    Args:
        rows: Rows of a text part or shard.
        tokenizer: The model's tokenizer.
        formatting: template and system.
        text_tokenizer: `tokenizer_sha256` of the text, None for ready-made text.
        max_length: Longest example in tokens; a longer answer is cut and loses its end.

    Raises:
        UserError: A prompt leaves no room for an answer.
    """
    same = text_tokenizer is not None and tokenizer_sha256(tokenizer) == text_tokenizer
    encode = encoder(tokenizer, **formatting)
    examples = []
    for row in rows:
        if same and row["response_ids"] is not None:
            prompt, answer = list(row["prompt_ids"]), list(row["response_ids"])
        else:
            prompt = encode(row["prompt"], row["context"])
            answer = tokenizer(row["response"], add_special_tokens=False).input_ids
            if row["finish_reason"] == "stop":
                answer = [*answer, tokenizer.eos_token_id]
        if len(prompt) >= max_length:
            raise UserError(
                f"the prompt {row['id']} has {len(prompt)} tokens and leaves no room in "
                f"train.max_length ({max_length}); raise that or lower prompts.max_tokens"
            )
        if not prompt:
            raise UserError(f"the prompt {row['id']} has no tokens; use a template with some text")
        examples.append(Example(prompt, answer[: max_length - len(prompt)]))
    return examples


def collate(examples: Sequence[Example], pad: int) -> dict[str, torch.Tensor]:
    """Pad examples on the right.

    Returns:
        input_ids and attention_mask [batch, length]; labels [batch, length], the answer's tokens
        and -100 elsewhere; shift_labels [batch, length], at each position the label of the next.
        Labels come from lengths, never from ids: a pad token that equals EOS hides no EOS.
    """
    length = max(len(example.prompt) + len(example.answer) for example in examples)
    shape = (len(examples), length)
    batch = {
        "input_ids": torch.full(shape, pad),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, -100),
    }
    for number, example in enumerate(examples):
        start, end = len(example.prompt), len(example.prompt) + len(example.answer)
        batch["input_ids"][number, :end] = torch.tensor(example.prompt + example.answer)
        batch["attention_mask"][number, :end] = 1
        batch["labels"][number, start:end] = torch.tensor(example.answer, dtype=torch.long)
    ends = torch.full((len(examples), 1), -100)
    batch["shift_labels"] = torch.cat([batch["labels"][:, 1:], ends], dim=1)
    return batch
