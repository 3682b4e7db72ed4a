"""Which answers are trained on: filters, row by row, and controlled corruption.

A row is decided from itself, from earlier rows of the same order and from constants of the pool's
first part, so that n rows kept are a prefix of any larger number. Filters see the text as written;
corruption comes last, so a corrupting curation keeps the very rows that its filters alone would.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from distill.config.curation import FILTERS
from distill.contracts.costs import FREE, cost_of
from distill.contracts.schemas import DECISIONS_SCHEMA
from distill.core.errors import UserError
from distill.core.parquet import (
    merged_metadata,
    plain_schema,
    read_metadata,
    read_rows,
    write_rows,
)
from distill.data.near_duplicates import drop_near_duplicates

Row = dict[str, Any]


def choose(
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    losses: Mapping[str, float],
    cuts: Mapping[str, float | None],
) -> list[str | None]:
    """Why each row is dropped; None where it is kept.

    Args:
        rows: Rows of text, in the order of a draw.
        settings: A curation's filters.
        losses: The teacher's own loss by row id, where they ask for it.
        cuts: Of `loss_cuts`.
    """

    def by_loss(left: Sequence[Row], _: Mapping[str, Any]) -> list[str | None]:
        return [_loss_reason(losses[row["id"]], cuts) for row in left]

    filters: dict[str, Callable[[Sequence[Row], Mapping[str, Any]], list[str | None]]] = {
        "length": _by_length,
        "language": _by_language,
        "teacher_loss": by_loss,
        "near_duplicates": _by_likeness,
    }
    reasons: list[str | None] = [None] * len(rows)
    for name in FILTERS:
        if name in settings:
            left = [place for place, reason in enumerate(reasons) if reason is None]
            outcomes = filters[name]([rows[place] for place in left], settings[name])
            for place, reason in zip(left, outcomes, strict=True):
                reasons[place] = reason
    return reasons


def _by_length(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[str | None]:
    low, high = settings.get("min_tokens", 0), settings.get("max_tokens", math.inf)

    def reason(row: Row) -> str | None:
        if settings["finished"] and row["finish_reason"] != "stop":
            return "unfinished"
        if not ("min_tokens" in settings or "max_tokens" in settings):
            return None
        tokens = len(row["response_ids"])
        return "too short" if tokens < low else "too long" if tokens > high else None

    return [reason(row) for row in rows]


@cache
def _identifier() -> Any:
    return LanguageIdentifier.from_pickled_model(MODEL_FILE, norm_probs=True)


def _by_language(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[str | None]:
    languages = [_identifier().classify(row["response"]) for row in rows]
    return [
        "another language"
        if code not in settings["keep"]
        else "uncertain language"
        if probability < settings["min_probability"]
        else None
        for code, probability in languages
    ]


def loss_cuts(first: Sequence[float], settings: Mapping[str, Any]) -> dict[str, float | None]:
    """Least and largest loss kept, from the losses of the pool's first part; None for no cut.

    Quantiles interpolate linearly. The quantiles 0 and 1 cut nothing, also beyond the first part.
    """
    low, high = settings["min_quantile"], settings["max_quantile"]
    return {
        "low": float(np.quantile(first, low)) if low > 0 else None,
        "high": float(np.quantile(first, high)) if high < 1 else None,
    }


def _loss_reason(loss: float, cuts: Mapping[str, float | None]) -> str | None:
    low, high = cuts["low"], cuts["high"]
    if low is not None and loss < low:
        return "low teacher loss"
    return "high teacher loss" if high is not None and loss > high else None


def _by_likeness(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[str | None]:
    # The prompts' own filter, on answers: MinHash finds candidates, exact similarity decides.
    answers = [{"prompt": row["response"], "row": row["row"]} for row in rows]
    distinct = {row["row"] for row in drop_near_duplicates(answers, [], settings["threshold"])}
    return [None if row["row"] in distinct else "near-duplicate" for row in rows]


def _uniform(*parts: Any) -> float:
    """A number in [0, 1) that depends on `parts` alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def corrupted(row: Row, settings: Mapping[str, Any], donors: Sequence[Row]) -> Row | None:
    """A row with its answer corrupted; None if the row is unchanged.

    Corruption depends on the row's id, the seed and the first part's answers: it is the same at
    every size and in every draw. Rows corrupted at a share are corrupted at a larger one.

    Args:
        row: A row of text.
        settings: share, kind and seed.
        donors: Rows of the pool's first part, for `replace_response`.

    Raises:
        UserError: All donors have the row's own answer.
    """
    key = (settings["seed"], row["id"])
    if _uniform(*key, "corrupt") >= settings["share"]:
        return None
    if settings["kind"] == "replace_response":
        start = int(_uniform(*key, "donor") * len(donors))
        for donor in [*donors[start:], *donors[:start]]:
            if donor["response"] != row["response"]:
                taken = ("response", "response_ids", "finish_reason")
                return row | {name: donor[name] for name in taken}
        raise UserError(
            "corrupt: replace_response finds no other answer in the pool's first part, as all are "
            "equal; raise prompts.part_size or use shuffle_words"
        )
    words = row["response"].split()
    order = sorted(range(len(words)), key=lambda place: _uniform(*key, "word", place))
    shuffled = [words[place] for place in order]
    if len(set(words)) < 2:
        return None  # there is no other order
    if shuffled == words:
        shuffled = shuffled[1:] + shuffled[:1]
    # The teacher's tokens are no longer the text's: it is encoded again for each student.
    return row | {"response": " ".join(shuffled), "prompt_ids": None, "response_ids": None}


