"""Fixtures that several test files share."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Snakemake gives a job's scripts as many; more only wait for each other in small matrices.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

import tiny
from report_page import make_report
from synthetic_runs import make_references, make_runs, make_samples

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with studies first, so that no long one is left to a single worker at the end."""
    studies = {item.path for item in items if item.get_closest_marker("workflow")}
    items.sort(key=lambda item: item.path not in studies)


@pytest.fixture(scope="session")
def chat() -> Any:
    """A tokenizer with a chat template."""
    return tiny.tokenizer(chat=True)


@pytest.fixture(scope="session")
def plain() -> Any:
    """A tokenizer without one."""
    return tiny.tokenizer(chat=False)


@pytest.fixture(scope="session")
def words(plain: Any) -> Any:
    """The same, by the name that training's tests use."""
    return plain


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The figures of a made-up study, beside a report that was written once."""
    folder = tmp_path_factory.mktemp("report")
    make_report(folder, make_runs(caches=("top64", "hidden")), make_references(), make_samples())
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts file systems in memory: options of `mount`, and where (a new folder if not given)."""
    mounted: list[Path] = []

    def mount(options: str, folder: Path | None = None) -> Path:
        place = folder or tmp_path / f"disk{len(mounted)}"
        place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            if os.environ.get("CI") and os.geteuid() == 0:
                pytest.fail("no file system can be mounted, although this is root in CI")
            pytest.skip("no file system can be mounted here: that takes root")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)
