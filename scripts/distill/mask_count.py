"""How many tokens of a masked chunk are to be found; the plan counts them without numpy."""


def chosen(length: int, share: float) -> int:
    """How many tokens of a chunk are to be found: the share, rounded, and at least one."""
    return max(1, round(length * share))
