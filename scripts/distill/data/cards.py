"""Data-set cards of folders of shards."""

from collections.abc import Sequence
from pathlib import Path

from distill.core.files import read_json, write_text

CARD = """---
license: other
task_categories: [text-generation]
---
# {whose}, curation {curation}, cache {cache}

Training sets of the study `{study}`. `draw0/n64.parquet` holds the first 64 rows of the pool; a
larger n of the same draw begins with the same rows; another draw permutes the pool.

    datasets.load_dataset("parquet", data_files="draw0/n64.parquet", split="train")

| column | meaning |
|---|---|
| id, row | the prompt's name and its place in the pool |
| prompt, context | the user's request |
| response | the text to learn |
| reference | the data set's own answer, if any |
| prompt_ids, response_ids | the teacher's tokens and end token; null for untokenised text |
| positions | masked chunks: where in prompt_ids the tokens in response_ids are to be found |
| finish_reason | `stop`, or `length` for an answer cut short (it carries no end token) |
| teacher_flops, teacher_seconds | cost of writing prompt and answer, rejected prompts included |
| teacher_kwh, teacher_kwh_estimated | its energy, and the part of it that is an estimate |
| target_tokens, target_flops, target_seconds | with a cache: positions scored, their cost |
| target_kwh, target_kwh_estimated | their energy, likewise |
| hidden | cache `final_hidden`: the teacher's last hidden states, bf16 [tokens, width] |
| ids, counts, lengths, log_p, tail_mass, entropy, log_z | other caches: see docs/reference/cache_format.md |
| layers, scales, layer_flops, layer_seconds | caches with `hidden:`: states of chosen layers |

{curated}{source}
"""
CURATED = """A curation chose the rows: `n64` holds the first 64 that it kept. What it read:

| file | read | kept | corrupted | dropped |
|---|---|---|---|---|
{rows}

"""
CORPUS_CARD = """---
license: other
task_categories: [text-generation]
---
# Chunks of {corpus}, {tokens} tokens each

Training sets of the study `{study}` that no teacher wrote. `draw0/n64.parquet` holds the first 64
chunks; a larger n of the same draw begins with the same chunks; another draw permutes the
documents. Documents that serve as reference text are left out, and so are repeats of a document.

    datasets.load_dataset("parquet", data_files="draw0/n64.parquet", split="train")

| column | meaning |
|---|---|
| id | the chunk's place in the stream |
| response, response_ids | the text to learn and its tokens; a document ends with EOS |
| prompt_ids | the one token before it: BOS, or EOS where the tokenizer has no BOS |
| finish_reason | `stop` if the chunk ends with a document, else `length` |

The other columns are those of teacher text, empty here.
"""


def write_card(
    study: str,
    teacher: str,
    curation: str,
    cache: str,
    out: str | Path,
    records: Sequence[str | Path] = (),
    corpus: str | None = None,
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
    """
    lines = []
    for path in map(Path, records):
        found = read_json(path)["curation"]
        dropped = ", ".join(f"{count} {why}" for why, count in found["dropped"].items())
        cells = (f"{path.parent.name}/{path.stem}", found["read"], found["kept"])
        lines.append(
            f"| {' | '.join(map(str, cells))} | {found['corrupted']} | {dropped or 'none'} |"
        )
    curated = CURATED.format(rows="\n".join(lines)) if lines else ""
    words = {"study": study, "curation": curation, "cache": cache, "curated": curated}
    words["whose"] = f"Responses of {teacher}"
    words["source"] = "The text is model-written and unchecked."
    if corpus is not None:
        words["whose"] = f"Chunks of {corpus} for {teacher}"
        words["source"] = f"The text is that of {corpus}, whose licence it has."
    write_text(out, CARD.format(**words))


def write_corpus_card(study: str, corpus: str, tokens: int, out: str | Path) -> None:
    """Write the data-set card of a folder of shards of a corpus."""
    write_text(out, CORPUS_CARD.format(study=study, corpus=corpus, tokens=tokens))
