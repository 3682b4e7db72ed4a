import json
import os
from pathlib import Path

import pytest

from distill.contracts.figures import FIGURES
from distill.workflow.digest import CodeDigests, content_mark

SCRIPTS = Path(__file__).parents[2] / "scripts"
FILES = {
    "run.py": '"""A script."""\nfrom distill.top import work\nwork(1)\n',
    "distill/top.py": (
        '"""Top."""\nfrom distill import middle\n\n\ndef work(x):\n    """Do it."""\n'
        "    import distill.lazy\n    return middle.half(x)\n"
    ),
    "distill/middle.py": "from distill.deep import two\ndef half(x):\n    return x / two\n",
    "distill/deep.py": "two = 2\n",
    "distill/lazy.py": "three = 3\n",
    "distill/apart.py": "four = 4\n",
    "distill/__init__.py": "",
    "data.json": "[1]",
}


def digest_of(folder: Path, changes: dict[str, str]) -> str:
    for name, text in (FILES | changes).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    digests = CodeDigests(folder, folder / "memory.json")
    found = digests.of(folder / "run.py", folder / "data.json")
    # The same with every file remembered, and without a memory.
    for memory in (folder / "memory.json", None):
        again = CodeDigests(folder, memory)
        assert again.of(folder / "run.py", folder / "data.json") == found
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distill/deep.py": "# Two.\n\ntwo = (2)  # two\n"},
        {"distill/top.py": FILES["distill/top.py"].replace("Do it.", "Do it well.")},
        {"run.py": FILES["run.py"].replace('"""A script."""\n', "")},
        {"distill/apart.py": "four = 5\n"},
        {"distill/new.py": "five = 5\n"},
    ],
)
def test_edits_that_change_no_behaviour_change_no_digest(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    assert digest_of(tmp_path / "a", {}) == digest_of(tmp_path / "b", changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"run.py": FILES["run.py"].replace("work(1)", "work(2)")},
        {"distill/top.py": FILES["distill/top.py"].replace("half(x)", "half(-x)")},
        {"distill/middle.py": FILES["distill/middle.py"].replace("x / two", "two / x")},
        {"distill/deep.py": "two = 3\n"},
        {"distill/deep.py": "two = 2.0\n"},
        {"distill/deep.py": "two = '2'\n"},
        {"distill/lazy.py": "three = 4\n"},
        {"data.json": "[2]"},
    ],
)
def test_edits_that_may_change_results_change_the_digest(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    assert digest_of(tmp_path / "a", {}) != digest_of(tmp_path / "b", changes)


BY_NAME = SCRIPTS / "distill/figures/figure.py"


BY_NAME = SCRIPTS / "distill/figures/figure.py"


@pytest.mark.slow
def test_every_script_reaches_the_modules_that_it_imports() -> None:
    closure = CodeDigests(SCRIPTS).closure(SCRIPTS / "distill" / "training" / "run.py")
    names = {path.name for path in closure}
    assert {"encoding.py", "losses.py", "files.py", "opening.py"} <= names
    assert "held_out.py" not in names


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    ["train_student", "search_settings", "generate_text", "score_text", "cache_targets",
     "build_shard", "evaluate_model", "measure_efficiency"],
)  # fmt: skip
def test_what_plans_checks_or_tells_a_study_reruns_no_heavy_job(script: str) -> None:
    closure = CodeDigests(SCRIPTS).closure(SCRIPTS / f"{script}.py")
    rooms = {path.relative_to(SCRIPTS).parts[1] for path in closure if path.parent != SCRIPTS}
    assert not rooms & {"config", "plan", "workflow", "costs"}
    assert not rooms & {"laws", "figures", "report", "table", "answers", "ask"}


