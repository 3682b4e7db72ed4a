"""Save a teacher's final hidden states on one part of a text that it did not write just now."""

from distill.runtime.imports import quick_imports
from distill.runtime.job import job
from distill.runtime.out_of_memory import SMALLER_TEACHER, memory_hint

with job(snakemake), memory_hint("scoring a text", SMALLER_TEACHER):
    with quick_imports():
        from distill.contracts.schemas import STATES_SCHEMA
        from distill.core.parquet import write_rows
        from distill.models.opening import open_scoring
        from distill.runtime.memory import job_peak
        from distill.runtime.meter import Meter
        from distill.teacher.scoring import score_text
    files, spec = snakemake.input, snakemake.params.spec
    rows, model = open_scoring(files.text, files.model, spec)
    meter = Meter()
    states = score_text(model, rows, snakemake.params.tokens)
    used = job_peak() | meter.total().energy.record()
    write_rows(snakemake.output.part, states, STATES_SCHEMA, spec=spec, job=used)
