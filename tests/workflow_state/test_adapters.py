"""Each adapter hands Snakemake's object to one function of the library."""

import ast
import subprocess
import sys

import pytest

import environments
from distill.runtime.job import job
from distill.runtime.model_job import model_job
from miniature import ROOT

ADAPTERS = sorted({script for names in environments.scripts().values() for script in names})
JOBS = {job.__name__: job.__module__, model_job.__name__: model_job.__module__}


def _imported(tree: ast.Module) -> dict[str, str]:
    """Names that an adapter imports from the library, with their modules."""
    return {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("distill")
        for alias in node.names
    }


def _calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def problem(text: str) -> str | None:
    """What is wrong with an adapter; None if it makes one call of the library within its job."""
    tree = ast.parse(text)
    names = _imported(tree)
    started = [name for name in names if names[name] == JOBS.get(name)]
    handed = {
        keyword.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Name)
    }  # a function of another stage, which the call passes on
    work = [name for name in names if name not in started and name not in handed]
    if len(started) != 1 or len(work) != 1:
        return f"imports {started} to start its job and {work} for its work"
    blocks = [node for node in tree.body if isinstance(node, ast.With)]
    if len(blocks) != 1 or len(blocks[0].items) != 1 or len(_calls(tree, started[0])) != 1:
        return "has another number of jobs than one"
    if started == ["job"]:
        calls = _calls(blocks[0], work[0])
    else:
        calls = [
            call for call in _calls(blocks[0], "run")
            if isinstance(call.args[0], ast.Name) and call.args[0].id == work[0]
        ]  # fmt: skip
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == work[0]]
    return None if len(calls) == len(uses) == 1 else f"calls {work[0]} {len(uses)} times"


@pytest.mark.slow
@pytest.mark.parametrize("script", ADAPTERS)
def test_an_adapter_is_one_call_of_the_library(script: str) -> None:
    assert problem((ROOT / "scripts" / f"{script}.py").read_text()) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        cache_part,\n", "        cache_part(1),\n"),
        (
            "from distill.targets",
            "from distill.core.parquet import read_rows\n    from distill.targets",
        ),
        ("    run(\n", "    run(cache_part)\n    run(\n"),
        ("    run(\n", "    print(\n"),
        ("with model_job(", "model_job(snakemake)\nwith model_job("),
    ],
)
def test_an_adapter_that_does_more_is_found(old: str, new: str) -> None:
    text = (ROOT / "scripts/cache_targets.py").read_text()
    assert old in text
    assert problem(text) is None
    assert problem(text.replace(old, new)) is not None


def test_every_script_is_the_adapter_of_a_rule() -> None:
    assert [path.stem for path in sorted((ROOT / "scripts").glob("*.py"))] == ADAPTERS


def _without_torch() -> list[str]:
    texts = {script: (ROOT / "scripts" / f"{script}.py").read_text() for script in ADAPTERS}
    return [script for script, text in texts.items() if 'without=("torch",)' in text]


@pytest.mark.slow  # each process spends seconds on imports
@pytest.mark.parametrize("script", _without_torch())
def test_what_leaves_torch_out_can_be_imported_without(script: str) -> None:
    names = _imported(ast.parse((ROOT / "scripts" / f"{script}.py").read_text()))
    (module,) = set(names.values()) - set(JOBS.values())
    code = f"import sys; sys.path[:0] = {sys.path!r}; sys.modules['torch'] = None; import {module}"
    subprocess.run([sys.executable, "-c", code], check=True)
