"""A study through a SLURM that keeps accounts: slurmdbd answers what squeue answers elsewhere."""

from pathlib import Path

import pytest
import yaml

import slurm_node
from cluster_study import PROFILE, RESULTS, asked, on_cluster, small_project

pytestmark = pytest.mark.long


def test_a_study_where_slurmdbd_answers(tmp_path: Path) -> None:
    slurm_node.require_slurm(accounting=True)
    project = small_project(tmp_path)
    profile = yaml.safe_load((project / PROFILE).read_text())
    profile["default-resources"] |= {"slurm_account": "lab", "qos": "normal"}
    profile["set-resources"]["generate_text"]["gpu_model"] = "fake"
    (project / PROFILE).write_text(yaml.safe_dump(profile))
    with slurm_node.slurm_node(tmp_path / "node", accounting=True):
        on_cluster(project, "--slurm-status-command", "sacct")
        fields = "--format=State,Account,QOS,Partition,ReqTRES"
        jobs = [line.split("|") for line in asked("sacct", "-X", "-n", "-P", fields)]
    assert (project / RESULTS / "report.html").exists()
    assert {tuple(job[:3]) for job in jobs} == {("COMPLETED", "lab", "normal")}
    assert {job[3] for job in jobs} == {"cpu", "gpu"}
