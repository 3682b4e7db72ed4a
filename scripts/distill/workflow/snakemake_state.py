"""Snakemake's metadata on files, below `.snakemake`, and hints from its log."""

import base64
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from distill.runtime.out_of_memory import FEWER_JOBS


def _is_kept(folder: str, path: str) -> bool:
    encoded = base64.urlsafe_b64encode(path.encode()).decode()
    pieces = [encoded[start : start + 254] for start in range(0, len(encoded), 254)]
    pieces = [f"@{piece}" for piece in pieces[:-1]] + pieces[-1:]
    return Path(".snakemake", folder, *pieces).is_file()


def has_metadata(path: str) -> bool:
    """Whether Snakemake has metadata on how a file was made."""
    return _is_kept("metadata", path)


def is_incomplete(path: str) -> bool:
    """Whether a job began to write a file and Snakemake has not recorded its end."""
    return _is_kept("incomplete", path)


def check_times(jobs: Iterable[tuple[Sequence[str], Iterable[str]]]) -> None:
    """Check that no result would be rerun only because of its modification time.

    Snakemake compares contents if it has metadata on a file. For files copied without
    `.snakemake/metadata` it compares modification times, which `cp -r` and `git clone` change, so
    it would rerun the whole study.

    Args:
        jobs: For each job to run, its outputs and its newer inputs.

    Raises:
        SystemExit: An output exists, and Snakemake has metadata neither on it nor on its inputs.
    """
    for outputs, newer in jobs:
        old = [path for path in outputs if Path(path).exists() and not has_metadata(path)]
        changed = sorted(newer)
        if old and changed and not any(map(has_metadata, changed)):
            raise SystemExit(
                f"Error: {old[0]} is older than {changed[0]}, and Snakemake cannot compare "
                "contents because .snakemake/metadata was not copied too; copy that folder, or run "
                "once with --touch to accept all results, or delete the result to rerun its job"
            )


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
    """A sentence for each rule whose job was killed, with the setting to lower.

    Args:
        log: The text of Snakemake's log.
    """
    rules = dict.fromkeys(_LOCAL.findall(log) + _CLUSTER.findall(log))
    return [_hint(rule) for rule in rules]


def _hint(rule: str) -> str:
    lower = f"lower {_SETTING[rule]}, " if rule in _SETTING else ""
    return f"a job of {rule} was killed, probably because memory ran out: {lower}{FEWER_JOBS}"
