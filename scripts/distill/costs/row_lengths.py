"""How long the rows are that a study trains on: as measured where text exists, else as limited."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow.compute as pc

from distill.contracts.run import Run
from distill.core.parquet import read_table
from distill.costs.work import Lengths, Rows
from distill.plan.needed import needed_texts
from distill.plan.study import Plan

WORD_TOKENS = 1.4
"""Tokens taken per word of a data set's prompts, whose limit is in words."""


def _read(file: Path) -> Iterable[tuple[int, int | None, int | None]]:
    """Pool row and tokens of prompt and answer of each row of a text file."""
    table = read_table(file, ["row", "prompt_ids", "response_ids"])
    sizes = (pc.list_value_length(table[name]).to_pylist() for name in table.column_names[1:])
    return zip(table["row"].to_pylist(), *sizes, strict=True)


def read_lengths(plan: Plan, teacher: str, template: int, root: str | Path = ".") -> Lengths:
    """Lengths of a teacher's text: those of the parts that exist, else the config's limits.

    A data set's answers have no limit of their own but `train.max_length`. Chunks of a corpus are
    all alike; of a masked one, the answer is what is to be found and the prompt all else.
    """
    if (chunk := plan.pool.chunk) is not None:
        return Lengths(chunk.read - chunk.scored, chunk.scored, measured=True)
    entry, prompts = plan.study.teachers[teacher], plan.pool.settings
    known: dict[int, tuple[int, int]] = {}
    for name, split, part in needed_texts(plan):
        file = Path(root, plan.text.part(name, split, part))
        if (name, split) == (teacher, "train") and file.is_file():
            known |= {row: (a, b) for row, a, b in _read(file) if a is not None and b is not None}
    if known:
        prompt, answer = (
            sum(pair[side] for pair in known.values()) / len(known) for side in (0, 1)
        )
        return Lengths(prompt, answer, measured=True, known=known)
    words = 1.0 if prompts.source == "magpie" else WORD_TOKENS
    prompt = prompts.max_tokens * words + template
    drawn = entry.origin != "data"
    answer = entry.max_tokens if drawn else plan.study.train.max_length - prompt
    return Lengths(prompt, max(answer, 1))


def shard_lengths(
    plan: Plan, run: Run, lengths: Lengths, limit: float, root: str | Path = "."
) -> Rows:
    """How many rows of each (prompt, answer) a run trains on; answers are cut at `limit` in total.

    Chunks of a corpus follow one token. Of a curation's candidates, the first as many as are kept
    stand for those kept until these are known.

    Args:
        plan: The study's plan.
        run: The run.
        lengths: Of its teacher's text.
        limit: Longest row, in tokens.
        root: Where results lie.
    """
    if plan.corpora.of(run) is not None:
        tokens = plan.study.method_of(run.method).corpus_tokens
        return Counter({(1.0, min(tokens, limit - 1)): run.samples})
    if plan.rows.curation(run) and plan.pool.asks:
        file = Path(root, plan.curations.file(run))
        if file.is_file():
            chosen = ((float(a or 0), float(b or 0)) for _, a, b in _read(file))
            return Counter((a, max(0.0, min(b, limit - a))) for a, b in chosen)
    return lengths.rows(plan.rows.of(run)[: run.samples], limit)
