"""The objective against a float64 reference that loops over rows, positions and words."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch

import teaching
from distill.config.checks.soundness import VERDICTS
from distill.core.errors import UserError
from distill.models.decoding import Decoding
from distill.models.encoding import collate
from distill.models.heads import OutputHead, hidden_states, state_bytes, teacher_log_q
from distill.models.rows import Example
from distill.targets.encoding import encode_targets
from distill.targets.format import decode_targets, scheme_of
from distill.targets.layers import decode_layers
from distill.training.batches import Item, TargetReader, soft_losses
from distill.training.objective import Objective
from distill.training.spans import Spans
from objective_cases import (
    EOS,
    LENGTHS,
    VOCABULARY,
    WIDTH,
    Case,
    case,
    divergence,
    head_of_size,
    softmax,
)

SCHEMES: dict[str, dict[str, Any]] = {
    "final_hidden": {},
    "dense": {},
    "top_k_tail": {"k": 6, "bits": 16, "temperatures": [2.0]},
    "top_k": {"k": 6, "bits": 16, "temperatures": [2.0]},
    "sampled": {"draws": 12, "log_p": True, "temperatures": [2.0]},
}
PAIRS = [pair for pair in VERDICTS if pair[1] in SCHEMES and pair[0] not in ("embedding", "spans")]


def specs(
    method: dict[str, Any], scheme: str, tokens: str = "all", q: float = 1.0, **cache: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A method's and a cache's spec, as they reach a job."""
    teacher = {"temperature": q}
    settings = {"scheme": scheme, "tokens": tokens, **SCHEMES[scheme], **cache}
    spec = teaching.spec_of(teaching.plan(method, settings, teacher=teacher))
    return spec["method"], spec["shard"]["cache"]


def reference_soft(
    name: str, scores: torch.Tensor, made: Case, row: dict[str, Any], place: int
) -> torch.Tensor:
    """One soft loss at one token, from the teacher's whole distribution or the decoded targets."""
    method, cache = made.reader.method, made.reader.cache
    temperature, scheme = method["temperature"], cache["scheme"]
    s = softmax(scores, temperature)
    if scheme == "final_hidden":
        assert made.objective.head is not None
        state = hidden_states(row["hidden"], WIDTH)[place].double()
        q = softmax(made.objective.head.weight.double() @ state, cache["scorers"][0]["temperature"])
        p = q ** (1 / temperature)
        return divergence(name, p / p.sum(), s, method)
    targets = decode_targets(row, scheme_of(cache), VOCABULARY, temperature)
    p, ids = torch.tensor(targets.p[place]).double(), torch.tensor(targets.ids[place])
    if scheme == "dense":
        return divergence(name, p, s, method)
    if scheme == "top_k_tail":
        assert targets.tail is not None
        coarse = torch.cat([p, torch.tensor(targets.tail[place : place + 1]).double()])
        if name == "uld":
            largest = s.sort(descending=True).values[: len(p)]
            return (coarse - torch.cat([largest, 1 - largest.sum(0, keepdim=True)])).abs().sum()
        kept = s[ids]
        return divergence(name, coarse, torch.cat([kept, 1 - kept.sum(0, keepdim=True)]), method)
    assert name == "forward_kl"
    entropy = float(targets.entropy[place])  # of draws; of renormalised words their own
    if scheme == "top_k":
        entropy = -float((p * p.log()).sum())
    return -(p * s[ids].log()).sum() - entropy


def places(made: Case) -> Iterator[tuple[int, int, dict[str, Any], int, int]]:
    """Per token with soft targets: row, position, its row of the shard, place there; and label."""
    everywhere = made.reader.method["tokens"] == "all"
    for number, item in enumerate(made.items):
        prompt, answer = len(item.example.prompt), len(item.example.answer)
        whole = item.example.prompt + item.example.answer
        assert item.row is not None
        first = 0 if made.reader.cache["tokens"] == "all" else prompt - 1
        for position in range(0 if everywhere else prompt - 1, prompt + answer - 1):
            yield number, position, dict(item.row), position - first, whole[position + 1]


