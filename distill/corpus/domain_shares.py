"""Mix: the shares of the domains, and how many texts there are in all."""

import numpy as np

from distill.errors import InputError


def mix(keep: np.ndarray, codes: np.ndarray, names: list[str], ranks: np.ndarray, weights: dict[str, float],
        limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return which texts stay, (n,) bool, and why others do not, (n,) object: '' or the reason.

    ``codes`` (n,) are the places of the texts' domains in ``names``.
    With ``weights`` the domains stand to each other as their weights do; the scarcest sets how many there are. In each
    the texts of the lowest rank (a hash of their content) stay. Reasons: ``domain_without_weight``,
    ``over_domain_weight``, ``over_corpus_limit``.

    Raises:
        InputError: a domain with a weight has no texts.
    """
    reasons = np.full(len(keep), "", object)
    keep = keep.copy()
    if weights:
        counts = {name: int((keep & (codes == code)).sum()) for code, name in enumerate(names)}
        missing = [name for name in weights if not counts.get(name)]
        if missing:
            raise InputError(f"corpus.weights names the domain '{missing[0]}', of which no text is left. Domains with "
                             f"texts: {', '.join(sorted(name for name, count in counts.items() if count))}.")
        unit = min(counts[name] / weight for name, weight in weights.items())
        if limit is not None:
            unit = min(unit, limit / sum(weights.values()))
        for code, name in enumerate(names):
            mine = np.flatnonzero(keep & (codes == code))
            wanted = int(unit * weights.get(name, 0) + 1e-9)
            over = mine[np.argsort(ranks[mine], kind="stable")[wanted:]]
            keep[over] = False
            reasons[over] = "over_domain_weight" if name in weights else "domain_without_weight"
    if limit is not None:
        mine = np.flatnonzero(keep)
        over = mine[np.argsort(ranks[mine], kind="stable")[limit:]]
        keep[over], reasons[over] = False, "over_corpus_limit"
    return keep, reasons
