"""Damaged files, disks that refuse, models that say nothing or no numbers: one sentence each."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import tiny
from distill.core.checksums import list_files
from distill.core.completeness import answer_warnings, check_some_text, count_controls
from distill.core.errors import UserError
from distill.core.files import read_json, write_json
from distill.core.parquet import read_frame, read_metadata, read_rows, read_schema, write_rows
from distill.data.fetch import fetch_model
from distill.evaluation.answering import answer_prompts
from distill.evaluation.held_out import held_out, score_examples
from distill.models.decoding import Decoding
from distill.models.encoding import encode_rows
from distill.models.head_extraction import head_of
from distill.models.heads import load_head, save_head
from distill.models.opening import load_model
from distill.models.rows import Example
from distill.models.sampling import sample_batch
from distill.models.tokenizers import load_tokenizer
from distill.runtime.disk import check_writable, disk_error
from distill.table.collect import read_metrics
from distill.targets.layers import layer_states, load_projection, save_projection
from distill.teacher.scoring import score_text

pytestmark = pytest.mark.slow  # each process spends seconds on imports

DOCS = Path(__file__).parents[2] / "docs"
SCRIPTS = Path(__file__).parents[2] / "scripts"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("response", pa.large_string()),
        ("ids", pa.list_(pa.int32())),
        ("hidden", pa.large_binary()),
        ("flops", pa.float64()),
    ]
)
ROWS = [
    {
        "id": f"train-{n:07d}",
        "response": "word " * n,
        "ids": list(range(n)),
        "hidden": bytes(range(n, n + 9)),
        "flops": n / 7,
    }
    for n in range(6)
]


def flipped(path: Path, place: int, bit: int = 1) -> None:
    """Alter one bit of a file; its time stays."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


# Damaged files.


def test_every_altered_byte_of_a_parquet_file_is_found_or_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_rows(path, ROWS, SCHEMA, spec={"n": 1}, sha="ab")
    whole, found = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole)
        flipped(path, place, 1 << place % 8)
        sentence = ""
        try:
            read = read_rows(path), read_metadata(path, "spec"), read_metadata(path, "sha")
        except UserError as error:
            sentence = str(error)
        if sentence:
            assert re.fullmatch(rf"{path} is not .*; delete it and run the .* again", sentence)
            found += 1
        else:
            assert read == (ROWS, {"n": 1}, "ab"), place
    assert found > len(whole) / 2  # what is left are hints of its writer, such as statistics


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "runs.parquet"
    write_rows(path, ROWS, SCHEMA, spec=None)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for read in (read_rows, read_frame, read_schema, lambda file: read_metadata(file, "spec")):
        with pytest.raises(UserError, match=rf"{path} is not a readable .*; delete it and run the"):
            read(path)


def test_an_altered_or_truncated_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(
        path, {"schema": 1, "heldout": {"loss": 2.34}, "name": "ü", "spec": {"b": 1, "a": 2}}
    )
    assert read_json(path)["heldout"] == {"loss": 2.34}
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text), indent=4))  # another layout is no other record
    assert list(read_json(path)) == ["schema", "heldout", "name", "spec"]
    path.write_text(text.replace("2.34", "2.24"))
    with pytest.raises(UserError, match=rf"{path} is not as it was written .*; delete it and run"):
        read_json(path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=rf"{path} is not readable JSON .*; delete it and run"):
        read_json(path)


@pytest.mark.parametrize(
    ("record", "lacks"),
    [([], "model"), ({}, "model"), ({"model": {"params": 1}}, "model.params_non_embedding")],
)
def test_a_record_of_another_kind_is_named(tmp_path: Path, record: Any, lacks: str) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, record)
    with pytest.raises(
        UserError, match=rf"{path} is not a record .* \(it lacks {lacks}\); delete it"
    ):
        read_metrics(path)


