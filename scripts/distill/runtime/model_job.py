"""A job that runs a model: fast imports, then one call with a fixed number of threads."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

from distill.runtime.imports import quick_imports
from distill.runtime.job import job

P = ParamSpec("P")
R = TypeVar("R")


class Run(Protocol):
    """Call a function of the library once its imports are done."""

    def __call__(self, work: Callable[P, R], *args: P.args, **settings: P.kwargs) -> R:
        """Return what the function returns."""


@contextmanager
def model_job(
    snakemake: Any,
    threads: int | None,
    without: Sequence[str] = (),
    quick: bool = True,
    keep_memory: bool = True,
) -> Iterator[Run]:
    """`job` for work with a model: yields a function that calls the library's function.

    Import the library's function within the block, where imports are fast and errors are logged.

    Args:
        snakemake: Snakemake's object of the job.
        threads: CPU threads, on which results depend slightly; None keeps torch's default.
        without: See `job`.
        quick: Whether to use `quick_imports`; False if a library needs the packages that it hides.
        keep_memory: See `set_up_cpu`.
    """
    with job(snakemake, without), ExitStack() as imports:
        if quick:
            imports.enter_context(quick_imports())

        def run(work: Callable[P, R], *args: P.args, **settings: P.kwargs) -> R:
            imports.close()
            if threads is not None:
                from distill.runtime.cpu import set_up_cpu  # imports torch

                set_up_cpu(threads, keep_memory)
            return work(*args, **settings)

        yield run
