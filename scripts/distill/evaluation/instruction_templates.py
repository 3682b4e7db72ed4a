"""Templates of verifiable instructions: a maker of requests for each type of constraint.

The types and their arguments are those of IFEval (Zhou 2023).
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

_TOPICS: tuple[tuple[str, tuple[str, str, str]], ...] = (
    ("a rainy day", ("umbrella", "puddle", "cloud")),
    ("a morning market", ("fruit", "stall", "basket")),
    ("an old bicycle", ("wheel", "chain", "road")),
    ("a train journey", ("window", "station", "ticket")),
    ("homemade bread", ("flour", "oven", "crust")),
    ("a quiet library", ("book", "shelf", "reader")),
    ("a garden in spring", ("flower", "seed", "bee")),
    ("a busy kitchen", ("pan", "spoon", "soup")),
    ("a walk on the beach", ("sand", "wave", "shell")),
    ("a mountain village", ("snow", "valley", "goat")),
    ("the night sky", ("star", "moon", "dark")),
    ("a football match", ("ball", "goal", "team")),
    ("a new puppy", ("tail", "bone", "play")),
    ("a lazy cat", ("sofa", "whisker", "nap")),
    ("a school trip", ("bus", "teacher", "map")),
    ("a music lesson", ("piano", "song", "note")),
    ("a cup of coffee", ("bean", "milk", "mug")),
    ("a small farm", ("cow", "barn", "field")),
    ("a camping weekend", ("tent", "fire", "lake")),
    ("a birthday cake", ("candle", "sugar", "party")),
    ("a winter evening", ("blanket", "snow", "tea")),
    ("a broken watch", ("time", "glass", "repair")),
    ("a visit to the dentist", ("tooth", "chair", "brush")),
    ("a long letter", ("paper", "pen", "stamp")),
    ("a crowded bus", ("seat", "driver", "street")),
    ("a chess game", ("king", "board", "move")),
    ("a fishing boat", ("net", "harbour", "fish")),
    ("an apple tree", ("branch", "leaf", "orchard")),
    ("a city park", ("bench", "pond", "grass")),
    ("a science class", ("magnet", "test", "lamp")),
    ("a family dinner", ("table", "plate", "story")),
    ("a paper kite", ("wind", "string", "hill")),
    ("a morning run", ("shoe", "breath", "path")),
    ("an empty theatre", ("stage", "curtain", "light")),
    ("a computer game", ("level", "screen", "score")),
    ("a pair of gloves", ("wool", "hand", "cold")),
    ("a honey shop", ("jar", "sweet", "bee")),
    ("a wooden bridge", ("river", "plank", "rope")),
    ("a neighbourhood bakery", ("cake", "counter", "smell")),
    ("a painting class", ("colour", "canvas", "brush")),
    ("a summer storm", ("thunder", "roof", "flash")),
    ("a lost umbrella", ("rain", "train", "handle")),
    ("a job interview", ("question", "desk", "smile")),
    ("a swimming pool", ("water", "towel", "dive")),
    ("a hot air balloon", ("basket", "sky", "flame")),
    ("a vegetable soup", ("carrot", "onion", "bowl")),
    ("a toy shop", ("doll", "puzzle", "shelf")),
    ("a weekend in the city", ("museum", "street", "hotel")),
    ("a trip to the moon", ("rocket", "crater", "helmet")),
    ("a friendly robot", ("metal", "button", "voice")),
)
_REQUESTS = (
    "Write a short text about {topic}.",
    "Tell me about {topic}.",
    "Describe {topic} to a friend.",
    "Write something cheerful about {topic}.",
    "What would you say to a child about {topic}?",
    "Share a thought about {topic}.",
)
_QUESTIONS = (
    "Is water wet?",
    "Can penguins fly?",
    "Is a tomato a fruit?",
    "Do cats like milk?",
    "Is seven an even number?",
    "Does the sun rise in the east?",
    "Is chess harder than draughts?",
    "Should children learn to cook?",
    "Is Berlin in Spain?",
    "Can a person live without sleep?",
    "Is a whale a fish?",
    "Do trees need light?",
    "Will it snow next week?",
    "Is ice colder than steam?",
    "Do spiders have eight legs?",
    "Is a week longer than a month?",
    "Is breakfast the best meal of the day?",
    "Can dogs smell better than people?",
    "Is gold heavier than wood?",
    "Should everyone learn to swim?",
    "Is Africa a continent?",
    "Do all birds lay eggs?",
    "Is it good to read before bed?",
    "Are bananas blue?",
    "Is a bicycle faster than a plane?",
    "Do fish breathe air?",
    "Is Monday the day after Sunday?",
    "Can you hear sound in space?",
    "Is honey sweet?",
    "Are there ten months in a year?",
    "Is walking healthy?",
    "Do robots have feelings?",
    "Is the moon made of cheese?",
    "Would you like to live on a boat?",
    "Is a square round?",
    "Should shops open on Sunday?",
    "Is tea better than coffee?",
    "Does milk come from cows?",
    "Is winter warmer than summer?",
    "Can plants grow in sand?",
)
_COMMON_WORDS = ("the", "and", "is", "a", "of", "to", "in", "it")
_FIRST_WORDS = ("today", "sometimes", "maybe", "many", "there", "people", "once", "also")
_END_PHRASES = (
    "Any other questions?",
    "Is there anything else I can help with?",
    "That is all I know.",
    "Thank you for reading.",
    "What do you think?",
    "Let me know if you agree.",
)
_LANGUAGES = {
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "it": "Italian",
    "pt": "Portuguese",
}
_Constraint = tuple[str, dict[str, Any]]
_Maker = Callable[[random.Random], _Constraint]


def _topic(rng: random.Random) -> tuple[str, tuple[str, str, str]]:
    topic, words = rng.choice(_TOPICS)
    return rng.choice(_REQUESTS).format(topic=topic), words


def _plain(*texts: str) -> _Maker:
    """A constraint without arguments, worded in one of several ways."""

    def make(rng: random.Random) -> _Constraint:
        request, _ = _topic(rng)
        return f"{request} {rng.choice(texts)}", {}

    return make


def _choosing(argument: str, values: Sequence[Any], *texts: str) -> _Maker:
    """A constraint with one argument, which is drawn from `values` and stands in every wording."""

    def make(rng: random.Random) -> _Constraint:
        request, _ = _topic(rng)
        value = rng.choice(values)
        return f"{request} {rng.choice(texts).format(value)}", {argument: value}

    return make


def _relation(rng: random.Random, at_least: Sequence[int], less: Sequence[int]) -> tuple[str, int]:
    """Draw "at least" two times out of three, for a constant answer meets "less than" too often."""
    if rng.random() < 2 / 3:
        return "at least", rng.choice(at_least)
    return "less than", rng.choice(less)


def _existence(rng: random.Random) -> _Constraint:
    request, words = _topic(rng)
    keywords = rng.sample(words, rng.choice((1, 2, 3)))
    listed = " and ".join(keywords)
    text = rng.choice(("Include the keywords {} in the response.", "Your answer must mention {}."))
    if len(keywords) == 1:
        text = text.replace("keywords", "keyword")
    return f"{request} {text.format(listed)}", {"keywords": keywords}


def _frequency(rng: random.Random) -> _Constraint:
    request, words = _topic(rng)
    keyword = rng.choice(words)
    relation, frequency = _relation(rng, (2, 3, 4), (2, 3))
    text = rng.choice(
        (
            "In your response, the word {} should appear {} {} times.",
            "Use the word {} {} {} times.",
        )
    )
    return (
        f"{request} {text.format(keyword, relation, frequency)}",
        {"keyword": keyword, "frequency": frequency, "relation": relation},
    )


def _forbidden(rng: random.Random) -> _Constraint:
    request, words = _topic(rng)
    pool: Sequence[str] = words if rng.random() < 0.4 else _COMMON_WORDS
    forbidden = rng.sample(pool, 2)
    text = rng.choice(
        (
            "Do not include the keywords {} and {} in the response.",
            "Do not use the words {} and {} anywhere.",
        )
    )
    return f"{request} {text.format(*forbidden)}", {"forbidden_words": forbidden}


def _letter(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    relation, frequency = _relation(rng, (3, 4, 5, 6), (2, 3, 4))
    letter = rng.choice("bcfghkmpvwyz" if relation == "at least" else "aeiost")
    text = "In your response, the letter {} should appear {} {} times."
    return (
        f"{request} {text.format(letter, relation, frequency)}",
        {"letter": letter, "let_frequency": frequency, "let_relation": relation},
    )


def _language(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    code = rng.choice(tuple(_LANGUAGES))
    text = rng.choice(
        (
            "Your entire response should be in {}, no other language is allowed.",
            "Answer only in {}.",
        )
    )
    return f"{request} {text.format(_LANGUAGES[code])}", {"language": code}


_paragraphs = _choosing(
    "num_paragraphs",
    (2, 3, 4),
    "There should be {} paragraphs. Paragraphs are separated with the markdown divider: ***",
    "Write exactly {} short paragraphs and separate them with the markdown divider: ***",
)


def _words(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    relation, count = _relation(rng, (12, 15, 20, 25, 30, 35, 40), (4, 6, 8, 10, 15, 20))
    text = rng.choice(("Answer with {} {} words.", "Your response should contain {} {} words."))
    return f"{request} {text.format(relation, count)}", {"num_words": count, "relation": relation}


def _first_word(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    count = rng.choice((2, 3))
    nth = rng.randint(1, count)
    word = rng.choice(_FIRST_WORDS)
    text = (
        f"There should be {count} paragraphs, separated with each other by a blank line. "
        f"Paragraph {nth} must start with the word {word}."
    )
    return (
        f"{request} {text}",
        {"num_paragraphs": count, "nth_paragraph": nth, "first_word": word},
    )


def _placeholders(rng: random.Random) -> _Constraint:
    topic, _ = rng.choice(_TOPICS)
    count = rng.choice((2, 3, 4))
    request = rng.choice(
        (
            "Write a short email template about {}.",
            "Draft a short message about {}.",
            "Write an advert about {} that others can fill in.",
        )
    ).format(topic)
    text = (
        f"The response must contain at least {count} placeholders represented by square brackets, "
        "such as [address]."
    )
    return f"{request} {text}", {"num_placeholders": count}


_postscript = _choosing(
    "postscript_marker",
    ("P.S.", "P.P.S"),
    "At the end of your response, please explicitly add a postscript starting with {}",
    "Close with a postscript that starts with {}",
)
_bullets = _choosing(
    "num_bullets",
    (2, 3, 4, 5),
    "Your answer must contain exactly {} bullet points. Use markdown bullet points such "
    "as:\n* This is point 1.",
    "Answer as a markdown list with exactly {} bullet points, such as:\n* This is a point.",
)


def _constrained(rng: random.Random) -> _Constraint:
    question = rng.choice(_QUESTIONS)
    options = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
    text = rng.choice(
        (
            "Answer with one of the following options: {}",
            "Reply with exactly one of these sentences: {}",
            "Choose one of these options as your answer: {}",
        )
    )
    return f"{question} {text.format(' / '.join(options))}", {}


def _highlights(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    count = rng.choice((1, 2, 3, 4))
    sections = "section" if count == 1 else "sections"
    text = (
        f"Highlight at least {count} {sections} in your answer with markdown, "
        "i.e. *highlighted section*."
    )
    return f"{request} {text}", {"num_highlights": count}


def _sections(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    count = rng.choice((2, 3))
    splitter = rng.choice(("Section", "SECTION", "Part", "Step"))
    text = (
        f"Your response must have {count} sections. Mark the beginning of each section with "
        f"{splitter} X, such as {splitter} 1."
    )
    return f"{request} {text}", {"section_spliter": splitter, "num_sections": count}


_json = _plain(
    "The entire output should be wrapped in JSON format.",
    "Wrap your entire output in JSON format. You can use markdown ticks such as ```.",
)
_title = _plain(
    "Your answer must contain a title, wrapped in double angular brackets, such as "
    "<<poem of joy>>.",
    "Give your answer a title in double angular brackets, such as <<my title>>.",
)
_two_responses = _plain(
    "Give two different responses. Responses and only responses should be separated by "
    "6 asterisk symbols: ******",
    "Give two different short answers, separated by 6 asterisk symbols: ******",
)


def _repeat(rng: random.Random) -> _Constraint:
    request, _ = _topic(rng)
    text = rng.choice(
        (
            "First repeat the request word for word without change, then give your answer (do "
            "not say anything before repeating the request; the request you need to repeat does "
            "not include this sentence).",
            "Begin your reply by repeating the sentence above word for word, then answer it.",
        )
    )
    return f"{request} {text}", {"prompt_to_repeat": request}


_end = _choosing(
    "end_phrase",
    _END_PHRASES,
    'Finish your response with this exact phrase: "{}" No other words should follow it.',
    'The very last words of your answer must be "{}"',
)
_capital = _plain(
    "Your entire response should be in English, and in all capital letters.",
    "Answer in English and use capital letters only.",
)
_lowercase = _plain(
    "Your entire response should be in English, and in all lowercase letters. No capital "
    "letters are allowed.",
    "Answer in English and use lowercase letters only.",
)


def _no_comma(rng: random.Random) -> _Constraint:
    topic, _ = rng.choice(_TOPICS)
    request = rng.choice((*_REQUESTS, "Name three things that you find in {topic}."))
    text = rng.choice(
        (
            "In your entire response, refrain from the use of any commas.",
            "Do not use any commas.",
        )
    )
    return f"{request.format(topic=topic)} {text}", {}


_quotation = _plain(
    "Wrap your entire response with double quotation marks.",
    "Put your whole answer between double quotation marks.",
)
MAKERS: dict[str, _Maker] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letter,
    "language:response_language": _language,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat,
    "startend:end_checker": _end,
    "change_case:english_capital": _capital,
    "change_case:english_lowercase": _lowercase,
    "punctuation:no_comma": _no_comma,
    "startend:quotation": _quotation,
}
"""What draws a request and its constraint's arguments, for every type in use."""
INSTRUCTION_TYPES: tuple[str, ...] = tuple(MAKERS)
"""The 23 of IFEval's 25 types that are in use; the other two need NLTK data."""
