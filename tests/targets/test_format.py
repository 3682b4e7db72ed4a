from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import chi2

from distill.core.errors import UserError
from distill.core.noise import row_uniforms
from distill.core.parquet import read_rows, write_rows
from distill.targets import encoding
from distill.targets.encoding import encode_targets, mix_log_q
from distill.targets.format import (
    Scheme,
    bytes_per_token,
    decode_targets,
    packed_ids,
    stored_bytes,
    summarise,
    target_schema,
    unpacked_ids,
)

SCHEMES = [
    Scheme("top_k", k=8, temperatures=(2.0, 0.7)),
    Scheme("top_k", k=8, bits=16, temperatures=(2.0, 0.7)),
    Scheme("top_k_tail", k=8, temperatures=(2.0, 0.7)),
    Scheme("top_k_tail", k=8, bits=16, temperatures=(2.0, 0.7)),
    Scheme("sampled", draws=50),
    Scheme("sampled", draws=50, log_p=True, temperatures=(2.0, 0.7)),
    Scheme("sampled", draws=50, log_p=True, bits=16, temperatures=(2.0, 0.7)),
    Scheme("dense"),
]

COST = {"flops": 2.0, "seconds": 0.5, "kwh": 1e-6, "kwh_estimated": 0.0}


def peaked(tokens: int, vocabulary: int, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    """Log-probabilities of random logits."""
    noise = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(tokens, vocabulary, generator=noise)
    return logits.log_softmax(-1)


def cut(log_q: torch.Tensor, kept: Sequence[int]) -> torch.Tensor:
    """The distributions cut to their first ids: as many per token as `kept` says."""
    beyond = torch.arange(log_q.shape[1]) >= torch.tensor(kept).unsqueeze(1)
    return log_q.masked_fill(beyond, -torch.inf).log_softmax(-1)


def exact(log_q: torch.Tensor, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """p_T and its entropy, in float64, by definition."""
    q = log_q.double().exp().numpy()
    p = q ** (1 / temperature)
    p /= p.sum(1, keepdims=True)
    return p, -(p * np.log(np.where(p > 0, p, 1))).sum(1)


def placed(targets: Any, vocabulary: int) -> np.ndarray:
    """Target weights as a matrix [tokens, vocabulary]."""
    dense = np.zeros((len(targets.ids), vocabulary))
    np.add.at(dense, (np.arange(len(dense))[:, None], targets.ids), targets.p.astype(float))
    return dense


def decoded(blob: bytes, dtype: str, *shape: int) -> np.ndarray:
    return np.frombuffer(blob, dtype).reshape(shape)


def drawn_ids(row: dict[str, Any], vocabulary: int = 300) -> np.ndarray:
    """The ids of sampled targets with up to 255 draws, as the documentation of the columns says."""
    counts, lengths = (decoded(row[name], "u1", -1) for name in ("counts", "lengths"))
    dtype = np.dtype("<u2" if vocabulary <= 65_536 else "<u4")
    planes = decoded(row["ids"], "u1", dtype.itemsize, -1)
    ids = sum(plane.astype(np.int64) << (8 * place) for place, plane in enumerate(planes))
    first = set(np.cumsum([0, *lengths.astype(int)]))
    for place in range(1, len(ids)):
        if counts[place] == counts[place - 1] and place not in first:
            ids[place] += ids[place - 1]
    return np.asarray(ids)


@pytest.mark.parametrize("vocabulary", [2, 300, 49_152, 200_000])
def test_packed_ids_are_unpacked_and_as_documented(vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    weights = rng.dirichlet(np.full(min(vocabulary, 500), 0.05), size=40).clip(1e-6)
    ids, counts, lengths = [], [], []
    names = np.sort(rng.choice(vocabulary, weights.shape[1], replace=False))
    for one in weights / weights.sum(1, keepdims=True):
        drawn = rng.multinomial(200, one)
        order = np.lexsort((names, -drawn))[: (drawn > 0).sum()]
        ids.append(names[order])
        counts.append(drawn[order])
        lengths.append(len(order))
    flat = [np.concatenate(ids), np.concatenate(counts).astype("u1"), np.array(lengths, "u1")]
    dtype = np.dtype("<u2" if vocabulary <= 65_536 else "<u4")
    blob = packed_ids(flat[0], flat[1], flat[2], dtype)
    assert len(blob) == len(flat[0]) * dtype.itemsize
    assert np.array_equal(unpacked_ids(blob, flat[1], flat[2], dtype), flat[0])
    row = {"ids": blob, "counts": flat[1].tobytes(), "lengths": flat[2].tobytes()}
    assert np.array_equal(drawn_ids(row, vocabulary), flat[0])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_row_has_the_columns_of_the_schema_and_survives_parquet(
    scheme: Scheme, tmp_path: Path
) -> None:
    log_q = peaked(37, 300)
    blobs = encode_targets(log_q, scheme, "train-1")
    schema = target_schema(scheme)
    assert [*blobs] == [name for name in schema.names if name not in ("id", "tokens", *COST)]
    row = {"id": "train-1", "tokens": 37, **COST, **blobs}
    write_rows(tmp_path / "cache.parquet", [row], schema, spec={})
    (back,) = read_rows(tmp_path / "cache.parquet")
    assert back == row
    assert schema.field("tokens").type == pa.int32()
    kept = pq.read_schema(tmp_path / "cache.parquet")
    for name in blobs:
        assert kept.field(name).type == pa.large_binary()
        assert kept.field(name).metadata.keys() == {b"dtype", b"shape"}
    for temperature in (1.0, *scheme.temperatures):
        one, two = (decode_targets(each, scheme, 300, temperature) for each in (row, back))
        assert np.array_equal(one.ids, two.ids)
        assert np.array_equal(one.p, two.p)
        assert one.ids.dtype == np.int64
        assert one.p.dtype == one.entropy.dtype == np.float32
        assert one.p.shape == one.ids.shape
        assert (one.tail is None) == (scheme.scheme != "top_k_tail")
        assert one.tail is None or one.tail.dtype == np.float32


def test_blobs_have_the_documented_layout() -> None:
    log_q = peaked(37, 300)
    scheme = Scheme("sampled", draws=50, log_p=True, bits=16, temperatures=(2.0, 0.7))
    row = encode_targets(log_q, scheme, "a")
    lengths = decoded(row["lengths"], "u1", 37)
    ids, counts = drawn_ids(row), decoded(row["counts"], "u1", -1)
    assert lengths.sum(dtype=int) == len(ids) == len(counts)
    owner = np.repeat(np.arange(37), lengths)
    assert np.array_equal(np.bincount(owner, counts), np.full(37, 50.0))
    within = owner[1:] == owner[:-1]
    assert (np.diff(counts.astype(int))[within] <= 0).all()
    level = within & (counts[1:] == counts[:-1])
    assert level.sum() > 37
    assert (np.diff(ids.astype(int))[level] > 0).all()
    assert len(set(zip(owner, ids, strict=True))) == len(ids)
    own = log_q.numpy()[owner, ids]
    assert np.array_equal(decoded(row["log_p"], "<f2", -1), own.astype(np.float16))
    q = log_q.double().exp().numpy()
    drawn = np.bincount(owner, q[owner, ids])
    np.testing.assert_allclose(decoded(row["tail_mass"], "<f2", 37), 1 - drawn, rtol=6e-4)
    log_z = [np.log((q ** (1 / t)).sum(1)) for t in (2.0, 0.7)]
    np.testing.assert_allclose(decoded(row["log_z"], "<f4", 37, 2), np.stack(log_z, 1), rtol=1e-5)

    row = encode_targets(log_q, Scheme("top_k_tail", k=8), "a")
    ordered = np.argsort(-q, axis=1)
    assert np.array_equal(decoded(row["ids"], "<u2", 37, 8), ordered[:, :8])
    codes = decoded(row["log_p"], "u1", 37, 8)
    wanted = np.log(np.take_along_axis(q, ordered[:, :8], 1))
    assert (np.diff(codes.astype(int), axis=1) >= 0).all()
    assert (abs(-24 * (codes / 254) ** 2 - wanted) < 24 / 254).all()
    rest = np.take_along_axis(q, ordered[:, 8:], 1).sum(1)
    np.testing.assert_allclose(decoded(row["tail_mass"], "<f2", 37), rest, rtol=6e-4)


def test_a_small_tail_is_stored_precisely() -> None:
    log_q = torch.tensor([[1.0, 3e-5, 1e-5, 2e-6]]).log().log_softmax(-1)
    row = encode_targets(log_q, Scheme("top_k_tail", k=1), "a")
    targets = decode_targets(row, Scheme("top_k_tail", k=1), 4)
    assert targets.tail is not None
    assert targets.tail[0] == pytest.approx(4.2e-5, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "bits", "bound"),
    [
        (0.9, 8, 7e-3),
        (0.1, 8, 3e-2),
        (1e-3, 8, 5.2e-2),
        (0.9, 16, 3.1e-5),
        (0.1, 16, 1e-3),
        (1e-3, 16, 2e-3),
    ],
)
def test_rounding_errors_are_as_documented(p: float, bits: int, bound: float) -> None:
    """Probabilities close to `p`; the documented bound holds and is not far too large."""
    near = 0.015 if p == 0.9 else 0.06  # a little more than a code's width
    values = p * np.exp(np.linspace(-near, near, 2001))
    scheme = Scheme("dense") if bits == 16 else Scheme("top_k", k=2)
    log_q = torch.from_numpy(np.log(np.stack([values, 1 - values], 1))).float()
    row = encode_targets(log_q, scheme, "a")
    if bits == 16:
        stored = decoded(row["log_p"], "<f2", -1, 2).astype(float)
    else:
        stored = -24 * (decoded(row["log_p"], "u1", -1, 2) / 254) ** 2
        if p < 0.5:
            stored = stored[:, ::-1]  # the likelier comes first
    error = np.abs(np.exp(stored[:, 0]) / values - 1).max()
    assert 0.8 * bound < error < 1.05 * bound


def test_probability_0_and_1_and_the_least_are_told_apart() -> None:
    log_q = torch.tensor([[0.0, -30.0, -torch.inf, -torch.inf]])
    for bits, least in ((8, -24.0), (16, -30.0)):
        scheme = Scheme("top_k_tail", k=3, bits=bits)
        row = encode_targets(log_q, scheme, "a")
        targets = decode_targets(row, scheme, 4)
        assert targets.ids[0].tolist()[:2] == [0, 1]
        assert targets.p[0, 0] == 1
        assert targets.p[0, 1] == pytest.approx(np.exp(least), rel=1e-4)
        assert targets.p[0, 2] == 0
        assert targets.tail is not None
        assert targets.tail[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [5, 64, 300, 4096, 4099])
@pytest.mark.parametrize("k", [1, 8, 100])
def test_top_k_finds_the_likeliest(vocabulary: int, k: int) -> None:
    log_q = peaked(40, vocabulary, seed=k)
    scheme = Scheme("top_k", k=k, bits=16)
    targets = decode_targets(encode_targets(log_q, scheme, "a"), scheme, vocabulary)
    values, ids = log_q.topk(min(k, vocabulary))
    assert np.array_equal(targets.ids, ids.numpy())
    wanted = values.softmax(-1).numpy()
    np.testing.assert_allclose(targets.p, wanted, rtol=0.02)
    np.testing.assert_allclose(targets.p.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.7])
@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.055), (16, 0.003)])
def test_top_k_at_a_temperature(temperature: float, bits: int, tolerance: float) -> None:
    log_q = peaked(60, 300)
    p, entropy = exact(log_q, temperature)
    tolerance = tolerance * max(1.0, 1 / temperature)
    scheme = Scheme("top_k", k=8, bits=bits, temperatures=(2.0, 0.7))
    targets = decode_targets(encode_targets(log_q, scheme, "a"), scheme, 300, temperature)
    kept = np.take_along_axis(p, targets.ids, 1)
    np.testing.assert_allclose(targets.p, kept / kept.sum(1, keepdims=True), rtol=tolerance)
    np.testing.assert_allclose(targets.p.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(targets.entropy, entropy, rtol=5e-4)

    scheme = Scheme("top_k_tail", k=8, bits=bits, temperatures=(2.0, 0.7))
    targets = decode_targets(encode_targets(log_q, scheme, "a"), scheme, 300, temperature)
    assert targets.tail is not None
    np.testing.assert_allclose(targets.p, kept, rtol=tolerance)
    np.testing.assert_allclose(targets.p.sum(1) + targets.tail, 1, rtol=1e-6)
    rest = 1 - kept.sum(1)
    bound = 3e-4 if temperature == 1 else tolerance / 3
    np.testing.assert_allclose(targets.tail, rest, atol=bound)
    assert rest.max() - rest.min() > 0.2
    if temperature == 0.7:  # three times as far without the scaling to the stored tail
        assert abs(targets.tail - rest).mean() < (0.003 if bits == 8 else 0.0003)
    np.testing.assert_allclose(targets.entropy, entropy, rtol=5e-4)


def test_targets_of_a_nearly_flat_distribution_are_finite() -> None:
    """The tail rounds to 1 in float16, so that only the kept log-probabilities tell their mass."""
    vocabulary = 20_000
    log_q = torch.zeros(3, vocabulary)
    log_q[:, 17] = 1.0
    log_q = log_q.log_softmax(-1)
    for name in ("top_k", "top_k_tail"):
        scheme = Scheme(name, k=2, bits=16, temperatures=(0.1,))
        row = encode_targets(log_q, scheme, "a")
        assert decoded(row["tail_mass"], "<f2", 3).tolist() == [1, 1, 1]
        for temperature in (1.0, 0.1):
            p, _ = exact(log_q, temperature)
            targets = decode_targets(row, scheme, vocabulary, temperature)
            kept = np.take_along_axis(p, targets.ids, 1)
            share = kept.sum(1, keepdims=True) if name == "top_k" else 1
            np.testing.assert_allclose(targets.p, kept / share, rtol=0.05)
            if targets.tail is not None:
                np.testing.assert_allclose(targets.tail, 1 - kept.sum(1), atol=0.02)
                np.testing.assert_allclose(targets.p.sum(1) + targets.tail, 1, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.3])
