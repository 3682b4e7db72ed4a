"""Similarity of an answer to a reference text: BLEU and ROUGE-L, without any download."""

import functools
from collections.abc import Sequence

from nltk.tokenize import word_tokenize
from nltk.translate import bleu_score
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from distill.stats.tokens import token_mean


def _words(text: str) -> list[str]:
    """Words and punctuation by NLTK's tokenizer, whose sentence splitter would need a download.

    Without it, only the last full stop of a text is a separate token; others stay with their
    word, in reference and answer alike.
    """
    return list(word_tokenize(text, preserve_line=True))


def sentence_bleu(reference: str, answer: str) -> float:
    """BLEU of one answer against one reference, in [0, 1]: how precise its 1- to 4-grams are.

    Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation", with
    smoothing method 4 of Chen and Cherry 2014, "A Systematic Comparison of Smoothing Techniques for
    Sentence-Level BLEU", as NLTK computes it: the k-th order of n-grams without a match gets the
    count log(tokens of the answer) / (5 * 2^k). Implementations differ here; compare with NLTK's.

    For short answers: without any token of the reference, or without any token, the
    score is 0. With two or three tokens there is no 4-gram, and an order without n-grams counts as
    unmatched: an exact copy of two scores 0.22, of three 0.58. With one token the logarithm is 0
    and NLTK drops the unmatched orders instead: an exact copy of one scores 1. No score exceeds 1.

    Args:
        reference: The text to compare with.
        answer: The text to evaluate.
    """
    return float(
        bleu_score.sentence_bleu(
            [_words(reference)],
            _words(answer),
            smoothing_function=bleu_score.SmoothingFunction().method4,
        )
    )


@functools.cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"], tokenizer=DefaultTokenizer(use_stemmer=False))


def rouge_l(reference: str, answer: str) -> float:
    """ROUGE-L of one answer against one reference: F1 of their longest common subsequence of words.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", as the package rouge-score
    computes it. Its words are runs of a-z and 0-9 after lowercasing, without stemming: letters with
    accents split words and other scripts vanish, so this is a measure for English text.

    Args:
        reference: The text to compare with.
        answer: The text to evaluate.

    Returns:
        A number in [0, 1]; 0 if either text has no word.
    """
    return float(_rouge().score(reference, answer)["rougeL"].fmeasure)


def text_similarity(references: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """Mean BLEU and ROUGE-L of answers, each against its own reference.

    Args:
        references: One per answer.
        answers: At least one.

    Returns:
        bleu and rouge_l (means over rows of sentence scores; no corpus BLEU), bleu_stderr and
        rouge_l_stderr (over rows; 0 for a single one), and rows.

    Raises:
        ValueError: There is no row, or the lengths differ.
    """
    pairs = list(zip(references, answers, strict=True))
    if not pairs:
        raise ValueError("no text to compare")
    ones = [1] * len(pairs)
    bleu, bleu_error = token_mean([sentence_bleu(*pair) for pair in pairs], ones)
    rouge, rouge_error = token_mean([rouge_l(*pair) for pair in pairs], ones)
    return {
        "bleu": bleu,
        "bleu_stderr": bleu_error,
        "rouge_l": rouge,
        "rouge_l_stderr": rouge_error,
        "rows": len(pairs),
    }
