"""A digest of the code that a script depends on, so that an edit reruns what it may change.

Snakemake sees a changed script but not the modules that it imports. The digest covers the script
and every `distill` module that it imports, directly or not, without comments and docstrings.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _describe(node: object) -> Iterator[str]:
    """The tree in words, without positions and empty fields (which differ between Pythons)."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in ("kind", "type_comment"):
                continue
            yield name
            yield from _describe(value)
        yield ";"
    elif isinstance(node, list):
        for item in node:
            if not _is_docstring(item):
                yield from _describe(item)
    else:
        yield repr(node)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(path: Path, root: Path) -> tuple[Path, ...]:
    """Files of this project that a file imports, found in its syntax tree."""
    names = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = (root.joinpath(*name.split(".")).with_suffix(".py") for name in sorted(names))
    return tuple(file for file in files if file.is_file())


@cache
def _file_digest(path: Path) -> str:
    return hashlib.sha256(" ".join(_describe(_tree(path))).encode()).hexdigest()


@cache
def code_digest(script: Path, *data: Path) -> str:
    """Sixteen hexadecimal digits for a script, its import closure and data files that it reads.

    Args:
        script: A file in `scripts/`.
        data: Files that the code reads at run time (a template, a list of instructions).
    """
    root, todo, closure = script.parent, [script], set()
    while todo:
        path = todo.pop()
        if path not in closure:
            closure.add(path)
            todo.extend(_imports(path, root))
    parts = [f"{path.relative_to(root)} {_file_digest(path)}" for path in sorted(closure)]
    parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in data]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