def reference(made: Case) -> tuple[torch.Tensor, dict[str, float], torch.Tensor]:
    """What `Case.run` should give, in float64."""
    method = made.reader.method
    full = made.logits.clone().requires_grad_()
    answers = sum(answer for _, answer in LENGTHS)
    terms: dict[str, torch.Tensor] = {}
    if method["ce"]:
        terms["ce"] = (
            torch.stack(
                [
                    -softmax(full[number, place])[token].log()
                    for number, item in enumerate(made.items)
                    for place, token in enumerate(item.example.answer, len(item.example.prompt) - 1)
                ]
            ).sum()
            / answers
        )
    each = list(places(made))
    for name in soft_losses(method):
        values = [
            reference_soft(name, full[number, position], made, row, place)
            for number, position, row, place, _ in each
        ]
        terms[name] = torch.stack(values).mean()
    squared = method["temperature"] ** 2
    loss = sum(method[name] * (1 if name == "ce" else squared) * terms[name] for name in terms)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert full.grad is not None
    return loss.detach(), {name: value.item() for name, value in terms.items()}, full.grad


def check(made: Case) -> None:
    """Loss, terms and gradient are the reference's."""
    loss, terms, gradient = made.run()
    expected, expected_terms, expected_gradient = reference(made)
    assert loss.item() == pytest.approx(float(expected), rel=2e-5)
    assert terms.keys() == expected_terms.keys()
    for name, value in terms.items():
        assert value.item() == pytest.approx(expected_terms[name], rel=3e-5, abs=1e-6), name
    scale = float(expected_gradient.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "scheme"), PAIRS)
def test_every_loss_on_every_scheme_equals_brute_force(loss: str, scheme: str) -> None:
    seen = 0
    for temperature in (1.0, 2.0):
        for tokens in ("answer", "all"):
            if loss == "uld" and tokens == "all":
                continue  # refused: ULD aligns answers
            for ce, q in ((0.0, 1.0), (0.6, 0.7)):
                settings = {"ce": ce, loss: 1.5, "temperature": temperature, "tokens": tokens}
                method, cache = specs(settings, scheme, q=q)
                check(case(method, cache))
                seen += 1
    assert seen == (4 if loss == "uld" else 8)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["final_hidden", "dense", "top_k_tail"])
def test_losses_add_up_and_their_parameters_are_read(scheme: str) -> None:
    settings = {
        "ce": 0.5, "forward_kl": 0.2, "reverse_kl": 0.3, "jsd": 2.0, "jsd_beta": 0.3,
        "total_variation": 0.7, "skew_kl": 1.1, "skew_alpha": 0.25, "uld": 0.4,
    }  # fmt: skip
    check(case(*specs(settings, scheme)))


def test_cross_entropy_and_kl_are_each_averaged_over_their_own_tokens() -> None:
    made = case(*specs({"ce": 1.0, "forward_kl": 1.0, "tokens": "all"}, "final_hidden"))
    answers, everything = sum(a for _, a in LENGTHS), sum(p + a - 1 for p, a in LENGTHS)
    assert made.objective.counts([made.batch]) == {"answer": answers, "soft": everything}
    assert answers < everything
    check(made)
    hard = Objective({**made.reader.method, "forward_kl": 0.0})
    assert int(hard.logit_positions(made.batch).sum()) == answers
    neither = Objective({**made.reader.method, "forward_kl": 0.0, "ce": 0.0})
    assert int(neither.logit_positions(made.batch).sum()) == 0
    assert int(made.objective.logit_positions(made.batch).sum()) == everything


@pytest.mark.parametrize("scheme", ["top_k", "sampled"])
@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_one_softmax_for_both_equals_the_two_apart(scheme: str, tokens: str) -> None:
    method, cache = specs({"ce": 0.4, "forward_kl": 0.6, "tokens": tokens}, scheme)
    both = case(method, cache)
    assert both.objective._merges()
    loss, terms, gradient = both.run()
    hard, hard_terms, hard_gradient = case({**method, "forward_kl": 0.0}, cache).run()
    apart = case({**method, "ce": 0.0}, cache)
    apart.objective._merges = lambda: False
    soft, soft_terms, soft_gradient = apart.run()
    assert loss.item() == pytest.approx(float(hard + soft), rel=1e-6)
    assert terms.keys() == {"ce", "forward_kl"}
    assert float(terms["ce"]) == pytest.approx(float(hard_terms["ce"]), rel=1e-6)
    assert float(terms["forward_kl"]) == pytest.approx(float(soft_terms["forward_kl"]), rel=1e-6)
    torch.testing.assert_close(gradient, hard_gradient + soft_gradient, rtol=1e-6, atol=1e-9)


