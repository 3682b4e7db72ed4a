from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers.generation import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import tiny
from distill.core.noise import row_uniforms
from distill.models import decoding
from distill.models.decoding import Decoding, log_q
from distill.models.drawing import invert, pick
from distill.models.sampling import sample_batch

GREEDY = Decoding(temperature=0.0)
ALMOST_ONE = float(np.nextafter(1.0, 0.0))


def by_search(probabilities: torch.Tensor, uniform: torch.Tensor) -> list[int]:
    """Inversion by definition, on float64 running sums of the whole row."""
    found = []
    for row, u in zip(probabilities.double().numpy(), uniform.numpy(), strict=True):
        sums = np.cumsum(row)
        found.append(int(np.searchsorted(sums, u * sums[-1], side="right")))
    return found


@pytest.mark.parametrize("vocabulary", [5, 256, 1000, 4099])
def test_tokens_are_drawn_by_inversion(vocabulary: int) -> None:
    noise = torch.Generator().manual_seed(vocabulary)
    logits = 3 * torch.randn(200, vocabulary, generator=noise)
    uniform = torch.rand(200, generator=noise, dtype=torch.float64)
    probabilities = logits.softmax(-1)
    assert invert(probabilities, uniform).tolist() == by_search(probabilities, uniform)


@pytest.mark.parametrize("block", [1, 4, 256])
def test_a_token_of_no_probability_is_never_drawn(block: int) -> None:
    noise = torch.Generator().manual_seed(0)
    probabilities = torch.rand(300, 700, generator=noise)
    probabilities[torch.rand(300, 700, generator=noise) < 0.97] = 0
    probabilities[:, :3] = probabilities[:, -9:] = 0
    probabilities[:, 350] = 0.2  # every row has some mass
    for u in (0.0, ALMOST_ONE, 0.5):
        drawn = invert(probabilities, torch.full((300,), u, dtype=torch.float64), block)
        assert bool((probabilities.gather(1, drawn.unsqueeze(1)) > 0).all())
    first = invert(probabilities, torch.zeros(300, dtype=torch.float64), block)
    assert torch.equal(first, (probabilities > 0).int().argmax(1))
    last = invert(probabilities, torch.full((300,), ALMOST_ONE, dtype=torch.float64), block)
    assert torch.equal(last, 699 - (probabilities > 0).flip(1).int().argmax(1))


def test_the_rarest_of_many_tokens_can_be_drawn() -> None:
    """A float32 running sum would stand still at 1 before it came to the last tokens."""
    vocabulary, rare = 49_152, 1e-9
    probabilities = torch.full((1, vocabulary), rare)
    probabilities[0, 0] = 1.0
    assert np.cumsum(probabilities[0].numpy(), dtype=np.float32)[-1] == 1.0
    total = probabilities.double().sum()
    for token in (300, 20_000, 40_000, 49_000):
        middle = (1.0 + (token - 0.5) * float(probabilities[0, 1].double())) / total
        assert abs(invert(probabilities, middle.reshape(1)).item() - token) <= 64
    last = torch.tensor([ALMOST_ONE], dtype=torch.float64)
    assert invert(probabilities, last).item() == vocabulary - 1


def test_frequencies_follow_the_probabilities() -> None:
    wanted = torch.tensor([0.4, 0.0, 0.25, 0.2, 0.1, 0.04, 0.01])
    uniform = torch.from_numpy(row_uniforms("row", 0, 20_000))
    drawn = invert(wanted.expand(20_000, -1), uniform, block=4)
    counts = np.bincount(drawn.numpy(), minlength=7)
    assert counts[1] == 0
    kept = [0, 2, 3, 4, 5, 6]
    assert chisquare(counts[kept], wanted.numpy()[kept].astype(float) * 20_000).pvalue > 1e-3


def test_noise_depends_on_the_row_and_the_seed_alone() -> None:
    base = row_uniforms("test-0000001", 0, 50)
    assert np.array_equal(base, row_uniforms("test-0000001", 0, 50))
    assert np.array_equal(base[:7], row_uniforms("test-0000001", 0, 7))
    assert not np.isin(base, row_uniforms("test-0000002", 0, 50)).any()
    assert not np.isin(base, row_uniforms("test-0000001", 1, 50)).any()
    assert base.dtype == np.float64
    assert ((base >= 0) & (base < 1)).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.8])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.8), (20, 0.5), (900, 0.99)])
