import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import teaching
import tiny
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.models.decoding import Decoding
from distill.models.heads import OutputHead, hidden_states, state_bytes, teacher_log_q
from distill.targets import caching
from distill.targets.caching import cache_targets, width_and_holes
from distill.targets.encoding import encode_targets
from distill.targets.format import decode_targets, scheme_of
from distill.targets.manifest import write_manifest

WIDTH, VOCABULARY = 10, 70
LENGTHS = (3, 1, 7, 5, 2)
SCHEMES: dict[str, dict[str, Any]] = {
    "dense": {},
    "top_k": {"k": 6},
    "top_k_tail": {"k": 6, "temperatures": [2.0]},
    "sampled": {"draws": 9, "log_p": True, "temperatures": [0.5]},
}


def head(seed: int, vocabulary: int = VOCABULARY, width: int = WIDTH) -> OutputHead:
    generator = torch.Generator().manual_seed(seed)
    return OutputHead(torch.randn(vocabulary, width, generator=generator), None, 0.0, 1.0)


def states_of(seed: int, width: int = WIDTH) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "id": f"row-{number}", "tokens": length, "flops": 1000.0 * (number + 1),
            "hidden": state_bytes(torch.randn(length, width, generator=generator)),
            "seconds": 2.0 * seed,
        }
        for number, length in enumerate(LENGTHS)
    ]  # fmt: skip


