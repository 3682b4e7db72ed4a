from pathlib import Path

import pytest

from distill import digest
from distill.digest import code_digest

SCRIPTS = Path(__file__).parent.parent / "scripts"
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
    return code_digest(folder / "run.py", folder / "data.json")


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


def test_every_script_reaches_the_modules_that_it_imports() -> None:
    closure = digest._imports(SCRIPTS / "distill" / "training.py", SCRIPTS)
    names = {path.name for path in closure}
    assert {"encoding.py", "losses.py", "files.py", "models.py"} <= names
    assert "evaluation.py" not in names


def test_no_module_is_imported_in_a_way_that_the_digest_misses() -> None:
    for path in SCRIPTS.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.strip()
            assert not text.startswith("from ."), path
            assert "import_module" not in text, path
            assert "__import__" not in text, path
