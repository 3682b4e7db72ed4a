"""Write the provenance record of the study."""

from distill.runtime.job import job
from distill.workflow.provenance import write_provenance

with job(snakemake):
    write_provenance(
        out=snakemake.output.record,
        spec=snakemake.params.spec,
        outputs=list(snakemake.input.outputs),
        records=list(snakemake.input.records),
        manifests=list(snakemake.input.manifests),
        data=list(snakemake.input.data),
    )
