"""Save a teacher's final hidden states on one part of a text that it did not write just now."""

from distill.imports import quick_imports
from distill.job import job
from distill.out_of_memory import SMALLER_TEACHER, memory_hint

with job(snakemake), memory_hint("scoring a text", SMALLER_TEACHER):
    with quick_imports():
        from distill.memory import job_peak
        from distill.meter import Meter
        from distill.models import open_scoring
        from distill.parquet import write_rows
        from distill.states import STATES_SCHEMA, score_text
    files, spec = snakemake.input, snakemake.params.spec
    rows, model = open_scoring(files.text, files.model, spec)
    meter = Meter()
    states = score_text(model, rows, snakemake.params.tokens)
    used = job_peak() | meter.total().record()
    write_rows(snakemake.output.part, states, STATES_SCHEMA, spec=spec, job=used)
