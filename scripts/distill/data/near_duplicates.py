"""Near-duplicates among texts: shingles, Jaccard similarity, MinHash."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasketch import MinHash, MinHashLSH

from distill.core.files import write_json
from distill.core.parquet import read_metadata, read_rows
from distill.core.rows.lengths import whole_prompt

PERMUTATIONS = 128


def shingles(text: str, width: int = 5) -> frozenset[str]:
    """Character `width`-grams of a text without case, punctuation and runs of white space."""
    plain = " ".join(re.findall(r"\w+", text.lower()))
    return frozenset(
        plain[start : start + width] for start in range(max(1, len(plain) - width + 1))
    )


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard similarity |a and b| / |a or b| of two sets; 1 for two empty sets."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def drop_near_duplicates(
    rows: Sequence[dict[str, Any]], earlier: Sequence[dict[str, Any]], threshold: float
) -> list[dict[str, Any]]:
    """Rows that resemble no earlier row and no row before them.

    Candidates come from MinHash (datasketch) at a lower threshold, so that few are missed, and are
    decided by the exact Jaccard similarity of their shingles.
    """
    if threshold >= 1:  # equal sets of shingles; with few distinct words, all texts are candidates
        seen, distinct = {shingles(whole_prompt(row)) for row in earlier}, []
        for row in rows:
            if (grams := shingles(whole_prompt(row))) not in seen:
                seen.add(grams)
                distinct.append(row)
        return distinct
    index = MinHashLSH(threshold=0.6 * threshold, num_perm=PERMUTATIONS)
    known: list[frozenset[str]] = []

    def add(grams: frozenset[str]) -> bool:
        """Remember a text unless it resembles one already known."""
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([gram.encode() for gram in sorted(grams)])
        if any(jaccard(grams, known[key]) >= threshold for key in index.query(signature)):
            return False
        index.insert(len(known), signature)
        known.append(grams)
        return True

    for row in earlier:
        add(shingles(whole_prompt(row)))
    return [row for row in rows if add(shingles(whole_prompt(row)))]


def nearest_pairs(
    test: Sequence[dict[str, Any]], train: Sequence[dict[str, Any]], threshold: float
) -> dict[str, Any]:
    """Exact check of the filter: the similarity of every test prompt to every training prompt.

    Returns:
        Counts, the threshold, the worst similarity found and the pairs at or above the threshold.
    """
    grams = [shingles(whole_prompt(row)) for row in test]
    holders: dict[str, list[int]] = defaultdict(list)
    for number, prompt_grams in enumerate(grams):
        for gram in prompt_grams:
            holders[gram].append(number)
    worst, pairs = 0.0, []
    for row in train:
        other = shingles(whole_prompt(row))
        shared: dict[int, int] = defaultdict(int)
        for gram in other:
            for number in holders.get(gram, ()):
                shared[number] += 1
        for number, count in shared.items():
            similarity = count / (len(grams[number]) + len(other) - count)
            worst = max(worst, similarity)
            if similarity >= threshold:
                pairs.append([test[number]["id"], row["id"], round(similarity, 4)])
    return {
        "test_prompts": len(test),
        "train_prompts": len(train),
        "threshold": threshold,
        "worst_similarity": worst,
        "pairs": pairs,
    }


def check_near_duplicates(
    test: Sequence[str | Path], train: Sequence[str | Path], threshold: float, out: str | Path
) -> None:
    """Compare every test prompt with every training prompt, and write what `nearest_pairs` says.

    The report also has the numbers of rows of the data set behind the prompts, if there is one.

    Args:
        test: Parts of the test prompts.
        train: Parts of the training prompts.
        threshold: Similarity from which on a pair is listed.
        out: The report, JSON.
    """
    report = nearest_pairs(read_rows(test), read_rows(train), threshold)
    write_json(out, {"schema": 1, **report, "data": read_metadata(test[0], "data")})
