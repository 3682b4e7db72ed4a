"""The distillation law in its two stages: supervised runs first, distilled ones on top."""


def fit_stages(*args):
    return None
