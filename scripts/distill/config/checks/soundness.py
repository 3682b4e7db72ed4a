"""Which losses may read which soft targets, and at which temperatures.

Counts of draws are unbiased only for losses that are linear in the teacher's probabilities
(Anshumann 2025, arXiv 2503.16870); the k likeliest words alone are no distribution; and what was
kept at one temperature serves another only if its normaliser was stored.
"""

from distill.config.methods import Cache, Method
from distill.contracts.divergences import DIVERGENCES

SCHEMES = ("final_hidden", "dense", "top_k_tail", "top_k", "sampled")
EVERY_WORD = {"final_hidden", "dense"}
"""Schemes that give back the whole distribution, at every temperature."""
LIVE = "no cache, `on_policy:`"
"""In place of a scheme: the teacher itself, asked while a student trains."""
_ANY_DIVERGENCE = {
    "final_hidden": "exact",
    "dense": "exact",
    "top_k_tail": "a lower bound: all other words are one bucket",
}
_LINEAR_ONLY = {
    "top_k": "biased: the renormalised k words over-sharpen the student",
    "sampled": "unbiased, with the noise of the draws",
}
VERDICTS = {
    **{
        (name, scheme): verdict
        for name, row in DIVERGENCES.items()
        for scheme, verdict in (_ANY_DIVERGENCE | (_LINEAR_ONLY if row.linear else {})).items()
    },
    ("uld", "final_hidden"): "exact",
    ("uld", "dense"): "exact",
    ("uld", "top_k_tail"): "a lower bound: the k largest of each, and the rest as one",
    **{
        ("spans", scheme): "exact likelihoods; words of one vocabulary alone are not compared"
        for scheme in ("final_hidden", "dense")
    },
    (
        "hidden",
        "any with `hidden:`",
    ): "the stored layers, projected and quantised as the cache says",
    ("embedding", "final_hidden"): "exact",
    **{(loss, LIVE): "exact, also on the student's own answers" for loss in DIVERGENCES},
}
"""What a loss gets from a scheme; a pair that is not here is refused."""


def unsound(method: Method, cache: Cache) -> str | None:
    """Why a method must not read a cache, with the remedy; None where it may.

    The same for every temperature but for what is kept: `final_hidden` and `dense` serve all,
    other schemes 1 and their `temperatures`.
    """
    scheme, temperature = cache.scheme, method.temperature
    for loss in method.soft:
        if loss == "hidden":
            if cache.hidden is None:
                return "its layer-wise loss needs stored layers; give the cache hidden: {layers: …}"
            wanted = set((method.hidden.layers if method.hidden else {}).values())
            if missing := sorted(wanted - set(cache.hidden.layers)):
                return f"it matches the teacher's layer {missing[0]}, which the cache does not keep; add it to hidden.layers"
        elif loss == "embedding" and scheme != "final_hidden":
            return f"its embedding loss needs the teacher's last hidden states; use scheme final_hidden, not {scheme}"
        elif loss != "embedding" and (loss, scheme) not in VERDICTS:
            why, sound = "the k likeliest words alone say nothing of the rest", "top_k_tail, dense"
            if loss == "spans":
                why, sound = "the likelihood of words outside those kept is not known", "dense"
            elif scheme == "sampled":
                why = "counts of draws are biased for it, as it is not linear in the teacher's probabilities"
            return f"{loss} is not sound on {scheme} targets ({why}); use scheme {sound} or final_hidden"
    distribution = [loss for loss in method.soft if loss not in ("hidden", "embedding")]
    if distribution and scheme not in EVERY_WORD and temperature not in (1.0, *cache.temperatures):
        extra = " and log_p: true" if scheme == "sampled" and not cache.log_p else ""
        return f"its temperature {temperature:g} is not one that the cache keeps normalisers for; add it to temperatures{extra}, or use scheme final_hidden"
    if method.tokens == "all" and cache.tokens == "answer":
        return "it acts on all tokens but the cache holds the answer's only; set tokens: all there"
    if method.tokens == "all" and (method.uld or method.spans):
        return f"{'uld' if method.uld else 'spans'} aligns answers; set its tokens to answer"
    return None


def table() -> str:
    """The table of sound pairs, in Markdown."""
    losses = list(dict.fromkeys(loss for loss, _ in VERDICTS))
    lines = ["| loss | scheme | what it gets | temperatures |", "|---|---|---|---|"]
    for loss in losses:
        for (name, scheme), verdict in VERDICTS.items():
            if name == loss:
                every = scheme in {*EVERY_WORD, LIVE}
                served = "every" if every else "1 and the cache's `temperatures`"
                served = "–" if loss in ("hidden", "embedding") else served
                lines.append(
                    f"| `{loss}` | {scheme if '`' in scheme else f'`{scheme}`'} | {verdict} | {served} |"
                )
    return "\n".join(lines) + "\n"
