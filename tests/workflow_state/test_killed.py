"""What is said of jobs that the system killed."""

from distill.workflow.snakemake_state import killed_hints

LOCAL = """
RuleException:
CalledProcessError in file "rules/teacher.smk", line 38:
Command 'set -euo pipefail;  python scripts/tmp1.generate_text.py' died with <Signals.SIGKILL: 9>.
[Sun Nov 29 16:44:31 2026]
Error in rule generate_text:
    message: None
    jobid: 3
RuleException:
CalledProcessError in file "rules/teacher.smk", line 38:
Command 'set -euo pipefail;  python scripts/tmp2.build_shard.py' returned non-zero exit status 1.
[Sun Nov 29 16:44:32 2026]
Error in rule build_shard:
    message: None
"""
CLUSTER = """
[Sun Nov 29 16:44:31 2026]
Error in rule train_student:
    message: SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY'. Detailed failure reason
    jobid: 3
[Sun Nov 29 16:44:31 2026]
Error in rule evaluate_student:
    message: SLURM-job '13' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason
    jobid: 4
[Sun Nov 29 16:44:31 2026]
Error in rule train_student:
    message: SLURM-job '14' failed, SLURM status is: 'OUT_OF_MEMORY'. Detailed failure reason
"""


def test_a_killed_job_is_told_with_the_setting_to_lower() -> None:
    (local,) = killed_hints(LOCAL)
    assert local == (
        "a job of generate_text was killed, probably because memory ran out: lower the "
        "batch_size of the teacher, give the job more memory, or run fewer at once "
        "(--resources device=1)"
    )
    (cluster,) = killed_hints(CLUSTER)
    assert "a job of train_student was killed" in cluster
    assert "lower train.micro_batch_size (a retry takes half of it by itself)" in cluster
    assert killed_hints("Finished jobid: 0 (Rule: train_student)") == []