WRITES = {"generate_text", "synthesise_prompts"}
SCORES = {"score_text", "fit_projection", "score_layers"}
TRAINS = {"train_student", "search_settings"}
HEADS = {"save_head", "cache_targets", "score_loss"}
MODEL_JOBS = WRITES | SCORES | TRAINS | HEADS | {"evaluate_model", "measure_efficiency"}
OTHER_JOBS = {"ask_server", "take_answers", "take_log_probs", "build_shard", "build_corpus_shard"}
RERUN = {
    "models/attention": MODEL_JOBS - {"cache_targets", "score_loss"},
    "models/forward": MODEL_JOBS - {"cache_targets", "score_loss"},
    "models/flops": MODEL_JOBS - HEADS,
    "models/sampling": WRITES | TRAINS | {"evaluate_model"},
    "models/drawing": WRITES | TRAINS | {"evaluate_model"},
    "models/head_extraction": WRITES | TRAINS | {"save_head", "score_text"},
    "models/heads": WRITES | TRAINS | HEADS | {"score_text", "evaluate_model"},
    "targets/caching": {"cache_targets"},
    "targets/encoding": {"cache_targets", "take_log_probs"},
    "targets/layers": {"fit_projection", "score_layers"} | TRAINS,
    "teacher/generation": WRITES,
    "teacher/scoring": {"score_text"},
    "teacher/answer_loss": {"score_loss"},
    "teacher/served/request": {"ask_server"},
    "teacher/served/text": {"take_answers"},
    "teacher/served/log_probs": {"take_log_probs"},
    "contracts/dialects/vllm": {"ask_server"},
    "training/losses": TRAINS,
    "training/cross_tokenizer": TRAINS,
    "training/objective": TRAINS,
    "training/search": {"search_settings"},
    "evaluation/held_out": {"evaluate_model"},
    "evaluation/latency": {"measure_efficiency"},
    "data/corpus_shards": {"build_corpus_shard"},
    "data/cards": set[str](),
}
"""Jobs with a model or a teacher's data that an edit of a module reruns."""


@pytest.mark.slow
@pytest.mark.parametrize("module", RERUN)
def test_an_edit_reruns_the_jobs_whose_results_it_may_change_alone(module: str) -> None:
    digests, file = CodeDigests(SCRIPTS), SCRIPTS / "distill" / f"{module}.py"
    scripts = MODEL_JOBS | OTHER_JOBS
    assert file.is_file()
    assert {
        script for script in scripts if file in digests.closure(SCRIPTS / f"{script}.py")
    } == RERUN[module]


def test_a_file_that_changes_is_described_anew(tmp_path: Path) -> None:
    before = digest_of(tmp_path, {})
    memory = (tmp_path / "memory.json").read_text()
    assert digest_of(tmp_path, {"distill/deep.py": "two = 3\n"}) != before
    assert (tmp_path / "memory.json").read_text() != memory
    assert digest_of(tmp_path, {}) == before


@pytest.mark.parametrize("left", ["", "{", '{"a": '])
def test_a_broken_memory_is_made_anew(tmp_path: Path, left: str) -> None:
    before = digest_of(tmp_path, {})
    (tmp_path / "memory.json").write_text(left)
    assert digest_of(tmp_path, {}) == before
    assert len(json.loads((tmp_path / "memory.json").read_text())) == 5


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    before = digest_of(tmp_path, {})
    (tmp_path / "file").write_text("")
    nowhere = CodeDigests(tmp_path, tmp_path / "file" / "memory.json")
    assert nowhere.of(tmp_path / "run.py", tmp_path / "data.json") == before


def test_a_file_of_the_user_is_marked_by_its_content_a_large_one_by_size_and_time(
    tmp_path: Path,
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_text("one")
    before = content_mark(small)
    os.utime(small, (1e9, 1e9))
    assert content_mark(small) == before
    small.write_text("two")
    assert content_mark(small) != before
    with large.open("wb") as stream:
        stream.truncate((1 << 26) + 1)
    os.utime(large, (1e9, 1e9))
    before = content_mark(large)
    os.utime(large, (1e9 - 1, 1e9 - 1))
    assert content_mark(large) != before


def test_no_module_is_imported_in_a_way_that_the_digest_misses() -> None:
    for path in SCRIPTS.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.strip()
            assert not text.startswith("from ."), path
            assert "import_module" not in text or path == BY_NAME, path
            assert "__import__" not in text, path


@pytest.mark.slow
def test_rules_that_use_figures_take_the_digest_of_each_module() -> None:
    """A figure's module is imported by its name, which a script's closure does not show."""
    users = [path for path in SCRIPTS.glob("*.py")
             if BY_NAME in CodeDigests(SCRIPTS).closure(path)]  # fmt: skip
    rules = "".join(path.read_text() for path in (SCRIPTS.parent / "rules").glob("*.smk"))
    blocks = {block.split(":")[0]: block for block in rules.split("\nrule ")[1:]}
    assert {path.stem for path in users} == {"plot_figures", "write_report"}
    assert all("figures_code=figures_code()," in blocks[path.stem] for path in users)
    for name in FIGURES:
        module = SCRIPTS / f"distill/figures/{name}.py"
        assert module in CodeDigests(SCRIPTS).closure(module)
    closure = CodeDigests(SCRIPTS).closure(SCRIPTS / "distill/figures/cache_cost.py")
    assert SCRIPTS / "distill/answers/runs/cache_costs.py" in closure
