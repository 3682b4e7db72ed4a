"""Encode soft targets: from log q of each token to the columns of `distill.targets.format`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from distill.core.noise import row_uniforms
from distill.targets.format import (
    RANGE,
    ZERO,
    Scheme,
    blob_names,
    count_type,
    id_type,
    log_p_type,
    packed_ids,
)

_BLOCK = 64  # ids per block of the two-level search for the most likely or drawn ones
_CHUNK = 16  # tokens per step on a CPU: 16 x 49,152 floats stay near its cache
_DRAWN = ("ids", "counts", "lengths")
_LEAST = -1e30  # a finite stand-in for log 0


def quantised(log_p: np.ndarray, scheme: Scheme) -> np.ndarray:
    """Quantise log-probabilities; finite ones below the type's range become its smallest value."""
    dtype = log_p_type(scheme)
    if dtype.kind == "f":
        return log_p.astype(dtype)
    codes = np.rint(np.sqrt(np.clip(-log_p, 0, RANGE) / RANGE) * (ZERO - 1))
    return np.where(np.isneginf(log_p), ZERO, codes).astype(dtype)


@torch.inference_mode()
def encode_targets(log_q: torch.Tensor, scheme: Scheme, row_id: str) -> dict[str, Any]:
    """The blobs of one row.

    Args:
        log_q: float32 [tokens, vocabulary], log-probabilities of q in nats; may hold -inf.
        scheme: What to store.
        row_id: With the scheme's seed it decides the draws. A row's blobs do not depend on other
            rows, and the draws of a token do not depend on the tokens after it.

    Returns:
        The blob columns of `target_schema`: all columns but id, tokens and costs.

    Raises:
        ValueError: A token's log-probabilities are not a distribution.
    """
    tokens, vocabulary = log_q.shape
    parts: dict[str, list[np.ndarray]] = {name: [] for name in blob_names(scheme)}
    uniforms = torch.empty(tokens, 0)
    if scheme.scheme == "sampled":
        each = 1 if scheme.systematic else scheme.draws
        noise = row_uniforms(f"targets\0{row_id}", scheme.seed, tokens * each)
        uniforms = torch.from_numpy(noise).view(tokens, each).to(log_q.device)
        if scheme.systematic:
            steps = torch.arange(scheme.draws, device=log_q.device, dtype=torch.float64)
            uniforms = (steps + uniforms) / scheme.draws
    size = _CHUNK if log_q.device.type == "cpu" else 64 * _CHUNK
    for first in range(0, tokens, size):
        logs = log_q[first : first + size].float()
        others = [_moments(logs, t) for t in scheme.temperatures]
        moments = _moments(logs, 1.0)
        columns = {"entropy": np.stack([moments.entropy, *(one.entropy for one in others)], axis=1)}
        if others:
            columns["log_z"] = np.stack([one.log_z for one in others], axis=1)
        if not np.isfinite(columns["entropy"]).all():
            raise ValueError(f"log_q of row {row_id} holds NaN, or a token without any probability")
        if scheme.scheme == "dense":
            columns["log_p"] = quantised(logs.cpu().numpy(), scheme)
        elif scheme.scheme == "sampled":
            columns |= _sampled(logs, moments.weights, uniforms[first : first + size], scheme)
        else:
            values, ids = _top(logs, min(scheme.k, vocabulary))
            columns["ids"] = ids.cpu().numpy()
            columns["log_p"] = quantised(values.cpu().numpy(), scheme)
            columns["tail_mass"] = _tail(moments.weights, ids)
        for name in parts:
            parts[name].append(columns[name])
    dtypes = {"ids": id_type(vocabulary), "log_p": log_p_type(scheme), "log_z": np.dtype("<f4")}
    dtypes |= {name: np.dtype("<f2") for name in ("tail_mass", "entropy")}
    blobs = {
        name: b"".join(
            part.astype(dtypes.get(name, count_type(scheme))).tobytes() for part in several
        )
        for name, several in parts.items()
    }
    if scheme.scheme == "sampled" and tokens:
        ids, counts, lengths = (np.concatenate(parts[name]) for name in _DRAWN)
        blobs["ids"] = packed_ids(ids, counts, lengths, id_type(vocabulary))
    return blobs


class _Moments(NamedTuple):
    weights: torch.Tensor
    """[tokens, vocabulary], proportional to p_T; the largest is 1."""
    log_z: np.ndarray
    """log sum_i q_i^(1/T), [tokens]."""
    entropy: np.ndarray
    """Of p_T in nats, [tokens]."""


def _moments(logs: torch.Tensor, temperature: float) -> _Moments:
    top = logs.amax(1, keepdim=True)
    scores = logs - top
    if temperature != 1:
        scores.div_(temperature)
    scores.clamp_min_(_LEAST)  # so that 0 * log 0 = 0
    weights = scores.exp()
    mass = weights.sum(1)
    log_mass = mass.log()
    entropy = (log_mass - torch.linalg.vecdot(scores, weights) / mass).clamp_min_(0)
    log_z = log_mass + top.squeeze(1) / temperature
    return _Moments(weights, log_z.cpu().numpy(), entropy.cpu().numpy())