def curate(
    rows: Sequence[Row],
    samples: int,
    settings: Mapping[str, Any],
    name: str,
    losses: Sequence[Row] = (),
    donors: Sequence[Row] = (),
    part_size: int | None = None,
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Keep the first `samples` rows that pass.

    Args:
        rows: Candidates, in the order of a draw.
        samples: How many to keep.
        settings: The curation: filters and corrupt.
        name: Its name, for the error.
        losses: Rows of `LOSS_SCHEMA`, those of the pool's first part first.
        donors: Rows of the pool's first part, for `replace_response`.
        part_size: Rows in that part, with losses.

    Returns:
        The rows kept; a row of `DECISIONS_SCHEMA` for each row up to the last one kept; a record of
        what was read, kept and dropped, and of what the rows not kept cost.

    Raises:
        UserError: Fewer rows pass.
    """
    by_id = {row["id"]: row for row in losses}
    cuts: dict[str, float | None] = {}
    if "teacher_loss" in settings:
        first = [row["loss"] for row in losses[:part_size]]
        cuts = loss_cuts(first, settings["teacher_loss"])
    reasons = choose(rows, settings, {key: row["loss"] for key, row in by_id.items()}, cuts)
    passing = [place for place, reason in enumerate(reasons) if reason is None][:samples]
    if len(passing) < samples:
        counts = _counted(reason for reason in reasons if reason)
        needed = math.ceil(10 * len(rows) / max(len(passing), 1) * 1.1) / 10
        raise UserError(
            f"curations.{name}: {len(passing)} of {len(rows)} answers were kept "
            f"({', '.join(f'{count} {reason}' for reason, count in counts.items())}) but {samples} "
            f"are needed; raise curations.{name}.surplus to about {needed:g}"
        )
    chosen, decisions = [], []
    for row, reason in zip(rows[: passing[-1] + 1], reasons, strict=False):
        spoilt = None
        if reason is None:
            if "corrupt" in settings:
                spoilt = corrupted(row, settings["corrupt"], donors)
            chosen.append(row if spoilt is None else spoilt)
        scored = by_id.get(row["id"])
        decisions.append(
            {
                "id": row["id"],
                "row": row["row"],
                "dropped": reason,
                "corrupted": spoilt is not None,
                "teacher_loss": scored["loss"] if scored else None,
                **cost_of(row, "teacher_").columns("teacher_"),
                **(cost_of(scored) if scored else FREE).columns("filter_"),
            }
        )
    return chosen, decisions, _record(decisions, cuts)


def _counted(reasons: Any) -> dict[str, int]:
    return dict(sorted(Counter(reasons).items()))


def _record(decisions: Sequence[Row], cuts: Mapping[str, float | None]) -> dict[str, Any]:
    dropped = [row for row in decisions if row["dropped"]]
    return {
        "read": len(decisions),
        "kept": len(decisions) - len(dropped),
        "dropped": _counted(row["dropped"] for row in dropped),
        "corrupted": sum(row["corrupted"] for row in decisions),
        "loss_cuts": dict(cuts),
        "dropped_flops": math.fsum(row["teacher_flops"] for row in dropped),
        "dropped_seconds": math.fsum(row["teacher_seconds"] for row in dropped),
        "filter_flops": math.fsum(row["filter_flops"] for row in decisions),
        "filter_seconds": math.fsum(row["filter_seconds"] for row in decisions),
    }


def curate_files(
    texts: Sequence[str | Path],
    places: Sequence[int],
    spec: Mapping[str, Any],
    name: str,
    text: str | Path,
    decisions: str | Path,
    losses: Sequence[str | Path] = (),
    donors: Sequence[str | Path] = (),
) -> None:
    """Curate rows of text parts, from files to files.

    Args:
        texts: Text parts that hold the candidates.
        places: The candidates' places in the pool, in the order of a draw.
        spec: Holds samples and curation (settings); stored in both files.
        name: The curation's name, for the error.
        text: Where the rows kept go, in order: a text part.
        decisions: Where the decisions go, with their record.
        losses: Parts of the teacher's own losses, the pool's first part first.
        donors: The first part of the text, for `replace_response`.

    Raises:
        UserError: Too few rows are kept, or one is missing from the parts.
    """
    by_row = {row["row"]: row for row in read_rows(texts)}
    if missing := [place for place in places if place not in by_row]:
        raise UserError(
            f"{text}: the teacher's text lacks pool row {missing[0]}; delete {texts[0]} and run "
            "again"
        )
    chosen, decided, record = curate(
        [by_row[place] for place in places],
        spec["samples"],
        spec["curation"],
        name,
        losses=read_rows(losses),
        donors=read_rows(donors),
        part_size=len(read_rows(losses[0])) if losses else None,
    )
    digest = read_metadata(texts[0], "tokenizer_sha256")
    write_rows(decisions, decided, DECISIONS_SCHEMA, spec=dict(spec), record=record)
    schema = plain_schema(texts[0])
    controls = merged_metadata(texts, "controls")
    write_rows(text, chosen, schema, spec=dict(spec), tokenizer_sha256=digest, controls=controls)
