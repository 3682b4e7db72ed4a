"""The format of the soft-target cache: its columns, and how to decode them.

Targets approximate q, the teacher's sampling distribution; loss temperatures T are relative to it:
p_T is proportional to q^(1/T) (Hinton 2015, arXiv 1503.02531), and p_1 = q. Four schemes:

- `top_k`: the k most likely ids, renormalised. Biased: it sharpens the student.
- `top_k_tail`: the same ids, and all others as one bucket.
- `sampled`: draws with replacement as counts (random-sampling KD: Anshumann 2025, arXiv
  2503.16870). Unbiased for losses linear in p: cross-entropy and forward KL.
- `dense`: all ids, for tiny vocabularies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.contracts.costs import UNITS
from distill.contracts.schemas import cost_fields
from distill.core.errors import UserError
from distill.core.parquet import read_table

RANGE = 24.0
"""Nats that an 8-bit log-probability spans: below e^-24 = 3.8e-11 it is clamped."""
ZERO = 255  # 8-bit code of probability 0; codes 0 .. 254 are 1 .. e^-RANGE
_OTHER_COLUMNS = ("id", "tokens", *UNITS)


@dataclass(frozen=True)
class Scheme:
    """What is stored of each token's distribution."""

    scheme: Literal["top_k", "top_k_tail", "sampled", "dense"]
    k: int = 0
    """top_k, top_k_tail: ids stored per token (all, if the vocabulary is smaller)."""
    draws: int = 0
    """sampled: draws per token, 1 to 65,535; up to 255 a count takes one byte."""
    systematic: bool = False
    """sampled: draw at (i + u) / draws for one uniform u per token (systematic sampling, Madow
    1949) instead of at independent uniforms. Each count has the same mean, draws * q, and differs
    from it by less than 1, so likely ids have hardly any noise."""
    log_p: bool = False
    """sampled: also store log p of the drawn ids, which other temperatures need."""
    bits: int = 8
    """8 or 16 per stored log-probability; dense always has 16."""
    temperatures: tuple[float, ...] = ()
    """Further loss temperatures, relative to q, that the cache supports; none is 1."""
    seed: int = 0
    """sampled: seed of the draws."""

    def __post_init__(self) -> None:
        sampled = self.scheme == "sampled"
        if sampled and not 1 <= self.draws <= 65_535:
            raise ValueError("sampled targets need 1 to 65,535 draws")
        if self.scheme.startswith("top_k") and self.k < 1:
            raise ValueError(f"{self.scheme} targets need k")
        if self.bits not in (8, 16):
            raise ValueError("a log-probability has 8 or 16 bits")
        if 1 in self.temperatures or (sampled and self.temperatures and not self.log_p):
            raise ValueError("further temperatures are not 1, and need log_p in sampled targets")


@dataclass(frozen=True)
class Targets:
    """Soft targets of one row at one temperature; `k` is the widest token's number of ids."""

    ids: np.ndarray
    """int64 [tokens, k], padded with 0."""
    p: np.ndarray
    """float32 [tokens, k], padded with 0: the weight of each id in the loss. top_k: sums to 1;
    top_k_tail: sums to 1 - tail; sampled: counts / draws, at T != 1 times p_T / p, which sums to
    1 only in expectation; dense: sums to 1."""
    tail: np.ndarray | None
    """float32 [tokens], top_k_tail only: mass of p_T outside the kept ids."""
    entropy: np.ndarray
    """float32 [tokens]: entropy of p_T in nats."""


