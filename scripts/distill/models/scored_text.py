"""A text and the teacher that scores it, its own or another's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from distill.core.checksums import SAFE, tokenizer_sha256
from distill.core.errors import UserError
from distill.core.parquet import read_metadata, read_rows
from distill.models.opening import check_kind, load_teacher
from distill.models.rows import read_ids
from distill.models.shared_tokens import difference
from distill.models.tokenizers import check_held, load_tokenizer


def open_scoring(
    text: str | Path,
    model_file: str | Path,
    spec: dict[str, Any],
    tokenizer_file: str | Path | None = None,
) -> tuple[list[dict[str, Any]], Any]:
    """Rows of a text part, and the teacher that scores them.

    Args:
        text: The part.
        model_file: A file in the teacher's directory.
        spec: precision, quantisation and device_map of the teacher.
        tokenizer_file: A file in the directory of the text's tokenizer, if it is not the teacher's.

    Raises:
        UserError: The text has another tokenizer or exceeds the teacher's context, or a masked text
            meets a causal model or the reverse.
    """
    rows, folder = read_rows(text), Path(model_file).parent
    tokens_of = None if tokenizer_file is None else Path(tokenizer_file).parent
    check_tokens(text, folder, tokens_of, rows)
    check_kind(AutoConfig.from_pretrained(folder, **SAFE), rows, str(folder))
    length = max(len(read_ids(row)) for row in rows)
    return rows, load_teacher(folder, spec, sequence=length)


def check_tokens(
    text: str | Path,
    folder: str | Path,
    tokens_of: str | Path | None = None,
    rows: Sequence[dict[str, Any]] = (),
) -> None:
    """Check that the model in `folder` reads the token ids of a text.

    Args:
        text: The text.
        folder: The model's directory.
        tokens_of: Directory with the text's tokenizer, if it is not the model's.
        rows: The text's rows.

    Raises:
        UserError: It has other ids for these tokens, so a score would be meaningless.
    """
    own = load_tokenizer(folder)
    used = {number for row in rows for number in read_ids(row)}
    if read_metadata(text, "tokenizer_sha256") != tokenizer_sha256(own):
        theirs = None if tokens_of is None else load_tokenizer(tokens_of)
        apart = difference(theirs, own, used) if theirs is not None else "by their digests"
        if apart:
            raise UserError(
                f"the model in {folder} cannot score {text}, because the text has another "
                f"tokenizer ({apart}); name a teacher with the same tokenizer in the cache"
            )
    check_held(own, list(used), str(text))
