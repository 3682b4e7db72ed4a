"""Masked rows of text, a teacher and a student for tests of masked models, made on the spot."""

from typing import Any

import corpus_inputs
from distill.config.text import Mask
from distill.core.rows.reading import join_lines
from distill.models.masking import Special, mask_chunk

MASK = Mask(share=0.3).model_dump()


def rows(words: Any, count: int, length: int = 12) -> list[dict[str, Any]]:
    """Rows as `take_chunks` writes them."""
    texts = list(join_lines(corpus_inputs.articles(count), corpus_inputs.BEGINS))
    special, made = Special.of(words, "tests"), []
    for number, text in enumerate(texts[:count]):
        ids = words(text, add_special_tokens=False).input_ids[: length - number % 3]
        chunk = mask_chunk(f"train-{number:07d}", ids, special, MASK)
        made.append(
            {
                "id": f"train-{number:07d}", "row": number, "prompt": "", "context": None,
                "response": words.decode(ids), "reference": None, "prompt_ids": chunk.prompt,
                "response_ids": chunk.answer, "positions": chunk.positions,
                "finish_reason": "length", "teacher_flops": 0.0, "teacher_seconds": 0.0,
            }
        )  # fmt: skip
    return made
