"""Tasks of lm-evaluation-harness on tiny models, against sums done by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import lm_eval.evaluator
import nltk
import pytest
import torch
import yaml

import miniature
import tiny
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.evaluation.benchmarks import load_task, plain, prepare_benchmark, run_benchmark
from distill.models.attention import GROUPED
from distill.models.opening import load_model

TASKS = miniature.ROOT / "studies/miniature/tasks"
SETTINGS: dict[str, Any] = {
    "metric": None, "fewshot": None, "limit": None, "chat_template": False, "include": None,
    "batch_size": 4, "precision": "fp32", "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = tiny.tokenizer(chat=False)
    folder = tmp_path_factory.mktemp("model")
    tiny.save(folder, tiny.model("llama", len(words)), words)
    return folder / "model.safetensors"


@pytest.fixture(autouse=True)
def from_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(miniature.ROOT)  # the miniature's tasks name their data from there
    # A second per call, for a text on the machine that is not kept.
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda found: None)


def spec(task: str, folder: Path = TASKS, **other: Any) -> dict[str, Any]:
    return SETTINGS | {"task": task, "include": str(folder)} | other


def score(model: Path, out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    run_benchmark(model, asked, out / "score.json")
    found: dict[str, Any] = read_json(out / "score.json")
    return found


def make_task(folder: Path, name: str, rows: list[dict[str, Any]], **other: Any) -> None:
    """A task of one's own with its data, multiple choice unless told otherwise."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {
        "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(made | other))


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"{number}: {tiny.SENTENCES[number % 5]}", "choices": ["yes", "no", "a boat"],
         "answer": number % 3}
        for number in range(count)
    ]  # fmt: skip


