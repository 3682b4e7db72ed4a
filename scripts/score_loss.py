"""The teacher's own mean loss on each answer of one part of a text."""

from distill.core.parquet import read_rows, write_rows
from distill.models.heads import load_head
from distill.runtime.cpu import set_up_cpu
from distill.runtime.device import device
from distill.runtime.job import job
from distill.teacher.answer_loss import LOSS_SCHEMA, answer_losses

with job(snakemake):
    spec, files = snakemake.params.spec, snakemake.input
    set_up_cpu(spec["scorer"]["threads"])
    head = load_head(files.head, device())
    rows = answer_losses(read_rows(files.text), read_rows(files.states), head, spec["temperature"])
    write_rows(snakemake.output.part, rows, LOSS_SCHEMA, spec=spec)
