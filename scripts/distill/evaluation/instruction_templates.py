"""Templates of verifiable instructions: one generator of requests per type of constraint.

The types and their arguments are those of IFEval (Zhou 2023). Topics and wordings are in
`instruction_wordings.json`.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.core.files import read_json

WORDINGS_PATH = Path(__file__).with_name("instruction_wordings.json")
"""The file of topics and wordings."""
_TEXTS: dict[str, Any] = read_json(WORDINGS_PATH)
_TOPICS: list[tuple[str, list[str]]] = list(_TEXTS["topics"].items())
_Constraint = tuple[str, dict[str, Any]]
_Maker = Callable[[random.Random], _Constraint]


def _topic(rng: random.Random) -> tuple[str, list[str]]:
    """A request about a topic, and three words that go with the topic."""
    topic, words = rng.choice(_TOPICS)
    request: str = rng.choice(_TEXTS["requests"]).format(topic=topic)
    return request, words


def _wording(rng: random.Random, kind: str) -> str:
    """One of the wordings of a constraint; no draw if there is only one."""
    texts: str | list[str] = _TEXTS["constraints"][kind]
    return texts if isinstance(texts, str) else rng.choice(texts)


def _plain(kind: str) -> _Maker:
    """A constraint without arguments."""

    def make(rng: random.Random) -> _Constraint:
        request, _ = _topic(rng)
        return f"{request} {_wording(rng, kind)}", {}

    return make


def _choosing(kind: str, argument: str, values: Sequence[Any]) -> _Maker:
    """A constraint with one argument, drawn from `values` and present in every wording."""

    def make(rng: random.Random) -> _Constraint:
        request, _ = _topic(rng)
        value = rng.choice(values)
        return f"{request} {_wording(rng, kind).format(value)}", {argument: value}

    return make


def _relation(rng: random.Random, at_least: Sequence[int], less: Sequence[int]) -> tuple[str, int]:
    """Draw "at least" two times out of three, as a constant answer often meets "less than"."""
    if rng.random() < 2 / 3:
        return "at least", rng.choice(at_least)
    return "less than", rng.choice(less)


def _existence(rng: random.Random) -> _Constraint:
    request, words = _topic(rng)
    keywords = rng.sample(words, rng.choice((1, 2, 3)))
    text = _wording(rng, "keywords:existence")
    if len(keywords) == 1:
        text = text.replace("keywords", "keyword")
    return f"{request} {text.format(' and '.join(keywords))}", {"keywords": keywords}


def _frequency(rng: random.Random) -> _Constraint:
    request, words = _topic(rng)
    keyword = rng.choice(words)
    relation, frequency = _relation(rng, (2, 3, 4), (2, 3))
    text = _wording(rng, "keywords:frequency").format(keyword, relation, frequency)
    values = {"keyword": keyword, "frequency": frequency, "relation": relation}
    return f"{request} {text}", values


def _forbidden(rng: random.Random) -> _Constraint:
    request, words = _topic(rng)
    pool = words if rng.random() < 0.4 else _TEXTS["common_words"]
    forbidden = rng.sample(pool, 2)
    text = _wording(rng, "keywords:forbidden_words").format(*forbidden)
    return f"{request} {text}", {"forbidden_words": forbidden}


def _letter(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    relation, frequency = _relation(rng, (3, 4, 5, 6), (2, 3, 4))
    letter = rng.choice("bcfghkmpvwyz" if relation == "at least" else "aeiost")
    text = _wording(rng, "keywords:letter_frequency").format(letter, relation, frequency)
    values = {"letter": letter, "let_frequency": frequency, "let_relation": relation}
    return f"{request} {text}", values


def _language(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    code = rng.choice(tuple(_TEXTS["languages"]))
    text = _wording(rng, "language:response_language").format(_TEXTS["languages"][code])
    return f"{request} {text}", {"language": code}


def _words(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    relation, count = _relation(rng, (12, 15, 20, 25, 30, 35, 40), (4, 6, 8, 10, 15, 20))
    text = _wording(rng, "length_constraints:number_words").format(relation, count)
    return f"{request} {text}", {"num_words": count, "relation": relation}


def _first_word(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    count = rng.choice((2, 3))
    nth = rng.randint(1, count)
    word = rng.choice(_TEXTS["first_words"])
    text = _wording(rng, "length_constraints:nth_paragraph_first_word").format(count, nth, word)
    values = {"num_paragraphs": count, "nth_paragraph": nth, "first_word": word}
    return f"{request} {text}", values


def _placeholders(rng: random.Random) -> _Constraint:
    topic, _ = rng.choice(_TOPICS)
    count = rng.choice((2, 3, 4))
    request = rng.choice(_TEXTS["template_requests"]).format(topic)
    text = _wording(rng, "detectable_content:number_placeholders").format(count)
    return f"{request} {text}", {"num_placeholders": count}


def _constrained(rng: random.Random) -> _Constraint:
    question = rng.choice(_TEXTS["questions"])
    options = " / ".join(_TEXTS["options"])
    text = _wording(rng, "detectable_format:constrained_response").format(options)
    return f"{question} {text}", {}


def _highlights(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    count = rng.choice((1, 2, 3, 4))
    sections = "section" if count == 1 else "sections"
    kind = "detectable_format:number_highlighted_sections"
    return f"{request} {_wording(rng, kind).format(count, sections)}", {"num_highlights": count}


def _sections(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    count = rng.choice((2, 3))
    name = rng.choice(_TEXTS["section_names"])
    text = _wording(rng, "detectable_format:multiple_sections").format(count, name, name)
    return f"{request} {text}", {"section_spliter": name, "num_sections": count}


def _repeat(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    text = _wording(rng, "combination:repeat_prompt")
    return f"{request} {text}", {"prompt_to_repeat": request}


def _no_comma(rng: random.Random) -> _Constraint:
    topic, _ = rng.choice(_TOPICS)
    request = rng.choice((*_TEXTS["requests"], _TEXTS["list_request"])).format(topic=topic)
    return f"{request} {_wording(rng, 'punctuation:no_comma')}", {}


_WITH_ONE_VALUE: dict[str, tuple[str, Sequence[Any]]] = {
    "length_constraints:number_paragraphs": ("num_paragraphs", (2, 3, 4)),
    "detectable_content:postscript": ("postscript_marker", _TEXTS["postscripts"]),
    "detectable_format:number_bullet_lists": ("num_bullets", (2, 3, 4, 5)),
    "startend:end_checker": ("end_phrase", _TEXTS["end_phrases"]),
}
_WITH_VALUES: dict[str, _Maker] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letter,
    "language:response_language": _language,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "combination:repeat_prompt": _repeat,
    "punctuation:no_comma": _no_comma,
}


def _maker(kind: str) -> _Maker:
    if kind in _WITH_ONE_VALUE:
        return _choosing(kind, *_WITH_ONE_VALUE[kind])
    return _WITH_VALUES.get(kind) or _plain(kind)


MAKERS: dict[str, _Maker] = {kind: _maker(kind) for kind in _TEXTS["constraints"]}
"""What draws a request and its constraint's arguments, for every type in use."""
INSTRUCTION_TYPES: tuple[str, ...] = tuple(MAKERS)
"""The 23 of IFEval's 25 types that are in use; the other two need NLTK data."""
