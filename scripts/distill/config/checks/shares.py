"""Shares of a data set as test, validation and pool, such as 70/15/15 of a CSV.

Later steps count rows, so shares become counts when a config is read. They refer to the number of
rows that the source states, or to the rows of its local file whose prompts are short enough.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from distill.config.reading import validate
from distill.config.study import Study
from distill.config.values import SHARE
from distill.contracts.run import MAGPIE
from distill.core.errors import UserError

SPLITS = ("test", "validation", "pool")
PARTS = 20
"""Default number of parts of a data set; shares that are multiples of 5 % are exact."""


def with_counts(config: dict[str, Any]) -> dict[str, Any]:
    """Replace the shares in `prompts` by numbers of rows.

    Args:
        config: As read from YAML; it is not changed.

    Raises:
        UserError: Shares and counts are mixed, the shares exceed the data set, or the prompts have
            no data set; or the config has shares and another mistake.
    """
    prompts = config.get("prompts")
    if not isinstance(prompts, Mapping):
        return config
    for key in SPLITS:
        if isinstance(value := prompts.get(key), float) and 0 < value < 1:
            raise UserError(
                f"config: prompts.{key}: {value:g} is not a number of rows; for a share of the data "
                f"set write {100 * value:g}%"
            )
    shares = {key: share for key in SPLITS if (share := _share(prompts.get(key))) is not None}
    if not shares:
        return config
    counted = {key: prompts[key] for key in SPLITS if key not in shares and prompts.get(key)}
    draft = validate(Study, config | {"prompts": {**prompts, **dict.fromkeys(shares, 1)}})
    counts = _counts(draft, shares, counted, "part_size" in prompts)
    return config | {"prompts": {**prompts, **counts}}


def _share(value: Any) -> float | None:
    """A share such as "70%"; None for anything else."""
    if not isinstance(value, str) or not re.match(SHARE, value.strip()):
        return None
    return float(value.strip().rstrip("%")) / 100


def _counts(
    study: Study, shares: dict[str, float], counted: dict[str, Any], cut: bool
) -> dict[str, int]:
    """Number of rows of each split, in complete parts, and the part size.

    A part takes `surplus` times its rows from the data set. Hence the shares refer to the data
    set's rows divided by the surplus, in complete parts.

    Args:
        study: The study, with a placeholder for each share.
        shares: Share of each split.
        counted: Splits that the config gives as counts.
        cut: Whether the config sets a part size.
    """
    prompts = study.rows
    text = ", ".join(f"{key}: {100 * share:g}%" for key, share in shares.items())
    if min(shares.values()) == 0:
        raise UserError(f"config: prompts: {text}; a share must be above 0%; raise it or remove it")
    if counted:
        raise UserError(
            f"config: prompts: {text} is a share of the data set, but "
            f"{', '.join(f'{key}: {count}' for key, count in counted.items())} is a count; give "
            "all as shares or all as counts"
        )
    total = sum(shares.values())
    if not {"test", "pool"} <= set(shares) or total > 1 + 1e-9:
        raise UserError(
            f"config: prompts: shares ({text}) must include test and pool and sum to at most 100%"
        )
    if prompts.source == MAGPIE:
        raise UserError(
            f"config: prompts: {text} is a share of a data set, but with source magpie the teacher "
            "generates the prompts; give counts"
        )
    rows = _rows(study)
    size = prompts.part_size if cut else max(1, int(rows / PARTS / prompts.surplus))
    while not cut and size > 1 and PARTS * math.ceil(size * prompts.surplus) > rows:
        size -= 1
    parts = rows // math.ceil(size * prompts.surplus)
    if not cut:
        parts = min(parts, PARTS)
    counts = {key: round(parts * share) for key, share in shares.items()}
    if total > 1 - 1e-9:  # the pool takes the difference that rounding leaves
        counts["pool"] += parts - sum(counts.values())
    if min(counts.values()) >= 1:
        return {"part_size": size} | {key: number * size for key, number in counts.items()}
    if rows < len(shares):
        raise UserError(
            f"config: prompts: {rows} rows of {prompts.source} are too few for {text}; give more rows"
        )
    return {"part_size": size} | _small_counts(rows, prompts.surplus, shares)


def _small_counts(rows: int, surplus: float, shares: dict[str, float]) -> dict[str, int]:
    """Number of rows of each split where whole parts are too large: at least one each."""
    more = max(0, int(rows / surplus) - len(shares))
    counts = {key: 1 + int(more * share + 1e-9) for key, share in shares.items()}
    if sum(shares.values()) > 1 - 1e-9:
        counts["pool"] += more + len(shares) - sum(counts.values())
    return counts


def _rows(study: Study) -> int:
    """Rows of the prompts' source: in a local file those that are short enough, else as stated."""
    name, source = study.rows.source, study.sources.get(study.rows.source)
    if source is None or not source.is_data:
        raise UserError(f"config: prompts.source: there is no data set {name!r} under sources")
    if source.path is not None:
        from distill.core.rows.files import data_files
        from distill.core.rows.survey import named, survey

        with named(name):
            data_files(source.path, source.split)
        if (numbers := survey(study.source_spec(name))) is not None:
            return numbers.fitting(study.rows.max_tokens)
    if source.known_rows is None:
        raise UserError(f"config: sources.{name}.rows is missing; shares in prompts need it")
    return source.known_rows
