"""Prompts: slices of a data set in a seeded order, and the filter against near-duplicates."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from datasketch import MinHash, MinHashLSH

from distill.energy import energy_of
from distill.files import UserError
from distill.schemas import RAW_SCHEMA

PERMUTATIONS = 128


def slice_rows(
    rows: Sequence[dict[str, Any]], spec: dict[str, Any], name: str
) -> list[dict[str, Any]]:
    """One raw part of a data set: the next `candidates` rows of a seeded order.

    Args:
        rows: All rows of the data set.
        spec: Holds slice (number of the part over all splits), candidates, seed and max_tokens
            (rows with more words, context included, are left out before ordering).
        name: The data set's name, for messages.

    Raises:
        UserError: The data set is too small.
    """
    fitting = [
        (hashlib.sha256(f"{spec['seed']}:{number}".encode()).digest(), number)
        for number, row in enumerate(rows)
        if len(_text(row).split()) <= spec["max_tokens"]
    ]
    order = [number for _, number in sorted(fitting)]
    first = spec["slice"] * spec["candidates"]
    chosen = order[first : first + spec["candidates"]]
    if not chosen:
        raise UserError(
            f"{name} has {len(order)} prompts of at most prompts.max_tokens "
            f"({spec['max_tokens']}) words, too few for the study; lower prompts.pool, test or "
            "surplus, or raise max_tokens"
        )
    return [
        {"id": f"row-{number:07d}", **{key: rows[number][key] for key in RAW_SCHEMA.names[1:]}}
        for number in chosen
    ]


def shingles(text: str, width: int = 5) -> frozenset[str]:
    """Character `width`-grams of a text without case, punctuation and runs of white space."""
    plain = " ".join(re.findall(r"\w+", text.lower()))
    return frozenset(
        plain[start : start + width] for start in range(max(1, len(plain) - width + 1))
    )


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared over all elements of two sets; 1 for two empty ones."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def _text(row: dict[str, Any]) -> str:
    return f"{row['prompt']} {row.get('context') or ''}"


def drop_near_duplicates(
    rows: Sequence[dict[str, Any]], earlier: Sequence[dict[str, Any]], threshold: float
) -> list[dict[str, Any]]:
    """Rows that resemble no earlier row and no row before them.

    Candidates come from MinHash (datasketch) at a lower threshold, so that few are missed, and are
    decided by the exact Jaccard similarity of their shingles.
    """
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
        add(shingles(_text(row)))
    return [row for row in rows if add(shingles(_text(row)))]


def filter_part(
    raw: Sequence[dict[str, Any]],
    earlier: Sequence[dict[str, Any]],
    spec: dict[str, Any],
    cost: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Keep exactly a part's number of prompts, numbered within their split.

    Args:
        raw: Candidates.
        earlier: Kept prompts of all held-out and earlier parts.
        spec: Holds split, part, rows and near_duplicate.
        cost: What writing all candidates took, rejected ones included: flops, seconds, kwh and
            kwh_estimated.

    Raises:
        UserError: Too few candidates are left.
    """
    kept = drop_near_duplicates(raw, earlier, spec["near_duplicate"])
    if len(kept) < spec["rows"]:
        raise UserError(
            f"{spec['split']} part {spec['part']}: {len(kept)} of {len(raw)} candidate prompts are "
            f"no near-duplicates but {spec['rows']} are needed; raise prompts.surplus"
        )
    first, energy = spec["first"], energy_of(cost) / spec["rows"]
    return [
        {
            "id": f"{spec['split']}-{first + number:07d}",
            "row": first + number,
            "prompt": row["prompt"],
            "context": row["context"],
            "reference": row["response"],
            "prompt_flops": cost["flops"] / spec["rows"],
            "prompt_seconds": cost["seconds"] / spec["rows"],
            **energy.columns("prompt_"),
        }
        for number, row in enumerate(kept[: spec["rows"]])
    ]


def nearest_pairs(
    test: Sequence[dict[str, Any]], train: Sequence[dict[str, Any]], threshold: float
) -> dict[str, Any]:
    """Exact check of the filter: the similarity of every test prompt to every training prompt.

    Returns:
        Counts, the threshold, the worst similarity found and the pairs at or above the threshold.
    """
    grams = [shingles(_text(row)) for row in test]
    holders: dict[str, list[int]] = defaultdict(list)
    for number, own in enumerate(grams):
        for gram in own:
            holders[gram].append(number)
    worst, pairs = 0.0, []
    for row in train:
        other = shingles(_text(row))
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
