"""Write the manifest of a cache."""

from pathlib import Path

from distill.caching import write_manifest
from distill.job import job
from distill.models import load_tokenizer

with job(snakemake):
    tokenizers = [load_tokenizer(Path(path).parent) for path in snakemake.input.models]
    params = snakemake.params
    write_manifest(tokenizers, params.teachers, params.spec, snakemake.output.manifest)