def test_terms_carry_neither_weight_nor_squared_temperature() -> None:
    method, cache = specs({"ce": 1.0, "jsd": 1.0, "temperature": 2.0}, "dense")
    _, terms, _ = case(method, cache).run()
    _, heavy, _ = case({**method, "ce": 0.01, "jsd": 300.0}, cache).run()
    assert {k: float(v) for k, v in terms.items()} == {k: float(v) for k, v in heavy.items()}


def test_the_teachers_own_temperature_and_the_losss_multiply() -> None:
    """q is at the teacher's temperature, p_T at T on top of it: as one temperature of both."""
    q, t = 0.7, 2.0
    made = case(*specs({"forward_kl": 1.0, "temperature": t}, "final_hidden", q=q))
    row = made.items[0].row
    assert row is not None
    state = hidden_states(row["hidden"], WIDTH)
    assert made.objective.head is not None
    p = made.objective._teacher({"states": state}, slice(None)).exp()
    expected = torch.softmax(made.objective.head.logits(state).double() / (q * t), -1)
    torch.testing.assert_close(p.double(), expected, rtol=1e-5, atol=1e-8)


def test_mixed_precision_of_the_student_leaves_the_teacher_alone() -> None:
    made = case(*specs({"forward_kl": 1.0}, "final_hidden"))
    exact = made.objective._teacher(made.batch, slice(None))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made.objective._teacher(made.batch, slice(None)), exact)


def test_a_cut_teacher_is_cut_at_every_temperature() -> None:
    method, cache = specs({"forward_kl": 1.0, "temperature": 2.0}, "final_hidden")
    cache["scorers"][0]["top_k"] = 3
    made = case(method, cache)
    row = made.items[2].row
    assert row is not None
    p = made.objective._teacher({"states": hidden_states(row["hidden"], WIDTH)}, slice(None)).exp()
    assert (p > 0).sum(1).tolist() == [3] * len(p)
    loss, _, gradient = made.run()
    assert math.isfinite(loss.item())
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("k", [6, 60])
def test_reverse_kl_is_finite_where_a_stored_mass_is_zero(k: int) -> None:
    """A tail that half precision rounds to 0, and ids without a token among the k."""
    method, cache = specs({"reverse_kl": 1.0}, "top_k_tail", k=k)
    made = case(method, cache, VOCABULARY + 6, excluded=PADDED)
    assert bool((made.batch["p"] == 0).any()) == (k == 60)
    made.batch["tail"][:] = 0
    loss, _, gradient = made.run()
    assert 0 < float(loss) < 20
    assert bool(gradient.isfinite().all())
    assert float(gradient[..., VOCABULARY:].sum()) > 0


PADDED = [7, *range(VOCABULARY - 6, VOCABULARY)]
"""Ids without a token in the teacher's padded head: a hole, and all after the last token."""


