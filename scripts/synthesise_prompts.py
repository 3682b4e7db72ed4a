"""Let the teacher write one raw part of prompts (Magpie)."""

from pathlib import Path

from distill.imports import quick_imports
from distill.job import job

with job(snakemake):
    with quick_imports():
        from distill.cpu import set_up_cpu
        from distill.models import load_teacher, load_tokenizer
        from distill.out_of_memory import memory_hint, smaller_batch
        from distill.parquet import write_rows
        from distill.schemas import RAW_SCHEMA
        from distill.text import synthesise_prompts
    spec = snakemake.params.spec
    set_up_cpu(spec["threads"])
    folder = Path(snakemake.input.model).parent
    model = load_teacher(folder, spec, sequence=4 * spec["max_tokens"])
    name = snakemake.resources.teacher
    with memory_hint(f"writing {spec['batch_size']} prompts at once", smaller_batch(name)):
        rows, cost = synthesise_prompts(model, load_tokenizer(folder), spec)
    write_rows(snakemake.output.part, rows, RAW_SCHEMA, spec=spec, cost=cost)