def log_p(made: Any, words: Any, context: str, choice: str) -> float:
    """Log-probability of a choice after a context, in float64."""
    before = words(context).input_ids
    ids = words(context + choice).input_ids
    with torch.no_grad():
        logits = made(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    own = range(len(before), len(ids))
    return float(sum(logits[place - 1, ids[place]] for place in own))


# Scores.


@pytest.mark.slow
def test_multiple_choice_is_the_likeliest_answer(model: Path, tmp_path: Path) -> None:
    found = score(model, tmp_path, spec("capitals"))
    words, made = tiny.tokenizer(chat=False), tiny.model("llama", len(tiny.tokenizer(chat=False)))
    right, odds = [], []
    for line in (TASKS / "capitals.jsonl").read_text().splitlines():
        row = json.loads(line)
        context = f"Question: What is the capital of {row['country']}?\nAnswer:"
        scores = [log_p(made, words, context, f" {choice}") for choice in row["choices"]]
        right.append(float(row["choices"][scores.index(max(scores))] == row["capital"]))
        odds.append(1 / len(row["choices"]))
    assert 0 < sum(right) < len(right)
    assert found["documents"] == right
    assert found["value"] == pytest.approx(sum(right) / len(right))
    assert found["chance"] == pytest.approx(sum(odds) / len(odds))
    assert (found["metric"], found["filter"], found["n"], found["cut"]) == ("acc", "none", 12, 0)
    assert (found["fewshot"], found["version"], found["higher_is_better"]) == (0, 1, True)
    assert found["stderr"] == pytest.approx(torch.tensor(right).std().item() / 12**0.5)
    assert {"lm_eval", "torch", "transformers"} <= set(found["versions"])
    assert found["config"]["model_dtype"] == "torch.float32"
    assert found["results"]["capitals"]["acc,none"] == found["value"]


@pytest.mark.slow
def test_the_same_model_gets_the_same_score_and_another_metric_on_demand(
    model: Path, tmp_path: Path
) -> None:
    first = score(model, tmp_path, spec("capitals", metric="acc_norm", batch_size=5))
    again = score(model, tmp_path, spec("capitals", metric="acc_norm,none", batch_size=5))
    assert first["metric"] == "acc_norm"
    for key in ("value", "documents", "documents_sha256", "chance"):
        assert first[key] == again[key]


def greedy(made: Any, words: Any, prompt: str, tokens: int) -> str:
    ids = words(prompt).input_ids
    start = len(ids)
    for _ in range(tokens):
        with torch.no_grad():
            ids.append(int(made(torch.tensor([ids])).logits[0, -1].argmax()))
    return str(words.decode(ids[start:], skip_special_tokens=True))


@pytest.mark.slow
def test_written_answers_are_greedy_and_cut_at_the_stop(model: Path, tmp_path: Path) -> None:
    words, made = tiny.tokenizer(chat=False), tiny.model("llama", len(tiny.tokenizer(chat=False)))
    prompts = [f"{number} {tiny.SENTENCES[number % 5][: 9 + 5 * number]}" for number in range(6)]
    answers = [greedy(made, words, prompt, 5) for prompt in prompts]
    data = [
        {"question": prompt, "answer": answer.strip() if place % 3 else "something else"}
        for place, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    strip = {"name": "strip", "filter": [{"function": "remove_whitespace"},
                                         {"function": "take_first"}]}  # fmt: skip
    make_task(
        tmp_path, "own", data, output_type="generate_until", doc_to_choice=None,
        doc_to_target="{{answer}}", filter_list=[strip],
        generation_kwargs={"until": ["<|endoftext|>"], "do_sample": False, "max_gen_toks": 5},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )  # fmt: skip
    found = score(model, tmp_path, spec("own", tmp_path, metric="exact_match"))
    assert found["documents"] == [0, 1, 1, 0, 1, 1]
    assert found["chance"] is None
    assert found["filter"] == "strip"


@pytest.mark.slow
def test_the_miniatures_sums_are_scored_with_examples(model: Path, tmp_path: Path) -> None:
    found = score(model, tmp_path, spec("sums", fewshot=2, limit=4))
    assert (found["metric"], found["filter"], found["n"]) == ("exact_match", "first-number", 4)
    assert found["fewshot"] == 2
    assert 0 <= found["value"] <= 1


@pytest.mark.slow
def test_a_group_is_the_mean_over_its_documents_where_it_says_so(
    model: Path, tmp_path: Path
) -> None:
    make_task(tmp_path, "one", rows(4))
    make_task(tmp_path, "two", rows(9)[4:])
    for name, weighted in (("by_document", True), ("by_task", False)):
        group = {
            "group": name, "task": ["one", "two"], "metadata": {"version": 2},
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": weighted}],
        }  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(group))
    found, parts = (
        score(model, tmp_path, spec(name, tmp_path)) for name in ("by_document", "by_task")
    )
    alone = [score(model, tmp_path, spec(name, tmp_path))["documents"] for name in ("one", "two")]
    assert found["documents"] == alone[0] + alone[1]
    assert found["value"] == pytest.approx(sum(alone[0] + alone[1]) / 9)
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["version"] == "2"
    means = [sum(own) / len(own) for own in alone]
    assert means[0] != means[1]
    assert parts["value"] == pytest.approx(sum(means) / 2)
    assert parts["documents"] is None
    assert parts["chance"] is None
    assert parts["stderr"] is not None


@pytest.mark.slow
def test_half_precision_does_not_make_choices_tie(model: Path, tmp_path: Path) -> None:
    words, made = tiny.tokenizer(chat=False), load_model(model.parent, precision="bf16", sequence=9)
    letters = {letter: words(letter).input_ids for letter in "abcdefghijklmnopqrstuvwxyz"}
    with torch.no_grad():
        logits = made(torch.tensor([words("Q").input_ids])).logits[0, -1]
    rounded = logits.log_softmax(-1)
    data = [
        {"question": "Q", "choices": [worse, better], "answer": 1}
        for worse, (low,) in letters.items()
        for better, (high,) in letters.items()
        if logits[low] < logits[high] and rounded[low] == rounded[high]
    ]
    assert data
    make_task(tmp_path, "pairs", data, target_delimiter="")
    found = score(model, tmp_path, spec("pairs", tmp_path, precision="bf16"))
    assert found["config"]["model_dtype"] == "torch.bfloat16"
    assert found["value"] == 1


@pytest.mark.slow
def test_prompts_beyond_the_context_are_counted(tmp_path: Path) -> None:
    words = tiny.tokenizer(chat=False)
    tiny.save(tmp_path, tiny.model("llama", len(words), max_position_embeddings=40), words)
    long = [row | {"question": row["question"] * (1 + 3 * (place == 2))}
            for place, row in enumerate(rows(4))]  # fmt: skip
    make_task(tmp_path, "long", long)
    found = score(tmp_path / "model.safetensors", tmp_path, spec("long", tmp_path))
    assert found["cut"] == 3  # the three choices of one question


@pytest.mark.slow
def test_students_run_with_the_projects_attention_and_padding_changes_nothing(
    model: Path, tmp_path: Path
) -> None:
    assert load_model(model.parent, precision="fp32", sequence=256).config._attn_implementation == GROUPED  # fmt: skip  # noqa: E501
    uneven = [row | {"question": row["question"] * (1 + place % 3)}
              for place, row in enumerate(rows(12))]  # fmt: skip
    make_task(tmp_path, "uneven", uneven)
    alone, together = (
        score(model, tmp_path, spec("uneven", tmp_path, batch_size=size)) for size in (1, 12)
    )
    assert alone["documents"] == together["documents"]


@pytest.mark.slow
def test_a_quantised_teacher_is_scored_as_it_is_run(model: Path, tmp_path: Path) -> None:
    scorer = {"precision": "fp32", "quantisation": "int8", "device_map": None, "threads": 1}
    found = score(model, tmp_path, spec("capitals", scorer=scorer))
    assert found["n"] == 12
    plain_score = score(model, tmp_path, spec("capitals"))
    assert found["documents_sha256"] == plain_score["documents_sha256"]
    assert found["config"]["model_num_parameters"] > 0


@pytest.mark.slow
def test_a_chat_template_is_used_on_demand(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"chat_template: .* has no chat template"):
        score(model, tmp_path, spec("capitals", chat_template=True))
    words = tiny.tokenizer(chat=True)
    tiny.save(tmp_path / "chat", tiny.model("llama", len(words)), words)
    chatty, bare = (
        score(tmp_path / "chat/model.safetensors", tmp_path, spec("capitals", chat_template=use))
        for use in (True, False)
    )
    assert chatty["results"]["capitals"]["acc,none"] == chatty["value"]
    assert chatty["documents_sha256"] == bare["documents_sha256"]


# Preparing a task: mistakes are one sentence.


def test_a_prepared_task_says_what_it_is(tmp_path: Path) -> None:
    prepare_benchmark(spec("capitals"), tmp_path / "task.json")
    found = read_json(tmp_path / "task.json")
    assert found["documents"] == {"capitals": 12}
    assert found["configs"]["capitals"]["output_type"] == "multiple_choice"
    assert found["spec"] == spec("capitals")


BARE = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "other", "sentence"),
    [
        ({"task": "qiuz"}, {}, "has no task of this name; did you mean quiz"),
        ({"task": "zzz"}, {}, "has no task of this name; see `lm_eval ls tasks`"),
        ({}, {"unsafe_code": True}, "runs programs that the model wrote, which is never done"),
        ({"metric": "f2"}, {}, "quiz.metric: the task has no 'f2'; it has acc"),
        ({"fewshot": 2}, {"num_fewshot": 0}, "quiz.fewshot: .* sets num_fewshot: 0"),
        (
            {"task": "mine"},
            {"tag": ["mine"]},
            "a group of tasks without an aggregated score.* tasks: quiz",
        ),
        (
            {},
            {"dataset_kwargs": {"data_files": {"test": "none/at/all.jsonl"}}},
            "quiz: its data cannot be loaded .*none/at/all.jsonl.*; let this machine reach the hub",
        ),
        (
            {},
            {"dataset_path": "someone/something", "dataset_kwargs": None},
            r"quiz: its data cannot be loaded \(.*someone/something.*HF_DATASETS_OFFLINE.*or rem",
        ),
    ],
)
def test_what_cannot_be_prepared_is_one_sentence(
    tmp_path: Path, asked: dict[str, Any], other: dict[str, Any], sentence: str
) -> None:
    make_task(tmp_path, "quiz", rows(3), **other)
    with pytest.raises(UserError, match=sentence) as caught:
        load_task(spec("quiz", tmp_path) | asked)
    assert "\n" not in str(caught.value)


