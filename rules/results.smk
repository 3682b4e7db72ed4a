"""From the runs table to laws, answers, figures and the report."""


rule fit_laws:
    """Fit scaling laws to the runs table, with intervals, model choice and reasons of refusals."""
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
        corpus_methods=OUTPUTS.answer_spec()["corpus_methods"],
        code=code("fit_laws"),
    script:
        "../scripts/fit_laws.py"


rule answer_questions:
    """Answer the study's questions from the runs table and the laws."""
    input:
        runs=f"{RESULTS}/runs.parquet",
        references=f"{RESULTS}/references.json",
        laws=f"{RESULTS}/laws.json",
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
        spec=OUTPUTS.answer_spec(),
        code=code(
            "answer_questions",
            *[
                str(file.relative_to(BASE))
                for file in sorted(BASE.glob("report/answers/*.j2"))
            ],
        ),
    script:
        "../scripts/answer_questions.py"


rule plot_figures:
    """Draw all figures and write their data, in one job because start-up takes longest."""
    input:
        runs=f"{RESULTS}/runs.parquet",
        references=f"{RESULTS}/references.json",
        laws=f"{RESULTS}/laws.json",
    output:
        svg=[
            report(
                f"{RESULTS}/figures/{figure}.svg",
                category="Figures",
                labels={"figure": figure},
                caption=f"../report/{figure}.rst",
            )
            for figure in FIGURES
        ],
        png=[f"{RESULTS}/figures/{figure}.png" for figure in FIGURES],
        csv=[f"{RESULTS}/figures/{figure}.csv" for figure in FIGURES],
    log:
        f"logs/plot_figures/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("plot_figures"),
        figures_code=figures_code(),
    script:
        "../scripts/plot_figures.py"


rule write_report:
    """Write the report as one self-contained page."""
    input:
        runs=f"{RESULTS}/runs.parquet",
        references=f"{RESULTS}/references.json",
        laws=f"{RESULTS}/laws.json",
        answers=f"{RESULTS}/answers.json",
        samples=[] if OWN_TABLE else f"{RESULTS}/samples.json",
        figures=[f"{RESULTS}/figures/{figure}.svg" for figure in FIGURES],
        numbers=[f"{RESULTS}/figures/{figure}.csv" for figure in FIGURES],
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
            *[
                str(file.relative_to(BASE))
                for file in sorted(BASE.glob("report/*.*"))
                if file.suffix in (".j2", ".css", ".js")
            ],
            *[f"report/{figure}.rst" for figure in FIGURES],
        ),
        figures_code=figures_code(),
    script:
        "../scripts/write_report.py"


rule write_provenance:
    """Record settings, code, packages, hardware, seeds and checksums of the results."""
    input:
        **provenance_inputs(),
    output:
        record=f"{RESULTS}/provenance.json",
    log:
        f"logs/write_provenance/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        spec=OUTPUTS.provenance_spec(),
        code=code("write_provenance"),
    script:
        "../scripts/write_provenance.py"
