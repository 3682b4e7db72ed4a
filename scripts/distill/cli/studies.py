"""Where a study lies, and its config."""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from distill.core.errors import UserError

CONFIG = "config.yaml"
SNAKEFILE = "Snakefile"


def project() -> Path:
    """The folder of the project, with Snakefile, docs and envs.

    Raises:
        UserError: The library was installed without it.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / SNAKEFILE).is_file():
        raise UserError(
            f"{root} holds no {SNAKEFILE}: distill works in a clone of the project; run pip install"
            " -e . --no-deps there"
        )
    return root


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add the option of the working directory."""
    parser.add_argument(
        "-d",
        "--directory",
        metavar="DIR",
        help="where the study runs, as snakemake -d: paths in CONFIG are relative to it (default: "
        "here; without a Snakefile here, the nearest folder above CONFIG that has one)",
    )


@contextmanager
def working_in(directory: str | None, configs: Sequence[str]) -> Iterator[list[Path]]:
    """Work where a study runs.

    Args:
        directory: As asked for; None: the current folder, or the project that holds the config.
        configs: Paths of configs, relative to the current folder.

    Yields:
        Their paths from where the block works.

    Raises:
        UserError: A directory or a config is missing.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UserError("the current folder was removed; change to another one") from None
    for config in configs:
        if not os.path.lexists(config):
            raise UserError(f"the config file {config} does not exist in {here}; name another")
    place = Path(directory) if directory else _place(Path(configs[0]))
    if not place.is_dir():
        raise UserError(f"the directory {place} does not exist; create it or name another")
    if place.resolve() == here:
        yield [Path(config) for config in configs]
        return
    paths = [Path(config).absolute() for config in configs]
    with chdir(place):
        yield paths


def _place(config: Path) -> Path:
    """The current folder if it has a Snakefile, else the nearest folder above a config that has."""
    here = Path.cwd()
    above = (here, *config.absolute().parents)
    return next((folder for folder in above if (folder / SNAKEFILE).is_file()), here)


def read_config(path: Path) -> dict[str, Any]:
    """Read a config as Snakemake does.

    Raises:
        UserError: It is not valid YAML, or would run code.
    """
    import yaml

    from distill.config.reading import check_yaml

    check_yaml(path)
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def read_plan(path: Path) -> Any:
    """The plan of a study that trains models.

    Raises:
        UserError: The config has a mistake, or is of your own table.
    """
    from distill.config.checks.study import parse_study
    from distill.plan.study import Plan

    config = read_config(path)
    if "runs_table" in config:
        raise UserError(
            f"{path} is a study of your own table (runs_table), which trains no models; this "
            "command is for studies that do"
        )
    return Plan(parse_study(config))