@pytest.fixture
def model(tmp_path: Path, plain: Any) -> Path:
    """A model's folder with the list of its files."""
    folder = tiny.save(tmp_path / "model", tiny.model("llama", len(plain)), plain)
    write_json(folder / "manifest.json", {"schema": 1, "files": list_files(folder)})
    return folder


def _loaded(folder: Path) -> Any:
    return load_model(folder, precision="fp32", sequence=8)


def test_altered_weights_are_named_before_they_are_used(model: Path) -> None:
    assert _loaded(model).config.model_type == "llama"
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    flipped(weights, len(content) - 3)
    sentence = rf"{weights} is not as it was written .*; delete {model / 'manifest.json'} and run"
    with pytest.raises(UserError, match=sentence):
        _loaded(model)
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=sentence):
        _loaded(model)
    weights.unlink()
    with pytest.raises(UserError, match=rf"{weights} is missing; delete {model}"):
        _loaded(model)
    weights.write_bytes(content)
    assert _loaded(model).config.model_type == "llama"


def test_an_altered_student_is_made_again_by_deleting_its_weights(model: Path) -> None:
    (model / "manifest.json").rename(model / "training.json")
    flipped(model / "model.safetensors", -1)
    with pytest.raises(UserError, match=rf"delete {model / 'model.safetensors'} and run"):
        _loaded(model)


def test_an_altered_tokenizer_or_config_is_named(model: Path) -> None:
    load_tokenizer(model)
    for name in ("tokenizer.json", "config.json"):
        flipped(model / name, 40)
        with pytest.raises(UserError, match=rf"{model / name} is not as it was written"):
            load_tokenizer(model)
        flipped(model / name, 40)


