"""Students before training: cut from a model, pre-trained, or random by a config."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from distill.core.attention_heads import heads_fault
from distill.core.checksums import SAFE, check_files, list_files, tokenizer_sha256
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.core.model_files import later_tokens_fault, sees_later_tokens
from distill.core.parquet import read_metadata, read_rows
from distill.models.cutting import check_saved, cut
from distill.models.export import save_model
from distill.models.flops import count_parameters
from distill.models.forward import fills_masks, is_masked, model_class
from distill.models.layers import lists_by_layer
from distill.models.shared_tokens import Reader
from distill.models.token_ids import full_width, ids_without_token
from distill.models.tokenizers import open_tokenizer
from distill.models.turns import find_turns
from distill.models.vocabulary import (
    FILE,
    TOKEN_IDS,
    Vocabulary,
    check_head,
    check_size,
    count_tokens,
    most_frequent,
    trim_model,
)
from distill.models.weights import open_weights

_LAYERS = re.compile("layer|window|interval|pattern")
"""Entries of a config from which the library derives its lists by layer."""


def _random(config: Any, overrides: dict[str, Any], tokenizer: Any, seed: int) -> Any:
    """A model of `config` with some entries replaced, or of another model_type by its defaults."""
    entries = dict(overrides)
    kind = entries.pop("model_type", config.model_type)
    try:
        plain = AutoConfig.for_model(kind)
        if unknown := [key for key in entries if not hasattr(plain, key)]:
            raise UserError(f"the student's config: {kind} knows no {', '.join(unknown)}")
        if kind == config.model_type:
            base = config.to_dict()
            # The library derives entries by layer from others that change here.
            changed = {key for key in entries if _LAYERS.search(key)}
            for key in lists_by_layer(config) if changed else ():
                base.pop(key)
            if {"hidden_size", "num_attention_heads"} & set(entries):
                base.pop("head_dim", None)
        else:
            base = {key: getattr(tokenizer, key) for key in TOKEN_IDS}
            # As wide as the source's head (which may be padded), so both distributions compare.
            base["vocab_size"] = max(len(tokenizer), getattr(config, "vocab_size", 0))
            base["model_type"] = kind
        torch.manual_seed(seed)
        # A student is a masked model if its source is.
        made = AutoConfig.for_model(**{**base, **entries})
        if not is_masked(config) and sees_later_tokens(made.to_dict()):
            raise UserError(f"the student {later_tokens_fault(kind)}")
        model = model_class(config).from_config(made, trust_remote_code=False)
        # A cache needs a layer of attention, which a small hybrid may lack; a pass without one
        # reads values, which the meta device has not.
        with_cache = fills_masks(model) or model.device.type == "meta"
        plain_pass = {} if with_cache else {"use_cache": False}
        # Some mistakes raise only in a forward pass.
        model(input_ids=torch.arange(4).unsqueeze(0), **plain_pass)
    except (
        ValueError, TypeError, LookupError, AssertionError, AttributeError, RuntimeError,
        StrictDataclassError,
    ) as error:  # fmt: skip
        same = config.to_dict() if kind == config.model_type else {}
        reason = heads_fault(kind, entries, same) or " ".join(str(error).split())
        raise UserError(
            f"the student's config {overrides} builds no {kind} model: {reason}"
        ) from None
    return model.float()


def _vocabulary(
    spec: dict[str, Any], texts: Sequence[str | Path], tokens: Reader, full: int
) -> Vocabulary:
    """The ids that a student keeps.

    Raises:
        UserError: Text and student have different tokenizers, or the size is too large.
    """
    if read_metadata(texts[0], "tokenizer_sha256") != tokenizer_sha256(tokens.tokenizer):
        raise UserError(
            "the student's tokenizer is not that of the teacher named in its vocabulary "
            f"({tokens.apart or 'their digests differ'}), so ids cannot be counted there; name a "
            "teacher with the same tokenizer"
        )
    counts, size = count_tokens(read_rows(texts)), spec["vocabulary"]["size"]
    turns, excluded = find_turns(tokens.tokenizer), ids_without_token(tokens.tokenizer, full)
    always = {*tokens.tokenizer.all_special_ids, *(turns.stops if turns else ())}
    return most_frequent(counts, always, size, full, excluded)


def _check_tokenizer(tokenizer: Any, folder: Path, kind: str) -> None:
    """Check that a saved tokenizer, opened beside a model, gives the ids of the one that was saved.

    For some architectures (Qwen2) the library opens a class of its own, which splits any text as
    that architecture's models do.

    Raises:
        UserError: It does not.
    """
    opened = open_tokenizer(folder)
    if tokenizer_sha256(opened) != tokenizer_sha256(tokenizer):
        raise UserError(
            f"a {kind} model always gets the library's {type(opened).__name__}, which splits text "
            "otherwise than the tokenizer of the student's source; set another model_type in the "
            "student's config, or name a source of that family"
        )


def build_student(
    spec: dict[str, Any],
    source_dir: str | Path,
    manifest: str | Path,
    texts: Sequence[str | Path] = (),
    tokens_of: str | Path | None = None,
) -> None:
    """Write a student's initial weights (fp32 safetensors) and tokenizer beside `manifest`.

    Args:
        spec: init, layers, config and seed, as in the config, and vocabulary if it is trimmed.
        source_dir: Directory of the source model.
        manifest: Path of the manifest, written last; older files beside it are removed first.
        texts: Parts of teacher text whose ids a trimmed vocabulary counts.
        tokens_of: Directory with the tokenizer of these texts, if it is not that of the source.

    Raises:
        UserError: The student cannot be built.
    """
    folder = Path(manifest).parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    check_files(source_dir, weights=spec["init"] != "random")
    tokenizer = open_tokenizer(source_dir)
    vocabulary: Vocabulary | None = None
    if spec["init"] == "random":
        config = AutoConfig.from_pretrained(source_dir, **SAFE)
        overrides = dict(spec["config"])
        if "vocabulary" in spec:  # initialised with the small vocabulary only
            tokens = Reader.of(source_dir, tokens_of)
            vocabulary = _vocabulary(spec, texts, tokens, full_width(tokens.tokenizer))
            overrides |= {"vocab_size": vocabulary.width} | vocabulary.token_ids(tokenizer)
        model = _random(config, overrides, tokenizer, spec["seed"])
        if vocabulary is not None:
            check_head(model)
        if (params := spec.get("params")) and (total := count_parameters(model)[0]) != params:
            raise UserError(
                f"a student has {total} parameters but its params says {params}; correct its "
                "config or params"
            )
    else:
        model = open_weights(source_dir, dtype=torch.float32)
        if spec["init"] == "cut":
            model = cut(model, spec["layers"])
        if "vocabulary" in spec:
            tokens = Reader.of(source_dir, tokens_of)
            full = full_width(tokens.tokenizer, model.get_input_embeddings().num_embeddings)
            vocabulary = _vocabulary(spec, texts, tokens, full)
            model = trim_model(model, vocabulary, tokenizer)
    if vocabulary is not None:
        write_json(folder / FILE, vocabulary.record())
    save_model(model, tokenizer, folder)
    _check_tokenizer(tokenizer, folder, model.config.model_type)
    check_saved(model, folder, {"cut": "cut from"}.get(spec["init"], "made of"))
    record = {"schema": 1, "spec": spec, "layers": model.config.num_hidden_layers}
    write_json(manifest, record | {"files": list_files(folder)})


def empty_student(spec: dict[str, Any], source_dir: str | Path, saved: bool = False) -> Any:
    """A student (or, with init `pretrained`, its source) without weights, on the meta device.

    Only the size of a trimmed vocabulary matters here, so no text is read.

    Args:
        spec: init, layers, config and seed, as in the config, and vocabulary if it is trimmed.
        source_dir: Directory of the source model; its weights are not read.
        saved: Whether to return the model in its saved form, with one row per id of the full
            vocabulary, rather than in its form during training.

    Raises:
        UserError: The student cannot be built.
    """
    config = AutoConfig.from_pretrained(source_dir, **SAFE)
    tokenizer = open_tokenizer(source_dir)
    random, entries = spec["init"] == "random", dict[str, Any]()
    if trimmed := spec.get("vocabulary"):
        full = full_width(tokenizer, None if random else config.vocab_size)
        check_size(trimmed["size"], full)
        entries = {"vocab_size": full if saved else trimmed["size"] + 1}
        # Ids of the full vocabulary need not exist in the small one.
        entries |= {key: 0 for key in TOKEN_IDS if getattr(tokenizer, key) is not None}
    with torch.device("meta"):
        if random:
            model = _random(config, spec["config"] | entries, tokenizer, spec["seed"])
        else:
            for key, value in entries.items():
                setattr(config, key, value)
            model = model_class(config).from_config(config, trust_remote_code=False)
            model = cut(model, spec["layers"]) if spec["init"] == "cut" else model
    if trimmed:
        check_head(model)
    return model
