"""Write the manifest of a cache."""

from distill.runtime.job import job

with job(snakemake, without=("torch",)):
    from distill.targets.manifest import write_manifest

    write_manifest(
        models=list(snakemake.input.models),
        names=snakemake.params.teachers,
        spec=snakemake.params.spec,
        out=snakemake.output.manifest,
    )
