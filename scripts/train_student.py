"""Train one student on one shard; for n = 0, save it untrained."""

from distill.runtime.model_job import model_job

train = snakemake.params.spec.get("train", {"threads": 1})

with model_job(
    snakemake, threads=train["threads"], without=() if train.get("lora") else ("peft",)
) as run:
    from distill.training.launch import train_from_files

    files = snakemake.input
    run(
        train_from_files,
        initial=files.initial,
        shard=files.shard[0] if files.shard else None,
        out=snakemake.output.record,
        spec=snakemake.params.spec,
        run=snakemake.params.run,
        code=snakemake.params.code,
        heads=list(files.heads),
        validation=list(files.validation),
        best=files.best[0] if files.best else None,
        teacher=files.teacher[0] if files.teacher else None,
        attempt=snakemake.resources.attempt,
        tokenizer=files.tokenizer[0] if files.tokenizer else None,
    )