def test_dense_serves_any_temperature(temperature: float) -> None:
    log_q = cut(peaked(30, 50), [3, 50] * 15)
    p, entropy = exact(log_q, temperature)
    targets = decode_targets(
        encode_targets(log_q, Scheme("dense"), "a"), Scheme("dense"), 50, temperature
    )
    assert np.array_equal(targets.ids, np.tile(np.arange(50), (30, 1)))
    np.testing.assert_allclose(targets.p, p, rtol=0.03, atol=1e-9)
    assert np.array_equal(targets.p == 0, p == 0)
    np.testing.assert_allclose(targets.p.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(targets.entropy, entropy, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("scheme", [each for each in SCHEMES if each.scheme != "dense"])
def test_a_temperature_that_is_not_stored_is_refused(scheme: Scheme) -> None:
    row = encode_targets(peaked(4, 300), scheme, "a")
    served = "temperatures 1, 2, 0.7" if scheme.temperatures else "temperature 1"
    also = "" if scheme.log_p or scheme.scheme != "sampled" else " and set its log_p: true"
    with pytest.raises(UserError) as refusal:
        decode_targets(row, scheme, 300, 3.0)
    assert str(refusal.value) == (
        f"this cache supports {served} only; add 3 to its temperatures "
        f"(caches.<name>.temperatures){also}"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"scheme": "sampled", "draws": 65_536},
        {"scheme": "sampled"},
        {"scheme": "top_k"},
        {"scheme": "top_k", "k": 4, "bits": 4},
        {"scheme": "top_k", "k": 4, "temperatures": (2.0, 1.0)},
        {"scheme": "sampled", "draws": 9, "temperatures": (2.0,)},
    ],
)
def test_impossible_schemes_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"draws|need k|bits|temperatures"):
        Scheme(**settings)


