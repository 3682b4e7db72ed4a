"""A pickle or a program planted in each place where a library might run it: none ever runs."""

import ast
import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import teaching
import tiny
import tiny_gguf
from distill.config.checks.study import parse_study
from distill.core.checksums import SAFE
from distill.core.errors import UserError
from distill.core.files import read_json, sha256_of
from distill.core.parquet import read_rows
from distill.data.fetch import fetch_data, fetch_model
from distill.evaluation.benchmarks import load_task
from distill.models.building import build_student
from distill.models.formatting import encoder, magpie_prefix
from distill.models.heads import load_head
from distill.models.opening import load_model
from distill.models.tokenizers import load_tokenizer
from distill.models.vocabulary import FILE, Vocabulary
from distill.training.run import train_student
from distill.training.search import search_settings
from distill.training.trainer import DistillationTrainer
from miniature import ROOT
from traps import Trap

KD = {"ce": 0.5, "forward_kl": 0.5}
EXACT = {"scheme": "final_hidden"}


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    """Whatever a test plants: it must not have run."""
    made = Trap(tmp_path / "sprung")
    yield made
    assert not made.sprung


@pytest.fixture
def folder(tmp_path: Path, chat: Any) -> Path:
    """A model as someone might offer it."""
    return tiny.save(tmp_path / "offered", tiny.model("llama", len(chat)), chat)


def _edit(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def _taken(folder: Path) -> Path:
    """The same model as the workflow takes it."""
    manifest = folder.parent / "taken" / "manifest.json"
    fetch_model({"path": str(folder)}, manifest)
    return manifest.parent


def test_the_traps_are_sprung_by_what_is_not_done_here(tmp_path: Path) -> None:
    """By unpickling, by importing, by custom code: else the tests below would show nothing."""
    trap = Trap(tmp_path / "sprung")

    def sprung() -> bool:
        found = trap.sprung
        trap.mark.unlink(missing_ok=True)
        return found

    torch.load(trap.torch_file(tmp_path / "a.bin"), weights_only=False)
    assert sprung()
    np.save(tmp_path / "a.npy", np.array([trap.payload], dtype=object), allow_pickle=True)
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert sprung()
    exec(trap.code())
    assert sprung()


# Models and tokenizers.


@pytest.mark.slow
def test_a_pickle_beside_safetensors_is_left_where_it_is(folder: Path, trap: Trap) -> None:
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "a.pt", "a.pkl"):
        trap.torch_file(folder / name)
    taken = _taken(folder)
    assert not {path.suffix for path in taken.iterdir()} & {".bin", ".pt", ".pkl"}
    load_model(taken, precision="fp32", sequence=8)
    for name in ("pytorch_model.bin", "adapter_model.bin"):  # and if it were there nevertheless
        trap.torch_file(taken / name)
    load_model(taken, precision="fp32", sequence=8)
    load_tokenizer(taken)


