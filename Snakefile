"""One config file is one study; see README.md."""

import sys

from snakemake.utils import min_version

min_version("9.27")

sys.path.insert(0, f"{workflow.basedir}/scripts")

from distill.config.reading import readable

# Snakemake would merge a config of the command line with the default one; here it replaces it.
if not workflow.overwrite_configfiles:

    configfile: readable(f"{workflow.basedir}/config.yaml")


include: "rules/start.smk"
include: "rules/common.smk"


# Only with apptainer: Snakemake rejects an image path that contains a space.
if "apptainer" in DEPLOYMENT:

    containerized: IMAGE


if OWN_TABLE:

    include: "rules/own_table.smk"

else:

    include: "rules/sources.smk"

    if PLAN.pool.asks:

        include: "rules/prompts.smk"

    else:

        include: "rules/corpus.smk"
    include: "rules/teacher.smk"
    include: "rules/targets.smk"
    include: "rules/shards.smk"
    include: "rules/training.smk"
    include: "rules/evaluation.smk"
    include: "rules/benchmarks.smk"
    include: "rules/table.smk"
    include: "rules/costs.smk"


include: "rules/results.smk"


# Jobs that use the network, which cluster nodes may lack, and jobs that take only seconds.
localrules:
    all,
    fetch_model,
    fetch_data,
    ask_server,
    prepare_benchmark,
    slice_prompts,
    filter_prompts,
    take_text,
    take_answers,
    take_log_probs,
    write_manifest,
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