@pytest.mark.parametrize("scheme", SCHEMES[-3:])
def test_what_is_no_distribution_is_refused(scheme: Scheme) -> None:
    log_q = peaked(20, 40)
    log_q[18, 3] = torch.nan
    with pytest.raises(ValueError, match="row train-7"):
        encode_targets(log_q, scheme, "train-7")
    log_q[18] = -torch.inf
    with pytest.raises(ValueError, match="row train-7"):
        encode_targets(log_q, scheme, "train-7")


def test_ids_of_a_large_vocabulary_are_wider() -> None:
    log_q = peaked(3, 70_000, 0.5)
    best = log_q.argmax(1)
    log_q[:, 69_999] = 3.0
    log_q = log_q.log_softmax(-1)
    top = Scheme("top_k", k=2)
    row = encode_targets(log_q, top, "a")
    assert len(row["ids"]) == 3 * 2 * 4
    targets = decode_targets(row, top, 70_000)
    assert targets.ids.tolist() == [[69_999, int(one)] for one in best]

    many = Scheme("sampled", draws=255)
    row = encode_targets(peaked(3, 70_000, 0.5), many, "a")
    lengths = decoded(row["lengths"], "u1", 3)
    assert lengths.min() > 240
    assert len(row["ids"]) == 4 * lengths.sum(dtype=int)
    targets = decode_targets(row, many, 70_000)
    assert targets.ids.max() > 65_536
    np.testing.assert_allclose(targets.p.sum(1), 1, rtol=1e-5)

    narrow = encode_targets(peaked(1, 65_536, 0.1), Scheme("top_k", k=9), "a")
    assert len(narrow["ids"]) == 2 * 9


