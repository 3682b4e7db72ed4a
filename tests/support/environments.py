"""What envs/ pins, and what the scripts that run there import."""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from miniature import ROOT

ENVS = ROOT / "envs"
NAMES = sorted(path.stem for path in ENVS.glob("*.yaml"))


def requirements(*names: str) -> dict[str, str]:
    """Packages and versions that requirements files pin, without those that they include."""
    return _pins([line for name in names for line in (ENVS / name).read_text().split()])


def dependencies(name: str) -> tuple[list[str], dict[str, str]]:
    """What an environment asks conda for, and what it pins for pip."""
    listed = yaml.safe_load((ENVS / f"{name}.yaml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in listed if isinstance(entry, dict)]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pip)
    return [entry for entry in listed if isinstance(entry, str)], _pins(pip)


def _pins(lines: list[str]) -> dict[str, str]:
    found = [line.split("==") for line in lines if "==" in line]
    return {name.strip().lower(): version.strip() for name, version in found}


def scripts() -> dict[str, list[str]]:
    """The scripts that run in each environment."""
    found: dict[str, list[str]] = {name: [] for name in NAMES}
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^\s*rule ", path.read_text(), flags=re.M)[1:]:
            (environment,) = re.findall(r'"\.\./envs/(\w+)\.yaml"', rule)
            (script,) = re.findall(r'"\.\./scripts/(\w+)\.py"', rule)
            found[environment].append(script)
    return found


def imports(files: Iterable[Path], at_start: bool = False) -> tuple[set[str], set[str]]:
    """What files import, and what that imports: modules of the library, packages of others.

    Args:
        files: Adapters or modules of the library.
        at_start: Only what is imported when they are, not what a function imports.
    """
    todo, seen, ours, others = list(files), set(), set(), set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        tree = ast.parse(path.read_text())
        for node in tree.body if at_start else ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
                modules += [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                inner = (ROOT / "scripts").joinpath(*module.split(".")).with_suffix(".py")
                if inner.is_file():
                    ours.add(module)
                    todo.append(inner)
                elif (top := module.split(".")[0]) not in sys.stdlib_module_names:
                    others.add(top)
    return ours, others - {"distill"}
