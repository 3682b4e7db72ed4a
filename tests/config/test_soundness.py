"""The table of sound pairs, written out once more by hand."""

from typing import Any

import pytest

from distill.config.checks.soundness import LIVE, SCHEMES, table, unsound
from distill.config.methods import Cache, Method
from distill.contracts.divergences import DIVERGENCES

CACHES: dict[str, dict[str, Any]] = {
    "final_hidden": {},
    "dense": {},
    "top_k_tail": {"k": 8},
    "top_k": {"k": 8},
    "sampled": {"draws": 20},
}
ALLOWED = {key: {"final_hidden", "dense", "top_k_tail"} for key in [*DIVERGENCES, "uld"]} | {
    "forward_kl": {"final_hidden", "dense", "top_k_tail", "top_k", "sampled"},
    "spans": {"final_hidden", "dense"},
}


def cache(scheme: str, **settings: Any) -> Cache:
    return Cache.model_validate({"scheme": scheme, **CACHES[scheme], **settings})


def method(**settings: Any) -> Method:
    return Method.model_validate(settings)


def test_every_scheme_is_looked_at() -> None:
    assert set(SCHEMES) == set(CACHES)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("loss", ALLOWED)
def test_the_table(loss: str, scheme: str) -> None:
    reason = unsound(method(ce=1.0, **{loss: 1.0}), cache(scheme))
    if scheme in ALLOWED[loss]:
        assert reason is None
        return
    assert reason is not None
    assert reason.startswith(f"{loss} is not sound on {scheme} targets (")
    why = (
        "samples are biased" if scheme == "sampled" else "probabilities of other tokens are unknown"
    )
    if loss == "spans":
        why = "the likelihood of tokens that it does not store is unknown"
    assert why in reason
    named = reason.split("; use scheme ")[1].replace(" or ", ", ").split(", ")
    assert set(named) == ALLOWED[loss]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_unsound_loss_among_sound_ones_is_found(scheme: str) -> None:
    both = unsound(method(forward_kl=1.0, jsd=0.1), cache(scheme))
    assert (both is None) == (scheme in ALLOWED["jsd"])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_cross_entropy_reads_nothing(scheme: str) -> None:
    assert unsound(method(ce=1.0, temperature=3.0), cache(scheme)) is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_temperatures_need_what_was_stored_for_them(scheme: str) -> None:
    warm = method(forward_kl=1.0, temperature=2.0)
    reason = unsound(warm, cache(scheme))
    if scheme in ("final_hidden", "dense"):
        assert reason is None
        return
    assert reason is not None
    remedy = "add it to temperatures" + (" and log_p: true" if scheme == "sampled" else "")
    assert f"the cache stores no normalisers for temperature 2; {remedy}" in reason
    more = {"log_p": True} if scheme == "sampled" else {}
    assert unsound(warm, cache(scheme, temperatures=[2.0], **more)) is None
    again = unsound(method(forward_kl=1.0, temperature=3.0), cache(scheme, temperatures=[2.0], **more))  # fmt: skip  # noqa: E501
    assert again is not None
    assert "log_p" not in again


@pytest.mark.parametrize("scheme", SCHEMES)
def test_layers_must_have_been_kept(scheme: str) -> None:
    wanted = method(ce=1.0, hidden={"layers": {1: 4, 2: 9}})
    reason = unsound(wanted, cache(scheme))
    assert reason is not None
    assert reason.endswith("give the cache hidden: {layers: …}")
    reason = unsound(wanted, cache(scheme, hidden={"layers": [1, 4]}))
    assert reason is not None
    assert "layer 9, which the cache does not store; add it to hidden.layers" in reason
    assert unsound(wanted, cache(scheme, hidden={"layers": [9, 4]})) is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_embedding_loss_needs_final_states(scheme: str) -> None:
    reason = unsound(method(ce=1.0, embedding={}), cache(scheme))
    if scheme == "final_hidden":
        assert reason is None
        return
    assert reason is not None
    assert reason.endswith(f"use scheme final_hidden, not {scheme}")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_matching_states_asks_for_no_temperature(scheme: str) -> None:
    wanted = method(ce=1.0, temperature=2.0, hidden={"layers": {1: 1}})
    assert unsound(wanted, cache(scheme, hidden={"layers": [1]})) is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_tokens_must_have_been_scored(scheme: str) -> None:
    wanted = method(forward_kl=1.0, tokens="all")
    reason = unsound(wanted, cache(scheme))
    assert reason is not None
    assert reason.endswith("the cache stores the answer's only; set tokens: all in the cache")
    assert unsound(wanted, cache(scheme, tokens="all")) is None
    assert unsound(method(forward_kl=1.0), cache(scheme, tokens="all")) is None


@pytest.mark.parametrize("loss", ["uld", "spans"])
def test_losses_across_tokenizers_align_answers_only(loss: str) -> None:
    reason = unsound(method(**{loss: 1.0}, tokens="all"), cache("dense", tokens="all"))
    assert reason == f"{loss} aligns answers; set the method's tokens to answer"
    assert unsound(method(**{loss: 1.0}), cache("dense", tokens="all")) is None


def test_the_table_in_the_docs_has_a_line_per_sound_pair() -> None:
    lines = table().splitlines()
    for loss, schemes in ALLOWED.items():
        found = {line.split("|")[2].strip(" `") for line in lines if f"| `{loss}` |" in line}
        live = set() if loss in ("uld", "spans") else {LIVE.strip("`")}
        assert found == schemes | live
    assert any("`embedding`" in line and "final_hidden" in line for line in lines)
    assert any("`hidden`" in line and "any with `hidden:`" in line for line in lines)