def test_255_draws_of_one_id_are_counted() -> None:
    log_q = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    scheme = Scheme("sampled", draws=255)
    row = encode_targets(log_q, scheme, "a")
    assert (row["ids"], row["counts"], row["lengths"]) == (b"\1\0", b"\xff", b"\1")
    assert decode_targets(row, scheme, 3).p.tolist() == [[1.0]]


def mean_targets(
    log_q: torch.Tensor, draws: int, temperature: float, seeds: int
) -> tuple[np.ndarray, int]:
    """The mean of sampled targets over seeds, and the number of draws behind it."""
    vocabulary = log_q.shape[1]
    further = () if temperature == 1 else (temperature,)
    total = np.zeros(tuple(log_q.shape))
    for seed in range(seeds):
        scheme = Scheme(
            "sampled", draws=draws, log_p=True, bits=16, temperatures=further, seed=seed
        )
        row = encode_targets(log_q, scheme, f"row-{seed % 7}")
        total += placed(decode_targets(row, scheme, vocabulary, temperature), vocabulary)
    return total / seeds, draws * seeds


@pytest.mark.slow
def test_sampled_targets_are_unbiased() -> None:
    log_q = cut(peaked(30, 200, 1.5), [200, 90, 3] * 10)
    mean, draws = mean_targets(log_q, 50, 1.0, seeds=200)
    p, _ = exact(log_q, 1.0)
    assert (mean[p == 0] == 0).all()
    common = p * draws > 20
    assert common.sum() > 1000
    z = (mean - p)[common] / np.sqrt(p * (1 - p) / draws)[common]
    assert abs(z).max() < 4.8  # over about 2,000 cells
    assert 0.9 < (z**2).mean() < 1.1  # as spread as independent draws, not more, not less
    statistic = ((mean - p) ** 2 * draws / np.where(common, p, np.inf)).sum(1)
    assert chi2.sf(statistic, common.sum(1) - 0.9).min() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [2.0, 0.7])
