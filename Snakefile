"""One config file is one study; see README.md."""

import sys

from snakemake.utils import min_version

min_version("9.27")

sys.path.insert(0, f"{workflow.basedir}/scripts")

from distill.validation import readable

# A study named on the command line replaces the default; Snakemake alone would merge the two.
if not workflow.overwrite_configfiles:

    configfile: readable(f"{workflow.basedir}/config.yaml")


include: "rules/common.smk"


if OWN_TABLE:

    include: "rules/own_table.smk"

else:

    include: "rules/runs.smk"
    include: "rules/sources.smk"

    if PLAN.study.corpus is None:

        include: "rules/prompts.smk"

    else:

        include: "rules/corpus.smk"
    include: "rules/teacher.smk"
    include: "rules/targets.smk"
    include: "rules/students.smk"
    include: "rules/evaluation.smk"
    include: "rules/benchmarks.smk"
    include: "rules/collect.smk"
    include: "rules/plan.smk"


include: "rules/results.smk"


# Downloads, and what takes seconds: not worth a cluster's queue, and its nodes may have no network.
localrules:
    all,
    fetch_model,
    fetch_data,
    slice_prompts,
    filter_prompts,
    write_card,
    write_corpus_card,
    check_near_duplicates,
    collect_runs,
    fit_laws,
    answer_questions,
    plot_figures,
    write_report,
    write_provenance,


rule all:
    default_target: True
    input:
        everything(),