def test_log_q_equals_the_librarys_warpers(temperature: float, top_k: int, top_p: float) -> None:
    logits = 3 * torch.randn(40, 101, generator=torch.Generator().manual_seed(1))
    ids: Any = None
    scores = TemperatureLogitsWarper(temperature)(ids, logits)
    if top_k:
        scores = TopKLogitsWarper(top_k)(ids, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(ids, scores)
    ours = log_q(logits, Decoding(temperature, top_k, top_p))
    torch.testing.assert_close(ours, scores.log_softmax(-1))
    assert torch.equal(ours == -torch.inf, scores == -torch.inf)
    torch.testing.assert_close(ours.exp().sum(-1), torch.ones(40))


def test_top_p_among_the_likeliest_is_top_p_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some rows are so flat that the likeliest few hold too little."""
    noise = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 20, 300, generator=noise) * torch.linspace(0.1, 8, 20).view(1, 20, 1)
    for top_p in (0.01, 0.3, 0.9, 0.999):
        settings = Decoding(0.9, 0, top_p)
        monkeypatch.setattr(decoding, "_LIKELY", 300)
        whole = log_q(logits, settings)
        monkeypatch.setattr(decoding, "_LIKELY", 16)
        assert torch.equal(log_q(logits, settings), whole)
        if top_p == 0.9:
            sizes = whole.isfinite().sum(-1)
            assert sizes.min() < 16 < sizes.max()


def test_temperature_zero_picks_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert pick(logits, GREEDY, None).tolist() == [1, 0]


@pytest.mark.parametrize("decoding", [Decoding(0.7), Decoding(1.0, 5), Decoding(1.3, 0, 0.8)])
@pytest.mark.parametrize("rows", [1, 16, 37])
def test_rows_drawn_a_few_at_a_time_are_drawn_as_all_at_once(decoding: Decoding, rows: int) -> None:
    noise = torch.Generator().manual_seed(rows)
    logits = (4 * torch.randn(rows, 1000, generator=noise)).bfloat16()
    uniform = torch.rand(rows, generator=noise, dtype=torch.float64)
    at_once = invert(log_q(logits, decoding).exp(), uniform)
    assert torch.equal(pick(logits, decoding, uniform), at_once)


PROMPTS = [
    [5, 6, 7, 8, 9, 10, 11],
    [5, 6, 7, 20],
    [5, 6, 7, 30, 31, 32, 33, 34, 35, 36],
    [5, 6, 7, 40, 41],
    [5, 6, 7, 50],
    [5, 6, 7, 60, 61, 62],
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "gemma2 8"])
@pytest.mark.parametrize("shared", [True, False])
def test_greedy_text_equals_the_librarys(kind: str, shared: bool) -> None:
    """Prompts have different lengths; rows end at different steps and leave the batch."""
    name, _, window = kind.partition(" ")
    settings: dict[str, Any] = {"tie_word_embeddings": False} if name == "gpt2" else {}
    if window:
        settings["sliding_window"] = int(window)
    model = tiny.model(name, vocabulary=97, seed=3, **settings)
    prompts = PROMPTS if shared else [[*prompt[3:], *prompt[:3]] for prompt in PROMPTS]
    steps = 14

    def library(prompt: list[int], stops: list[int]) -> list[int]:
        ids = torch.tensor([prompt])
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=steps,
            eos_token_id=stops or None,
            pad_token_id=0,
        )
        return [int(token) for token in made[0, len(prompt) :]]

    model.generation_config.eos_token_id = None
    free = [library(prompt, []) for prompt in prompts]

    def ends(stop: int) -> set[int]:
        return {text.index(stop) if stop in text else steps for text in free}

    stops = [max(range(97), key=lambda stop: len(ends(stop)))]
    wanted = [library(prompt, stops) for prompt in prompts]
    assert len({len(text) for text in wanted}) > 2  # rows end at different steps
    counts: list[int] = []
    answers = sample_batch(
        model,
        prompts,
        stop_ids=stops,
        max_new_tokens=steps,
        decoding=GREEDY,
        uniforms=None,
        on_step=counts.append,
    )
    assert [text for text, _ in answers] == wanted
    for text, reason in answers:
        assert reason == ("stop" if text[-1] in stops else "length")
        assert not set(text[:-1]) & set(stops)
    assert sum(counts) == sum(map(len, wanted))
    assert counts == sorted(counts, reverse=True)


@pytest.mark.slow
def test_a_rows_text_does_not_depend_on_its_batch() -> None:
    model = tiny.model("llama", vocabulary=97, seed=3)

    def sample(rows: list[int]) -> dict[int, tuple[list[int], str]]:
        noise = np.stack([row_uniforms(f"row-{row}", 0, 16) for row in rows])
        texts = sample_batch(
            model,
            [PROMPTS[row] for row in rows],
            stop_ids=[1, 2, 3, 4, 5, 6],
            max_new_tokens=16,
            decoding=Decoding(),
            uniforms=noise,
        )
        return dict(zip(rows, texts, strict=True))

    together = sample([0, 1, 2, 3, 4, 5])
    assert together == sample([5, 3, 1, 0, 2, 4])
    assert together == {**sample([4]), **sample([0, 3]), **sample([5, 2, 1])}
    assert len({tuple(text) for text, _ in together.values()}) == 6


@pytest.mark.slow
def test_samples_of_a_model_follow_its_distribution() -> None:
    model = tiny.model("llama", vocabulary=11, seed=5, eos_token_id=None)
    decoding = Decoding(temperature=0.7, top_k=6)
    rows = 4000
    noise = np.stack([row_uniforms(str(row), 0, 1) for row in range(rows)])
    texts = sample_batch(
        model, [[3, 1]] * rows, stop_ids=[0], max_new_tokens=1, decoding=decoding, uniforms=noise
    )
    q = log_q(model(torch.tensor([[3, 1]])).logits[0, -1], decoding).exp().detach().double()
    counts = np.bincount([text[0] for text, _ in texts], minlength=11)
    possible = (q > 0).numpy()
    assert possible.sum() == 6
    assert counts[~possible].sum() == 0
    expected = (q / q.sum() * rows).numpy()[possible]
    assert chisquare(counts[possible], expected).pvalue > 1e-3
    assert (q.max() - q[possible].min()) > 0.1
    assert all(reason == ("stop" if text == [0] else "length") for text, reason in texts)
