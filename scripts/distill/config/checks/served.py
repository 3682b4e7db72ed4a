"""Checks of served teachers: caches that their servers cannot fill, and ambiguous model names."""

from distill.config.methods import Cache
from distill.config.server import GIVES_IDS, Server
from distill.config.study import Study


def not_served(server: Server, cache: Cache) -> str | None:
    """Why a server's log-probabilities cannot fill a cache, with the remedy; None if they can.

    A server returns the most likely tokens of each answer position at temperature 1. It does not
    return normalisers of other temperatures, the prompt's positions or hidden states.
    """
    most = server.top_logprobs - 1
    if most < 1:
        return f"the teacher's server returns text only; set server.top_logprobs (software {' or '.join(GIVES_IDS)}), or give the teacher a source that scores its text"
    if cache.scheme not in ("top_k", "top_k_tail"):
        return f"a server returns only its most likely tokens; use scheme top_k_tail or top_k, not {cache.scheme}, or give the teacher a source that scores its text"
    if cache.k is None or cache.k > most:
        return f"k is {cache.k}, but only {most} of server.top_logprobs: {server.top_logprobs} are certain to be the most likely tokens; lower k or raise top_logprobs"
    settings = {
        "temperatures": cache.temperatures,
        "teachers": cache.teachers,
        "hidden": cache.hidden,
        "tokens: all": cache.tokens == "all",
    }
    for key, value in settings.items():
        if value:
            return f"{key} needs a local model, not a server; remove it, or give the teacher a source that scores its text"
    return None


def served_twice(study: Study) -> list[str]:
    """Report models with the same name at several addresses: the workflow would mix their text."""
    teachers: dict[tuple[str, str | None], tuple[str, str]] = {}
    problems = []
    for name, teacher in study.teachers.items():
        if teacher.server is None:
            continue
        key = teacher.server.model, teacher.server.revision
        first, url = teachers.setdefault(key, (name, teacher.server.url))
        if url != teacher.server.url:
            problems.append(
                f"teachers.{name}.server.model: teacher {first} has the same model {teacher.server.model!r} at another address, and text does not depend on addresses; give one of them a revision, or both the same url"
            )
    return problems
