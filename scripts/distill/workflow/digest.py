"""A digest of the code that a script depends on, so that an edit reruns the affected jobs.

Snakemake sees a changed script but not the modules that it imports. The digest covers the script
and every `distill` module that it imports, directly or not, without comments and docstrings.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.core.files import write_text


def content_mark(path: str | Path) -> str:
    """A mark that changes with a file's content, even if its modification time becomes older.

    Returns:
        16 hexadecimal digits of the content's SHA-256; for a file above 64 MB, such as weights, its
        size in bytes and modification time.
    """
    file = Path(path)
    status = file.stat()
    if status.st_size > 1 << 26:
        return f"{status.st_size} bytes of {status.st_mtime_ns}"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _describe(node: object) -> Iterator[str]:
    """The tree as text, without positions and empty fields (which differ between Pythons)."""
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


@dataclass(frozen=True)
class _Module:
    """The digest of a file's code, and the dotted names that it may import."""

    digest: str
    imports: tuple[str, ...]


def _read(text: str) -> _Module:
    """Parse a file's text."""
    tree = ast.parse(text)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    digest = hashlib.sha256(" ".join(_describe(tree)).encode()).hexdigest()
    return _Module(digest, tuple(sorted(names)))


class CodeDigests:
    """Digests of scripts, with a cache of parsed files.

    Snakemake evaluates the rules at every start, on a cluster in every job; parsing hundreds of
    modules takes seconds.

    Args:
        root: The folder of scripts, where imports are resolved.
        memory: A JSON file with the cache, keyed by the contents of the module and of this one.
            None disables the cache.
    """

    def __init__(self, root: Path, memory: Path | None = None) -> None:
        self.root, self.memory = root, memory
        self._key = hashlib.sha256(Path(__file__).read_bytes())
        self._seen: dict[Path, _Module] = {}
        self._kept: dict[str, list[Any]] = {}
        if memory is not None:
            with suppress(OSError, ValueError):  # without the cache it only takes longer
                self._kept = json.loads(memory.read_text(encoding="utf-8"))
        self._known = set(self._kept)

    def _module(self, path: Path) -> _Module:
        if path not in self._seen:
            content = path.read_bytes()
            key = self._key.copy()
            key.update(content)
            name = key.hexdigest()
            if name not in self._kept:
                module = _read(content.decode("utf-8"))
                self._kept[name] = [module.digest, list(module.imports)]
            digest, imports = self._kept[name]
            self._seen[path] = _Module(digest, tuple(imports))
        return self._seen[path]

    def closure(self, script: Path) -> list[Path]:
        """A script and every file of `root` that it imports, directly or not, sorted."""
        todo, closure = [script], set[Path]()
        while todo:
            path = todo.pop()
            if path in closure:
                continue
            closure.add(path)
            files = (
                self.root.joinpath(*name.split(".")).with_suffix(".py")
                for name in self._module(path).imports
            )
            todo.extend(file for file in files if file in self._seen or file.is_file())
        return sorted(closure)

    def of(self, script: Path, *data: Path) -> str:
        """Digest of a script, its import closure and data files, as 16 hexadecimal digits.

        Args:
            script: A file in `root`.
            data: Files that the code reads at run time (a template, a list of instructions).
        """
        closure = self.closure(script)
        parts = [f"{path.relative_to(self.root)} {self._module(path).digest}" for path in closure]
        parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in data]
        self._save()
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _save(self) -> None:
        """Write the cache if it has new entries."""
        if self.memory is None or self._known == set(self._kept):
            return
        self._known = set(self._kept)
        with suppress(OSError):  # without the cache it only takes longer
            write_text(self.memory, json.dumps(self._kept))