@pytest.mark.slow
@pytest.mark.parametrize("width", [VOCABULARY - 4, VOCABULARY + 6])
@pytest.mark.parametrize(("name", "scheme"), PAIRS)
def test_heads_padded_to_other_widths(name: str, scheme: str, width: int) -> None:
    """q is 0 at ids without a token, and the student's mass there is lost."""
    q_temperature, temperature = 0.7, 2.0
    method, cache = specs({name: 1.0, "temperature": temperature}, scheme, q=q_temperature)
    made = case(method, cache, width, excluded=PADDED)
    loss, terms, gradient = made.run()
    assert bool(gradient.isfinite().all())
    assert 0 < float(terms[name]) < 20
    if scheme not in ("final_hidden", "dense"):
        held = made.batch["ids"][made.batch["p"] > 0]
        assert not set(held.tolist()) & set(PADDED)
        assert name == "uld" or float(gradient[..., width - 1].sum()) > 0  # pushed down
        return
    values = []
    tokens = [number for number in range(VOCABULARY) if number not in PADDED]
    for number, position, row, place, _ in places(made):
        if scheme == "dense":
            decoded = decode_targets(row, scheme_of(cache), VOCABULARY, temperature)
            p = torch.tensor(decoded.p[place]).double()
        else:
            assert made.objective.head is not None
            state = hidden_states(row["hidden"], WIDTH)[place].double()
            scores = made.objective.head.weight.double() @ state / q_temperature
            p = torch.zeros(VOCABULARY, dtype=torch.float64)
            p[tokens] = softmax(scores[tokens], temperature)
        assert float(p[PADDED].abs().sum()) == 0
        s = softmax(made.logits[number, position], temperature)
        if name == "reverse_kl":
            mass = s[tokens].sum()
            values.append(divergence(name, p[tokens], s[tokens] / mass, method) - mass.log())
            continue
        wide = torch.zeros(max(width, VOCABULARY), dtype=torch.float64)
        wide[:VOCABULARY] = p
        student = torch.zeros_like(wide)
        student[:width] = s
        values.append(divergence(name, wide, student, method))
    expected = torch.stack(values).mean()
    close = 2e-3 if scheme == "dense" else 1e-5
    torch.testing.assert_close(terms[name].double(), expected, rtol=close, atol=1e-5)
    torch.testing.assert_close(loss.double(), expected * temperature**2, rtol=close, atol=1e-5)


@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_a_drawn_token_is_never_cut_from_the_targets(tokens: str) -> None:
    method, cache = specs({"forward_kl": 1.0, "tokens": tokens}, "final_hidden", tokens)
    cache["scorers"][0] |= {"top_k": 2, "drawn": True}
    made = case(method, cache)
    drawn, labels = made.batch["drawn"], made.batch["shift_labels"][made.batch["soft_mask"]]
    assert drawn.tolist() == labels.clamp_min(-1).tolist()
    logs = made.objective._teacher(made.batch, slice(None))
    answers = drawn >= 0
    assert bool(logs.gather(1, drawn.clamp_min(0).unsqueeze(1))[answers].isfinite().all())
    assert (logs.isfinite().sum(1) > 2).any()  # the random rows are not likely
    assert bool((logs[~answers].isfinite().sum(1) == 2).all())
    assert math.isfinite(made.run()[0].item())
    cache["scorers"][0].pop("drawn")  # a text of others
    assert "drawn" not in case(method, cache).batch


@pytest.mark.slow
@pytest.mark.parametrize("scheme", list(SCHEMES))
@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_padding_never_counts(scheme: str, tokens: str) -> None:
    method, cache = specs({"ce": 0.5, "forward_kl": 0.5, "tokens": tokens}, scheme)
    made = case(method, cache)
    loss, terms, gradient = made.run()
    padding = made.batch["attention_mask"] == 0
    assert int(padding.sum()) > 10
    last = torch.zeros_like(padding)
    for number, (prompt, answer) in enumerate(LENGTHS):
        last[number, prompt + answer - 1] = True  # predicts nothing
    assert float(gradient[padding | last].abs().sum()) == 0
    assert float(gradient[~(padding | last)].abs().sum()) > 0
    made.logits[padding] = torch.nan
    again, more, other = made.run()
    assert (again, more) == (loss, terms)
    assert torch.equal(gradient, other)


