"""Let a teacher answer one part of the prompts; keep the hidden states that the text came from."""

from pathlib import Path

from distill.runtime.imports import quick_imports
from distill.runtime.job import job

with job(snakemake):
    with quick_imports():
        from distill.contracts.schemas import STATES_SCHEMA, TEXT_SCHEMA
        from distill.core.checksums import tokenizer_sha256
        from distill.core.parquet import read_rows, write_rows
        from distill.models.opening import load_teacher
        from distill.models.tokenizers import load_tokenizer
        from distill.runtime.cpu import set_up_cpu
        from distill.runtime.memory import job_peak
        from distill.runtime.meter import Meter
        from distill.runtime.out_of_memory import memory_hint, smaller_batch
        from distill.teacher.generation import generate_text, longest_sequence
    spec, prompts = snakemake.params.spec, read_rows(snakemake.input.prompts)
    set_up_cpu(spec["decoding"]["threads"])
    folder = Path(snakemake.input.model).parent
    tokenizer = load_tokenizer(folder)
    length = longest_sequence(tokenizer, prompts, spec)
    model = load_teacher(folder, spec["decoding"], sequence=length)
    meter = Meter()
    at_once, name = spec["decoding"]["batch_size"], snakemake.resources.teacher
    with memory_hint(f"answering {at_once} prompts at once", smaller_batch(name)):
        rows, states = generate_text(model, tokenizer, prompts, spec)
    digest = tokenizer_sha256(tokenizer)
    used = job_peak() | meter.total().energy.record()
    write_rows(snakemake.output.states, states, STATES_SCHEMA, spec=spec, job=used)
    write_rows(snakemake.output.part, rows, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest)