def test_a_model_of_pickles_alone_is_refused(folder: Path, trap: Trap) -> None:
    (folder / "model.safetensors").unlink()
    trap.torch_file(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no \.safetensors weights; other formats can carry"):
        _taken(folder)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        load_model(folder, precision="fp32", sequence=8)
    spec: dict[str, Any] = {"init": "pretrained", "layers": None, "config": {}, "seed": 0}
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        build_student(spec, folder, folder.parent / "student" / "manifest.json")


def test_a_pickle_by_the_name_of_safetensors_is_refused(folder: Path, trap: Trap) -> None:
    trap.torch_file(folder / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors of the model .* is not a safetensors"):
        _taken(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pytorch_model.bin", "../elsewhere.bin"])
def test_an_index_that_names_a_pickle_is_refused(folder: Path, trap: Trap, name: str) -> None:
    trap.torch_file(folder / name)
    weights = ["lm_head.weight", "model.embed_tokens.weight"]
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json of the model .* names files that are not"):
        _taken(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises((OSError, pickle.UnpicklingError)):  # of weights_only
        load_model(folder, precision="fp32", sequence=8)


@pytest.mark.slow
def test_code_beside_a_known_model_is_not_run(folder: Path, trap: Trap) -> None:
    (folder / "modeling_x.py").write_text(trap.code())
    custom = {"AutoConfig": "modeling_x.Custom", "AutoModelForCausalLM": "modeling_x.Custom"}
    _edit(folder / "config.json", auto_map=custom)
    _edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_x.Custom", None]},
          tokenizer_class="LlamaTokenizerFast")  # fmt: skip
    taken = _taken(folder)
    assert not list(taken.glob("*.py"))
    for place in (taken, folder):
        assert load_model(place, precision="fp32", sequence=8).config.model_type == "llama"


@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("config.json", {"model_type": "custom", "auto_map": {"AutoConfig": "modeling_x.Custom"}}),
        ("tokenizer_config.json", {"tokenizer_class": "Custom",
                                   "auto_map": {"AutoTokenizer": ["modeling_x.Custom", None]}}),
    ],
)  # fmt: skip
def test_a_model_that_needs_code_of_its_own_is_refused(
    folder: Path, trap: Trap, file: str, entries: dict[str, Any]
) -> None:
    (folder / "modeling_x.py").write_text(trap.code())
    _edit(folder / file, **entries)
    with pytest.raises(UserError, match=r"needs custom code \(auto_map\), which is never run"):
        _taken(folder)
    load: Callable[[], Any] = lambda: load_model(folder, precision="fp32", sequence=8)  # noqa: E731
    with pytest.raises((UserError, ValueError), match="custom code"):
        load() if file == "config.json" else load_tokenizer(folder)


@pytest.mark.parametrize("entry", [{"_attn_implementation": "o/kernel"},
                                   {"text_config": {"attn_implementation": "o/kernel@main"}}])  # fmt: skip  # noqa: E501
def test_a_kernel_of_the_hub_is_refused(folder: Path, entry: dict[str, Any]) -> None:
    """transformers would download and run it where the package `kernels` is installed."""
    _edit(folder / "config.json", **entry)
    with pytest.raises(UserError, match=r"asks for a kernel of the hub .* remove that entry"):
        _taken(folder)
    for file in [*(ROOT / "envs").iterdir()]:
        assert "kernels" not in file.read_text(), file


def test_an_adapter_runs_no_code(folder: Path, tmp_path: Path, trap: Trap) -> None:
    base = shutil.copytree(folder, tmp_path / "base")
    settings = {"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "modeling_x.py").write_text(trap.code())
    trap.torch_file(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="is an adapter, and its base model is not a local folder"):
        _taken(folder)
    _edit(folder / "adapter_config.json", base_model_name_or_path=str(base))
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        _taken(folder)
    shutil.copy(base / "model.safetensors", folder / "adapter_model.safetensors")
    mapping = {"base_model_class": "Custom", "parent_library": "modeling_x"}
    for entry in ({"auto_mapping": mapping}, {"megatron_config": {"a": 1}}):
        _edit(folder / "adapter_config.json", **entry)
        with pytest.raises(UserError, match=r"has an entry (auto|meg).* names code to import"):
            _taken(folder)


REACHING = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch %s') }}",
    "{{ messages.__class__.__base__.__subclasses__() }}{{ messages.append(1) }}",
    "{% include '/etc/hostname' %}",
)


@pytest.mark.parametrize("template", REACHING)
def test_a_chat_template_cannot_leave_its_sandbox(chat: Any, trap: Trap, template: str) -> None:
    words = tiny.tokenizer()
    words.chat_template = template.replace("%s", str(trap.mark))
    uses: list[Callable[[], Any]] = [
        lambda: encoder(words, "chat", None)("Hello", None), lambda: magpie_prefix(words, None),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(UserError, match=r"the chat template of the model .* cannot be used"):
            use()


@pytest.mark.slow
def test_a_chat_template_out_of_gguf_is_sandboxed_too(tmp_path: Path, trap: Trap) -> None:
    from distill.data.model_conversion import convert_gguf

    words = tiny.tokenizer(vocabulary=160, ascii_only=True)
    words.chat_template = REACHING[1].replace("%s", str(trap.mark))
    (tmp_path / "gguf").mkdir()
    tiny_gguf.write_gguf(tmp_path / "gguf" / "m.gguf", tiny.model("llama", len(words)), words)
    convert_gguf(tmp_path / "gguf" / "m.gguf", tmp_path / "out")
    read = load_tokenizer(tmp_path / "out")
    assert read.chat_template == words.chat_template
    with pytest.raises(UserError, match="cannot be used"):
        encoder(read, "chat", None)("Hello", None)


# What is kept between tries of a job.


class _Stop(Exception):
    """Ends a training in its midst."""


@pytest.fixture
def half_trained(
    tmp_path: Path, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Callable[[], dict[str, Any]]]:
    """A student's folder with a checkpoint, and how its training goes on."""
    train = {"batch_size": 4, "checkpoint_updates": 2}
    spec = teaching.spec_of(teaching.plan(KD, EXACT, train))
    files = teaching.teach(
        tmp_path, spec["shard"], teaching.big(), plain, tiny.uneven_rows(plain, 16)
    )
    initial, out = teaching.small(tmp_path, plain), tmp_path / "out" / "training.json"

    def go_on() -> dict[str, Any]:
        train_student(initial, files.shard, out, spec, teaching.RUN, "tag", **files.given)
        record: dict[str, Any] = read_json(out)
        return record

    saved = DistillationTrainer._save_checkpoint

    def then_stop(*given: Any, **named: Any) -> None:
        saved(*given, **named)
        raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "_save_checkpoint", then_stop)
        with pytest.raises(_Stop):
            go_on()
    return out.parent / "resume" / "checkpoint-2", go_on


def _plant(file: Path, trap: Trap, *gone: str) -> None:
    """Plant a pickle in a checkpoint; where it lists checksums, as if that one were its own."""
    trap.torch_file(file)
    listed = file.with_name("checksums.json")
    if listed.is_file():
        kept = {name: digest for name, digest in read_json(listed).items() if name not in gone}
        listed.write_text(json.dumps(kept | {file.name: sha256_of(file)}))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.slow
def test_a_pickle_in_a_checkpoint_is_one_sentence(
    half_trained: tuple[Path, Callable[[], dict[str, Any]]], trap: Trap, name: str
) -> None:
    checkpoint, go_on = half_trained
    assert (checkpoint / name).is_file()
    _plant(checkpoint / name, trap)
    with pytest.raises(UserError, match=r"checkpoint-2 .*delete .*resume") as caught:
        go_on()
    assert "\n" not in str(caught.value)
    assert not (checkpoint.parents[1] / "training.json").exists()
    shutil.rmtree(checkpoint.parent)
    assert go_on()["resumed_from"] is None


@pytest.mark.slow
def test_what_a_checkpoint_need_not_hold_is_not_read(
    half_trained: tuple[Path, Callable[[], dict[str, Any]]], trap: Trap
) -> None:
    checkpoint, go_on = half_trained
    assert (checkpoint / "training_args.bin").is_file()
    for name in ("training_args.bin", "pytorch_model.bin", "adapter_model.bin"):
        _plant(checkpoint / name, trap)
    assert go_on()["resumed_from"] == "checkpoint-2"


@pytest.mark.slow
def test_weights_of_a_checkpoint_as_a_pickle_are_one_sentence(
    half_trained: tuple[Path, Callable[[], dict[str, Any]]], trap: Trap
) -> None:
    checkpoint, go_on = half_trained
    (checkpoint / "model.safetensors").unlink()
    _plant(checkpoint / "pytorch_model.bin", trap, "model.safetensors")
    with pytest.raises(UserError, match=r"checkpoint-2 .*delete .*resume"):
        go_on()


@pytest.mark.parametrize("name", ["journal.log", "journal.log.snapshot"])
@pytest.mark.slow
def test_a_pickle_in_place_of_a_searchs_journal_is_not_run(
    tmp_path: Path, plain: Any, trap: Trap, name: str
) -> None:
    search = {"trials": 1, "space": {"train.learning_rate": {"low": 1e-4, "high": 1e-2}}}
    study = teaching.plan({"ce": 1.0}, search=search)
    spec = study.searches.spec("find")
    shard = tiny.shard(tmp_path / "shard.parquet", plain, tiny.uneven_rows(plain, 16))
    out = tmp_path / "search" / "best.json"
    (out.parent / "resume").mkdir(parents=True)
    (out.parent / "resume" / "tag.txt").write_text("tag")
    (out.parent / "resume" / name).write_bytes(trap.pickle())
    initial = teaching.small(tmp_path, plain)
    held_out = teaching.write_text(tmp_path / "v.parquet", tiny.uneven_rows(plain, 3), plain)

    # Without the end of a line it is taken for a line that a kill cut off.
    search_settings(initial, shard, out, spec, "small", "tag", [], [held_out])
    assert out.is_file()


# Files of the workflow's own, and data.


def test_the_workflows_own_files_are_no_pickles(tmp_path: Path, trap: Trap) -> None:
    trap.torch_file(tmp_path / "head.safetensors")
    with pytest.raises(Exception, match=r"[Hh]eader"):
        load_head(tmp_path / "head.safetensors", torch.device("cpu"))
    trap.torch_file(tmp_path / FILE)
    with pytest.raises(UserError, match="is not readable JSON"):
        Vocabulary.load(tmp_path)
    trap.torch_file(tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="is not a readable Parquet file"):
        read_rows(tmp_path / "rows.parquet")


@pytest.mark.parametrize("name", ["a.pkl", "a.npy", "a.npz", "a.pt", "a.py", "a.json", "a.csv",
                                  "a.parquet"])  # fmt: skip
def test_data_that_are_a_pickle_or_a_program_are_one_sentence(
    tmp_path: Path, trap: Trap, name: str
) -> None:
    file = tmp_path / name
    if name == "a.npy":
        np.save(file, np.array([trap.payload], dtype=object), allow_pickle=True)
    elif name == "a.npz":
        np.savez(file, rows=np.array([trap.payload], dtype=object))
    elif name == "a.py":
        file.write_text(trap.code())
    else:
        trap.torch_file(file)
    with pytest.raises(UserError) as caught:
        fetch_data({"path": str(file), "fields": {"prompt": "q"}}, tmp_path / "rows.parquet")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "rows.parquet").exists()


