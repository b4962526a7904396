"""chrF by sacrebleu and ROUGE by rouge-score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from red_cli.tasks.text_metrics.mteval import reference_streams

_PERCENT = 100.0


def chrf_scores(
    names: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    working: Callable[[str], None],
) -> dict[str, float]:
    """Corpus chrF2 (0 to 1): character n-grams up to 6, recall weighs twice, case counts.

    Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.
    """
    from sacrebleu.metrics import CHRF

    working("chrF")
    return {"chrF": CHRF().corpus_score(list(predictions), reference_streams(references)).score / _PERCENT}


def rouge_scores(
    names: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    working: Callable[[str], None],
) -> dict[str, float]:
    """Mean F1 (0 to 1) of common words, word pairs, or the longest common subsequence, with the best reference of each.

    Words are sequences of a-z and 0-9 in lower case, without stemming. Source: Lin, "ROUGE", ACL workshop 2004.
    """
    from rouge_score.rouge_scorer import RougeScorer

    working("ROUGE")
    scorer = RougeScorer(list(names), use_stemmer=False)
    sums = dict.fromkeys(names, 0.0)
    for prediction, texts in zip(predictions, references, strict=True):
        for name, score in scorer.score_multi(texts, prediction).items():
            sums[name] += score.fmeasure
    return {name: total / len(predictions) for name, total in sums.items()}