def test_a_model_that_came_truncated_is_refused_where_it_is_fetched(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    out = model.parent / "fetched" / "manifest.json"
    with pytest.raises(
        UserError, match=r"model.safetensors of the model .* is not a safetensors file .* get it ag"
    ):
        fetch_model({"path": str(model)}, out)
    assert not out.exists()


def test_an_altered_head_or_projection_is_named(tmp_path: Path) -> None:
    head, projection = tmp_path / "head.safetensors", tmp_path / "pca.safetensors"
    save_head(head_of(tiny.model("llama")), head)
    save_projection(torch.ones(1, 4, 2), projection)
    for path, load in (
        (head, lambda: load_head(head, torch.device("cpu"))),
        (projection, lambda: load_projection(projection)),
    ):
        load()
        content = path.read_bytes()
        for place in (0, 9, 30, len(content) // 2, len(content) - 1):
            flipped(path, place)
            with pytest.raises(UserError, match=rf"{path} is not .*; delete it and run the workfl"):
                load()
            path.write_bytes(content)
        path.write_bytes(content[:-4])
        with pytest.raises(UserError, match=rf"{path} is not .*; delete it and run the workflow"):
            load()


# Models that say nothing, or no numbers.


def _broken(kind: str = "llama") -> Any:
    """A model with one weight that is NaN, as after an overflow."""
    made = tiny.model(kind)
    with torch.no_grad():
        made.get_input_embeddings().weight[7, 3] = torch.nan
    return made


def test_logits_that_are_no_numbers_are_a_user_error() -> None:
    settings: dict[str, Any] = {
        "stop_ids": [2], "max_new_tokens": 4, "decoding": Decoding(0.0), "uniforms": None,
    }  # fmt: skip
    with pytest.raises(UserError, match="gives logits that are NaN or infinite; use precision"):
        sample_batch(_broken(), [[5, 7], [5, 6]], **settings)
    assert len(sample_batch(tiny.model("llama"), [[5, 7]], **settings)) == 1


def test_states_that_are_no_numbers_are_a_user_error(plain: Any) -> None:
    rows = [tiny.text_row(plain, n, "a", "Boats and gulls.") for n in range(2)]
    rows[1]["response_ids"][0] = 7
    broken = _broken()
    broken.get_input_embeddings().weight.data[8:] = broken.get_input_embeddings().weight[8:]
    with pytest.raises(UserError, match="hidden states that are NaN or infinite"):
        layer_states(broken, rows, [1], "answer")
    head = tiny.model("llama")
    head.get_input_embeddings().weight.data[7, 3] = torch.nan
    head_at = head_of(tiny.model("llama"))
    assert head_at.weight.isfinite().all()
    with pytest.raises(UserError, match=r"hidden states that are NaN|more than a matrix"):
        score_text(head, rows)


@pytest.mark.parametrize("scale", [torch.nan, 1e6])
def test_a_loss_that_no_perplexity_expresses_is_a_user_error(scale: float) -> None:
    model = tiny.model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(scale)
    with pytest.raises(UserError, match=r"nats per token, whose perplexity is not finite"):
        score_examples(model, [Example([3, 4], [5, 6])], 0, 2)


def test_a_teacher_that_says_nothing_is_a_user_error() -> None:
    rows: list[dict[str, Any]] = [{"response": text} for text in ("", " ", "\n") * 3]
    with pytest.raises(UserError, match=r"models/big answers each of the 9 prompts .* no text"):
        check_some_text(rows, "models/big")
    check_some_text([*rows, {"response": "Yes."}], "models/big")
    check_some_text(rows[:2], "models/big")  # two may be an accident


def test_empty_and_endless_answers_are_told_in_the_report() -> None:
    assert answer_warnings("big", {"rows": 100, "finished": 60, "empty": 4}) == []
    empty, endless = answer_warnings("big", {"rows": 100, "finished": 40, "empty": 6})
    assert empty.startswith("6 of the 100 answers of big in its largest training set are empty")
    assert endless.startswith("60 of the 100 answers of big")
    assert "reach max_tokens: raise it" in endless


def test_answers_that_go_on_behind_their_turn_are_told_so() -> None:
    """A larger max_tokens only adds invented turns, so it is not the remedy."""
    rows = [
        {"response_ids": [7, 801, 5], "finish_reason": "length"},
        {"response_ids": [7, 801, 803], "finish_reason": "length"},
        {"response_ids": [7, 801, 5], "finish_reason": "stop"},
        {"response_ids": [7, 8], "finish_reason": "length"},
    ]
    counts = count_controls(rows, {"801": "<|user|>", "803": "<|tool|>"})
    assert counts == {"<|user|>": 2, "<|tool|>": 1}
    record = {"rows": 4, "finished": 1, "empty": 0, "controls": counts}
    (warning,) = answer_warnings("big", record)
    assert "2 of them with the control token <|user|> inside" in warning
    assert "eos_token_id of its generation_config.json" in warning
    assert "raise" not in warning


def test_a_question_beyond_the_context_is_a_user_error(plain: Any) -> None:
    model = tiny.model("gpt2", len(plain), n_positions=32)
    answers = answer_prompts(model, plain, [("Hi", None)], {"template": "{prompt}", "system": None}, 8)  # fmt: skip  # noqa: E501
    assert answers[0]["tokens"] <= 8
    with pytest.raises(UserError, match=r"reads at most 32 tokens but up to 4\d are needed"):
        answer_prompts(model, plain, [("abcdefgh" * 5, None)], {"template": "{prompt}", "system": None}, 8)  # fmt: skip  # noqa: E501


def test_a_prompt_that_leaves_no_room_is_named(plain: Any) -> None:
    model, words = tiny.model("gpt2", len(plain), n_positions=32), tiny.tokenizer(vocabulary=290)
    rows = [tiny.text_row(plain, n, "abcdefgh" * (1 + 4 * n), "Boats.") for n in range(2)]
    formatting = {"template": "{prompt}", "system": None}
    spec = {"formatting": formatting, "batch_size": 2}
    with pytest.raises(UserError, match=r"the prompt .* has 40 tokens .* no room in the context"):
        held_out(model, words, rows, [], None, None, {}, spec)
    with pytest.raises(UserError, match=r"has 40 tokens and leaves no room in train\.max_length"):
        encode_rows(rows, words, formatting, None, 32)


# Disks that refuse.


JSON = "from distill.core.files import write_json; write_json(out, {'a': 'x' * 300_000})"
WRITERS = {
    "json": JSON,
    "parquet": "import pyarrow as pa; from distill.core.parquet import write_table; "
    "write_table(out, pa.table({'a': [os.urandom(300_000)]}))",
    "tensors": "import torch; from distill.models.tensors import save_tensors; "
    "save_tensors({'a': torch.rand(300_000)}, out)",
    "torch": "import torch; torch.save(torch.rand(300_000), out)",
    "model": "import tiny; tiny.model('llama').save_pretrained(out.parent)",
    "log": f"logging.info('x' * 300_000); {JSON}",
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_costs_no_earlier_result(
    disk: Callable[..., Path], name: str
) -> None:
    folder = disk("size=128k")
    earlier, out = folder / "earlier.json", folder / "out.file"
    write_json(earlier, {"loss": 1.0})
    code = (
        "import logging, os\nfrom pathlib import Path\nfrom types import SimpleNamespace\n"
        "from distill.runtime.job import job\n"
        f"out = Path({str(out)!r})\n"
        f"with job(SimpleNamespace(log=[{str(folder / 'job.log')!r}], output=[out])):\n"
        f"    {WRITERS[name]}\n"
    )
    paths = os.pathsep.join([str(SCRIPTS), str(Path(__file__).parents[1] / "support")])
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    printed = [line for line in ended.stderr.split("\n") if "it/s]" not in line and line.strip()]
    assert ended.returncode == 1
    assert printed == [
        f"Error: no space is left on the disk that holds {out}; free some and run the workflow "
        "again; it resumes from existing results"
    ]
    assert read_json(earlier) == {"loss": 1.0}
    assert not out.exists() or name == "torch"  # which writes in place, into resume/ alone


def test_a_read_only_folder_is_named_before_the_first_job(
    disk: Callable[..., Path], tmp_path: Path
) -> None:
    check_writable([tmp_path, tmp_path / "none"])
    assert list(tmp_path.iterdir()) == []
    folder = disk("ro")
    with pytest.raises(UserError, match=f"^{folder} cannot be written because its disk is rea"):
        check_writable([tmp_path, folder])
    full = disk("size=4k,nr_inodes=1")
    with pytest.raises(UserError, match=f"^no space is left on the disk that holds {full}"):
        check_writable([full])


def test_what_a_disk_refuses_is_told_from_other_errors() -> None:
    assert disk_error(KeyError("a"), "out") is None
    assert disk_error(FileNotFoundError(errno.ENOENT, "none", "a"), "out") is None
    denied = disk_error(PermissionError(errno.EACCES, "Permission denied", "/data/x"), "out")
    assert denied is not None
    assert denied.startswith("this user has no access to /data/x; correct its permissions and run")
    failed = ValueError("while saving")
    failed.__cause__ = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    quota = disk_error(failed, "results/a/out")
    assert quota is not None
    assert quota.startswith("the quota of the disk that holds results/a/out is used up; free some")


def test_a_log_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder of logs should be")
    code = (
        "from types import SimpleNamespace\nfrom distill.runtime.job import job\n"
        "with job(SimpleNamespace(log=['logs/job.log'], output=['out'])):\n    pass\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
    )
    assert ended.returncode == 1
    assert "logs" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


# The page.


def test_each_fault_of_the_page_has_its_tests() -> None:
    text = (DOCS / "reference/faults.md").read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line[:2] == "| "]
    rows = [row for row in rows if row[0].strip() != "fault"]
    assert len(rows) > 25
    for fault, seen, remedy, tests in rows:
        assert fault.strip()
        assert seen.strip()
        assert remedy.strip()
        named = re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", tests)
        assert named, fault
        assert len(named) == tests.count("`") / 2, fault
        for file, test in named:
            source = (DOCS.parent / "tests" / file).read_text(encoding="utf-8")
            assert f"def {test}(" in source, (fault, test)