# Tasks of the harness.


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"dataset_path": "pandas", "dataset_kwargs": {"data_files": {"test": "a.pkl"}}}, "Pickle"),
        ({"dataset_path": "script"}, "scripts are no longer supported"),
        ({"dataset_path": "script", "dataset_kwargs": {"trust_remote_code": True}}, "no longer"),
    ],
)
def test_a_tasks_data_that_are_a_program_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trap: Trap,
    given: dict[str, Any],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(trap.pickle())
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text(trap.code())
    task = {
        "task": "quiz", "test_split": "test", "output_type": "multiple_choice",
        "doc_to_text": "{{q}}", "doc_to_choice": ["a"], "doc_to_target": 0,
    }  # fmt: skip
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "quiz.yaml").write_text(yaml.safe_dump(task | given))
    with pytest.raises(UserError, match=f"quiz: its data cannot be loaded .*{sentence}") as caught:
        load_task({"task": "quiz", "include": "tasks", "metric": None, "fewshot": None})
    assert "\n" not in str(caught.value)


# The code itself.

PYTHON = sorted((ROOT / "scripts").rglob("*.py"))
RUNS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "eval", "exec",
    "compile", "pickle.load", "pickle.loads", "torch.load", "np.load", "pd.read_pickle",
    "importlib.import_module", "__import__", "marshal.loads", "joblib.load", "dill.load",
}  # fmt: skip


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _given(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


@pytest.mark.slow
def test_no_code_of_ours_runs_text_or_unpickles() -> None:
    found = {(path.name, name) for path in PYTHON for name, _ in _calls(path) if name in RUNS}
    assert not found
    unpickling = {path.name for path in PYTHON if "from_pickled_model" in path.read_text()}
    assert unpickling == {"curation.py"}  # a file of the package py3langid, as trusted as its code


@pytest.mark.slow
def test_no_program_is_started_through_a_shell() -> None:
    started = [
        (path.name, call) for path in PYTHON for name, call in _calls(path)
        if name.startswith(("subprocess.", "os.exec", "os.spawn", "asyncio.create_subprocess"))
    ]  # fmt: skip
    assert {name for name, _ in started} >= {"calibration.py", "environment.py", "fetch.py"}
    for name, call in started:
        assert "shell" not in _given(call), name
        assert not isinstance(call.args[0], (ast.Constant, ast.JoinedStr)), name
    for path in [ROOT / "Snakefile", *(ROOT / "rules").iterdir()]:
        text = path.read_text()
        assert not re.search(r"^\s*(shell|run|notebook|wrapper|cwl)\s*:", text, re.M), path.name
        assert not re.search(r"\b(shell|system|popen|eval|exec)\(|subprocess", text), path.name


@pytest.mark.slow
def test_every_model_is_opened_without_remote_code_and_by_safetensors() -> None:
    opened = 0
    for path in PYTHON:
        for name, call in _calls(path):
            given = _given(call)
            assert given.get("trust_remote_code", "False") == "False", path.name
            if name.endswith("from_pretrained"):
                opened += 1
                assert given.get(None) or given.get("trust_remote_code") == "False", path.name
                assert "SAFE" in ast.unparse(call) or "trust_remote_code" in given, path.name
                if not name.startswith(("AutoConfig", "AutoTokenizer")):
                    weights = given.get("use_safetensors") == "True" or "gguf_file" in given
                    assert weights, path.name
    assert opened > 15
    assert SAFE == {"trust_remote_code": False, "local_files_only": True}


@pytest.mark.parametrize(
    "name", ["$(touch x)", "a;b", "../a", "a\n", "a b", "`a`", "-a", "a|b", ""]
)
def test_a_name_that_a_path_or_a_shell_could_misread_is_refused(name: str) -> None:
    for section in ("students", "teachers", "methods", "sources"):
        config = tiny.study()
        config[section][name] = next(iter(config[section].values()))
        with pytest.raises(UserError, match="is not a valid name"):
            parse_study(config)
    with pytest.raises(UserError, match="is not a valid name"):
        parse_study(tiny.study() | {"study": name})