def cached(folder: Path, name: str, data: list[dict[str, Any]], part: str) -> None:
    """Leave a data set of the hub in the cache, as loading it leaves it there."""
    source = folder / "source.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in data))
    made = datasets.load_dataset("json", data_files={"test": str(source)}, cache_dir=str(folder))
    old = Path(made["test"].cache_files[0]["filename"]).parent
    new = folder / name.replace("/", "___") / part / "0.0.0" / old.name
    shutil.move(old, new)
    (new / "json-test.arrow").rename(new / f"{name.split('/')[1]}-test.arrow")
    info = json.loads((new / "dataset_info.json").read_text())
    info |= {"dataset_name": name.split("/")[1], "config_name": part}
    (new / "dataset_info.json").write_text(json.dumps(info))


@pytest.mark.slow
def test_data_in_the_cache_are_read_without_the_hub(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert datasets.config.HF_HUB_OFFLINE  # what HF_HUB_OFFLINE or HF_DATASETS_OFFLINE sets
    cached(tmp_path, "someone/quiz", rows(6), "easy")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    hub = {"dataset_path": "someone/quiz", "dataset_kwargs": None}
    make_task(tmp_path, "quiz", [], dataset_name="easy", **hub)
    make_task(tmp_path, "hard", [], dataset_name="hard", **hub)
    assert score(model, tmp_path, spec("quiz", tmp_path))["n"] == 6
    with pytest.raises(UserError, match=r"hard: its data cannot be loaded .*for config 'hard'"):
        load_task(spec("hard", tmp_path))


def test_a_mistake_in_a_task_file_is_not_taken_for_missing_data(tmp_path: Path) -> None:
    make_task(tmp_path, "quiz", rows(3), test_split="tset")
    with pytest.raises(KeyError, match="tset"):
        load_task(spec("quiz", tmp_path))


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    make_task(tmp_path, "quiz", rows(3))
    text = (tmp_path / "quiz.yaml").read_text()
    (tmp_path / "quiz.yaml").write_text(f"{text}process_docs: !function helper.clean\n")
    (tmp_path / "helper.py").write_text("import no_such_package\n")
    with pytest.raises(UserError, match=r"needs a package .*no_such_package"):
        load_task(spec("quiz", tmp_path))


@pytest.mark.slow
def test_the_checks_of_ifeval_run_or_their_data_are_asked_for(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nltk, "download", lambda name: False)
    asked = ["punctuation:no_comma", "change_case:english_lowercase"]
    data = [{"key": 1, "prompt": "No commas.", "instruction_id_list": asked[:1], "kwargs": [{}]},
            {"key": 2, "prompt": "Small letters.", "instruction_id_list": asked, "kwargs": [{}] * 2}]  # fmt: skip  # noqa: E501
    source = tmp_path / "checks.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in data))
    made = {
        "include": f"{Path(lm_eval.evaluator.__file__).parent}/tasks/ifeval/ifeval.yaml",
        "task": "checks", "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"train": str(source)}},
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 4},
    }  # fmt: skip
    (tmp_path / "checks.yaml").write_text(yaml.safe_dump(made))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="checks: its checks need NLTK's punkt_tab"):
        load_task(spec("checks", tmp_path))
    (tmp_path / "tokenizers/punkt_tab").mkdir(parents=True)
    found = score(model, tmp_path, spec("checks", tmp_path))
    assert found["metric"] == "prompt_level_strict_acc"
    assert found["n"] == len(found["documents"]) == 2


