"""Responses that meet, and responses that violate, the constraints of an instruction."""

import math
from typing import Any

from distill.evaluation.instructions import Instruction, check_response

MOST_TOKENS = 96

BASES = (
    "it was a calm day and we had a good time with old friends",
    "we sat by our old wall and had fun all day",
    "many people like this because they find joy with friends",
    "go up",
    "run by",
    "bus up",
    "we like it",
    "i saw a hill",
)

SENTENCES = {
    "es": "Me gusta mucho este lugar porque siempre encuentro algo bonito que hacer.",
    "fr": "J'aime beaucoup cet endroit parce que je trouve toujours quelque chose de beau.",
    "de": "Ich mag diesen Ort sehr, weil ich dort immer etwas Schönes finde.",
    "it": "Mi piace molto questo posto perché trovo sempre qualcosa di bello da fare.",
    "pt": "Eu gosto muito deste lugar porque sempre encontro alguma coisa bonita para fazer.",
}


def estimated_tokens(text: str) -> int:
    """The stricter of three characters per token and two words per three tokens."""
    return math.ceil(max(len(text) / 3, 1.5 * len(text.split())))


def _meet(kind: str, kwargs: dict[str, Any], text: str) -> str:
    """Turn `text`, which is lowercase English without commas, into one that meets `kind`."""
    match kind:
        case "keywords:existence":
            return " ".join([text, *kwargs["keywords"]])
        case "keywords:frequency" if kwargs["relation"] == "at least":
            return " ".join([text] + [kwargs["keyword"]] * kwargs["frequency"])
        case "keywords:letter_frequency" if kwargs["let_relation"] == "at least":
            return " ".join([text] + [kwargs["letter"]] * kwargs["let_frequency"])
        case "keywords:frequency" | "keywords:letter_frequency" | "keywords:forbidden_words":
            return text
        case "language:response_language":
            return SENTENCES[kwargs["language"]]
        case "length_constraints:number_paragraphs":
            return "\n***\n".join([text] * kwargs["num_paragraphs"])
        case "length_constraints:number_words":
            words = text.split()
            if kwargs["relation"] == "less than":
                return " ".join(words[: kwargs["num_words"] - 1])
            return " ".join((words * kwargs["num_words"])[: max(kwargs["num_words"], len(words))])
        case "length_constraints:nth_paragraph_first_word":
            paragraphs = [text] * kwargs["num_paragraphs"]
            paragraphs[kwargs["nth_paragraph"] - 1] = f"{kwargs['first_word']} {text}"
            return "\n\n".join(paragraphs)
        case "detectable_content:number_placeholders":
            return " ".join([text] + ["[name]"] * kwargs["num_placeholders"])
        case "detectable_content:postscript":
            return f"{text}\n{kwargs['postscript_marker']} {text}"
        case "detectable_format:number_bullet_lists":
            return "\n".join(["* we like it"] * kwargs["num_bullets"])
        case "detectable_format:constrained_response":
            return "My answer is maybe."
        case "detectable_format:number_highlighted_sections":
            return " ".join([text] + ["*good*"] * kwargs["num_highlights"])
        case "detectable_format:multiple_sections":
            count, splitter = kwargs["num_sections"], kwargs["section_spliter"]
            return "\n".join(f"{splitter} {n}\nwe like it" for n in range(1, count + 1))
        case "detectable_format:json_format":
            return f'{{"answer": "{text}"}}'
        case "detectable_format:title":
            return f"<<a title>>\n{text}"
        case "combination:two_responses":
            return f"{text}\n******\nnot so much"
        case "combination:repeat_prompt":
            return f"{kwargs['prompt_to_repeat']} {text}"
        case "startend:end_checker":
            return f"{text}. {kwargs['end_phrase']}"
        case "change_case:english_capital":
            return text.upper()
        case "change_case:english_lowercase" | "punctuation:no_comma":
            return text
        case "startend:quotation":
            return f'"{text}"'
    raise AssertionError(f"no witness for {kind}")


def witness(instruction: Instruction) -> str:
    """A response that meets every constraint of `instruction`."""
    for text in BASES:
        for kind, kwargs in zip(instruction.instruction_id_list, instruction.kwargs, strict=True):
            text = _meet(kind, kwargs, text)
        if estimated_tokens(text) <= MOST_TOKENS and check_response(instruction, text):
            return text
    raise AssertionError(f"no witness for {instruction}")


def violation(kind: str, kwargs: dict[str, Any]) -> str:
    """A response in which one constraint fails by the least amount, where that has a sense."""
    plain = "Nothing of the kind can be said, as far as we know."
    match kind:
        case "keywords:existence":
            return " ".join(kwargs["keywords"][1:]) or "Nothing."
        case "keywords:frequency":
            missing = 1 if kwargs["relation"] == "at least" else 0
            return "x " + " ".join([kwargs["keyword"]] * (kwargs["frequency"] - missing))
        case "keywords:letter_frequency":
            missing = 1 if kwargs["let_relation"] == "at least" else 0
            return "5 " + kwargs["letter"].upper() * (kwargs["let_frequency"] - missing)
        case "keywords:forbidden_words":
            return f"Well, {kwargs['forbidden_words'][-1].upper()}."
        case "length_constraints:number_paragraphs":
            return " *** ".join(["some text"] * (kwargs["num_paragraphs"] + 1))
        case "length_constraints:number_words":
            missing = 1 if kwargs["relation"] == "at least" else 0
            return " ".join(["word"] * (kwargs["num_words"] - missing))
        case "length_constraints:nth_paragraph_first_word":
            return "\n\n".join(["other text"] * kwargs["num_paragraphs"])
        case "detectable_content:number_placeholders":
            return "x " + " ".join(["[name]"] * (kwargs["num_placeholders"] - 1))
        case "detectable_format:number_bullet_lists":
            return "\n".join(["* some text"] * (kwargs["num_bullets"] + 1))
        case "detectable_format:number_highlighted_sections":
            return "x " + " ".join(["*good*"] * (kwargs["num_highlights"] - 1))
        case "detectable_format:multiple_sections":
            count, splitter = kwargs["num_sections"], kwargs["section_spliter"]
            return "\n".join(f"{splitter} {n}\nsome text" for n in range(1, count))
        case "combination:two_responses":
            return f"{plain}\n******\n{plain}"
        case "combination:repeat_prompt":
            return f"Sure. {kwargs['prompt_to_repeat']}"
        case "startend:end_checker":
            return f"{kwargs['end_phrase']} And more."
        case "startend:quotation":
            return f'"{plain}'
        case "change_case:english_lowercase":
            return "we like it very much and I do too"
    if kind in PLAIN_VIOLATES:
        return plain
    raise AssertionError(f"no violation for {kind}")


PLAIN_VIOLATES = frozenset(
    {
        "language:response_language",
        "detectable_content:postscript",
        "detectable_format:constrained_response",
        "detectable_format:json_format",
        "detectable_format:title",
        "change_case:english_capital",
        "punctuation:no_comma",
    }
)
