"""From records to the runs table, answers, figures and the report."""


rule check_near_duplicates:
    """The study's own check that no test prompt has a near-duplicate in train."""
    input:
        test=[PLAN.prompts_part("test", part) for part in PLAN.held_out_parts("test")],
        train=PLAN.train_prompts,
    output:
        report=f"{RESULTS}/near_duplicates.json",
    log:
        f"logs/check_near_duplicates/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        threshold=PLAN.study.prompts.near_duplicate,
        code=code("check_near_duplicates"),
    script:
        "../scripts/check_near_duplicates.py"


rule collect_runs:
    """The runs table: one row per run of the run table."""
    input:
        metrics=[PLAN.student_file(run, "metrics.json") for run in PLAN.runs],
        responses=[PLAN.student_file(run, "responses.jsonl") for run in PLAN.runs]
        + [
            f"{RESULTS}/teachers/{name}/responses.jsonl"
            for name in PLAN.model_teachers
        ],
        shards=PLAN.shards,
        efficiency=PLAN.efficiencies,
        teachers=[PLAN.teacher_metrics(name) for name in PLAN.model_teachers],
        near_duplicates=f"{RESULTS}/near_duplicates.json",
        searches=[PLAN.search_file(name) for name in PLAN.searches],
    output:
        runs=f"{RESULTS}/runs.parquet",
        csv=f"{RESULTS}/runs.csv",
        references=f"{RESULTS}/references.json",
        samples=f"{RESULTS}/samples.json",
    log:
        f"logs/collect_runs/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=PLAN.collect_spec(),
        code=code("collect_runs", INSTRUCTIONS),
    script:
        "../scripts/collect_runs.py"


rule answer_questions:
    """What the runs table says about the study's questions."""
    input:
        runs=f"{RESULTS}/runs.parquet",
        references=f"{RESULTS}/references.json",
    output:
        answers=f"{RESULTS}/answers.json",
    log:
        f"logs/answer_questions/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec={"cost": PLAN.study.evaluate.cost},
        code=code("answer_questions"),
    script:
        "../scripts/answer_questions.py"


rule fit_laws:
    """Scaling laws of the runs table, with intervals, choice and what is refused."""
    input:
        runs=f"{RESULTS}/runs.parquet",
        references=f"{RESULTS}/references.json",
    output:
        laws=f"{RESULTS}/laws.json",
    log:
        f"logs/fit_laws/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        code=code("fit_laws"),
    script:
        "../scripts/fit_laws.py"


rule plot_figure:
    """One figure, with the numbers behind it."""
    input:
        runs=f"{RESULTS}/runs.parquet",
        references=f"{RESULTS}/references.json",
    output:
        svg=report(
            f"{RESULTS}/figures/{{figure}}.svg",
            category="Figures",
            labels={"figure": "{figure}"},
            caption="../report/workflow/figure.rst",
        ),
        png=f"{RESULTS}/figures/{{figure}}.png",
        csv=f"{RESULTS}/figures/{{figure}}.csv",
    log:
        f"logs/plot_figure/{RESULTS}/{{figure}}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        caption=lambda wildcards: (BASE / f"report/{wildcards.figure}.rst").read_text(),
        code=code("plot_figure"),
    script:
        "../scripts/plot_figure.py"


rule write_report:
    """One self-contained page."""
    input:
        runs=f"{RESULTS}/runs.parquet",
        references=f"{RESULTS}/references.json",
        answers=f"{RESULTS}/answers.json",
        samples=f"{RESULTS}/samples.json",
        laws=f"{RESULTS}/laws.json",
        figures=[f"{RESULTS}/figures/{figure}.svg" for figure in FIGURES],
    output:
        report=report(f"{RESULTS}/report.html", category="Report"),
    log:
        f"logs/write_report/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code(
            "write_report",
            "report/report.html.j2",
            *[f"report/law_panel.{end}" for end in ("html.j2", "css", "js")],
            *[f"report/{figure}.rst" for figure in FIGURES],
        ),
    script:
        "../scripts/write_report.py"