def test_reweighted_targets_are_unbiased_at_another_temperature(temperature: float) -> None:
    log_q = cut(peaked(30, 60, 1.0), [60, 40, 3] * 10)
    mean, draws = mean_targets(log_q, 50, temperature, seeds=200)
    q, _ = exact(log_q, 1.0)
    p, _ = exact(log_q, temperature)
    assert (mean[p == 0] == 0).all()
    common = q * draws > 20
    assert common.sum() > 700
    weight = np.where(q > 0, p, 1) / np.where(q > 0, q, 1)
    error = np.sqrt(q * (1 - q) / draws) * weight
    rounding = 0.002 * abs(1 / temperature - 1) * p
    assert (abs(mean - p) < 4.5 * error + rounding)[common].all()
    error = np.where(error > 0, error, 1)
    assert 0.85 < (((mean - p) / error)[common] ** 2).mean() < 1.15
    assert (((mean / weight - p) / error)[common] ** 2).mean() > 3  # the counts alone


def test_draws_depend_on_the_row_and_the_seed_alone() -> None:
    log_q = peaked(40, 1000)
    scheme = Scheme("sampled", draws=20, log_p=True)
    row = encode_targets(log_q, scheme, "train-1")
    encode_targets(peaked(9, 50), scheme, "train-2")
    assert encode_targets(log_q, scheme, "train-1") == row
    fewer = encode_targets(log_q[:21], scheme, "train-1")
    for name, blob in (fewer | {"ids": drawn_ids(fewer, 1000).tobytes()}).items():
        assert blob
        assert (row | {"ids": drawn_ids(row, 1000).tobytes()})[name].startswith(blob)
    others = [
        encode_targets(log_q, scheme, "train-2"),
        encode_targets(log_q, Scheme("sampled", draws=20, log_p=True, seed=1), "train-1"),
    ]
    for other in others:
        assert other["entropy"] == row["entropy"]
        assert other["ids"] != row["ids"]


