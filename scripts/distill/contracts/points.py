"""Names of runs as points of a law: keys, columns, measures of size."""

KEYS = ("teacher", "student", "method", "cache", "curation", "init", "group")
GROUP_KEYS = tuple(key for key in KEYS if key != "student")
"""Keys that are equal for all runs of a law over size; initialisations are never pooled."""
MEASURES = ("params", "params_non_embedding")
"""Measures of size: all parameters, and those without embeddings and output head."""
SIZES = ("params", "params_non_embedding", "tokens", "epochs", "updates", "flops")
TEACHER = ("teacher_loss", "teacher_params", "teacher_params_non_embedding")
RESULTS = ("loss", "gap", "loss_stderr")
COLUMNS = (*KEYS, "seed", "draw", *SIZES, *TEACHER, *RESULTS)
OWN_NAMES = ("kind", "teacher", "method", "init", "group")
"""Columns of text in a user's own table."""
SCORES = ("reference_loss", "accuracy", "items")
"""Columns of numbers in a user's own table that no law is fitted to, but related to the loss."""
FURTHER = ("weight", *SCORES)
"""Columns that points have only where a user's own table does."""
OWN_COLUMNS = (
    "params",
    "tokens",
    "loss",
    "params_non_embedding",
    "teacher_loss",
    "teacher_params",
    "unique_tokens",
    "epochs",
    "flops",
    "loss_stderr",
    "weight",
    "reference_loss",
    "accuracy",
    "items",
    "learning_rate",
    *OWN_NAMES,
    "seed",
)
"""Names that `runs_table.columns` may give: params, loss and tokens (or flops) are required."""


def size_name(size: float) -> str:
    """A student's size written out, so that different sizes have different names."""
    return str(int(size)) if float(size).is_integer() else repr(float(size))
