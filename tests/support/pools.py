"""The pool of a plan, as what it is."""

from distill.plan.corpus import CorpusPool
from distill.plan.prompts import PromptPool
from distill.plan.study import Plan


def prompts_of(plan: Plan) -> PromptPool:
    """The prompts of a study that asks some."""
    assert isinstance(plan.pool, PromptPool)
    return plan.pool


def corpus_of(plan: Plan) -> CorpusPool:
    """The corpus of a study that learns one."""
    assert isinstance(plan.pool, CorpusPool)
    return plan.pool
