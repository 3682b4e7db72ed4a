"""Aligned spans: where the tokens of two tokenizers begin and end at the same places of one text.

An answer is cut at every place where both tokenizers end a token, into the smallest spans that both
have. What stands before a span is then the same text for both models, and so is the span itself.
Source: the alignment of GOLD ("Unlocking On-Policy Distillation for Any Model Family", TRL) and
the chunks of ALM (Minixhofer 2025, arXiv 2503.20083, section 3), here in bytes: a byte-level
tokenizer may cut inside a character.
"""

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from distill.core.errors import UserError
from distill.models.shared_tokens import decoder_kinds
from distill.models.turns import turns_of

_BYTES = {letter: byte for byte, letter in bytes_to_unicode().items()}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Spans:
    """The spans of one answer, numbered in order; they cover the first tokens on both sides."""

    student: list[int]
    """The span of each of the student's first tokens."""
    teacher: list[int]
    """The span of each of the teacher's first tokens."""
    single: list[bool]
    """Per span: whether it is one token on both sides, in both vocabularies."""


def token_bytes(tokenizer: Any) -> dict[int, bytes]:
    """The text of each token, by id; special tokens have none and are left out.

    Byte-level vocabularies spell a byte as a letter, SentencePiece's a space as "▁" and a byte
    that has no piece as <0xNN>.

    Raises:
        UserError: The tokenizer is of neither kind.
    """
    kinds = decoder_kinds(tokenizer)
    if not kinds & {"ByteLevel", "ByteFallback", "Metaspace"}:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        state = json.loads(backend.to_str()) if backend is not None else {"model": {}}
        raise UserError(
            "spans aligns tokens by their bytes, which are known for byte-level and SentencePiece "
            f"tokenizers, but a {state['model'].get('type', type(tokenizer).__name__)} tokenizer "
            "is of neither kind; use uld, or ce on the text alone"
        )
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {entry["id"]: entry for entry in state["added_tokens"]}
    bytes_of = {}
    for text, number in tokenizer.get_vocab().items():
        if number in added:
            piece = b"" if added[number]["special"] else added[number]["content"].encode()
        elif "ByteLevel" in kinds:
            piece = bytes(_BYTES[letter] for letter in text if letter in _BYTES)
        elif byte := _BYTE_TOKEN.fullmatch(text):
            piece = bytes.fromhex(byte[1])
        else:
            piece = text.replace("▁", " ").encode()
        if piece:
            bytes_of[number] = piece
    return bytes_of


def _ends(pieces: Sequence[bytes | None], text: bytes) -> list[int]:
    """Where each token ends in the text, up to the first that differs from it."""
    ends, place = [], 0
    for piece in pieces:
        if piece is None or not text.startswith(piece, place):
            break
        place += len(piece)
        ends.append(place)
    return ends


class Aligner:
    """Finds the common spans of answers in a teacher's and a student's tokens.

    Args:
        teacher: The teacher's tokenizer.
        student: The student's.
        template: prompts.template of the study.

    Raises:
        UserError: The bytes of a tokenizer's tokens are not known.
    """

    def __init__(self, teacher: Any, student: Any, template: str = "chat") -> None:
        self._teacher, self._student = token_bytes(teacher), token_bytes(student)
        turns = turns_of(teacher, template), turns_of(student, template)
        self._ends = turns[0].stops, turns[1].stops
        # Of several ids with the same bytes the last: SentencePiece lists <0xNN> before its pieces.
        teacher_ids, student_ids = (
            {piece: number for number, piece in sorted(token_ids.items())}
            for token_ids in (self._teacher, self._student)
        )
        self.shared_ids = {
            teacher_ids[piece]: student_ids[piece] for piece in teacher_ids if piece in student_ids
        }
        """The tokens of both vocabularies, and the end of an answer: student's id by the
        teacher's."""
        self.shared_ids[turns[0].end] = turns[1].end

    def spans(self, teacher: Sequence[int], student: Sequence[int], text: str) -> Spans:
        """The common spans of an answer, from its beginning as far as all tokens spell the text.

        They end before a special token inside the answer (no text has it), before bytes that are
        no UTF-8, which the text does not keep, and where a tokenizer changes the text. The end of
        the answer is a span where both answers get there.

        Args:
            teacher: The teacher's tokens of the answer, its end token included.
            student: The student's, which may be cut short.
            text: The answer.
        """
        encoded = text.encode()
        each = [
            # SentencePiece begins a text with a space that is none of it.
            max(_ends(pieces, encoded), _ends(_without_space(pieces), encoded), key=len)
            for pieces in (
                [self._teacher.get(token) for token in teacher],
                [self._student.get(token) for token in student],
            )
        ]
        cuts = sorted(set(each[0]) & set(each[1]) - {0})
        in_teacher, in_student = (
            [bisect_left(cuts, end) for end in ends if cuts and end <= cuts[-1]] for ends in each
        )
        if all(
            len(ends) == len(tokens) - 1
            and tokens[-1] in stops
            and max(ends, default=0) == len(encoded)
            for ends, tokens, stops in zip(each, (teacher, student), self._ends, strict=True)
        ):
            in_teacher, in_student = [*in_teacher, len(cuts)], [*in_student, len(cuts)]
        many = Counter(in_teacher), Counter(in_student)
        last = (
            dict(zip(in_teacher, teacher, strict=False)),
            dict(zip(in_student, student, strict=False)),
        )
        single = [
            many[0][span] == many[1][span] == 1
            and self.shared_ids.get(last[0][span]) == last[1][span]
            for span in last[0]
        ]
        return Spans(in_student, in_teacher, single)


def _without_space(pieces: Sequence[bytes | None]) -> list[bytes | None]:
    """The pieces without a space at their beginning."""
    if pieces and pieces[0] is not None and pieces[0].startswith(b" "):
        return [pieces[0][1:], *pieces[1:]]
    return list(pieces)
