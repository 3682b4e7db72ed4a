"""README and docs: valid configs, links that resolve, a README of one page, nothing from afar."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from distill.config.checks.study import parse_study
from distill.config.own_table import TableStudy
from distill.config.reading import check_yaml
from distill.config.study import Study
from distill.config.text import Source
from distill.contracts.figures import FIGURES
from distill.table.own_table import parse_table_study
from distill.workflow.reference_pages import read_examples
from miniature import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks/README.md"])
FENCED = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.M | re.S)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def _studies() -> list[tuple[str, str]]:
    """Every YAML block that is a whole study, with a name for the test."""
    blocks = []
    for page in PAGES:
        for number, match in enumerate(FENCED.finditer(page.read_text(encoding="utf-8"))):
            if match[2] == "yaml" and re.search(r"^study:", match[3], re.M):
                blocks.append((f"{page.relative_to(ROOT)}-{number}", match[3]))
    return blocks


STUDIES = _studies()


def test_the_guide_shows_whole_studies() -> None:
    named = {name.rsplit("-", 1)[0] for name, _ in STUDIES}
    without = {
        "index",
        "ask",
        "cluster",
        "results",
        "laws_in_python",
        "next_runs",
    }  # commands, no config
    guide = {f"docs/guide/{page.name}" for page in ROOT.glob("docs/guide/*.md")}
    assert guide - named == {f"docs/guide/{name}.md" for name in without}
    assert "README.md" in named


def test_the_sources_of_the_guide_are_valid() -> None:
    text = (ROOT / "docs/guide/data.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(match[3]) for match in FENCED.finditer(text) if match[2] == "yaml"]
    sources = [Source.model_validate(entry) for block in blocks if len(block) == 1
               for entry in block["sources"].values()]  # fmt: skip
    assert len(sources) > 5
    assert all(source.is_data for source in sources)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "text"), STUDIES, ids=[name for name, _ in STUDIES])
def test_each_study_in_the_documentation_is_valid(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # local files are named from there
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    check_yaml(file)
    config: dict[str, Any] = yaml.safe_load(text)
    parse = parse_table_study if "runs_table" in config else parse_study
    assert parse(config).study == config["study"]


def test_readme_is_a_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900


def test_readmes_own_data_takes_ten_lines_and_its_table_five() -> None:
    blocks = [text for name, text in STUDIES if name.startswith("README.md")]
    table = next(text for text in blocks if "runs_table" in text)
    data = next(text for text in blocks if "runs_table" not in text)
    assert len(table.strip().splitlines()) <= 5
    assert len(data.strip().splitlines()) <= 10


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+)$", text, re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in plain}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_each_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in _anchors(target), f"{link}: there is no such heading"


def test_the_site_lists_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/]+\.md$", text.split("\nnav:")[1], re.M))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}


def test_the_page_of_results_lists_every_figure() -> None:
    text = (ROOT / "docs/reference/results.md").read_text(encoding="utf-8").split("## Figures")[1]
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(FIGURES)


def test_the_documentation_loads_nothing_from_elsewhere() -> None:
    for page in PAGES:
        text = FENCED.sub("", page.read_text(encoding="utf-8"))
        assert not re.search(r"!\[[^\]]*\]\(https?:|<(script|img|link|iframe)\b", text), page.name


def _sections(model: type[BaseModel], mark: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """A section of the config and those inside it, each by its place as the reference names it."""
    yield mark, model
    named = {"sources", "teachers", "students", "curations", "caches", "methods", "searches"}
    for key, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds += [kind for outer in kinds for kind in get_args(outer)]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                inner = f"{mark}.<name>" if mark in named else mark
                place = f"{inner}.{key}" if mark else key
                place += {"space": ".<setting>", "benchmarks": ".<task>"}.get(key, "")
                yield from _sections(kind, place)
                break


SECTIONS = {
    mark: model for study in (Study, TableStudy) for mark, model in _sections(study, "") if mark
}
EXAMPLES = read_examples()


def test_every_key_of_a_config_has_an_example() -> None:
    assert len(SECTIONS) > 30
    assert {mark: list(model.model_fields) for mark, model in SECTIONS.items()} == {
        mark: list(keys) for mark, keys in EXAMPLES.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("mark", SECTIONS)
def test_each_example_is_a_value_that_its_key_takes(mark: str) -> None:
    for key, field in SECTIONS[mark].model_fields.items():
        kind: Any = Annotated[field.annotation, field]
        TypeAdapter(kind).validate_python(EXAMPLES[mark][key])
        assert EXAMPLES[mark][key] != field.default, f"{key}: show another value than the default"
