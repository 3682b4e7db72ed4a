"""Ask a server for the answers to one part of the prompts."""

import hashlib
import json
from pathlib import Path

from distill.core.parquet import read_rows, write_rows
from distill.runtime.job import job
from distill.teacher.served.client import Connection, ask_server
from distill.teacher.served.replies import ANSWERS_SCHEMA

with job(snakemake):
    spec, prompts, out = snakemake.params.spec, snakemake.input.prompts, Path(snakemake.output.part)
    # Where the server is and how it is reached is a resource: text does not depend on it.
    connection = Connection(**json.loads(snakemake.resources.server))
    resume = out.with_suffix(".resume.jsonl")
    tag = [spec, snakemake.params.code, hashlib.sha256(Path(prompts).read_bytes()).hexdigest()]
    answers = ask_server(read_rows(prompts), connection, spec, resume, json.dumps(tag))
    write_rows(out, answers, ANSWERS_SCHEMA, spec=spec)
