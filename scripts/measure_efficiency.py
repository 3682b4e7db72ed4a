"""Time an architecture alone on this machine."""

from pathlib import Path

from distill.runtime.imports import quick_imports
from distill.runtime.job import job

with job(snakemake):
    with quick_imports():
        from distill.core.files import write_json
        from distill.evaluation.latency import measure_efficiency, measure_encoder
        from distill.models.opening import resolve_precision
        from distill.runtime.cpu import set_up_cpu
        from distill.runtime.device import device, hardware
        from distill.runtime.environment import versions
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
