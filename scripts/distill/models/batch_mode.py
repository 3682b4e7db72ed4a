"""Choose how a model's rows are decoded together: the fastest way that changes nothing.

Positions come from `position_ids` alone in most models, so that padding and a shared beginning
change nothing. With ALiBi, local windows and rotary embeddings that depend on the length, they may.
A trial at load compares each mode with one row at a time without a cache.
"""

import logging
from typing import Any
from weakref import WeakKeyDictionary

import torch

from distill.models.forward import bare
from distill.models.positions import context_of, depends_on_length, length_limit, windows
from distill.models.stand_in import evaluating, stand_in
from distill.models.stepping import BatchMode, accepted, steps_of

_TRIAL = 24
"""Tokens of a trial where no threshold is crossed."""
_modes: WeakKeyDictionary[Any, dict[int, BatchMode]] = WeakKeyDictionary()


def decoding_mode(model: Any, tokens: int) -> BatchMode:
    """The fastest mode that gives the logits of one row at a time.

    Args:
        model: A causal language model.
        tokens: Longest prompt with its answer.
    """
    base = bare(model)
    if depends_on_length(base.config, tokens):
        return BatchMode.UNCACHED
    widths, limits = windows(base.config), [length_limit(base.config), context_of(base.config)]
    crossed = [width for width in widths if width < tokens]
    longest = [width for width in [*widths, *limits] if width is not None and width >= tokens]
    length = min([max([_TRIAL, *(width + 8 for width in crossed)]), *longest]) - 1
    known = _modes.setdefault(base, {})
    if length not in known:
        # Padding behind a shared beginning counts as distance to it.
        modes = [mode for mode in BatchMode if not (crossed and mode is BatchMode.SHARED)]
        trial = stand_in(base)
        known[length] = next(mode for mode in modes if _equals_single_rows(trial, mode, length))
        logging.info("decoding: %s", known[length].value)
    return known[length]


def modes_of(model: Any) -> list[str]:
    """The modes that a model's trials chose so far, for records."""
    return sorted(mode.value for mode in set(_modes.get(bare(model), {}).values()))


def _prompts(length: int, vocabulary: int) -> torch.Tensor:
    """Random token ids [3, length] of which all rows begin with the same sixth."""
    ids = torch.randint(vocabulary, (3, length), generator=torch.Generator().manual_seed(0))
    ids[:, : length // 6] = ids[0, : length // 6]
    return ids


def _equals_single_rows(model: Any, mode: BatchMode, length: int) -> bool:
    """Whether a mode gives the logits of one row at a time, at three steps."""
    if mode is BatchMode.UNCACHED:
        return True
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = _prompts(length, vocabulary)
    sizes = [length, 2 * length // 3, length // 3] if mode.pads else [length] * 3
    rows = [row[:size].tolist() for row, size in zip(ids, sizes, strict=True)]
    with evaluating(model):
        expected = [_plain(model, [*row, row[0]]) for row in rows]
        got = _logits_of(model, rows, mode)
    if got is None:
        return False
    pairs = [(got[0], [row[0] for row in expected]), (got[1], [row[1] for row in expected])]
    pairs.append((got[2], [expected[2][2], expected[0][2]]))
    return all(_alike(ours, torch.stack(theirs)) for ours, theirs in pairs)


def _logits_of(model: Any, rows: list[list[int]], mode: BatchMode) -> list[torch.Tensor] | None:
    """Logits of three steps of three rows by a mode; None if the architecture does not take it."""
    try:
        steps = steps_of(model, [row[:-1] for row in rows], mode)
        got = [steps.logits()]
        steps.append(torch.tensor([row[-1] for row in rows], device=model.device))
        got.append(steps.logits())
        steps.select(torch.tensor([2, 0], device=model.device))
        steps.append(torch.tensor([rows[2][0], rows[0][0]], device=model.device))
        got.append(steps.logits())
    except torch.OutOfMemoryError:  # no matter of the architecture
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        # The architecture lacks this kind of cache, or parts of it.
        logging.info("no decoding by %s: %s", mode.value, " ".join(str(error).split())[:200])
        return None
    return got


def _plain(model: Any, row: list[int]) -> torch.Tensor:
    """Logits [3, vocabulary] at a row's last positions, without padding or cache."""
    ids = torch.tensor([row], device=model.device)
    arguments = accepted(model, logits_to_keep=3)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False, **arguments).logits[0, -3:]
    return logits


def _alike(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether fp32 logits differ by no more than rounding, by row."""
    gap = (ours - theirs).square().mean(-1).sqrt()
    return bool((gap <= 1e-4 * theirs.std(-1)).all())
