"""Alignment of two tokenizers' tokens, against brute force on their spelling."""

import functools
import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

import tiny
from distill.core.errors import UserError
from distill.training.cross_tokenizer import likelihood_gap, shared_kl
from distill.training.spans import Aligner, Spans, token_bytes

NASTY = (
    "",
    " ",
    "a",
    "Paris",
    " Paris",
    "   two   spaces\n\n\tand a tab ",
    "naïve café, naïve cafés",
    "日本語の文章、日本の本",
    "🙂🙃🙂 family: 👩‍👩‍👧 e\u0301 é \ufffd \u200b",
    "She counted seven boats, two gulls and one lighthouse.",
    "<|im_start|>user says <|endoftext|> here",
    "x" * 30 + "ß" * 9,
)
OTHERS = (
    "本語 日文 章文章",
    "fés, cafés na ïv",
    "wo  spac es\n\tan tab",
    "🙃🙂 👧‍👩 e",
    "Par is",
    "oun tedse",
)
SPACE = "▁"


def wrapped(raw: Any, eos: str = "<|endoftext|>") -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos, pad_token=eos)


@functools.cache
def byte_level(vocabulary: int, *texts: str, prefix: bool = False) -> Any:
    """A byte-level BPE whose merges go across the bytes of a character."""
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        texts or NASTY,
        BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(tiny.SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return wrapped(raw)


@functools.cache
def sentence_piece() -> Any:
    """As Llama 2: a space before the text, bytes for letters that have no piece."""
    vocabulary = {"<unk>": 0, "</s>": 1}
    vocabulary |= {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    merges = []
    letters = sorted(set(" ".join(tiny.SENTENCES).replace(" ", SPACE) + "Parisxcafénv,"))
    vocabulary |= {letter: len(vocabulary) + number for number, letter in enumerate(letters)}
    for left, right in (
        (SPACE, "a"),
        (SPACE, "P"),
        ("a", "r"),
        (f"{SPACE}P", "ar"),
        (SPACE, SPACE),
    ):
        merges.append((left, right))
        vocabulary[left + right] = len(vocabulary)
    raw = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return wrapped(raw, "</s>")


def encode(words: Any, text: str) -> list[int]:
    ids: list[int] = words(text, add_special_tokens=False).input_ids
    return ids


def pieces(spans: Spans, side: str, tokens: list[int]) -> list[list[int]]:
    """The tokens of each span."""
    found: list[list[int]] = [[] for _ in spans.single]
    for span, token in zip(getattr(spans, side), tokens, strict=False):
        found[span].append(token)
    return found


def spelled(words: Any, tokens: list[int]) -> list[str]:
    """Each token in byte-level letters, one a byte."""
    found: list[str] = words.convert_ids_to_tokens(tokens)
    return found


def letters_of(text: str) -> str:
    """A text in byte-level letters, by the library's own spelling."""
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(piece for piece, _ in spell.pre_tokenize_str(text))


def plain_cuts(one: list[str], other: list[str]) -> list[tuple[int, int]]:
    """Numbers of tokens on both sides after which both have spelled the same, by trying all."""
    return [
        (i, j)
        for i in range(1, len(one) + 1)
        for j in range(1, len(other) + 1)
        if "".join(one[:i]) == "".join(other[:j])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("text", [text for text in NASTY if "<|" not in text])
@pytest.mark.parametrize("sizes", [(300, 420), (420, 300), (259, 340), (340, 341)])
def test_spans_equal_brute_force(text: str, sizes: tuple[int, int]) -> None:
    teacher, student = byte_level(sizes[0]), byte_level(sizes[1], *OTHERS)
    theirs, own = encode(teacher, text), encode(student, text)
    ends = teacher.eos_token_id, student.eos_token_id
    spans = Aligner(teacher, student).spans([*theirs, ends[0]], [*own, ends[1]], text)
    letters = spelled(teacher, theirs), spelled(student, own)
    assert "".join(letters[0]) == "".join(letters[1]) == letters_of(text)
    cuts = [*plain_cuts(*letters), (len(theirs) + 1, len(own) + 1)]
    starts = [(0, 0), *cuts[:-1]]
    expected = [
        ([*theirs, ends[0]][a:c], [*own, ends[1]][b:d])
        for (a, b), (c, d) in zip(starts, cuts, strict=True)
    ]
    found = list(zip(pieces(spans, "teacher", [*theirs, ends[0]]), pieces(spans, "student", [*own, ends[1]]), strict=True))  # fmt: skip  # noqa: E501
    assert found == expected
    one = [len(a) == len(b) == 1 for a, b in expected]
    assert spans.single == one  # the same bytes, of which a byte-level vocabulary has one spelling


def test_nasty_texts_have_spans_of_every_kind() -> None:
    teacher, student = byte_level(340), byte_level(340, *OTHERS)
    aligner, kinds, inside = Aligner(teacher, student), set(), 0
    texts = token_bytes(teacher)
    for text in NASTY:
        theirs, own = encode(teacher, text), encode(student, text)
        spans = aligner.spans(theirs, own, text)
        place = 0
        for a, b in zip(
            pieces(spans, "teacher", theirs), pieces(spans, "student", own), strict=True
        ):
            kinds.add((min(len(a), 2), min(len(b), 2)))
            place += sum(len(texts[token]) for token in a)
            inside += text.encode()[place : place + 1] >= b"\x80" and text.encode()[place] < 0xC0
    assert kinds == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert inside > 3  # cuts inside a character


def test_a_merge_worked_by_hand() -> None:
    """she counted: the teacher has 'sh' 'e' ' counted', the student 's' 'he' ' co' 'unted'."""
    stubs = []
    for words in (("sh", "e", "Ġcounted", "!"), ("s", "he", "Ġco", "unted", "!")):
        state = {
            "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE"},
            "added_tokens": [{"id": 9, "content": "</s>", "special": True}],
        }  # fmt: skip
        vocabulary = {word: number for number, word in enumerate(words)} | {"</s>": 9}
        stubs.append(
            SimpleNamespace(
                backend_tokenizer=SimpleNamespace(to_str=lambda state=state: json.dumps(state)),
                get_vocab=lambda vocabulary=vocabulary: vocabulary,
                eos_token_id=9, chat_template=None, all_special_ids=[9], added_tokens_decoder={},
                convert_ids_to_tokens=lambda ids: ["</s>" for _ in ids],
            )
        )  # fmt: skip
    aligner = Aligner(stubs[0], stubs[1])
    assert aligner.shared_ids == {3: 4, 9: 9}
    spans = aligner.spans([0, 1, 2, 3, 9], [0, 1, 2, 3, 4, 9], "she counted!")
    assert spans == Spans(
        student=[0, 0, 1, 1, 2, 3], teacher=[0, 0, 1, 2, 3], single=[False, False, True, True]
    )


def test_another_tokenisation_of_the_same_text_by_the_teacher_is_followed() -> None:
    """The tokens that were drawn need not be those that the tokenizer would choose."""
    teacher, student = byte_level(420), byte_level(300)
    text = "naïve café"
    letters = [teacher.convert_tokens_to_ids(letter) for letter in letters_of(text)]
    own = encode(student, text)
    spans = Aligner(teacher, student).spans(letters, own, text)
    assert spans.student == list(range(len(own)))
    assert [len(piece) for piece in pieces(spans, "teacher", letters)] == [
        len(spelling) for spelling in spelled(student, own)
    ]


@pytest.mark.parametrize("text", ["Paris", " Paris", "  a café Par", "The river", "日本 a"])
def test_sentence_pieces_space_before_the_text_is_none_of_it(text: str) -> None:
    piece, plain = sentence_piece(), byte_level(300)
    assert piece.decode(encode(piece, text)) == text
    for teacher, student in ((piece, plain), (plain, piece)):
        theirs, own = encode(teacher, text), encode(student, text)
        spans = Aligner(teacher, student).spans(
            [*theirs, teacher.eos_token_id], [*own, student.eos_token_id], text
        )
        assert len(spans.student) == len(own) + 1
        assert len(spans.teacher) == len(theirs) + 1
        assert spans.single[-1]


def test_words_are_shared_by_their_bytes_whatever_their_spelling() -> None:
    piece, plain = sentence_piece(), byte_level(300)
    words = Aligner(piece, plain).shared_ids
    ids = piece.get_vocab()
    for spelling, same in (("a", "a"), (SPACE, "Ġ"), ("<0xC3>", "Ã"), ("</s>", "<|endoftext|>")):
        assert words[ids[spelling]] == plain.get_vocab()[same]
    assert ids["<0x61>"] not in words  # a byte that is a piece of its own
    assert ids["<unk>"] not in words
    assert len(set(words.values())) == len(words)
    texts = token_bytes(piece)
    assert all(texts[a] == token_bytes(plain)[b] for a, b in words.items() if a in texts)


def test_what_no_text_has_ends_the_alignment() -> None:
    teacher, student = byte_level(300), byte_level(340)
    aligner = Aligner(teacher, student)
    before, after = encode(teacher, "Paris,"), encode(teacher, " café")
    own = encode(student, "Paris,") + encode(student, " café")
    start = [teacher.convert_tokens_to_ids("<|im_start|>")]
    whole = aligner.spans(before + after, own, "Paris, café")
    assert len(whole.student) == len(own)
    cut = aligner.spans(before + start + after, own, "Paris, café")
    assert cut.teacher == whole.teacher[: len(before)]
    broken = [teacher.convert_tokens_to_ids("Ã")]  # the first byte of é alone
    text = teacher.decode(before + broken + after, skip_special_tokens=True)
    assert "\ufffd" in text
    lost = aligner.spans(before + broken + after, encode(student, text), text)
    assert lost.teacher == whole.teacher[: len(before)]
    assert aligner.spans(start, own, "Paris, café") == Spans([], [], [])


def test_the_end_is_a_span_where_both_answers_end() -> None:
    teacher, student = byte_level(300), byte_level(340)
    aligner, text = Aligner(teacher, student), "She counted"
    theirs, own = encode(teacher, text), encode(student, text)
    ended = [*theirs, teacher.eos_token_id], [*own, student.eos_token_id]
    assert len(aligner.spans(*ended, text).student) == len(own) + 1
    assert len(aligner.spans(theirs, ended[1], text).student) == len(
        own
    )  # cut by the teacher's length
    assert len(aligner.spans(ended[0], own, text).student) == len(own)  # cut by the student's
    other = [*theirs, teacher.convert_tokens_to_ids("<|im_end|>")]  # another stop than EOS
    assert len(aligner.spans(other, ended[1], text).student) == len(own)
    assert aligner.spans([teacher.eos_token_id], [student.eos_token_id], "") == Spans(
        [0], [0], [True]
    )
    short = aligner.spans(ended[0], own[:2], text)
    assert short.student == [0, 1][: len(short.student)]


def test_special_words_inside_a_text_are_no_span() -> None:
    """The student reads them as special tokens, the teacher wrote them letter by letter."""
    teacher, student = byte_level(300), byte_level(340)
    text = "a <|endoftext|> b"
    letters = [teacher.convert_tokens_to_ids(letter) for letter in letters_of(text)]
    own = encode(student, text)
    assert student.eos_token_id in own
    spans = Aligner(teacher, student).spans(letters, own, text)
    assert len(spans.student) == own.index(student.eos_token_id)


def test_a_space_that_a_tokenizer_adds_is_none_of_the_text() -> None:
    teacher, student = byte_level(300), byte_level(340, prefix=True)
    theirs, own = encode(teacher, "Paris"), encode(student, "Paris")
    assert student.decode(own) == " Paris"
    spans = Aligner(teacher, student).spans(theirs, own, "Paris")
    assert len(spans.student) == len(own)
    assert len(spans.teacher) == len(theirs)


def test_other_tokenizers_are_refused() -> None:
    raw = Tokenizer(WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    raw.decoder = decoders.WordPiece()
    with pytest.raises(UserError, match="a WordPiece tokenizer is of neither kind; use uld"):
        token_bytes(wrapped(raw, "[UNK]"))
    raw.decoder = None
    with pytest.raises(UserError, match="of neither kind"):
        token_bytes(wrapped(raw, "[UNK]"))


# Against TRL's GOLD trainer.


@pytest.fixture
def gold(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TRL's loss across tokenizers."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gold.gold_trainer import ULDLoss  # seconds, so only here

    settings = {
        "uld_crossentropy_weight": 0.0, "uld_distillation_weight": 1.0,
        "uld_student_temperature": 1.0, "uld_teacher_temperature": 1.0,
        "uld_skip_student_eos": True, "uld_skip_teacher_eos": True, "use_extended_uld": True,
        "uld_token_merge_strategy": "bayesian", "uld_use_hybrid_loss": True,
        "uld_hybrid_matched_weight": None, "uld_hybrid_unmatched_weight": None, "beta": 0.0,
    }  # fmt: skip
    config: Any = SimpleNamespace(**settings)
    return lambda student, teacher: ULDLoss(config, student, teacher)


def offsets(tokens: list[str]) -> list[tuple[int, int]]:
    ends = [len("".join(tokens[: number + 1])) for number in range(len(tokens))]
    return list(zip([0, *ends[:-1]], ends, strict=True))


@pytest.mark.slow
def test_spans_equal_trls(gold: Any) -> None:
    teacher, student = byte_level(340), byte_level(340, *OTHERS)
    aligner, seen = Aligner(teacher, student), 0
    for text in (text for text in NASTY if text and "<|" not in text):
        theirs, own = encode(teacher, text), encode(student, text)
        ends = [offsets(spelled(words, ids)) for words, ids in ((student, own), (teacher, theirs))]
        groups = gold(student, teacher)._align_by_byte_offsets(*ends)
        spans = aligner.spans(theirs, own, text)
        assert groups[0] == [
            [place for place, span in enumerate(spans.student) if span == number]
            for number in range(len(spans.single))
        ]
        assert [len(group) for group in groups[1]] == [
            spans.teacher.count(number) for number in range(len(spans.single))
        ]
        seen += len(spans.single)
    assert seen > 60


@pytest.mark.slow
def test_losses_equal_trls_where_they_coincide(gold: Any) -> None:
    """Its forward KL of matched words where all are matched, and its merged likelihoods."""
    noise = torch.Generator().manual_seed(0)
    words = [f"word{number}" for number in range(11)]
    order = torch.randperm(11, generator=noise)
    teacher, student = (
        SimpleNamespace(get_vocab=lambda ids=ids: dict(zip(words, ids, strict=True)))
        for ids in (order.tolist(), list(range(11)))
    )
    p, s = torch.randn(2, 1, 6, 11, generator=noise, dtype=torch.float64)
    labels = torch.tensor([[-100, 3, 1, 4, 10, 5]])  # the last is skipped, as EOS
    bytes_ = torch.tensor([[[0, 0], [0, 2], [2, 3], [3, 7], [7, 8], [8, 8]]])
    theirs = gold(student, teacher)(
        s, p, labels, order[labels.clamp_min(0)].where(labels >= 0, -100),
        labels.clamp_min(0), order[labels.clamp_min(0)], bytes_, bytes_,
    )  # fmt: skip
    turned = p[0, :4].log_softmax(-1)[:, order]
    every = torch.ones(11, dtype=torch.bool)
    value, _ = shared_kl(turned, s[0, :4].log_softmax(-1), every)
    torch.testing.assert_close(value.mean(), theirs)
    ids = labels[0, 1:5]
    probabilities, groups = s[0, :4].softmax(-1), [[0, 1, 2], [3]]
    merged = gold(student, teacher)._merge_probabilities_with_alignment_groups(
        probabilities, groups, ids.tolist()
    )
    expected = -torch.stack([merged[0, ids[2]], merged[1, ids[3]]]).log()
    sure = torch.zeros(2)  # where the teacher is certain the gap is the student's nats
    spans = torch.tensor([0, 0, 0, 1])
    gap = likelihood_gap(s[0, :4], ids, spans, sure, torch.ones(2))[1]
    torch.testing.assert_close(gap, expected)