def test_draws_are_not_those_that_made_the_text() -> None:
    log_q = torch.full((50, 60_000), 1 / 60_000).log()
    scheme = Scheme("sampled", draws=1)
    drawn = drawn_ids(encode_targets(log_q, scheme, "train-1"), 60_000).astype(float)
    own = row_uniforms("targets\0train-1", 0, 50)
    text = row_uniforms("train-1", 0, 50)
    assert abs(drawn / 60_000 - own).max() < 1e-3
    assert abs(drawn / 60_000 - text).mean() > 0.2


@pytest.mark.slow
def test_the_rarest_of_many_ids_can_be_drawn() -> None:
    """Also those that share their block with a likely one, whose float32 sum hides them."""
    vocabulary, rare = 49_152, 1e-9
    weights = torch.full((1, vocabulary), rare)
    weights[0, 0] = 1.0
    assert weights[0, :64].sum() <= 1 + 2e-7
    start = 1 - 1.01 * vocabulary * rare
    found = np.zeros(vocabulary, dtype=int)
    for some in torch.linspace(start, 1 - 2**-53, 160_000, dtype=torch.float64).split(20_000):
        drawn = encoding._draw(weights, some.unsqueeze(0))
        found += np.bincount(drawn[0].numpy(), minlength=vocabulary)
    assert found.min() >= 1
    assert found[1:].max() <= 7  # about 3.2 each
    last = torch.tensor([[0.0, 1 - 2**-53]], dtype=torch.float64)
    assert encoding._draw(weights, last).tolist() == [[0, vocabulary - 1]]