def _tail(weights: torch.Tensor, ids: torch.Tensor) -> np.ndarray:
    """The share of `weights` [tokens, vocabulary] outside `ids`; overwrites the weights."""
    total = weights.sum(1)
    tail: np.ndarray = (weights.scatter_(1, ids, 0.0).sum(1) / total).cpu().numpy()
    return tail


def _in_blocks(scores: torch.Tensor, padding: float) -> torch.Tensor:
    """[tokens, blocks, _BLOCK], a view where the vocabulary divides."""
    rest = -scores.shape[1] % _BLOCK
    padded = torch.nn.functional.pad(scores, (0, rest), value=padding) if rest else scores
    return padded.view(len(scores), -1, _BLOCK)


def _top(logs: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row and their ids, descending.

    They are in the k blocks with the largest maxima, so only these are searched.
    """
    blocks = _in_blocks(logs.clamp_min(_LEAST), -torch.inf)  # padding ranks below q = 0
    chosen = blocks.amax(2).topk(min(k, blocks.shape[1]), dim=1, sorted=False).indices
    rows = torch.arange(len(logs), device=logs.device).unsqueeze(1)
    top = blocks[rows, chosen].flatten(1).topk(k, dim=1)
    ids = chosen.gather(1, top.indices // _BLOCK) * _BLOCK + top.indices % _BLOCK
    return top.values.masked_fill_(top.values <= _LEAST, -torch.inf), ids


def _draw(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Draw ids by inversion, one per uniform.

    A block is drawn from the float64 cumulative sum of block sums, then an id from the cumulative
    sum inside the block. Hence every id with a positive weight can be drawn, and its probability is
    correct up to a relative rounding error.

    Args:
        weights: float32 [tokens, vocabulary], non-negative, some positive in each row.
        uniforms: float64 [tokens, draws] in [0, 1).

    Returns:
        int64 [tokens, draws].
    """
    blocks = _in_blocks(weights, 0.0)
    sums = torch.nn.functional.pad(blocks.sum(2).double().cumsum(1), (1, 0))
    target = uniforms * sums[:, -1:]
    chosen = torch.searchsorted(sums[:, 1:].contiguous(), target, right=True)
    before = sums.gather(1, chosen)
    share = (target - before) / (sums.gather(1, chosen + 1) - before)
    rows = torch.arange(len(weights), device=weights.device).unsqueeze(1)
    inside = blocks[rows, chosen].double().cumsum(2)
    rest = share.clamp_max_(1 - 2**-52).unsqueeze(2) * inside[:, :, -1:]
    return chosen * _BLOCK + torch.searchsorted(inside, rest, right=True).squeeze(2)


def _sampled(
    logs: torch.Tensor, weights: torch.Tensor, uniforms: torch.Tensor, scheme: Scheme
) -> dict[str, np.ndarray]:
    """ids, counts, lengths, tail_mass and log_p of a chunk's draws; overwrites the weights."""
    drawn = _draw(weights, uniforms).sort(dim=1).values
    columns = {"tail_mass": _tail(weights, drawn)}
    flat = drawn.cpu().numpy()
    new = np.ones(flat.shape, dtype=bool)
    new[:, 1:] = flat[:, 1:] != flat[:, :-1]
    starts = np.flatnonzero(new)
    counts = np.diff(starts, append=flat.size)
    order = np.lexsort((-counts, starts // scheme.draws))  # stable: ids ascend at equal counts
    starts = starts[order]
    columns |= {"ids": flat.ravel()[starts], "counts": counts[order], "lengths": new.sum(1)}
    if scheme.log_p:
        places = torch.from_numpy(starts).to(logs.device)
        values = logs[places // scheme.draws, drawn.flatten()[places]]
        columns["log_p"] = quantised(values.cpu().numpy(), scheme)
    return columns


def mix_log_q(log_qs: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Log-probabilities of a mixture of teachers: log sum_t w_t q_t.

    Args:
        log_qs: Per teacher float32 [tokens, width], log-probabilities in nats. Widths may differ,
            because heads may be padded differently; ids that a head lacks have q = 0.
        weights: Positive weights; they are scaled to sum to 1.

    Returns:
        float32 [tokens, largest width].
    """
    width = max(log_q.shape[1] for log_q in log_qs)
    shares = np.log(np.asarray(weights, dtype=float) / sum(weights))
    mixed: torch.Tensor | None = None
    for log_q, share in zip(log_qs, shares.tolist(), strict=True):
        missing = width - log_q.shape[1]
        term = torch.nn.functional.pad(log_q.float() + share, (0, missing), value=-torch.inf)
        mixed = term if mixed is None else torch.logaddexp(mixed, term)
    assert mixed is not None
    return mixed
