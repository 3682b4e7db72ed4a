"""Each family as teacher and as student, against one row at a time by plain transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import plain_model
import teaching
import tiny
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.core.noise import row_uniforms
from distill.evaluation.held_out import score_examples
from distill.evaluation.latency import measure_efficiency
from distill.models.building import build_student
from distill.models.decoding import Decoding
from distill.models.encoding import encode_rows
from distill.models.flops import FlopModel
from distill.models.head_extraction import head_of
from distill.models.heads import hidden_states, teacher_log_q
from distill.models.opening import load_model, load_teacher
from distill.models.sampling import sample_batch
from distill.models.tokenizers import load_tokenizer
from distill.teacher.scoring import score_text
from distill.training.run import train_student
from zoo import FAMILIES, LIBRARY, zoo_model

SPEC = {"precision": "fp32", "quantisation": "none", "device_map": None}
NOT_TEACHERS = ("minicpm3", "xlstm")
"""A head that is more than a matrix, and a library's state that one batch spoils for the next."""
UNCUT = ("gemma3n_text", "gemma4_text", "longcat_flash", "olmo_hybrid", "rwkv")
"""Families from which no student of one layer can be cut."""
COMMON = ("gpt_neo", "gptj", "bloom", "mixtral", "deepseek_v3", "mamba2", "jamba", "qwen3_next")
MARKED = [
    pytest.param(name, marks=pytest.mark.slow if name in COMMON else pytest.mark.long)
    for name in FAMILIES
    if name not in NOT_TEACHERS
]


class Case:
    """A saved teacher of a family, and rows of text."""

    def __init__(self, name: str, folder: Path, words: Any) -> None:
        self.name, self.folder = name, folder
        self.teacher = tiny.save(folder / "teacher", zoo_model(name, len(words)), words)
        self.words = load_tokenizer(self.teacher)  # some families have a class of their own
        self.rows = tiny.uneven_rows(words, 16)

    def plain(self, folder: Path) -> Any:
        return plain_model.opened(folder, None if self.name in LIBRARY else "eager")


@pytest.fixture(scope="module", params=MARKED)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    words = tiny.tokenizer(chat=False)
    return Case(request.param, tmp_path_factory.mktemp("family"), words)


def test_its_text_is_that_of_one_row_at_a_time(case: Case) -> None:
    model, plain = load_teacher(case.teacher, SPEC, sequence=64), case.plain(case.teacher)
    prompts = [[5, 6, 7, *range(20, 20 + 3 * row)] for row in range(1, 6)]
    stops, steps = [case.words.eos_token_id], 8
    for decoding in (Decoding(0.0), Decoding(1.0)):
        noise = np.stack([row_uniforms(f"row-{row}", 0, steps) for row in range(5)])
        answers = sample_batch(
            model, prompts, stop_ids=stops, max_new_tokens=steps, decoding=decoding, uniforms=noise
        )
        for prompt, (answer, _), uniforms in zip(prompts, answers, noise, strict=True):
            if decoding.temperature:
                assert plain_model.is_drawn(plain, prompt, answer, uniforms)
            else:
                assert answer == plain_model.greedy(plain, prompt, stops, steps)


def test_its_soft_targets_are_its_distribution(case: Case) -> None:
    model, plain = load_teacher(case.teacher, SPEC, sequence=256), case.plain(case.teacher)
    head = head_of(model)
    for row, scored in zip(case.rows, score_text(model, case.rows), strict=True):
        states = hidden_states(scored["hidden"], head.weight.shape[1])
        log_q, expected = (
            teacher_log_q(head, states, Decoding()),
            plain_model.answer_logs(plain, row),
        )
        assert log_q.shape == expected.shape
        assert float((expected.exp() * (expected - log_q)).sum(-1).mean()) < 1e-3
        assert scored["flops"] > 0


def losses(model: Any, case: Case) -> list[float]:
    examples = encode_rows(
        case.rows, case.words, {"template": "{prompt}", "system": None}, None, 256
    )
    return [row["nats"] for row in score_examples(model, examples, 0, 8)]


def test_its_loss_is_that_of_one_row_at_a_time(case: Case) -> None:
    model, plain = (
        load_model(case.teacher, precision="fp32", sequence=256),
        case.plain(case.teacher),
    )
    expected = [plain_model.answer_nats(plain, row) for row in case.rows]
    np.testing.assert_allclose(losses(model, case), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("init", ["cut", "random", "pretrained"])
def test_a_student_learns_and_is_saved(case: Case, init: str, tmp_path: Path) -> None:
    depth = load_model(case.teacher, precision="fp32", sequence=8).config.num_hidden_layers
    built: dict[str, Any] = {"init": init, "source": {}, "layers": None, "config": {}, "seed": 1}
    if init == "cut":
        built["layers"] = depth // 2
    initial = tmp_path / "initial"
    if init == "cut" and case.name in UNCUT:
        with pytest.raises(UserError, match=r"no student can be cut|is another one when"):
            build_student(built, case.teacher, initial / "manifest.json")
        return
    build_student(built, case.teacher, initial / "manifest.json")
    train = {"epochs": 1, "batch_size": 8}
    spec = teaching.spec_of(teaching.plan({"forward_kl": 1.0}, {"scheme": "final_hidden"}, train))
    files = teaching.teach(
        tmp_path, spec["shard"], zoo_model(case.name, len(case.words)), case.words, case.rows
    )
    out = tmp_path / "out" / "training.json"
    train_student(initial, files.shard, out, spec, teaching.RUN, "tag", **files.given)
    record = read_json(out)
    assert record["updates"] == 2
    model, plain = load_model(out.parent, precision="fp32", sequence=256), case.plain(out.parent)
    expected = [plain_model.answer_nats(plain, row) for row in case.rows]
    np.testing.assert_allclose(losses(model, case), expected, rtol=1e-4, atol=1e-3)
    before = case.plain(initial).state_dict()
    after = plain.state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_its_speed_is_measured(case: Case) -> None:
    record = measure_efficiency(
        case.teacher, new_tokens=3, prompt_tokens=4, repeats=1, warmup=0, threads=1,
        precision="fp32", device="cpu",
    )  # fmt: skip
    flops = FlopModel.from_model(load_model(case.teacher, precision="fp32", sequence=8))
    assert record["flops_per_token"] == flops.per_generated_token(128)
    assert 0 < record["params_active"] <= record["params"]