def test_the_end_token_counts_although_it_is_the_pad_token() -> None:
    method, cache = specs({"ce": 1.0, "forward_kl": 1.0}, "dense")
    made = case({**method, "forward_kl": 0.0}, cache)
    _, _, gradient = made.run()
    answers = sum(a for _, a in LENGTHS)
    assert made.objective.counts([made.batch])["answer"] == answers
    for number, (prompt, answer) in enumerate(LENGTHS):
        ending = prompt + answer - 2  # predicts EOS
        assert made.batch["shift_labels"][number, ending] == EOS
        own = softmax(made.logits[number, ending])[EOS]
        assert float(gradient[number, ending, EOS]) == pytest.approx(
            float(own - 1) / answers, rel=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mse", "cosine"])
@pytest.mark.parametrize("tokens", ["answer", "all"])
@pytest.mark.parametrize("bits", [8, 16])
def test_matched_layers_equal_brute_force(loss: str, tokens: str, bits: int) -> None:
    entry = {"weight": 2.5, "loss": loss, "layers": {1: 3, 2: 1}}
    hidden = {"layers": [1, 3], "bits": bits}
    method, cache = specs({"ce": 0.5, "hidden": entry, "tokens": tokens}, "top_k", hidden=hidden)
    made = case(method, cache, layers=2)
    torch.manual_seed(0)
    projections = made.objective.projections(5, 7).double()
    assert sorted(projections) == ["layer_1", "layer_2"]
    states = [state.clone().requires_grad_() for state in made.states]
    counts = made.objective.counts([made.batch])
    keep = made.objective.logit_positions(made.batch)
    value, terms = made.objective(made.logits[keep], states, projections, made.batch, counts)
    value.backward()
    found = [state.grad for state in states]
    found += [weight.grad.clone() for weight in projections.parameters() if weight.grad is not None]

    other = [state.clone().requires_grad_() for state in made.states]
    projections.zero_grad()
    distances = []
    for number, position, row, place, _ in places(made):
        kept = decode_layers(row, 2, bits)[place].double()
        for own, theirs in ((1, 1), (2, 0)):  # layer 3 is stored second, layer 1 first
            a, b = projections[f"layer_{own}"](other[own][number, position]), kept[theirs]
            cosine = (a * b).sum() / (a.norm() * b.norm())
            distances.append(((a - b) ** 2).mean() if loss == "mse" else 1 - cosine)
    mean = torch.stack(distances).mean()
    (2.5 * mean).backward()
    assert terms.keys() == {"ce", "hidden"}
    assert float(terms["hidden"]) == pytest.approx(mean.item(), rel=1e-5)
    assert value.item() == pytest.approx(0.5 * float(terms["ce"]) + 2.5 * mean.item(), rel=1e-5)
    expected = [state.grad for state in other]
    expected += [weight.grad for weight in projections.parameters() if weight.grad is not None]
    assert len(found) == len(expected) == 8
    for one, two in zip(found, expected, strict=True):
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    assert found[0] is found[3] is None  # neither the embeddings nor the last layer were asked for


@pytest.mark.parametrize("loss", ["mse", "cosine"])
def test_matched_final_states_equal_brute_force(loss: str) -> None:
    entry = {"weight": 0.5, "loss": loss}
    method, cache = specs({"ce": 0.25, "embedding": entry}, "final_hidden", "answer")
    made = case(method, cache)
    torch.manual_seed(0)
    projections = made.objective.projections(5, 0).double()
    assert projections["embedding"].bias is None
    states = [state.clone().requires_grad_() for state in made.states]
    keep = made.objective.logit_positions(made.batch)
    counts = made.objective.counts([made.batch])
    value, terms = made.objective(made.logits[keep], states, projections, made.batch, counts)
    value.backward()
    weight = projections["embedding"].weight
    found = (states[-1].grad, weight.grad.clone() if weight.grad is not None else None)

    last = made.states[-1].clone().requires_grad_()
    projections.zero_grad()
    distances = []
    for number, position, row, place, _ in places(made):
        a = weight @ last[number, position]
        b = hidden_states(row["hidden"], WIDTH)[place].double()
        cosine = (a * b).sum() / (a.norm() * b.norm())
        distances.append(((a - b) ** 2).mean() if loss == "mse" else 1 - cosine)
    mean = torch.stack(distances).mean()
    (0.5 * mean).backward()
    assert float(terms["embedding"]) == pytest.approx(mean.item(), rel=1e-5)
    assert value.item() == pytest.approx(0.25 * float(terms["ce"]) + 0.5 * mean.item(), rel=1e-5)
    for one, two in zip(found, (last.grad, weight.grad), strict=True):
        assert one is not None
        assert two is not None
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_a_projection_of_equal_width_begins_as_the_identity() -> None:
    made = case(*specs({"embedding": {}}, "final_hidden", "answer"))
    weight = made.objective.projections(WIDTH, 0)["embedding"].weight
    assert torch.equal(weight, torch.eye(WIDTH))
    assert made.objective.projections(5, 0)["embedding"].weight.shape == (WIDTH, 5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["forward_kl", "reverse_kl", "jsd", "skew_kl", "total_variation"])
@pytest.mark.parametrize("scheme", ["final_hidden", "dense", "top_k_tail"])
@pytest.mark.parametrize("wider", [-3, 5])
def test_heads_padded_to_other_widths_give_finite_losses(
    loss: str, scheme: str, wider: int
) -> None:
    settings = {loss: 1.0} | ({"jsd_beta": 1.0} if loss == "jsd" else {})
    method, cache = specs(settings, scheme)
    if scheme == "top_k_tail" and wider < 0:
        return  # no kept id lies beyond the student's words where the tokenizer is shared
    made = case(method, cache, VOCABULARY + wider)
    value, _, gradient = made.run()
    assert math.isfinite(value.item())
    assert bool(gradient.isfinite().all())


def test_across_tokenizers_answers_are_paired_from_their_beginning() -> None:
    method, cache = specs({"uld": 1.0}, "dense", "answer")
    teacher = case(method, cache)
    rows = [item.row for item in teacher.items]
    answers = ([7, 8, 9], [5] * 6, [3, 2])  # the student's tokens: fewer, more and fewer
    items = [Item(Example([4], answer), row) for answer, row in zip(answers, rows, strict=True)]
    batch = teacher.reader.collate(items, EOS)
    assert batch["soft_mask"].sum(1).tolist() == [3, 2, 2]
    assert [row.nonzero().flatten().tolist() for row in batch["soft_mask"]] == [
        [0, 1, 2], [0, 1], [0, 1],
    ]  # fmt: skip
    scheme = scheme_of(cache)
    expected = [
        decode_targets(row or {}, scheme, VOCABULARY).p[:length]
        for row, length in zip(rows, (3, 2, 2), strict=True)
    ]
    np.testing.assert_array_equal(batch["p"].numpy(), np.concatenate(expected))


FEWER = 37
SHARED = {0: 0, 1: 9, 2: 30, 7: 2, 11: 3, 25: 36, 40: 5}  # the student's ids by the teacher's
ANSWERS: tuple[tuple[list[int], list[int], list[int], Spans], ...] = (
    # The student's prompt and answer, the teacher's answer, and how both align: all of the first
    # two, the beginning of the third, nothing of the last.
    (
        [4, 5], [9, 1, 2, 30, 0], [1, 3, 2, 4, 0],
        Spans([0, 1, 1, 2, 3], [0, 1, 2, 2, 3], [True, False, False, True]),
    ),
    ([6], [36, 0], [25, 0], Spans([0, 1], [0, 1], [True, True])),
    (
        [4, 4, 4], [7, 8, 2, 33, 0], [5, 6, 8, 7, 12, 0],
        Spans([0, 0, 1], [0, 0, 0, 1], [False, True]),
    ),
    ([5], [3, 2], [9, 0], Spans([], [], [])),
)  # fmt: skip


def spans_case(
    method: Mapping[str, Any], cache: Mapping[str, Any], rows: slice = slice(None)
) -> Case:
    """Answers in two vocabularies and their spans."""
    generator = torch.Generator().manual_seed(3)
    head, scorer, items = head_of_size(VOCABULARY), cache["scorers"][0], []
    decoding = Decoding(scorer["temperature"], scorer["top_k"], scorer["top_p"])
    for number, (prompt, own, theirs, spans) in enumerate(ANSWERS):
        asked = [1] * (2 + number)
        scored = len(theirs) + (len(asked) - 1 if cache["tokens"] == "all" else 0)
        states = torch.randn(scored, WIDTH, generator=generator)
        row: dict[str, Any] = {
            "prompt_ids": asked, "response_ids": theirs, "hidden": state_bytes(states),
        }  # fmt: skip
        if cache["scheme"] != "final_hidden":
            logs = teacher_log_q(head, hidden_states(row.pop("hidden"), WIDTH), decoding)
            row |= encode_targets(logs, scheme_of(cache), f"row-{number}")
        items.append(Item(Example(prompt, own), row, spans))
    reader = TargetReader(method, cache, VOCABULARY, WIDTH)
    everything = 2 * torch.randn(len(items), 8, FEWER, generator=generator, dtype=torch.float64)
    batch = reader.collate(items[rows], EOS)
    logits = everything[rows, : batch["input_ids"].shape[1]]
    beyond = {VOCABULARY: 1, 3: FEWER}  # ids that no head has
    objective = Objective(method, cache, head, shared_ids=SHARED | beyond)
    return Case(objective, reader, items[rows], batch, logits, [])


def teachers_distribution(made: Case, row: Mapping[str, Any], place: int) -> torch.Tensor:
    """p_T of a token, float64."""
    temperature, cache = made.reader.method["temperature"], made.reader.cache
    if cache["scheme"] == "dense":
        targets = decode_targets(row, scheme_of(cache), VOCABULARY, temperature)
        return torch.tensor(targets.p[place]).double()
    assert made.objective.head is not None
    state = hidden_states(row["hidden"], WIDTH)[place].double()
    q = softmax(made.objective.head.weight.double() @ state, cache["scorers"][0]["temperature"])
    return q ** (1 / temperature) / (q ** (1 / temperature)).sum()


def reference_spans(made: Case, full: torch.Tensor) -> torch.Tensor:
    """The loss of aligned spans per student's token in them, span by span and word by word."""
    temperature, values, tokens = made.reader.method["temperature"], [], 0
    for number, item in enumerate(made.items):
        assert item.spans is not None
        assert item.row is not None
        first = len(item.row["prompt_ids"]) - 1 if made.reader.cache["tokens"] == "all" else 0
        start = len(item.example.prompt) - 1
        tokens += len(item.spans.student)
        for span, word in enumerate(item.spans.single):
            own = [place for place, of in enumerate(item.spans.student) if of == span]
            theirs = [place for place, of in enumerate(item.spans.teacher) if of == span]
            s = [softmax(full[number, start + place], temperature) for place in own]
            p = [teachers_distribution(made, item.row, first + place) for place in theirs]
            if word:
                for their, mine in SHARED.items():
                    a, b = p[0][their], s[0][mine]
                    values.append(a * (a / b).log() - a + b)
                continue
            ids, answer = item.row["response_ids"], item.example.answer
            a = -sum(one[ids[place]].log() for one, place in zip(p, theirs, strict=True))
            b = -sum(one[answer[place]].log() for one, place in zip(s, own, strict=True))
            values.append(b - a + a * (a / b).log())
    return torch.stack(values).sum() / tokens


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["final_hidden", "dense"])
@pytest.mark.parametrize("tokens", ["answer", "all"])
@pytest.mark.parametrize(("temperature", "ce", "q"), [(1.0, 0.0, 1.0), (2.0, 0.6, 0.7)])
def test_aligned_spans_equal_brute_force(
    scheme: str, tokens: str, temperature: float, ce: float, q: float
) -> None:
    settings = {"ce": ce, "spans": 1.5, "temperature": temperature}
    made = spans_case(*specs(settings, scheme, tokens, q))
    assert made.objective.counts([made.batch])["soft"] == 5 + 2 + 3
    loss, terms, gradient = made.run()
    full = made.logits.clone().requires_grad_()
    expected = reference_spans(made, full)
    assert terms["spans"].item() == pytest.approx(expected.item(), rel=2e-5)
    hard = loss - 1.5 * temperature**2 * terms["spans"]
    assert hard.item() == pytest.approx(ce * float(terms.get("ce", 0.0)), rel=1e-4, abs=1e-5)
    (1.5 * temperature**2 * expected).backward()
    assert full.grad is not None
    alone = spans_case({**made.reader.method, "ce": 0.0}, made.reader.cache).run()[2]
    torch.testing.assert_close(alone, full.grad, rtol=1e-4, atol=1e-6)
    if not ce:
        torch.testing.assert_close(gradient, alone)