@pytest.mark.parametrize("vocabulary", [3, 64, 700])
def test_an_id_without_probability_is_never_drawn(vocabulary: int) -> None:
    noise = torch.Generator().manual_seed(vocabulary)
    weights = torch.rand(300, vocabulary, generator=noise)
    weights[torch.rand(300, vocabulary, generator=noise) < 0.97] = 0
    weights[:, 0] = weights[:, -1] = 0
    weights[:, vocabulary // 2] = 0.2
    uniforms = torch.rand(300, 20, generator=noise, dtype=torch.float64)
    uniforms[:, 0], uniforms[:, 1] = 0.0, 1 - 2**-53
    drawn = encoding._draw(weights, uniforms)
    assert (weights.gather(1, drawn) > 0).all()
    positive = weights > 0
    assert torch.equal(drawn[:, 0], positive.int().argmax(1))
    assert torch.equal(drawn[:, 1], vocabulary - 1 - positive.flip(1).int().argmax(1))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("vocabulary", [300, 4101])
def test_a_cut_distribution_keeps_its_zeros(scheme: Scheme, vocabulary: int) -> None:
    """Ids stay distinct (a bucket of the rest would count one twice) and inside the vocabulary."""
    kept = [1, 3, 5, 7] * 5
    log_q = cut(peaked(20, vocabulary), kept)
    row = encode_targets(log_q, scheme, "a")
    for temperature in (1.0, *scheme.temperatures):
        p, entropy = exact(log_q, temperature)
        targets = decode_targets(row, scheme, vocabulary, temperature)
        assert targets.ids.max() < vocabulary
        assert (placed(targets, vocabulary)[p == 0] == 0).all()
        assert ((targets.p > 0).sum(1) <= kept).all()
        np.testing.assert_allclose(targets.entropy, entropy, rtol=2e-3, atol=1e-6)
        if scheme.scheme != "sampled":
            assert ((targets.p > 0).sum(1) == kept).all()
            assert all(len(set(ids)) == len(ids) for ids in targets.ids.tolist())
            np.testing.assert_allclose(placed(targets, vocabulary), p, atol=0.02)
        if targets.tail is not None:
            assert targets.tail.min() >= 0
            assert targets.tail.max() < (1e-6 if temperature == 1 else 0.02)


@pytest.mark.parametrize("scale", [0.5, 3.0, 12.0])
def test_entropies_are_those_of_the_whole_distribution(scale: float) -> None:
    log_q = peaked(50, 3000, scale)
    scheme = Scheme("top_k", k=1, temperatures=(4.0, 0.5))
    row = encode_targets(log_q, scheme, "a")
    means = []
    for temperature in (1.0, 4.0, 0.5):
        _, entropy = exact(log_q, temperature)
        own = decode_targets(row, scheme, 3000, temperature).entropy
        np.testing.assert_allclose(own, entropy, rtol=5e-4, atol=1e-6)
        means.append(entropy.mean())
    assert means[1] > means[0] > means[2]


def test_mixtures_equal_plain_probabilities() -> None:
    one, two = peaked(9, 40), cut(peaked(9, 33, seed=1), [5] * 9)
    mixed = mix_log_q([one, two], [3.0, 1.0])
    q = 0.75 * one.double().exp()
    q[:, :33] += 0.25 * two.double().exp()
    torch.testing.assert_close(mixed.double().exp(), q, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(mixed.exp().sum(1), torch.ones(9))
    assert torch.equal(mix_log_q([two], [0.2]), two)
    both = mix_log_q([two, two[:, :20]], [0.5, 0.5])
    assert both.shape == (9, 33)
    assert torch.equal(both == -torch.inf, two == -torch.inf)


def test_stored_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    blobs = [noise.bytes(5000) for _ in range(8)]
    table = pa.table(
        {
            "id": [str(row) for row in range(8)],
            "tokens": [10] * 8,
            "ids": pa.array(blobs, pa.large_binary()),
            "counts": pa.array([bytes(5000)] * 8, pa.large_binary()),
            "flops": [[1.0, 2.0]] * 8,
        }
    )
    path = tmp_path / "cache.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=3)
    sizes = stored_bytes(path)
    assert sizes.keys() == set(table.column_names)
    assert 40_000 < sizes["ids"] < 41_500
    assert 0 < sizes["counts"] < 1000
    assert sum(sizes.values()) < path.stat().st_size
    assert bytes_per_token([path, path]) == (sizes["ids"] + sizes["counts"]) / 80
    with pytest.raises(UserError, match="missing"):
        bytes_per_token([tmp_path / "none.parquet"])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_summaries(scheme: Scheme) -> None:
    texts = [cut(peaked(9, 300), [4, 300, 300] * 3), peaked(21, 300, seed=1)]
    rows = [encode_targets(log_q, scheme, str(row)) for row, log_q in enumerate(texts)]
    summary = summarise(iter(rows), scheme)
    p = np.concatenate([exact(log_q, 1.0)[0] for log_q in texts])
    wide = np.concatenate([placed(decode_targets(row, scheme, 300), 300) for row in rows])
    assert summary["tokens"] == 30
    assert summary["distinct_ids"] == pytest.approx((wide > 0).sum(1).mean())
    assert summary["kept_mass"] == pytest.approx(p[wide > 0].sum() / 30, rel=1e-4)
    entropy = np.concatenate([exact(log_q, 1.0)[1] for log_q in texts])
    assert summary["entropy"] == pytest.approx(entropy.mean(), rel=5e-4)


def test_a_row_without_tokens_is_empty() -> None:
    for scheme in SCHEMES:
        row = encode_targets(torch.zeros(0, 300), scheme, "a")
        assert set(row.values()) == {b""}
        for temperature in (1.0, *scheme.temperatures):
            targets = decode_targets(row, scheme, 300, temperature)
            assert len(targets.ids) == len(targets.p) == len(targets.entropy) == 0
        assert summarise([row], scheme)["tokens"] == 0


@pytest.mark.slow
def test_the_cache_is_compact_and_opens_as_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolLM2's vocabulary at about 1.5 nats: at most 40 bytes a token sampled, 64 top-16."""
    vocabulary, tokens = 49_152, 40
    schemes = {40: Scheme("sampled", draws=50), 64: Scheme("top_k", k=16)}
    rows: dict[int, list[dict[str, Any]]] = {most: [] for most in schemes}
    for number in range(16):
        log_q = peaked(tokens, vocabulary, 7.5, seed=number)
        for most, scheme in schemes.items():
            blobs = encode_targets(log_q, scheme, str(number))
            rows[most].append({"id": str(number), "tokens": tokens, **COST, **blobs})
    for most, scheme in schemes.items():
        path = tmp_path / f"{most}.parquet"
        write_rows(path, rows[most], target_schema(scheme))
        assert 1.4 < summarise(rows[most], scheme)["entropy"] < 1.6
        assert most / 2 < bytes_per_token([path]) <= most

    opened = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "40.parquet"), cache_dir=str(tmp_path / "hub")
    )["train"]
    assert opened.column_names == target_schema(schemes[40]).names
    assert opened[3] == rows[40][3]
    targets = decode_targets(opened[3], schemes[40], vocabulary)
    assert targets.p.shape[0] == tokens
    np.testing.assert_allclose(targets.p.sum(1), 1, rtol=1e-5)