def target_schema(scheme: Scheme) -> pa.Schema:
    """Columns of a cache: id, tokens, blobs, and the cost in flops, seconds and energy.

    A blob is a little-endian numpy array in C order; its dtype and shape are in the field's
    metadata. (Parquet has no 16-bit integers, and lists of tens of millions of Python integers
    would not fit in memory.) n is the row's tokens, V the vocabulary, t the number of further
    temperatures:

    - `ids`: uint16, uint32 if V > 65,536. top_k, top_k_tail: [n, min(k, V)] by descending
      probability. sampled: the distinct drawn ids of all tokens one after another, each token's
      by descending count, then ascending id; see `packed_ids` for how they are stored.
    - `counts`: uint8 (uint16 if draws > 255), sampled only: how often each of `ids` was drawn.
    - `lengths`: like `counts`, [n], sampled only: distinct ids per token.
    - `log_p`: log q of each of `ids` (dense: [n, V]). bits 16 and dense: float16. bits 8: uint8
      codes c, log p = -24 (c / 254)^2 nats, and p = 0 at c = 255. Their errors are below.
    - `tail_mass`: float16 [n], mass of q outside `ids`; precise where it is small.
    - `entropy`: float16 [n, 1 + t], nats, of q and of p_T at each further temperature.
    - `log_z`: float32 [n, t], log sum_i q_i^(1/T): p_T(i) = q_i^(1/T) / exp(log_z).

    The largest relative error of p from rounding, before any renormalisation:

    | p | 8 bits | 16 bits |
    |---|---|---|
    | .9 | 0.7 % | 0.003 % |
    | .1 | 3.0 % | 0.1 % |
    | .001 | 5.2 % | 0.2 % |
    """
    n_ids = "sum of lengths" if scheme.scheme == "sampled" else "tokens, min(k, vocabulary)"
    moments = f"tokens, {1 + len(scheme.temperatures)}"
    log_p = "float16" if log_p_type(scheme) == np.dtype("<f2") else "uint8 code"
    about = {
        "ids": ("uint16 (uint32 if vocabulary > 65536)", n_ids),
        "counts": (str(count_type(scheme)), n_ids),
        "lengths": (str(count_type(scheme)), "tokens"),
        "log_p": (log_p, "tokens, vocabulary" if scheme.scheme == "dense" else n_ids),
        "tail_mass": ("float16", "tokens"),
        "entropy": ("float16", moments),
        "log_z": ("float32", f"tokens, {len(scheme.temperatures)}"),
    }
    blobs = [
        pa.field(name, pa.large_binary(), metadata={"dtype": dtype, "shape": f"[{shape}]"})
        for name, (dtype, shape) in about.items()
        if name in blob_names(scheme)
    ]
    return pa.schema([("id", pa.string()), ("tokens", pa.int32()), *blobs, *cost_fields()])


def blob_names(scheme: Scheme) -> list[str]:
    """The blob columns of a scheme, in order."""
    if scheme.scheme == "dense":
        return ["log_p", "entropy"]
    sampled = scheme.scheme == "sampled"
    names = ["ids"]
    names += ["counts", "lengths"] if sampled else []
    names += ["log_p"] if scheme.log_p or not sampled else []
    names += ["tail_mass", "entropy"]
    return names + (["log_z"] if scheme.temperatures else [])


def id_type(vocabulary: int) -> np.dtype[Any]:
    """16 bits per id where the vocabulary allows."""
    return np.dtype("<u2" if vocabulary <= 65_536 else "<u4")