def test_spans_of_single_rows_add_up_to_those_of_the_batch() -> None:
    method, cache = specs({"spans": 1.0}, "final_hidden", "answer")
    whole = spans_case(method, cache)
    loss, terms, gradient = whole.run()
    counts = whole.objective.counts([whole.batch])
    total, value = 0.0, 0.0
    for number in range(len(ANSWERS)):  # the last has no span at all
        one = spans_case(method, cache, slice(number, number + 1))
        full = one.logits.clone().requires_grad_()
        part, found = one.objective(full[one.objective.logit_positions(one.batch)], None, None, one.batch, counts)  # fmt: skip  # noqa: E501
        part.backward()
        assert full.grad is not None
        torch.testing.assert_close(full.grad[0], gradient[number, : full.shape[1]])
        total, value = total + part.item(), value + found["spans"].item()
    assert total == pytest.approx(loss.item(), rel=1e-6)
    assert value == pytest.approx(terms["spans"].item(), rel=1e-6)


def test_a_batch_without_a_span_has_a_loss_of_zero() -> None:
    made = spans_case(*specs({"spans": 1.0}, "dense", "answer"), slice(3, 4))
    loss, terms, gradient = made.run()
    assert (loss.item(), terms["spans"].item()) == (0.0, 0.0)
    assert int(gradient.count_nonzero()) == 0


