"""Build a student before training."""

from pathlib import Path

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=None) as run:
    from distill.models.building import build_student

    run(
        build_student,
        spec=snakemake.params.spec,
        source_dir=Path(snakemake.input.model).parent,
        manifest=snakemake.output.manifest,
        texts=list(snakemake.input.vocabulary),
        tokens_of=Path(files[0]).parent if (files := snakemake.input.tokenizer) else None,
    )
