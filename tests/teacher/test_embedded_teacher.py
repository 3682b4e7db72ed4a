"""The default study, small and whole, on the real embedded teacher."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import miniature
from distill.contracts.columns import MEASURED

SMALL = "studies/small.yaml"


def _small(project: Path) -> None:
    """The default study with one student, two sizes and fewer held-out prompts.

    Its soft targets come exact, and as the default keeps them.
    """
    config: dict[str, Any] = yaml.safe_load((project / "config.yaml").read_text())
    config["study"] = "small"
    config["prompts"] |= {"test": 32, "part_size": 32, "pool": 64, "draw_pool": 64}
    config["teachers"]["smollm2"] |= {"max_tokens": 48}
    config["evaluate"] |= {"instruction_tokens": 8, "qualitative": 2, "latency_tokens": 16}
    config["evaluate"]["generated_instructions"] = 0
    config["evaluate"]["reference"] |= {"passages": 12, "max_tokens": 64}
    (default,) = config["caches"]
    config["caches"]["exact"] = {"scheme": "final_hidden"}
    block = {"students": ["layers2"], "teachers": ["smollm2"]}
    config["runs"] = [
        block | {"methods": ["sft"], "samples": [16, 64]},
        block | {"methods": ["kd"], "caches": [default, "exact"], "samples": [64]},
    ]
    (project / SMALL).write_text(yaml.safe_dump(config, sort_keys=False))


def _check(results: Path) -> pd.DataFrame:
    """What must hold of any study on this teacher; returns the runs table."""
    table = pd.read_parquet(results / "runs.parquet")
    references = json.loads((results / "references.json").read_text())
    means = table.groupby(["student", "method", "samples"])["perplexity"].mean()
    for student in set(table["student"]):
        for method in set(table["method"]) - {"none"}:
            falling = pd.concat([means[student]["none"], means[student][method].sort_index()])
            assert falling.is_monotonic_decreasing, falling
        assert falling.iloc[-1] > references["teachers"]["smollm2"]["perplexity"]
    assert max(abs(item["z"]) for item in references["identity"]) < 4
    assert references["near_duplicates"]["pairs"] == []
    assert table["kl_teacher"].min() > 0
    teacher = references["teachers"]["smollm2"]
    assert teacher["params"] == 134_515_008
    assert teacher["params_non_embedding"] == 106_203_456
    assert (table["tokens_per_second"] > teacher["tokens_per_second"]).all()
    assert references["floor"]["fixed"] < 0.2
    page = (results / "report.html").read_text()
    assert "http-equiv" in page
    assert f"{references['largest_samples']:,}" in page
    return table


@pytest.mark.workflow
def test_the_default_study_in_small(tmp_path: Path) -> None:
    project = miniature.copy_project(tmp_path / "project")
    _small(project)
    miniature.snakemake(project, "--configfile", SMALL)
    table = _check(project / "results/small")
    assert sorted(table["samples"]) == [0, 16, 64, 64, 64]
    largest = table[table["samples"] == 64].set_index("cache")
    exact, kept = largest.loc["exact"], largest.drop(["none", "exact"]).iloc[0]
    assert kept["loss"] < largest.loc["none", "loss"]
    assert kept["loss"] == pytest.approx(exact["loss"], rel=0.02)
    assert kept["cache_bytes_per_token"] <= 70  # 59 in the default study, whose parts are larger
    assert kept["cache_bytes_per_token"] < exact["cache_bytes_per_token"] / 10
    assert 0.8 < kept["cache_kept_mass"] <= 1
    assert 0.3 < kept["cache_entropy"] < 3
    assert exact["target_flops"] == 0  # the states fell out of generation
    assert 0 < kept["target_flops"] < kept["teacher_flops"]
    assert table["params"].nunique() == 1
    assert miniature.dry_run(project, SMALL) == {}
    prompts = [
        row
        for path in sorted(project.glob("resources/prompts/*/t*.parquet"))
        for row in pd.read_parquet(path)["prompt"]
    ]
    assert len(prompts) == len(set(prompts)) == 32 + 64
    (shard,) = project.glob("results/small/shards/smollm2/raw/none/draw0/n64.parquet")
    rows = pd.read_parquet(shard)
    ended = rows["finish_reason"] == "stop"
    last = rows["response_ids"].map(lambda ids: ids[-1])
    assert (last[ended] == 2).all()
    assert (last[~ended] != 2).all()
    assert 0.2 < ended.mean() < 1
    report = ["--report", "report.html", "--configfile", SMALL]
    miniature.snakemake(project, *report)
    assert (project / "report.html").stat().st_size > 100_000


@pytest.mark.long
def test_the_default_study_twice_gives_the_same_table(tmp_path: Path) -> None:
    tables = []
    for name in ("first", "second"):
        project = miniature.copy_project(tmp_path / name)
        miniature.snakemake(project, timeout=3600)
        tables.append(_check(project / "results/smollm2").drop(columns=MEASURED))
        again = subprocess.run(
            ["snakemake", "-n", "--cores", "1"], cwd=project, capture_output=True, text=True
        )
        assert "Nothing to be done" in again.stdout + again.stderr
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
