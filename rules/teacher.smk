"""Teachers: text in parts, final hidden states, output heads and losses."""

WRITTEN = "|".join(PLAN.text.keys_from("model")) or "none"
READY_MADE = "|".join(PLAN.text.keys_from("data")) or "none"
SERVED = "|".join(PLAN.text.keys_from("server")) or "none"


rule generate_text:
    """Sample answers to one part of the prompts; save the final hidden states too."""
    input:
        prompts=f"resources/prompts/{PLAN.prompts}/{{split}}-{{part}}.parquet",
        model=lambda wildcards: PLAN.teachers.file(text_teacher(wildcards)),
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
        device=lambda wildcards: PLAN.teachers.gpus(text_teacher(wildcards)),
        gpu=lambda wildcards: PLAN.teachers.gpus(text_teacher(wildcards)),
        teacher=lambda wildcards: text_teacher(wildcards),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.text.spec(text_teacher(wildcards)),
        exact=lambda wildcards: wildcards.split == "test",
        code=code("generate_text"),
    script:
        "../scripts/generate_text.py"


rule take_text:
    """Take the answers of a data set, tokenised for the teacher that scores them."""
    input:
        prompts=f"resources/prompts/{PLAN.prompts}/{{split}}-{{part}}.parquet",
        model=lambda wildcards: PLAN.text.tokenizer(text_teacher(wildcards)),
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
        spec=lambda wildcards: PLAN.text.spec(text_teacher(wildcards)),
        teacher=lambda wildcards: text_teacher(wildcards),
        code=code("take_text"),
    script:
        "../scripts/take_text.py"


rule ask_server:
    """Request a server's answers to one part of the prompts."""
    input:
        prompts=f"resources/prompts/{PLAN.prompts}/{{split}}-{{part}}.parquet",
    output:
        part="resources/served/{served}/{split}-{part}.parquet",
    log:
        "logs/ask_server/{served}/{split}-{part}.log",
    benchmark:
        "logs/ask_server/{served}/{split}-{part}.tsv"
    priority: 15
    retries: 0  # the script retries requests itself
    conda:
        "../envs/model.yaml"
    resources:
        # A server on this machine would disturb timing jobs.
        device=1,
        requests=lambda wildcards: PLAN.served.connection(wildcards.served)[
            "concurrency"
        ],
        server=lambda wildcards: json.dumps(PLAN.served.connection(wildcards.served)),
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        spec=lambda wildcards: PLAN.served.spec(PLAN.served.by_key[wildcards.served]),
        code=code("ask_server"),
    script:
        "../scripts/ask_server.py"


rule take_answers:
    """Take a server's answers as text, tokenised if the config names its tokenizer."""
    input:
        prompts=f"resources/prompts/{PLAN.prompts}/{{split}}-{{part}}.parquet",
        answers=served_part,
        model=lambda wildcards: PLAN.text.tokenizer(text_teacher(wildcards)),
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
        spec=lambda wildcards: PLAN.text.spec(text_teacher(wildcards)),
        teacher=lambda wildcards: text_teacher(wildcards),
        code=code("take_answers"),
    script:
        "../scripts/take_answers.py"


rule score_text:
    """Compute a teacher's final hidden states on one part of an existing text."""
    input:
        text="resources/text/{text}/{split}-{part}.parquet",
        model=lambda wildcards: PLAN.teachers.file(scorer_of(wildcards)),
        tokenizer=lambda wildcards: PLAN.scorers.tokenizer(
            text_teacher(wildcards), scorer_of(wildcards)
        ),
    output:
        part="resources/states/{text}/{scorer}-{tokens}/{split}-{part}.parquet",
    log:
        "logs/score_text/{text}/{scorer}-{tokens}/{split}-{part}.log",
    benchmark:
        "logs/score_text/{text}/{scorer}-{tokens}/{split}-{part}.tsv"
    priority: 10
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.scorers.spec(scorer_of(wildcards))["threads"]
    resources:
        device=lambda wildcards: PLAN.teachers.gpus(scorer_of(wildcards)),
        gpu=lambda wildcards: PLAN.teachers.gpus(scorer_of(wildcards)),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.scorers.spec(scorer_of(wildcards)),
        tokens=lambda wildcards: wildcards.tokens,
        exact=lambda wildcards: wildcards.split == "test",
        code=code("score_text"),
    script:
        "../scripts/score_text.py"


rule save_head:
    """Save a teacher's output head, which maps final hidden states to logits."""
    input:
        model=lambda wildcards: PLAN.teachers.file(scorer_of(wildcards)),
    output:
        head="resources/heads/{scorer}.safetensors",
    log:
        "logs/save_head/{scorer}.log",
    conda:
        "../envs/model.yaml"
    resources:
        device=lambda wildcards: PLAN.teachers.gpus(scorer_of(wildcards)),
        gpu=lambda wildcards: PLAN.teachers.gpus(scorer_of(wildcards)),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        spec=lambda wildcards: PLAN.scorers.spec(scorer_of(wildcards)),
        code=code("save_head"),
    script:
        "../scripts/save_head.py"


rule score_loss:
    """Compute the teacher's mean loss on each answer of a part from its hidden states."""
    input:
        text="resources/text/{text}/{split}-{part}.parquet",
        states=lambda wildcards: PLAN.scorers.states(
            loss_of(wildcards),
            loss_of(wildcards),
            "answer",
            wildcards.split,
            int(wildcards.part),
        ),
        head=lambda wildcards: PLAN.scorers.head(loss_of(wildcards)),
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
        spec=lambda wildcards: PLAN.losses.spec(loss_of(wildcards)),
        code=code("score_loss"),
    script:
        "../scripts/score_loss.py"