def test_a_spec_names_spans_only_where_they_are_used() -> None:
    """Students of other methods were trained before there were spans, and are not out of date."""
    assert "spans" not in specs({"uld": 1.0}, "dense", "answer")[0]
    assert specs({"spans": 2.0}, "dense", "answer")[0]["spans"] == 2.0


@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_an_answer_that_was_cut_reads_the_targets_of_what_is_left(tokens: str) -> None:
    method, cache = specs({"forward_kl": 1.0, "tokens": tokens}, "dense", tokens)
    item = case(method, cache).items[2]
    short = Item(Example(item.example.prompt, item.example.answer[:4]), item.row)
    batch = TargetReader(method, cache, VOCABULARY, WIDTH).collate([short], EOS)
    whole = decode_targets(item.row or {}, scheme_of(cache), VOCABULARY).p
    expected = whole[: 4 if tokens == "answer" else 4 + 4 - 1]
    np.testing.assert_array_equal(batch["p"].numpy(), expected)
    assert int(batch["soft_mask"].sum()) == len(expected)


def test_a_cache_of_all_tokens_serves_losses_on_the_answer() -> None:
    method, cache = specs({"forward_kl": 1.0}, "dense", "all")
    made = case(method, cache)
    scheme = scheme_of(cache)
    expected = []
    for (prompt, _), item in zip(LENGTHS, made.items, strict=True):
        expected.append(decode_targets(item.row or {}, scheme, VOCABULARY).p[prompt - 1 :])
    np.testing.assert_array_equal(made.batch["p"].numpy(), np.concatenate(expected))


