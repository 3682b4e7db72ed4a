"""Make the soft targets of one part of a text from its teachers' final hidden states."""

from distill.runtime.imports import quick_imports
from distill.runtime.job import job

with job(snakemake):
    with quick_imports():
        from distill.core.parquet import read_rows, write_rows
        from distill.models.heads import load_head
        from distill.runtime.cpu import set_up_cpu
        from distill.runtime.device import device
        from distill.targets.caching import cache_targets
        from distill.targets.format import scheme_of, target_schema
    spec = snakemake.params.spec
    set_up_cpu(spec["scorers"][0]["threads"])
    heads = [load_head(path, device()) for path in snakemake.input.heads]
    rows = cache_targets([read_rows(path) for path in snakemake.input.states], heads, spec)
    vocabulary = max(len(head.weight) for head in heads)
    schema = target_schema(scheme_of(spec))
    write_rows(snakemake.output.part, rows, schema, spec=spec, vocabulary=vocabulary)
