"""Let the teacher write one raw part of prompts (Magpie)."""

from pathlib import Path

from distill.runtime.imports import quick_imports
from distill.runtime.job import job

with job(snakemake):
    with quick_imports():
        from distill.contracts.schemas import RAW_SCHEMA
        from distill.core.parquet import write_rows
        from distill.models.opening import load_teacher
        from distill.models.tokenizers import load_tokenizer
        from distill.runtime.cpu import set_up_cpu
        from distill.runtime.out_of_memory import memory_hint, smaller_batch
        from distill.teacher.generation import synthesise_prompts
    spec = snakemake.params.spec
    set_up_cpu(spec["threads"])
    folder = Path(snakemake.input.model).parent
    model = load_teacher(folder, spec, sequence=4 * spec["max_tokens"])
    name = snakemake.resources.teacher
    with memory_hint(f"writing {spec['batch_size']} prompts at once", smaller_batch(name)):
        rows, cost = synthesise_prompts(model, load_tokenizer(folder), spec)
    write_rows(snakemake.output.part, rows, RAW_SCHEMA, spec=spec, cost=cost)