def test_a_context_shorter_than_the_answer_is_told(tmp_path: Path) -> None:
    words = tiny.tokenizer(chat=False)
    tiny.save(tmp_path, tiny.model("llama", len(words), max_position_embeddings=8), words)
    with pytest.raises(
        UserError, match=r"may generate 8 tokens, but the context of .* is 8; leave it"
    ):
        score(tmp_path / "model.safetensors", tmp_path, spec("sums"))


@pytest.mark.slow
def test_a_metric_with_several_filters_needs_one(model: Path, tmp_path: Path) -> None:
    two = [{"name": name, "filter": [{"function": "take_first"}]} for name in ("raw", "same")]
    make_task(
        tmp_path, "own", [{"question": "A", "answer": "b"}] * 2, output_type="generate_until",
        doc_to_choice=None, filter_list=two,
        generation_kwargs={"until": ["\n"], "do_sample": False, "max_gen_toks": 2},
        metric_list=[BARE | {"metric": "exact_match"}],
    )  # fmt: skip
    with pytest.raises(UserError, match="name one of exact_match,raw; exact_match,same, not 'ex"):
        score(model, tmp_path, spec("own", tmp_path, metric="exact_match"))
    found = score(model, tmp_path, spec("own", tmp_path, metric="exact_match,same"))
    assert found["filter"] == "same"


def test_records_are_plain_json() -> None:
    made = {"dtype": torch.float32, 1: torch.tensor(2.5), "gone": float("nan"), "none": "N/A"}
    assert plain(made) == {"dtype": "torch.float32", "1": 2.5, "gone": None, "none": None}
