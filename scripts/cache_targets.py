"""Make the soft targets of one part of a text from its teachers' final hidden states."""

from distill.imports import quick_imports
from distill.job import job

with job(snakemake):
    with quick_imports():
        from distill.caching import cache_targets
        from distill.cpu import set_up_cpu
        from distill.models import device
        from distill.parquet import read_rows, write_rows
        from distill.soft_targets import scheme_of, target_schema
        from distill.states import load_head
    spec = snakemake.params.spec
    set_up_cpu(spec["scorers"][0]["threads"])
    heads = [load_head(path, device()) for path in snakemake.input.heads]
    rows = cache_targets([read_rows(path) for path in snakemake.input.states], heads, spec)
    vocabulary = max(len(head.weight) for head in heads)
    schema = target_schema(scheme_of(spec))
    write_rows(snakemake.output.part, rows, schema, spec=spec, vocabulary=vocabulary)
