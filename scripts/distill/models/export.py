"""Save a model with its tokenizer, so that any program generates with the same ends of turn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from distill.models.turns import Turns


def save_model(
    model: Any,
    tokenizer: Any,
    folder: str | Path,
    turns: Turns | None = None,
    stop: Sequence[str] | None = None,
    **settings: Any,
) -> None:
    """Write a model and its tokenizer.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        folder: Where to.
        turns: Where its turns end, for its generation config; None keeps that of its source.
        stop: Texts that end a response, for its generation config.
        settings: Of the model's `save_pretrained`.
    """
    if getattr(model, "generation_config", None) is not None:
        model.generation_config = _valid(model.generation_config)
        if turns is not None:
            _set_ends(model.generation_config, tokenizer, turns)
        if stop:
            model.generation_config.stop_strings = list(stop)
    model.save_pretrained(folder, **settings)
    tokenizer.save_pretrained(folder)


def _set_ends(config: Any, tokenizer: Any, turns: Turns) -> None:
    stops = list(turns.stops)
    config.eos_token_id = stops if len(stops) > 1 else stops[0]
    config.pad_token_id = tokenizer.pad_token_id
    config._from_model_config = False


def _valid(config: Any) -> Any:
    """A generation config that the library saves: it refuses what some published models have.

    Settings of sampling without do_sample (as of Llama 2) mean sampling; of any other config only
    the ids of special tokens are kept.
    """
    for sampling in (config.do_sample, True):
        config.do_sample = sampling
        try:
            config.validate(strict=True)
        except ValueError:
            continue
        return config
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(config, name) for name in names})
