"""Write the manifest of a cache."""

from pathlib import Path

from distill.imports import leave_out
from distill.job import job
from distill.manifest import write_manifest

with job(snakemake):
    leave_out("torch")
    from distill.tokenizing import load_tokenizer

    tokenizers = [load_tokenizer(Path(path).parent) for path in snakemake.input.models]
    params = snakemake.params
    write_manifest(tokenizers, params.teachers, params.spec, snakemake.output.manifest)
