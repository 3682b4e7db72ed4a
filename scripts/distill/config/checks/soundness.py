"""Which losses may read which soft targets, and at which temperatures.

Sampled targets are unbiased only for losses that are linear in the teacher's probabilities
(Anshumann 2025, arXiv 2503.16870). The k most likely tokens alone are not a distribution. Targets
stored at one temperature support another only if its normaliser is stored too.
"""

from distill.config.methods import Cache, Method
from distill.contracts.divergences import DIVERGENCES

SCHEMES = ("final_hidden", "dense", "top_k_tail", "top_k", "sampled")
EVERY_WORD = {"final_hidden", "dense"}
"""Schemes that restore the full distribution at every temperature."""
LIVE = "no cache, `on_policy:`"
"""Stands for a scheme in the table: the teacher runs during training."""
_ANY_DIVERGENCE = {
    "final_hidden": "exact",
    "dense": "exact",
    "top_k_tail": "a lower bound: all other tokens form one bucket",
}
_LINEAR_ONLY = {
    "top_k": "biased: the renormalised top k over-sharpen the student",
    "sampled": "unbiased, with sampling noise",
}
VERDICTS = {
    **{
        (name, scheme): verdict
        for name, row in DIVERGENCES.items()
        for scheme, verdict in (_ANY_DIVERGENCE | (_LINEAR_ONLY if row.linear else {})).items()
    },
    ("uld", "final_hidden"): "exact",
    ("uld", "dense"): "exact",
    ("uld", "top_k_tail"): "a lower bound: the k largest of each, and the rest as one bucket",
    **{
        ("spans", scheme): "exact likelihoods; tokens that only one vocabulary has are ignored"
        for scheme in ("final_hidden", "dense")
    },
    (
        "hidden",
        "any with `hidden:`",
    ): "the stored layers, as the cache projects and quantises them",
    ("embedding", "final_hidden"): "exact",
    **{(loss, LIVE): "exact, also on the student's own answers" for loss in DIVERGENCES},
}
"""Accuracy of a loss on a scheme; a pair that is missing here is an error."""


def unsound(method: Method, cache: Cache) -> str | None:
    """Why a method must not read a cache, with the remedy; None if it may.

    `final_hidden` and `dense` support every temperature, other schemes 1 and their `temperatures`.
    """
    scheme, temperature = cache.scheme, method.temperature
    for loss in method.soft:
        if loss == "hidden":
            if cache.hidden is None:
                return "the hidden loss needs stored layers; give the cache hidden: {layers: …}"
            layers = set((method.hidden.layers if method.hidden else {}).values())
            if missing := sorted(layers - set(cache.hidden.layers)):
                return f"the hidden loss matches the teacher's layer {missing[0]}, which the cache does not store; add it to hidden.layers"
        elif loss == "embedding" and scheme != "final_hidden":
            return f"the embedding loss needs the teacher's last hidden states; use scheme final_hidden, not {scheme}"
        elif loss != "embedding" and (loss, scheme) not in VERDICTS:
            why, sound = "the probabilities of other tokens are unknown", "top_k_tail, dense"
            if loss == "spans":
                why, sound = "the likelihood of tokens that it does not store is unknown", "dense"
            elif scheme == "sampled":
                why = "samples are biased for it, because it is not linear in the teacher's probabilities"
            return f"{loss} is not sound on {scheme} targets ({why}); use scheme {sound} or final_hidden"
    distribution = [loss for loss in method.soft if loss not in ("hidden", "embedding")]
    if distribution and scheme not in EVERY_WORD and temperature not in (1.0, *cache.temperatures):
        extra = " and log_p: true" if scheme == "sampled" and not cache.log_p else ""
        return f"the cache stores no normalisers for temperature {temperature:g}; add it to temperatures{extra}, or use scheme final_hidden"
    if method.tokens == "all" and cache.tokens == "answer":
        return "the method uses all tokens but the cache stores the answer's only; set tokens: all in the cache"
    if method.tokens == "all" and (method.uld or method.spans):
        return (
            f"{'uld' if method.uld else 'spans'} aligns answers; set the method's tokens to answer"
        )
    return None


def table() -> str:
    """The table of sound pairs, in Markdown."""
    losses = list(dict.fromkeys(loss for loss, _ in VERDICTS))
    lines = ["| loss | scheme | accuracy | temperatures |", "|---|---|---|---|"]
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