def spec(scheme: str, *temperatures: float, weights: Sequence[float] = (), **more: Any) -> Any:
    """A cache's spec as the plan gives it; several temperatures for several teachers."""
    names = {"big": 1.0} if len(temperatures) < 2 else {"big": weights[0], "other": weights[1]}
    settings = {"scheme": scheme, **SCHEMES[scheme], **more}
    if len(temperatures) > 1:
        settings["teachers"] = names
    study = teaching.plan({"forward_kl": 1.0}, settings)
    made = study.targets.full_spec("big", "soft")
    for scorer, temperature in zip(made["scorers"], temperatures, strict=True):
        scorer["temperature"] = temperature
    return made


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("block", [512, 4])
def test_several_rows_are_encoded_as_each_by_itself(
    monkeypatch: pytest.MonkeyPatch, scheme: str, block: int
) -> None:
    monkeypatch.setattr(caching, "BLOCK", block)
    given, states, teacher = spec(scheme, 0.8), states_of(1), head(0)
    made = cache_targets([states], [teacher], given)
    code = scheme_of(given)
    assert [row["id"] for row in made] == [row["id"] for row in states]
    assert [row["tokens"] for row in made] == list(LENGTHS)
    for row, source in zip(made, states, strict=True):
        alone = hidden_states(source["hidden"], WIDTH)
        logs = teacher_log_q(teacher, alone, Decoding(temperature=0.8))
        expected = encode_targets(logs, code, source["id"])
        for temperature in (1.0, *code.temperatures):
            one = decode_targets(row, code, VOCABULARY, temperature)
            two = decode_targets(expected, code, VOCABULARY, temperature)
            np.testing.assert_array_equal(one.ids, two.ids)
            np.testing.assert_allclose(one.p, two.p, rtol=0.05, atol=1e-4)
            np.testing.assert_allclose(one.entropy, two.entropy, rtol=2e-3, atol=1e-3)
        assert row["flops"] == source["flops"] + 2 * VOCABULARY * WIDTH * row["tokens"]
        assert row["seconds"] > source["seconds"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ids_without_a_token_get_no_mass(scheme: str) -> None:
    """A hole, and padding to more rows than tokens; a k above the tokens stores them all."""
    more: dict[str, Any] = {"k": 90} if scheme.startswith("top_k") else {}
    given, states, padded = spec(scheme, 0.8, **more), states_of(1), head(0)
    padded.excluded = [3, *range(60, VOCABULARY)]
    tokens = [number for number in range(VOCABULARY) if number not in padded.excluded]
    code = scheme_of(given)
    assert width_and_holes([padded]) == (60, [3])
    for row, source in zip(cache_targets([states], [padded], given), states, strict=True):
        hidden = hidden_states(source["hidden"], WIDTH).double()
        q = torch.softmax(hidden @ padded.weight.double()[tokens].T / 0.8, -1)
        for temperature in (1.0, *code.temperatures):
            made = decode_targets(row, code, 60, temperature)
            dense = np.zeros((row["tokens"], 60))
            np.put_along_axis(dense, made.ids, made.p, 1)
            assert not dense[:, 3].any()
            p = q ** (1 / temperature)
            p /= p.sum(1, keepdim=True)
            if scheme != "sampled":
                np.testing.assert_allclose(dense[:, tokens], p.numpy(), rtol=0.06, atol=1e-4)
                assert made.tail is None or float(made.tail.max()) < 5e-3  # of 8 bits
            entropy = -(p * p.log()).sum(1)
            np.testing.assert_allclose(made.entropy, entropy.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_a_token_that_was_drawn_is_among_the_targets(scheme: str, tokens: str) -> None:
    """However unlikely: rounded states can put it outside the teacher's own top-k or top-p."""
    given, states, teacher = spec(scheme, 1.0, tokens=tokens), states_of(1), head(0)
    given["scorers"][0]["top_k"] = 3
    text: list[dict[str, Any]] = []
    for source in states:
        logits = teacher.logits(hidden_states(source["hidden"], WIDTH).float())
        drawn = logits.topk(5).indices[:, 4].tolist()
        answer = drawn if tokens == "answer" else drawn[source["tokens"] // 2 :]
        prompt = [1] * (1 + source["tokens"] - len(answer))
        text.append({"id": source["id"], "prompt_ids": prompt, "response_ids": answer})
    plain = cache_targets([states], [teacher], given, text)
    given["scorers"][0]["drawn"] = True
    code = scheme_of(given)
    for row, cut, asked in zip(
        cache_targets([states], [teacher], given, text), plain, text, strict=True
    ):
        one, two = (decode_targets(each, code, VOCABULARY) for each in (row, cut))
        answer = asked["response_ids"]
        first = row["tokens"] - len(answer)
        np.testing.assert_array_equal(one.entropy[:first], two.entropy[:first])
        assert (one.entropy[first:] > two.entropy[first:]).all()
        if scheme == "sampled":
            continue
        kept = [set(ids[p > 0].tolist()) for ids, p in zip(one.ids, one.p, strict=True)]
        assert [len(ids) for ids in kept] == [3] * first + [5] * len(answer)
        assert all(token in ids for token, ids in zip(answer, kept[first:], strict=True))
    with pytest.raises(UserError, match="scored different rows"):
        cache_targets([states], [teacher], given, text[::-1])


def test_a_mixture_of_teachers_is_the_plain_mixture_of_their_distributions() -> None:
    """Of unlike widths, heads padded to unlike vocabularies, temperatures and weights."""
    given = spec("dense", 0.7, 1.5, weights=(3.0, 1.0))
    weights = [scorer["weight"] for scorer in given["scorers"]]
    assert weights == [0.75, 0.25]
    states = [states_of(1), states_of(2, width=6)]
    heads = [head(0), head(5, VOCABULARY + 4, width=6)]
    made = cache_targets(states, heads, given)
    for number, row in enumerate(made):
        mixed = torch.zeros(LENGTHS[number], VOCABULARY + 4, dtype=torch.float64)
        for own, one, weight, temperature in zip(states, heads, weights, (0.7, 1.5), strict=True):
            hidden = hidden_states(own[number]["hidden"], one.weight.shape[1]).double()
            q = torch.softmax(hidden @ one.weight.double().T / temperature, -1)
            mixed[:, : q.shape[1]] += weight * q
        p = decode_targets(row, scheme_of(given), VOCABULARY + 4).p
        np.testing.assert_allclose(p, mixed.numpy(), rtol=1e-2, atol=1e-6)
        cost = 2 * (VOCABULARY * WIDTH + (VOCABULARY + 4) * 6)
        assert row["flops"] == 2 * states[0][number]["flops"] + cost * row["tokens"]
        assert row["seconds"] > 2.0 + 4.0


def test_one_teacher_twice_is_that_teacher() -> None:
    given = spec("top_k_tail", 1.0, 1.0, weights=(1.0, 2.0))
    once = spec("top_k_tail", 1.0)
    both = cache_targets([states_of(1), states_of(1)], [head(0), head(0)], given)
    for one, two in zip(both, cache_targets([states_of(1)], [head(0)], once), strict=True):
        a = decode_targets(one, scheme_of(given), VOCABULARY)
        b = decode_targets(two, scheme_of(once), VOCABULARY)
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.p, b.p, rtol=0.05, atol=1e-4)


def test_the_width_of_a_mixture_is_that_of_its_tokens() -> None:
    one, two = head(0), head(1, VOCABULARY + 9)
    assert width_and_holes([one, two]) == (VOCABULARY + 9, [])
    one.excluded = [4, *range(60, VOCABULARY)]
    two.excluded = [4, *range(60, VOCABULARY + 9)]
    assert width_and_holes([one, two]) == (60, [4])
    assert width_and_holes([one]) == (60, [4])


def test_teachers_that_scored_different_rows_are_refused() -> None:
    given, states = spec("dense", 1.0, 1.0, weights=(1.0, 1.0)), states_of(1)
    for other in (states[::-1], states[:-1]):
        with pytest.raises(UserError, match="scored different rows; delete their states"):
            cache_targets([states, other], [head(0), head(1)], given)


def saved(folder: Path, words: Any) -> Path:
    """A file beside a saved tokenizer."""
    words.save_pretrained(folder)
    return folder / "config.json"


def test_the_manifest_says_whose_targets_they_are(tmp_path: Path, chat: Any) -> None:
    given = spec("sampled", 0.7, 1.0, weights=(1.0, 3.0), seed=4)
    out = tmp_path / "cache" / "manifest.json"
    model = saved(tmp_path / "chat", chat)
    write_manifest([model, model], ["big", "other"], given, out)
    record = read_json(out)
    assert record["schema"] == 1
    kept = {"scheme": "sampled", "k": None, "draws": 9, "log_p": True, "bits": 8, "seed": 4}
    assert {key: record[key] for key in kept} == kept
    assert (record["temperatures"], record["tokens"]) == ([0.5], "answer")
    first, second = record["teachers"]
    assert (first["teacher"], second["teacher"]) == ("big", "other")
    assert (first["weight"], second["weight"]) == (0.25, 0.75)
    assert first["distribution"] == {"temperature": 0.7, "top_k": 0, "top_p": 1.0}
    assert first["model"] == {"path": "models/base"}
    assert first["quantisation"] == "none"
    assert first["tokenizer_sha256"] == tokenizer_sha256(chat)
    assert first["chat_template_sha256"] == hashlib.sha256(tiny.CHATML.encode()).hexdigest()


def test_teachers_with_different_tokenizers_cannot_be_mixed(
    tmp_path: Path, chat: Any, plain: Any
) -> None:
    given, out = spec("dense", 1.0, 1.0, weights=(1.0, 1.0)), tmp_path / "manifest.json"
    smaller = tiny.tokenizer(vocabulary=280)
    models = [saved(tmp_path / "chat", chat), saved(tmp_path / "small", smaller)]
    with pytest.raises(UserError, match=r"big, other .* different tokenizers.* mix teachers with"):
        write_manifest(models, ["big", "other"], given, out)
    assert not out.exists()
    models = [models[0], saved(tmp_path / "plain", plain)]
    assert tokenizer_sha256(chat) != tokenizer_sha256(plain)
    write_manifest(models, ["big", "other"], given, out)  # of one family
    write_manifest(models[1:], ["big"], spec("dense", 1.0), out)
    empty = hashlib.sha256(b"").hexdigest()
    assert read_json(out)["teachers"][0]["chat_template_sha256"] == empty
