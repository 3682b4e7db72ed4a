import itertools
import math
import random
from collections import Counter

import nltk
import pytest
from nltk.tokenize import word_tokenize
from nltk.translate import bleu_score
from rouge_score.rouge_scorer import RougeScorer

from distill.evaluation.text_metrics import rouge_l, sentence_bleu, text_similarity

TEXTS = [
    "The river runs past the old mill and into the sea.",
    "She said \"no\". It's over: we can't stay, but they (all 12) did!",
    "the the the the",
    "1. Bread\n2. Salt\n\n3. Water",
    "Naïve café in 東京",
    "The river runs past a new mill and into the lake.",
]


def brute_bleu(reference: list[str], answer: list[str]) -> float:
    """BLEU with method 4, for answers of at least two words."""
    log_precision, empty = 0.0, 0
    for size in range(1, 5):
        mine = Counter(tuple(answer[at : at + size]) for at in range(len(answer) - size + 1))
        theirs = Counter(
            tuple(reference[at : at + size]) for at in range(len(reference) - size + 1)
        )
        matches: float = sum((mine & theirs).values())
        if size == 1 and matches == 0:
            return 0.0
        if matches == 0:
            empty += 1
            matches = math.log(len(answer)) / (5 * 2**empty)
        log_precision += math.log(matches / max(1, sum(mine.values()))) / 4
    return math.exp(min(0, 1 - len(reference) / len(answer)) + log_precision)


def brute_common(left: list[str], right: list[str]) -> int:
    """Length of the longest common subsequence, by trying all of the shorter text's."""
    short, long = sorted([left, right], key=len)
    for size in range(len(short), 0, -1):
        for chosen in itertools.combinations(short, size):
            rest = iter(long)
            if all(word in rest for word in chosen):
                return size
    return 0


def test_bleu_by_hand() -> None:
    # 5 of 6 words, 3 of 5 pairs, 1 of 4 triples, no four in a row: log(6) / 10 of 3.
    found = sentence_bleu("the cat sat on the mat", "the cat lay on the mat")
    assert found == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * (math.log(6) / 10 / 3)) ** 0.25)
    # A word counts as often as the reference has it; three orders without a match.
    orders = [1 / 4, math.log(4) / 10 / 3, math.log(4) / 20 / 2, math.log(4) / 40]
    assert sentence_bleu("the cat", "the the the the") == pytest.approx(math.prod(orders) ** 0.25)
    # All n-grams match, but 4 words of 6 are too few.
    assert sentence_bleu("a b c d e f", "a b c d") == pytest.approx(math.exp(1 - 6 / 4))
    assert sentence_bleu(TEXTS[1], TEXTS[1]) == 1


@pytest.mark.parametrize(
    ("reference", "answer", "wanted"),
    [
        ("a cat", "", 0),
        ("a cat", " \n", 0),
        ("", "a cat", 0),
        ("", "", 0),
        ("a cat", "dogs bark loudly today", 0),
        ("cat", "dog", 0),
        ("cat", "cat", 1),  # log(1) = 0: nothing is smoothed
        ("a cat sat down here", "cat", math.exp(1 - 5)),
        ("a cat", "a cat", (math.log(2) / 10 * math.log(2) / 20) ** 0.25),
        ("a cat sat", "a cat sat", (math.log(3) / 10) ** 0.25),
        ("a cat sat down", "a cat sat down", 1),
    ],
)
def test_bleu_of_short_texts(reference: str, answer: str, wanted: float) -> None:
    assert sentence_bleu(reference, answer) == pytest.approx(wanted)


@pytest.mark.slow
def test_bleu_equals_brute_force_and_never_exceeds_one() -> None:
    draw = random.Random(0)
    seen = set()
    for _ in range(400):
        reference, answer = (
            [draw.choice("abcde") for _ in range(draw.randint(1, 12))] for _ in range(2)
        )
        found = sentence_bleu(" ".join(reference), " ".join(answer))
        assert 0 <= found <= 1
        if len(answer) > 1:
            assert found == pytest.approx(brute_bleu(reference, answer), abs=1e-12)
            seen.add(len(answer) < 4)
    assert seen == {True, False}


def test_bleu_equals_the_library_on_its_own_words() -> None:
    method = bleu_score.SmoothingFunction().method4
    for reference, answer in itertools.product(TEXTS, repeat=2):
        words = [word_tokenize(text, preserve_line=True) for text in (reference, answer)]
        wanted = bleu_score.sentence_bleu([words[0]], words[1], smoothing_function=method)
        assert sentence_bleu(reference, answer) == wanted


def test_the_examples_of_the_rouge_paper() -> None:
    reference = "police killed the gunman"
    assert rouge_l(reference, "police kill the gunman") == pytest.approx(3 / 4)
    assert rouge_l(reference, "the gunman kill police") == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("reference", "answer", "wanted"),
    [
        ("one two three", "one three", 0.8),  # precision 1, recall 2/3
        ("One, TWO three!", "one two; three", 1),
        ("two cats", "two cat", 0.5),  # no stemming
        ("a cat", "", 0),
        ("", "a cat", 0),
        ("", "", 0),
        ("...", "...", 0),
        ("東京", "東京", 0),  # English only
    ],
)
def test_rouge_l_by_hand(reference: str, answer: str, wanted: float) -> None:
    assert rouge_l(reference, answer) == pytest.approx(wanted)


def test_rouge_l_equals_brute_force_and_the_library() -> None:
    draw = random.Random(1)
    for _ in range(60):
        left, right = ([draw.choice("abcd") for _ in range(draw.randint(1, 9))] for _ in range(2))
        common = brute_common(left, right)
        wanted = 2 * common / (len(left) + len(right))
        assert rouge_l(" ".join(left), " ".join(right)) == pytest.approx(wanted)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    for pair in itertools.product(TEXTS, repeat=2):
        assert rouge_l(*pair) == scorer.score(*pair)["rougeL"].fmeasure


def test_similarity_is_the_mean_over_rows_with_its_error() -> None:
    answers = ["a cat sat here now", "a dog sat here now", "", "here"]
    references = ["a cat sat here now"] * 4
    found = text_similarity(references, answers)
    pairs = list(zip(references, answers, strict=True))
    for name, score in (("bleu", sentence_bleu), ("rouge_l", rouge_l)):
        values = [score(*pair) for pair in pairs]
        mean = sum(values) / 4
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 3)
        assert found[name] == pytest.approx(mean)
        assert found[f"{name}_stderr"] == pytest.approx(deviation / 2)
    assert found["rouge_l"] == pytest.approx((1 + 0.8 + 0 + 1 / 3) / 4)
    assert found["rows"] == 4


def test_one_row_has_no_error_and_none_no_score() -> None:
    alone = text_similarity(["a cat sat here"], ["a cat sat here"])
    assert alone == {"bleu": 1, "bleu_stderr": 0, "rouge_l": 1, "rouge_l_stderr": 0, "rows": 1}
    with pytest.raises(ValueError, match="no text"):
        text_similarity([], [])
    with pytest.raises(ValueError, match="shorter"):
        text_similarity(["a", "b"], ["a"])


def test_no_data_of_nltk_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: str, **options: str) -> None:
        raise LookupError("no data")

    monkeypatch.setattr(nltk.data, "find", refuse)
    with pytest.raises(LookupError):
        word_tokenize(TEXTS[0])  # its sentence splitter looks
    assert text_similarity(TEXTS, TEXTS)["bleu"] == 1
