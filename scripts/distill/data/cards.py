"""Data-set cards of folders of shards."""

from collections.abc import Sequence
from pathlib import Path

from distill.core.cards import render_card
from distill.core.files import read_json
from distill.core.parquet import read_metadata


def write_card(
    study: str,
    teacher: str,
    curation: str,
    cache: str,
    out: str | Path,
    records: Sequence[str | Path] = (),
    corpus: str | None = None,
    data: Sequence[str | Path] = (),
) -> None:
    """Write the data-set card of a folder of shards.

    Args:
        study: Name of the study.
        teacher: Whose text, or whose soft targets on a corpus.
        curation: Which rows.
        cache: Which soft targets.
        out: The card.
        records: Records of the folder's shards, where a curation chose their rows.
        corpus: What the text is where no teacher wrote it.
        data: The data sets that the rows are from.
    """
    curated = []
    for path in map(Path, records):
        row = read_json(path)["curation"]
        dropped = ", ".join(f"{count} {why}" for why, count in row["dropped"].items())
        file = f"{path.parent.name}/{path.stem}"
        curated.append(row | {"file": file, "dropped": dropped or "none"})
    whose, source = f"Responses of {teacher}", "The text is model-written and unchecked."
    if corpus is not None:
        whose = f"Chunks of {corpus} for {teacher}"
        source = f"The text is that of {corpus}, whose licence it has."
    names = {"study": study, "curation": curation, "cache": cache}
    counts = [entry for path in data if (entry := read_metadata(path, "data"))["left_out"]]
    render_card(
        "shards", out, **names, curated=curated, whose=whose, source=source, left_out=counts
    )


def write_corpus_card(study: str, corpus: str, tokens: int, out: str | Path) -> None:
    """Write the data-set card of a folder of shards of a corpus."""
    render_card("corpus_shards", out, study=study, corpus=corpus, tokens=tokens)
