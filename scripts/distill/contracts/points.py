"""Column names of runs as points of a law."""

KEYS = ("teacher", "student", "method", "cache", "curation", "init", "group")
SIZES = ("params", "params_non_embedding", "tokens", "epochs", "updates", "flops")
TEACHER = ("teacher_loss", "teacher_params", "teacher_params_non_embedding")
RESULTS = ("loss", "gap", "loss_stderr")
COLUMNS = (*KEYS, "seed", "draw", *SIZES, *TEACHER, *RESULTS)
OWN_COLUMNS = (
    "params", "tokens", "loss", "teacher_loss", "teacher_params", "unique_tokens", "epochs",
    "flops", "method", "init", "group", "seed",
)  # fmt: skip
"""Names that `runs_table.columns` may give: the first three are required."""
