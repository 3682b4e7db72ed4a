"""The teacher's work: text, part by part, and the hidden states that it was drawn from."""

PROMPTS = "none" if PLAN.study.corpus else PLAN.prompts_key
WRITTEN = "|".join(PLAN.texts_from("model")) or "none"
READY_MADE = "|".join(PLAN.texts_from("data")) or "none"
SERVED = "|".join(PLAN.texts_from("server")) or "none"


rule generate_text:
    """Answer one part of the prompts from the teacher's sampling distribution."""
    input:
        prompts=f"resources/prompts/{PROMPTS}/{{split}}-{{part}}.parquet",
        model=lambda wildcards: text_model(wildcards)[0],
    output:
        part="resources/text/{text}/{split}-{part}.parquet",
        states="resources/states/{text}/own/{split}-{part}.parquet",
    log:
        "logs/generate_text/{text}/{split}-{part}.log",
    benchmark:
        "logs/generate_text/{text}/{split}-{part}.tsv"
    wildcard_constraints:
        text=WRITTEN,
    priority: 15
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.study.teachers[text_teacher(wildcards)].threads
    resources:
        device=lambda wildcards: PLAN.teacher_gpus(text_teacher(wildcards)),
        gpu=lambda wildcards: PLAN.teacher_gpus(text_teacher(wildcards)),
        teacher=lambda wildcards: text_teacher(wildcards),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.text_spec(text_teacher(wildcards)),
        code=code("generate_text"),
    script:
        "../scripts/generate_text.py"


rule take_text:
    """Take over a data set's own answers, in the tokens of the teacher that scores them."""
    input:
        prompts=f"resources/prompts/{PROMPTS}/{{split}}-{{part}}.parquet",
        model=text_model,
    output:
        part="resources/text/{text}/{split}-{part}.parquet",
    log:
        "logs/take_text/{text}/{split}-{part}.log",
    wildcard_constraints:
        text=READY_MADE,
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=10,
    params:
        spec=lambda wildcards: PLAN.text_spec(text_teacher(wildcards)),
        teacher=lambda wildcards: text_teacher(wildcards),
        code=code("take_text"),
    script:
        "../scripts/take_text.py"


rule ask_server:
    """Let a server answer one part of the prompts: network and little else."""
    input:
        prompts=f"resources/prompts/{PROMPTS}/{{split}}-{{part}}.parquet",
    output:
        part="resources/served/{served}/{split}-{part}.parquet",
    log:
        "logs/ask_server/{served}/{split}-{part}.log",
    benchmark:
        "logs/ask_server/{served}/{split}-{part}.tsv"
    priority: 15
    retries: 0  # it asks again itself
    conda:
        "../envs/model.yaml"
    resources:
        # A server on this machine would disturb what is timed.
        device=1,
        requests=lambda wildcards: PLAN.connection(wildcards.served)["concurrency"],
        server=lambda wildcards: json.dumps(PLAN.connection(wildcards.served)),
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        spec=lambda wildcards: PLAN.served_spec(PLAN.served_keys[wildcards.served]),
        code=code("ask_server"),
    script:
        "../scripts/ask_server.py"


rule take_answers:
    """Take a server's answers as text, in the tokens of its tokenizer, if that is known."""
    input:
        prompts=f"resources/prompts/{PROMPTS}/{{split}}-{{part}}.parquet",
        answers=served_part,
        model=text_model,
    output:
        part="resources/text/{text}/{split}-{part}.parquet",
    log:
        "logs/take_answers/{text}/{split}-{part}.log",
    wildcard_constraints:
        text=SERVED,
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=10,
    params:
        spec=lambda wildcards: PLAN.text_spec(text_teacher(wildcards)),
        teacher=lambda wildcards: text_teacher(wildcards),
        code=code("take_answers"),
    script:
        "../scripts/take_answers.py"


rule score_text:
    """Final hidden states of a teacher on one part of a text that it did not write just now."""
    input:
        text="resources/text/{text}/{split}-{part}.parquet",
        model=scorer_model,
    output:
        part="resources/states/{text}/{scorer}-{tokens}/{split}-{part}.parquet",
    log:
        "logs/score_text/{text}/{scorer}-{tokens}/{split}-{part}.log",
    benchmark:
        "logs/score_text/{text}/{scorer}-{tokens}/{split}-{part}.tsv"
    priority: 10
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.scorer(wildcards.scorer)["threads"]
    resources:
        device=lambda wildcards: PLAN.teacher_gpus(PLAN.scorer_keys[wildcards.scorer]),
        gpu=lambda wildcards: PLAN.teacher_gpus(PLAN.scorer_keys[wildcards.scorer]),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.scorer(wildcards.scorer),
        tokens=lambda wildcards: wildcards.tokens,
        code=code("score_text"),
    script:
        "../scripts/score_text.py"


rule save_head:
    """A teacher's output head, which turns final hidden states into logits."""
    input:
        model=scorer_model,
    output:
        head="resources/heads/{scorer}.safetensors",
    log:
        "logs/save_head/{scorer}.log",
    conda:
        "../envs/model.yaml"
    resources:
        device=lambda wildcards: PLAN.teacher_gpus(PLAN.scorer_keys[wildcards.scorer]),
        gpu=lambda wildcards: PLAN.teacher_gpus(PLAN.scorer_keys[wildcards.scorer]),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        spec=lambda wildcards: PLAN.scorer(wildcards.scorer),
        code=code("save_head"),
    script:
        "../scripts/save_head.py"


rule score_loss:
    """The teacher's own mean loss on each answer of a part, from its hidden states."""
    input:
        text="resources/text/{text}/{split}-{part}.parquet",
        states=lambda wildcards: PLAN.states(
            loss_of(wildcards),
            loss_of(wildcards),
            "answer",
            wildcards.split,
            int(wildcards.part),
        ),
        head=lambda wildcards: PLAN.head(loss_of(wildcards)),
    output:
        part="resources/losses/{text}/{loss}/{split}-{part}.parquet",
    log:
        "logs/score_loss/{text}/{loss}/{split}-{part}.log",
    benchmark:
        "logs/score_loss/{text}/{loss}/{split}-{part}.tsv"
    priority: 13
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.study.teachers[loss_of(wildcards)].threads
    resources:
        device=1,
        gpu=1,
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        spec=lambda wildcards: PLAN.loss_spec(loss_of(wildcards)),
        code=code("score_loss"),
    script:
        "../scripts/score_loss.py"
