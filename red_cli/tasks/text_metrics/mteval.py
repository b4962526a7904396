"""BLEU and NIST by the definitions of NIST's script mteval-v13a with its default options.

No library follows the script in NIST; sacrebleu counts for BLEU.

Sources: the script's own rules; Doddington, "Automatic evaluation of machine translation quality using n-gram
co-occurrence statistics", HLT 2002 (NIST); Papineni et al., ACL 2002 (BLEU).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))  # in this order: &amp;lt; becomes <
_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})  # É stays É
# Rules that separate punctuation; apostrophes stay within words, and 1,000, 2.5 and co-op stay one word
_RULES = (
    (re.compile(r"([!-&(-+/:-@\[-`{-~])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_BLEU_ORDERS = 4
_NIST_ORDERS = 5
_HALF_AT = 2 / 3  # NIST halves the score of texts two thirds as long as their references

Words = list[str]
Ngram = tuple[str, ...]


def mteval_scores(
    names: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    working: Callable[[str], None],
) -> dict[str, float]:
    """BLEU (0 to 1) and NIST (0 and up), as far as `names` has them."""
    working("BLEU, NIST")
    words = [mteval_words(text) for text in predictions]
    reference_words = [[mteval_words(text) for text in texts] for texts in references]
    functions = {"BLEU": bleu, "NIST": nist}
    return {name: functions[name](words, reference_words) for name in names}


def mteval_words(text: str) -> Words:
    """Lower-case `text` (ASCII letters only) and split it into words by mteval's rules for Western languages."""
    text = text.replace("\x1f", "\ufffd")  # Python takes it for white space, the script for a letter
    text = " ".join(text.split()).replace("<skipped>", "")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} ".translate(_LOWER)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text.split()


def bleu(predictions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Corpus BLEU of mteval: n-grams up to 4 words; sacrebleu counts matches and lengths.

    The reference length of an input is the one closest to the prediction's length, of two equally close ones the
    shorter. The score differs from sacrebleu's in tiny corpora only: if no prediction has n words, that order counts as
    right, and if nothing matches, the score is smoothed, not 0.
    """
    from sacrebleu.metrics import BLEU

    rows = [[" ".join(words) for words in texts] for texts in references]
    rows = [
        [first, *filter(None, others)] for first, *others in rows
    ]  # an empty reference counts only if it is the first
    texts = [" ".join(words) for words in predictions]
    counter = BLEU(tokenize="none", force=True, max_ngram_order=_BLEU_ORDERS)
    counted = counter.corpus_score(texts, reference_streams(rows))
    if counted.sys_len == 0:
        return 0.0
    logarithms, smoothing = 0.0, 1
    for matches, total in zip(counted.counts, counted.totals, strict=True):
        if total and not matches:
            smoothing *= 2
        if total:
            logarithms += math.log((matches or 1 / smoothing) / total)
    return math.exp(logarithms / _BLEU_ORDERS + min(0.0, 1 - counted.ref_len / counted.sys_len))


def nist(predictions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Corpus NIST of n-grams up to 5 words: mean information of matches, summed over orders, times a length penalty.

    An n-gram's information is log2 of the count of its first n-1 words over its own count, in all references. The
    script needs the same number of references for every input, so shorter lists are filled up with empty ones: the
    reference length is that of all references divided by the *largest* number of references of an input.
    """
    counted = [[_ngrams(row) for row in rows] for rows in references]
    information = _information(counted)
    gained = [0.0] * _NIST_ORDERS
    totals = [0] * _NIST_ORDERS
    for words, counts in zip(predictions, counted, strict=True):
        allowed: Counter[Ngram] = Counter()
        for count in counts:
            allowed |= count
        for ngram, occurrences in _ngrams(words).items():
            totals[len(ngram) - 1] += occurrences
            gained[len(ngram) - 1] += information.get(ngram, 0.0) * min(occurrences, allowed[ngram])
    reference_length = sum(len(row) for rows in references for row in rows) / max(len(rows) for rows in references)
    if reference_length == 0:
        return 0.0
    score = sum(gain / max(total, 1) for gain, total in zip(gained, totals, strict=True))
    return score * _nist_length_penalty(totals[0] / reference_length)


def _information(references: Sequence[Sequence[Counter[Ngram]]]) -> dict[Ngram, float]:
    """The information weight of each n-gram of the references in NIST, as mteval-v13a computes it."""
    counts: Counter[Ngram] = Counter()
    for rows in references:
        for row in rows:
            counts.update(row)
    total = sum(count for ngram, count in counts.items() if len(ngram) == 1)
    # the script treats the first part "0" as missing, since Perl takes "0" for false
    return {
        ngram: math.log2((total if ngram[:-1] in ((), ("0",)) else counts[ngram[:-1]]) / count)
        for ngram, count in counts.items()
    }


def _ngrams(words: Words) -> Counter[Ngram]:
    """Count the n-grams of a text, of every order that NIST uses."""
    orders = range(1, _NIST_ORDERS + 1)
    return Counter(tuple(words[i : i + n]) for n in orders for i in range(len(words) - n + 1))


def _nist_length_penalty(ratio: float) -> float:
    """1 for predictions at least as long as the references, else exp(β log²(ratio)), with β so that 2/3 gives 1/2."""
    if ratio >= 1 or ratio <= 0:
        return float(ratio >= 1)
    return math.exp(math.log(0.5) * (math.log(ratio) / math.log(_HALF_AT)) ** 2)


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """mteval's references by input in sacrebleu's layout: all first ones, all second ones, …"""
    most = max(len(texts) for texts in references)
    return [[texts[k] if k < len(texts) else None for texts in references] for k in range(most)]
