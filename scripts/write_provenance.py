"""Write where the study's results come from."""

from pathlib import Path

from distill.core.files import write_json
from distill.runtime.job import job
from distill.workflow.provenance import describe

with job(snakemake):
    files, out = snakemake.input, Path(snakemake.output.record)
    groups = [
        [Path(file) for file in group]
        for group in (files.outputs, files.records, files.manifests, files.data)
    ]
    write_json(out, describe(out.parent, snakemake.params.spec, *groups))