@pytest.mark.slow
def test_systematic_draws_are_unbiased_and_within_one_of_their_mean() -> None:
    log_q = torch.log_softmax(
        3 * torch.randn(1, 400, generator=torch.Generator().manual_seed(3)), 1
    )
    q = log_q[0].exp().double().numpy()
    draws, rows = 40, 4000
    scheme = Scheme("sampled", draws=draws, systematic=True)
    counts = np.zeros((rows, 400))
    for number in range(rows):
        targets = decode_targets(encode_targets(log_q, scheme, str(number)), scheme, 400)
        np.add.at(counts[number], targets.ids[0], targets.p[0] * draws)
    assert np.abs(counts - draws * q).max() < 1 + 1e-4
    assert counts.sum(1) == pytest.approx(np.full(rows, draws))
    # A count is floor or ceil of its mean, so its variance is that of one toss.
    fraction = draws * q - np.floor(draws * q)
    error = np.sqrt(np.maximum(fraction * (1 - fraction), 1e-12) / rows)
    z = (counts.mean(0) - draws * q) / np.maximum(error, 1e-4)
    assert np.abs(z).max() < 5
    assert counts.var(0).sum() < 0.6 * (draws * q * (1 - q)).sum()


def test_more_draws_than_a_byte_holds_take_two() -> None:
    log_q = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    scheme = Scheme("sampled", draws=600)
    row = encode_targets(log_q, scheme, "a")
    assert (row["counts"], row["lengths"]) == (b"\x58\x02", b"\1\0")
    assert decode_targets(row, scheme, 3).p.tolist() == [[1.0]]
    spread = torch.log_softmax(torch.randn(3, 700, generator=torch.Generator().manual_seed(1)), 1)
    wide = decode_targets(encode_targets(spread, scheme, "b"), scheme, 700)
    assert wide.p.sum(1) == pytest.approx([1, 1, 1])
    assert (wide.p > 0).sum(1).min() > 255
