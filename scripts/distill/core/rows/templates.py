"""Rows built from templates: prompts of a few kinds with words filled in, and their checks."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any

from distill.core.errors import UserError

MOST_COMBINATIONS = 100_000
"""Rows of a source without `rows`."""
_SLOT = re.compile(r"\{([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?\}")
Words = Mapping[str, Sequence[str | Mapping[str, str]]]
"""Per slot its words; a word of several forms is a mapping."""


def _texts(value: Any) -> Iterator[str]:
    """All texts inside nested lists and mappings, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from chain(*map(_texts, value), *map(_texts, value.values()))
    elif isinstance(value, (list, tuple)):
        yield from chain(*map(_texts, value))


def slots_in(value: Any) -> dict[str, set[str]]:
    """The slots of texts inside nested values, in order, each with the forms that it is used in."""
    slots: dict[str, set[str]] = {}
    for text in _texts(value):
        for slot, form in _SLOT.findall(text):
            slots.setdefault(slot, set()).add(form)
    return slots


def fill(value: Any, words: Mapping[str, str | Mapping[str, str]]) -> Any:
    """Nested texts with each slot replaced by its word; other values stay."""

    def word(match: re.Match[str]) -> str:
        slot, form = match.groups()
        entry = words.get(slot)
        if entry is None:
            return match.group()
        return entry if isinstance(entry, str) else entry[form]

    if isinstance(value, str):
        return _SLOT.sub(word, value)
    if isinstance(value, Mapping):
        return {fill(key, words): fill(part, words) for key, part in value.items()}
    return [fill(part, words) for part in value] if isinstance(value, (list, tuple)) else value


def template_fault(prompt: str, checks: Any, slots: Words) -> str | None:
    """What is wrong with a template, or None: a slot without words, or a form that a word lacks."""
    asked = slots_in(prompt)
    for slot, forms in slots_in([prompt, checks]).items():
        if slot not in slots:
            return f"{{{slot}}} is not one of the slots ({', '.join(slots) or 'there are none'})"
        if slot not in asked:
            return f"{{{slot}}} is in its checks but not in the prompt"
        for word in slots[slot]:
            has = {""} if isinstance(word, str) else set(word)
            if lacking := sorted(forms - has):
                name = f"{{{slot}.{lacking[0]}}}" if lacking[0] else f"{{{slot}}}"
                shown = word if isinstance(word, str) else ", ".join(word)
                return f"{name} has no word in slots.{slot}: {shown!r}"
    return None


def combinations(prompts: Sequence[str], slots: Words) -> list[int]:
    """Number of different fillings of each prompt."""
    return [prod(len(slots[slot]) for slot in slots_in(prompt)) for prompt in prompts]


def count_rows(prompts: Sequence[str], slots: Words, rows: int | None) -> int:
    """Rows of a source of templates: `rows`, or all combinations."""
    return sum(combinations(prompts, slots)) if rows is None else rows


def _shares(most: Sequence[int], rows: int) -> list[int]:
    """Rows of each template: as even as the numbers of combinations allow."""
    shares, left = [0] * len(most), rows
    while left:
        open_ones = [place for place, count in enumerate(most) if shares[place] < count]
        each, more = divmod(left, len(open_ones))
        for turn, place in enumerate(open_ones):
            given = min(each + (turn < more), most[place] - shares[place])
            shares[place] += given
            left -= given
    return shares


def template_rows(
    templates: Sequence[Mapping[str, Any]], slots: Words, rows: int | None, seed: int
) -> Iterator[dict[str, Any]]:
    """Distinct prompts with their checks, drawn without replacement, templates in turn.

    Args:
        templates: Each with `prompt` and perhaps `checks`, nested values with slots.
        slots: Words of each slot.
        rows: Number of rows, at most all combinations; None for all.
        seed: Of the draw.

    Yields:
        prompt, and checks or None.

    Raises:
        UserError: Two templates or two words make the same prompt.
    """
    prompts = [str(template["prompt"]) for template in templates]
    most = combinations(prompts, slots)
    shares = _shares(most, count_rows(prompts, slots, rows))
    draws = [
        random.Random(f"{seed}:{place}").sample(range(count), share)
        for place, (count, share) in enumerate(zip(most, shares, strict=True))
    ]
    seen = set[str]()
    for turn in range(max(shares, default=0)):
        for place, draw in enumerate(draws):
            if turn >= len(draw):
                continue
            words = _words(draw[turn], prompts[place], slots)
            prompt = fill(prompts[place], words)
            if prompt in seen:
                raise UserError(
                    f"two templates or two words of a slot make the same prompt, {prompt!r}; "
                    "remove one of them"
                )
            seen.add(prompt)
            yield {"prompt": prompt, "checks": fill(templates[place].get("checks"), words)}


def _words(number: int, prompt: str, slots: Words) -> dict[str, str | Mapping[str, str]]:
    """The words of one combination, by its number in mixed radix."""
    words = {}
    for slot in slots_in(prompt):
        number, place = divmod(number, len(slots[slot]))
        words[slot] = slots[slot][place]
    return words
