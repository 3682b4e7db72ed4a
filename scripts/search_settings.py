"""Search the best settings of a method for one student and shard."""

from distill.runtime.model_job import model_job

train = snakemake.params.spec["train"]

with model_job(
    snakemake, threads=train["threads"], without=() if train.get("lora") else ("peft",)
) as run:
    from distill.training.search import search_from_files

    files = snakemake.input
    run(
        search_from_files,
        initial=files.initial,
        shard=files.shard,
        out=snakemake.output.best,
        spec=snakemake.params.spec,
        student=snakemake.params.student,
        code=snakemake.params.code,
        heads=list(files.heads),
        validation=list(files.validation),
        teacher=files.teacher[0] if files.teacher else None,
        attempt=snakemake.resources.attempt,
        tokenizer=files.tokenizer[0] if files.tokenizer else None,
    )
