"""Checks of hyper-parameter searches."""

from pydantic import BaseModel

from distill.config.checks.learning import live_problems, soft_problems
from distill.config.checks.soundness import EVERY_WORD
from distill.config.study import Study
from distill.config.training import Search
from distill.config.values import MOST_ROWS
from distill.core.display import short_name


def search_problems(study: Study, name: str, search: Search) -> list[str]:
    """Report why a search cannot run; `name` is its name in the config."""
    where, problems = f"searches.{name}", list[str]()
    method = study.methods[search.method]
    if method.search:
        return [f"{where}.method: {search.method} is itself the result of a search; name another"]
    if (reads := method.reads_cache) != (search.cache is not None):
        verb = "needs soft targets; name a cache" if reads else "reads no cache; remove it"
        problems.append(f"{where}.cache: the method {search.method} {verb}")
    elif search.cache is not None:
        problems += soft_problems(study, search.teacher, method, search.method, search.cache)
    problems += live_problems(study, [search.teacher], [search.student], method, search.method)
    limit = study.rows.pool
    if search.draw:
        limit = study.rows.draw_pool or limit
    if search.draw and limit > MOST_ROWS:
        section = "prompts" if study.corpus is None else "corpus"
        problems.append(
            f"{where}.draw: draws above 0 permute at most {MOST_ROWS} rows; set {section}.draw_pool"
        )
    if search.samples > limit and method.corpus is None:
        problems.append(
            f"{where}.samples: {search.samples} is larger than the pool of {limit} prompts"
        )
    if not study.rows.validation:
        problems.append(f"{where}: a search needs prompts.validation, e.g. 100 held-out prompts")
    if "method.spans" in search.space and not method.spans:
        problems.append(
            f"{where}.space: method.spans is varied, but methods.{search.method} does not use spans; "
            "give it a weight above 0 there"
        )
    every_word = search.cache is None or study.caches[search.cache].scheme in EVERY_WORD
    if "method.temperature" in search.space and not every_word:
        problems.append(
            f"{where}.space: method.temperature varies, but caches.{search.cache} supports fixed "
            "temperatures only; use a cache with scheme final_hidden"
        )
    for key in search.space:
        section, _, setting = key.partition(".")
        options = {"method": method, "train": study.train}.get(section)
        fixed = key == "method.corpus_tokens"  # the shard is cut before the search begins
        value = (
            None if fixed or setting not in _keys_of(options) else getattr(options, setting, None)
        )
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            problems.append(
                f"{where}.space: {short_name(key)} is not a numeric setting; use method.<key> or train.<key>, such "
                "as method.forward_kl or train.learning_rate"
            )
    return problems


def _keys_of(section: BaseModel | None) -> list[str]:
    return [] if section is None else list(type(section).model_fields)
