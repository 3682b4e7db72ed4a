"""What a workflow says at its end of jobs that the system killed: they could say nothing."""

import re

from distill.out_of_memory import FEWER_JOBS

_LOCAL = re.compile(r"died with <Signals\.SIGKILL: 9>\.\s*(?:\[.*\]\s*)?Error in rule (\w+):")
_CLUSTER = re.compile(r"Error in rule (\w+):\s*message: .*OUT_OF_MEMORY")
_SETTING = {
    "train_student": "train.micro_batch_size (a retry takes half of it by itself)",
    "search_settings": "train.micro_batch_size (a retry takes half of it by itself)",
    "generate_text": "the batch_size of the teacher",
    "synthesise_prompts": "the batch_size of the teacher",
    "evaluate_student": "evaluate.batch_size",
    "evaluate_teacher": "evaluate.batch_size",
    "benchmark_student": "evaluate.batch_size",
    "benchmark_teacher": "evaluate.batch_size",
}


def killed_hints(log: str) -> list[str]:
    """A sentence for each rule of which a job was killed, with the setting to lower.

    Args:
        log: Snakemake's own, as text.
    """
    rules = dict.fromkeys(_LOCAL.findall(log) + _CLUSTER.findall(log))
    return [_hint(rule) for rule in rules]


def _hint(rule: str) -> str:
    lower = f"lower {_SETTING[rule]}, " if rule in _SETTING else ""
    return (
        f"a job of {rule} was killed, as the system does when memory runs out: {lower}{FEWER_JOBS}"
    )
