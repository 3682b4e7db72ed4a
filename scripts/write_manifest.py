"""Write the manifest of a cache."""

from pathlib import Path

from distill.runtime.imports import leave_out
from distill.runtime.job import job
from distill.targets.manifest import write_manifest

with job(snakemake):
    leave_out("torch")
    from distill.models.tokenizers import load_tokenizer

    tokenizers = [load_tokenizer(Path(path).parent) for path in snakemake.input.models]
    params = snakemake.params
    write_manifest(tokenizers, params.teachers, params.spec, snakemake.output.manifest)
