"""Wildcards and input functions of a study that trains students."""


wildcard_constraints:
    source="[a-z0-9-]+",
    prompts=PLAN.prompts_key if PLAN.study.corpus is None else "none",
    text="|".join(PLAN.text_keys),
    served="|".join(PLAN.served_keys) or "none",
    scorer="|".join(PLAN.scorer_keys) or "none",
    tokens="answer|all",
    targets="|".join({key for _, key in PLAN.cache_keys}) or "none",
    layers="|".join({key for _, key in PLAN.layers_keys}) or "none",
    search="|".join(PLAN.study.searches) or "none",
    split="test|validation|train",
    part=r"\d{5}",
    initial="|".join(PLAN.student_keys),
    corpus="|".join(PLAN.corpus_keys) or "none",
    architecture="|".join(PLAN.architectures),
    draw=r"\d+",
    seed=r"\d+",
    samples=r"\d+",
    student="|".join(PLAN.study.students),
    teacher="|".join(PLAN.study.teachers),
    method="|".join([*PLAN.study.methods, "none"]),
    curation="|".join(["raw", *PLAN.study.curations]),
    loss="|".join({key for _, key in PLAN.loss_keys}) or "none",
    cache="|".join([*PLAN.study.caches, "none", "live"]),


def run_of(wildcards):
    """The run that wildcards name."""
    from distill.contracts.run import Run

    return Run(
        wildcards.get("student", ""),
        wildcards.teacher,
        wildcards.get("method", ""),
        wildcards.curation,
        wildcards.get("cache", "none"),
        int(wildcards.samples),
        int(wildcards.draw),
        int(wildcards.get("seed", 0)),
    )


def trained_files():
    """What a study that trains students promises beyond that."""
    files = [f"{RESULTS}/samples.json"]
    files += [PLAN.search_file(name) for name in PLAN.searches]
    for run in PLAN.runs:
        files += [
            PLAN.student_file(run, name)
            for name in ("model.safetensors", "metrics.json")
        ]
        if run.samples:
            files += [
                PLAN.shard(run),
                str(Path(PLAN.shard(run)).parents[1] / "README.md"),
            ]
    return files + [
        PLAN.student_file(run, "model.safetensors") for run in PLAN.trained_runs
    ]


def collected_files():
    """What the runs table was made from, of the study's own results."""
    files = [str(file) for file in rules.collect_runs.input]
    files += [str(Path(shard).with_suffix(".json")) for shard in PLAN.shards]
    files += [BENCHMARKS.prepared(task) for task in BENCHMARKS.tasks]
    return [file for file in files if file.startswith(f"{RESULTS}/")]


def text_teacher(wildcards):
    """The teacher whose text wildcards name."""
    return PLAN.text_keys[wildcards.text]


def text_model(wildcards):
    """Manifest of the model whose tokens a text has; nothing for text without tokens."""
    return PLAN.words_of(text_teacher(wildcards))


def served_part(wildcards):
    """The server's answers that a part of a text is taken from."""
    teacher = text_teacher(wildcards)
    return PLAN.served_part(teacher, wildcards.split, int(wildcards.part))


def scorer_model(wildcards):
    """Manifest of a scoring teacher's model."""
    return PLAN.model_of("teachers", PLAN.scorer_keys[wildcards.scorer])


def cache_of(wildcards):
    """Teacher and cache that a soft-target path names."""
    return PLAN.cache_keys[wildcards.text, wildcards.targets]


def layers_of(wildcards):
    """Teacher and cache that a stored-layers path names."""
    return PLAN.layers_keys[wildcards.text, wildcards.layers]


def layers_model(wildcards):
    """Manifest of the model whose layers a path names."""
    return [PLAN.model_of("teachers", layers_of(wildcards)[0])]


def loss_of(wildcards):
    """Teacher whose own losses a path names."""
    return PLAN.loss_keys[wildcards.text, wildcards.loss]


def shard_of(wildcards):
    """The run's training data; none at n = 0."""
    run = run_of(wildcards)
    return [PLAN.shard(run)] if run.samples else []


def held_out(teacher):
    """What every evaluation against a teacher reads."""
    return {
        "texts": PLAN.held_out_text(teacher, "test"),
        "states": PLAN.test_states(teacher),
        "head": [PLAN.head(teacher)] if PLAN.has_model(teacher) else [],
        "served": PLAN.served_test(teacher),
        "reference": PLAN.reference_rows,
        "validation": PLAN.answered_validation(teacher),
    }
