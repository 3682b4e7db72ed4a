"""The figures that a study may have, and the traits that it needs for each.

A figure is its line here, the module `distill.figures.<name>` and the caption `report/<name>.rst`.
Rules, report and tests read this table; `distill.plan.figures` derives a study's traits.
"""

from collections.abc import Collection

TRAITS = {
    "runs": "the study trains students, rather than reading your own table",
    "prompts": "models answer prompts",
    "gap": "the gap to a teacher is measured: its distribution or its loss is known",
    "teacher_size": "the number of parameters of a teacher is known",
    "teacher_work": "a teacher generates text or soft targets, whose FLOPs are counted",
    "caches": "runs that differ only in their cache of soft targets",
    "searches": "a search chooses the settings of a method",
    "curations": "a curated run and a raw run that do not differ otherwise",
    "sizes": "a student and method have at least three training sizes and four runs",
    "students": "several students share a method",
    "laws": "sizes, or at least three students that share a method",
    "held_out": "a law may be fitted without its largest budget: four sizes, four students, or "
    "three of both",
}
"""Properties of a config that decide which figures a study has."""
FIGURES: dict[str, set[str]] = {
    "perplexity": {"runs"},
    "law_curves": {"sizes"},
    "size_curves": {"students"},
    "judged": {"held_out"},
    "rollouts": {"held_out"},
    "exponents": {"laws"},
    "residuals": {"laws"},
    "kl_gap": {"runs", "gap"},
    "distillation_gap": {"gap", "teacher_size"},
    "calibration": {"runs"},
    "pass_rate": {"runs", "prompts"},
    "combined": {"runs", "prompts", "gap"},
    "training_time": {"runs"},
    "flops_split": {"teacher_work"},
    "curation_effect": {"curations"},
    "flops": {"runs"},
    "cache_cost": {"caches"},
    "search": {"searches"},
    "pareto": set(),
}
"""Every figure, in the order of the report, with the traits that a study needs for it."""


def figures_with(traits: Collection[str]) -> list[str]:
    """Return the figures of a study with some traits, in the order of the report."""
    return [name for name, needed in FIGURES.items() if needed <= set(traits)]
