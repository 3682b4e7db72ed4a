"""A job that computes with PyTorch: quick imports, then one call on a fixed number of threads."""

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
    """As `job`, for work with a model: yields what calls the library's function.

    The function is imported within the block, where imports are quick and a failure is logged.

    Args:
        snakemake: Snakemake's object of the job.
        threads: Of the CPU, on which results depend slightly; None leaves torch as it is.
        without: As of `job`.
        quick: Whether imports are quick; False where a library needs what `quick_imports` hides.
        keep_memory: As of `set_up_cpu`.
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