def test_draws_of_different_rows_are_padded_with_weightless_ids() -> None:
    method, cache = specs({"forward_kl": 1.0}, "sampled")
    made = case(method, cache)
    p = made.batch["p"]
    assert p.shape == made.batch["ids"].shape
    assert torch.allclose(p.sum(1), torch.ones(len(p)))
    assert bool((p[:, 0] > 0).all())
    assert bool((p == 0).any())
    assert int(made.batch["ids"][p == 0].sum()) == 0


def test_a_batch_without_soft_losses_carries_no_targets() -> None:
    objective = Objective(teaching.spec_of(teaching.plan({"ce": 1.0}))["method"])
    assert not objective.reads_targets
    batch = collate([Example([1, 2], [3, EOS])], EOS)
    assert objective.logit_positions(batch).tolist() == [[False, True, True, False]]
    assert objective.counts([batch, batch]) == {"answer": 4, "soft": 0}


def test_counts_are_those_of_all_micro_batches() -> None:
    made = case(*specs({"ce": 1.0, "forward_kl": 1.0, "tokens": "all"}, "dense"))
    parts = [made.reader.collate([item], EOS) for item in made.items]
    assert made.objective.counts(parts) == made.objective.counts([made.batch])


@pytest.mark.parametrize(("bias", "cap", "scale"), [(True, 0.0, 1.0), (False, 3.0, 1.0), (False, 0.0, 2.0)])  # fmt: skip  # noqa: E501
def test_only_a_bare_matrix_can_become_the_students_head(
    bias: bool, cap: float, scale: float
) -> None:
    method, cache = specs({"embedding": {"head": "teacher"}}, "final_hidden", "answer")
    weight = head_of_size(VOCABULARY).weight
    odd = OutputHead(weight, torch.ones(VOCABULARY) if bias else None, cap, scale)
    with pytest.raises(UserError, match="a bias, a scale or a soft cap; use head: own"):
        Objective(method, cache, odd)
    own = specs({"ce": 1.0, "embedding": {"head": "own"}}, "final_hidden", "answer")
    assert not Objective(*own, odd).borrows_head
    assert Objective(method, cache, head_of_size(VOCABULARY)).borrows_head
