"""Open a tokenizer safely, without the library that runs models.

A tokenizer is opened with two facts of the model beside it, because encoding depends on them: how
many ids its embeddings hold, and which ids its own generation stops at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from distill.core.checksums import SAFE, check_files
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.models import positions
from distill.models.token_ids import full_width

VOCABULARY_FILE = "vocabulary.json"
"""File beside a trimmed student: its kept ids and the width of the full vocabulary."""
_ATTRIBUTE = "distill_model"


@dataclass(frozen=True)
class ModelFacts:
    """What a tokenizer must know of the model that reads its ids."""

    rows: int | None = None
    """Ids that the model's embeddings hold; None if unknown."""
    stops: tuple[int, ...] = ()
    """Ids at which the model's generation config stops."""


def facts_of(tokenizer: Any) -> ModelFacts:
    """The model's facts of a tokenizer from `load_tokenizer`; none for any other tokenizer."""
    facts: ModelFacts = getattr(tokenizer, _ATTRIBUTE, ModelFacts())
    return facts


def for_model(tokenizer: Any, facts: ModelFacts) -> Any:
    """The tokenizer with the facts of a model, and a pad token that the model holds.

    Padding is masked, so any id that the embeddings hold pads (the EOS token, where none is set).
    """
    setattr(tokenizer, _ATTRIBUTE, facts)
    pad, rows = tokenizer.pad_token_id, facts.rows
    if pad is None or (rows is not None and pad >= rows):
        held = [tokenizer.eos_token_id, *facts.stops, 0]
        ids = (one for one in held if one is not None and (rows is None or one < rows))
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(next(ids))
    return tokenizer


def open_tokenizer(folder: str | Path) -> Any:
    """The tokenizer in a model's folder.

    Raises:
        UserError: The folder holds no tokenizer, or one that the library cannot read.
    """
    name = _source_of(folder)
    if (Path(folder) / "tokenizer.model").is_file() and not _has(folder, "tokenizer.json"):
        raise UserError(
            f"the model {name} has a tokenizer.model but no tokenizer.json, which is read here; "
            "convert it (AutoTokenizer.from_pretrained, save_pretrained) where sentencepiece and "
            "protobuf are installed"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **SAFE)
    except Exception as error:  # the library and sentencepiece raise many types, some bare
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"the tokenizer of the model {name} cannot be opened ({reason[:200]}); put the files "
            "that tokenizer.save_pretrained writes beside its config.json"
        ) from None
    files = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    # A tokenizer of bytes has no vocabulary file; the library gives others an empty vocabulary.
    if tokenizer.vocab_files_names and not _has(folder, *files):
        raise UserError(
            f"the model {name} has no tokenizer file (none of {', '.join(sorted(files))}); put the "
            "files that tokenizer.save_pretrained writes beside its config.json"
        )
    return tokenizer


def _has(folder: str | Path, *files: str) -> bool:
    """Whether one of the files is in a folder."""
    return any((Path(folder) / file).is_file() for file in files)


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer in a model's folder, with the facts of that model.

    Raises:
        UserError: A file is damaged, or the tokenizer cannot be opened.
    """
    check_files(path, weights=False)
    tokenizer = open_tokenizer(path)
    return for_model(tokenizer, read_facts(path, tokenizer))


def read_facts(folder: str | Path, tokenizer: Any) -> ModelFacts:
    """The facts of the model in a folder; none where there is no model beside the tokenizer."""
    if not (Path(folder) / "config.json").is_file():
        return ModelFacts()
    config = AutoConfig.from_pretrained(folder, **SAFE)
    rows = getattr(config.get_text_config(), "vocab_size", None)
    trimmed = Path(folder) / VOCABULARY_FILE
    if trimmed.is_file():  # before training, its config counts the small vocabulary
        rows = read_json(trimmed)["full"]
    return ModelFacts(rows, _stops(folder, config, tokenizer))


def _stops(folder: str | Path, config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ids at which the library's generation with the model in a folder stops.

    An id that is only in the model's config is often a default of its architecture, and may be
    any piece of text in this vocabulary: it counts if it is a special token.
    """
    file = Path(folder) / "generation_config.json"
    settings = read_json(file) if file.is_file() else {"_from_model_config": True}
    named = settings.get("eos_token_id")
    if named is None and settings.get("_from_model_config"):
        both = (getattr(one, "eos_token_id", None) for one in (config, config.get_text_config()))
        named = next((ids for ids in both if ids is not None), None)
    ids = named if isinstance(named, list) else [named]
    known = full_width(tokenizer)
    special = special_ids(tokenizer) - {tokenizer.unk_token_id, tokenizer.mask_token_id}
    return tuple(
        sorted(
            one
            for one in set(ids)
            if isinstance(one, int)
            and 0 <= one < known
            and (one in special or not settings.get("_from_model_config"))
        )
    )


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of special tokens: those with a role, and added tokens that are flagged special."""
    added = tokenizer.added_tokens_decoder.items()
    return {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}


def check_held(tokenizer: Any, ids: Sequence[int], where: str) -> None:
    """Check that the model's embeddings hold the ids of a text.

    Args:
        tokenizer: From `load_tokenizer`.
        ids: Of the text.
        where: The text, for the error.

    Raises:
        UserError: A token is beyond the embeddings (tokens were added, the model not resized).
    """
    rows, largest = facts_of(tokenizer).rows, max(ids, default=0)
    if rows is not None and largest >= rows:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise UserError(
            f"{where} has the token {token!r} (id {largest}), but the embeddings of the model "
            f"{tokenizer.name_or_path} hold {rows} ids; resize the model (resize_token_embeddings) "
            "or remove that token from its tokenizer"
        )


def context_of(folder: str | Path) -> int | None:
    """Most tokens that the model in `folder` reads; None where its config does not say."""
    return positions.context_of(AutoConfig.from_pretrained(folder, **SAFE))


def _source_of(folder: str | Path) -> str:
    """The name of a model for errors: its source in the manifest beside it, else its folder."""
    manifest = Path(folder) / "manifest.json"
    spec = read_json(manifest).get("spec", {}) if manifest.is_file() else {}
    if not isinstance(spec, dict):
        return str(folder)
    return str(spec.get("hub") or spec.get("path") or spec.get("wheel") or folder)
