"""Time an architecture alone on this machine."""

from pathlib import Path

from distill.imports import quick_imports
from distill.job import job

with job(snakemake):
    with quick_imports():
        from distill.cpu import set_up_cpu
        from distill.environment import versions
        from distill.files import write_json
        from distill.latency import measure_efficiency, measure_encoder
        from distill.machine import hardware
        from distill.models import device, resolve_precision
    spec = snakemake.params.spec
    set_up_cpu(spec["threads"], keep_memory=False)
    measure = measure_encoder if "length" in spec else measure_efficiency
    own = {"new_tokens", "batch", "length", "scored"} & set(spec)
    record = measure(
        Path(snakemake.input.model).parent,
        **{
            name: spec[name] for name in ("new_tokens", "batch", "length", "scored") if name in spec
        },
        repeats=spec["repeats"],
        warmup=1,
        threads=spec["threads"],
        precision=resolve_precision(spec["precision"]),
        device=device().type,
        quantisation=spec["architecture"].get("quantisation", "none"),
    )
    record = {"schema": 1, "spec": spec, **record, "hardware": hardware(), "versions": versions()}
    write_json(snakemake.output.record, record)
