"""Results that were copied without Snakemake's memory and without their times."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from distill.snakemake_memory import has_metadata


def check_times(jobs: Iterable[tuple[Sequence[str], Iterable[str]]]) -> None:
    """Check that no result would be made again for its file's time alone.

    Where Snakemake remembers how a file was made it compares contents. Of files that were copied
    without that memory it knows times alone, which `cp -r` and `git clone` set anew: a whole study
    would be computed again.

    Args:
        jobs: For each job that is to run, its outputs and those of its inputs that are newer.

    Raises:
        SystemExit: A result is there, and neither it nor what is newer was made here.
    """
    for outputs, newer in jobs:
        old = [path for path in outputs if Path(path).exists() and not has_metadata(path)]
        changed = sorted(newer)
        if old and changed and not any(map(has_metadata, changed)):
            raise SystemExit(
                f"Error: {old[0]} is older than {changed[0]}, and .snakemake/metadata, which would "
                "tell whether that has changed, was not copied with it; copy that too, or run once "
                "with --touch to take all results as they are, or delete it to make it anew"
            )