def _follows(counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Whether the id before has the same token and count; then this id is larger."""
    follows = np.zeros(len(counts), dtype=bool)
    follows[1:] = counts[1:] == counts[:-1]
    starts = np.cumsum(lengths[:-1], dtype=np.int64)
    follows[starts[starts < len(counts)]] = False
    return follows


def packed_ids(
    ids: np.ndarray, counts: np.ndarray, lengths: np.ndarray, dtype: np.dtype[Any]
) -> bytes:
    """The `ids` blob of sampled targets; it compresses better than the ids, by 10 to 25 %.

    Ids of one token with equal counts are stored as differences from the id before, except the
    first. The lowest bytes of all values come first, then the next ones.

    Args:
        ids: The drawn ids of all tokens one after another, ascending at equal counts.
        counts: How often each was drawn.
        lengths: Ids per token.
        dtype: `id_type` of the vocabulary.
    """
    values = ids.astype(np.int64)
    values[1:] -= np.where(_follows(counts, lengths)[1:], ids[:-1], 0)
    return values.astype(dtype).view("u1").reshape(-1, dtype.itemsize).T.tobytes()


def unpacked_ids(
    blob: bytes, counts: np.ndarray, lengths: np.ndarray, dtype: np.dtype[Any]
) -> np.ndarray:
    """The inverse of `packed_ids`; int64."""
    planes = np.frombuffer(blob, "u1").reshape(dtype.itemsize, -1)
    values = np.ascontiguousarray(planes.T).view(dtype).ravel().astype(np.int64)
    sums = np.cumsum(values)
    # A cumulative sum that restarts at each id that is not a difference.
    first = np.flatnonzero(~_follows(counts, lengths))
    before = sums[first] - values[first]
    return sums - np.repeat(before, np.diff(first, append=len(values)))


def count_type(scheme: Scheme) -> np.dtype[Any]:
    """Type of counts and lengths of sampled targets: one byte if draws fit, else two."""
    return np.dtype("u1" if scheme.draws <= 255 else "<u2")


def log_p_type(scheme: Scheme) -> np.dtype[Any]:
    """Type of a stored log-probability."""
    return np.dtype("<f2" if scheme.bits == 16 or scheme.scheme == "dense" else "u1")


def _restored(blob: bytes, scheme: Scheme) -> np.ndarray:
    """float32 log-probabilities of a `log_p` blob."""
    codes = np.frombuffer(blob, log_p_type(scheme))
    if codes.dtype.kind == "f":
        return codes.astype(np.float32)
    table = -RANGE * (np.arange(256, dtype=np.float32) / (ZERO - 1)) ** 2
    table[ZERO] = -np.inf
    return table[codes]


def decode_targets(
    row: Mapping[str, Any], scheme: Scheme, vocabulary: int, temperature: float = 1.0
) -> Targets:
    """The soft targets of one row.

    Args:
        row: The blob columns of `target_schema`; others are ignored.
        scheme: The scheme that the row was encoded with.
        vocabulary: Width of the distribution that was encoded.
        temperature: Loss temperature relative to q.

    Raises:
        UserError: The cache does not support the temperature.
    """
    if scheme.scheme == "dense":
        return _decode_dense(row, scheme, vocabulary, temperature)
    column = _column(scheme, temperature)
    entropies = _matrix(row["entropy"], "<f2", 1 + len(scheme.temperatures))
    entropy = entropies[:, column].astype(np.float32)
    log_z = np.zeros((len(entropy), 1), np.float32)
    if column:
        log_z = _matrix(row["log_z"], "<f4", len(scheme.temperatures))[:, [column - 1]]
    if scheme.scheme == "sampled":
        lengths, counts = (
            np.frombuffer(row[name], count_type(scheme)) for name in ("lengths", "counts")
        )
        ids = unpacked_ids(row["ids"], counts, lengths, id_type(vocabulary))
        weights = counts.astype(np.float32) / scheme.draws
        if column:
            log_p = _restored(row["log_p"], scheme)
            drift = np.repeat(log_z[:, 0], lengths)
            weights = weights * np.exp(log_p * (1 / temperature - 1) - drift)
        real = np.arange(lengths.max(initial=0)) < lengths[:, None]
        padded = np.zeros(real.shape, np.int64), np.zeros(real.shape, np.float32)
        padded[0][real], padded[1][real] = ids, weights
        return Targets(*padded, None, entropy)

    shape = len(entropy), min(scheme.k, vocabulary)
    ids = np.frombuffer(row["ids"], id_type(vocabulary)).astype(np.int64).reshape(shape)
    log_p = _restored(row["log_p"], scheme).reshape(shape)
    if scheme.scheme == "top_k":
        return Targets(ids, _softmax(log_p / np.float32(temperature)), None, entropy)
    p = np.exp(log_p)
    # Scale rounded log-probabilities so that they sum to 1 - tail, at other temperatures too. Near
    # a tail of 1 float16 is too coarse for that.
    tail = np.frombuffer(row["tail_mass"], "<f2").astype(np.float32)
    kept_mass = np.where(tail < 0.99, 1 - tail, p.sum(1))
    scale = (kept_mass / p.sum(1))[:, None]
    p *= scale
    tail = np.where(tail < 0.99, tail, 1 - kept_mass)
    if column:
        p = np.exp((log_p + np.log(scale)) / np.float32(temperature) - log_z)
        p /= np.maximum(p.sum(1, keepdims=True), 1)
        tail = np.maximum(1 - p.sum(1), 0)
    return Targets(ids, p, tail, entropy)


def _decode_dense(
    row: Mapping[str, Any], scheme: Scheme, vocabulary: int, temperature: float
) -> Targets:
    logs = _restored(row["log_p"], scheme).reshape(-1, vocabulary) / np.float32(temperature)
    p = _softmax(logs)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    return Targets(np.tile(np.arange(vocabulary), (len(p), 1)), p, None, entropy)


def _softmax(logs: np.ndarray) -> np.ndarray:
    weights = np.exp(logs - logs.max(1, keepdims=True))
    shares: np.ndarray = weights / weights.sum(1, keepdims=True)
    return shares


def _matrix(blob: bytes, dtype: str, columns: int) -> np.ndarray:
    return np.frombuffer(blob, dtype).reshape(-1, columns)


def _column(scheme: Scheme, temperature: float) -> int:
    """The column of `entropy` at a temperature."""
    served = (1.0, *scheme.temperatures)
    if temperature in served:
        return served.index(temperature)
    numbers = ", ".join(f"{t:g}" for t in served)
    also = "" if scheme.scheme != "sampled" or scheme.log_p else " and set its log_p: true"
    raise UserError(
        f"this cache supports temperature{'s' if scheme.temperatures else ''} {numbers} only; add "
        f"{temperature:g} to its temperatures (caches.<name>.temperatures){also}"
    )


def stored_bytes(path: str | Path) -> dict[str, int]:
    """Compressed bytes of each column of a Parquet file."""
    metadata = pq.read_metadata(path)
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(place)
            name = chunk.path_in_schema.split(".")[0]
            sizes[name] = sizes.get(name, 0) + chunk.total_compressed_size
    return sizes


def bytes_per_token(paths: Sequence[str | Path]) -> float:
    """Compressed bytes of soft targets per token; id, tokens and flops are not counted.

    Raises:
        UserError: A file is missing or damaged.
    """
    tokens = sum(sum(read_table(path, ["tokens"])["tokens"].to_pylist()) for path in paths)
    size = sum(
        size
        for path in paths
        for name, size in stored_bytes(path).items()
        if name not in _OTHER_COLUMNS
    )
    return size / max(tokens, 1)


def summarise(rows: Iterable[Mapping[str, Any]], scheme: Scheme) -> dict[str, float]:
    """Means over the tokens of rows of one cache; zeros if there are none.

    Returns:
        tokens; kept_mass, the mass of q on the kept or drawn ids; entropy of q in nats; and
        distinct_ids per token, those of positive stored probability.
    """
    tokens, tail, entropy, distinct = 0, 0.0, 0.0, 0
    for row in rows:
        entropies = _matrix(row["entropy"], "<f2", 1 + len(scheme.temperatures))[:, 0]
        tokens += len(entropies)
        entropy += float(entropies.sum(dtype=float))
        if scheme.scheme != "dense":
            tail += float(np.frombuffer(row["tail_mass"], "<f2").sum(dtype=float))
        if scheme.scheme == "sampled":
            distinct += int(np.frombuffer(row["lengths"], count_type(scheme)).sum(dtype=int))
        else:
            distinct += int(np.isfinite(_restored(row["log_p"], scheme)).sum())
    count = max(tokens, 1)
    return {
        "tokens": tokens,
        "kept_mass": (1 - tail / count) if tokens else 0.0,
        "entropy": entropy / count,
        "distinct_ids": distinct / count,
    }


def scheme_of(spec: Mapping[str, Any]) -> Scheme:
    """The scheme of a cache's spec."""
    return Scheme(
        scheme=spec["scheme"],
        k=spec["k"] or 0,
        draws=spec["draws"] or 0,
        systematic=spec.get("systematic", False),
        log_p=spec["log_p"],
        bits=spec["bits"],
        temperatures=tuple(spec["temperatures"]),
        seed=spec["seed"],
    )
