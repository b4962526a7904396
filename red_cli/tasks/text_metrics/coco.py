"""METEOR 1.5, ROUGE-L and CIDEr by the definitions of the COCO caption evaluation, over Penn Treebank tokens.

pycocoevalcap's programs and classes compute the figures; its code that calls Java is not used, since it can hang.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from red_cli.errors import RunFailed, UserError
from red_cli.tasks.text_metrics.java import WITHOUT_JAVA, JavaProcess, java_process

_TOKENIZER = "the tokenizer of METEOR, ROUGE_L and CIDEr"
_METEOR_OPTIONS = ("-", "-", "-stdio", "-l", "en", "-norm")
_TOKENIZER_OPTIONS = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
_PROGRESS_REPORTS = 20  # of METEOR


def coco_scores(
    names: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    working: Callable[[str], None],
) -> dict[str, float]:
    """METEOR (0 to 1), ROUGE_L (0 to 1) and CIDEr (0 to 10), as far as `names` has them.

    Raises:
        RunFailed: a Java process failed.
        UserError: no reference has a word.
    """
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    with ExitStack() as stack:
        # METEOR loads its tables for seconds, meanwhile the others are computed
        meteor = stack.enter_context(_start_meteor()) if "METEOR" in names else None
        working("tokenising")
        tokens = _tokenize(predictions)
        flat = _tokenize([text for texts in references for text in texts])
        if not any(flat):
            raise UserError("no-rows", "no reference has a word; punctuation does not count")
        left = iter(flat)
        reference_tokens = [[next(left) for _ in texts] for texts in references]
        truths, answers = dict(enumerate(reference_tokens)), {index: [text] for index, text in enumerate(tokens)}
        scores = {}
        for name, scorer in (("ROUGE_L", Rouge()), ("CIDEr", Cider())):
            if name in names:
                working(name)
                scores[name] = float(scorer.compute_score(truths, answers)[0])
        if meteor is not None:
            scores["METEOR"] = _meteor(meteor, tokens, reference_tokens, working)
    return scores


def _tokenize(texts: Sequence[str]) -> list[str]:
    """Texts in lower case, as Penn Treebank tokens without punctuation, joined by spaces."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    with java_process(_TOKENIZER, ["-cp", str(jar), *_TOKENIZER_OPTIONS]) as tokenizer:
        lines = tokenizer.run("\n".join(texts)).split("\n")
    if len(lines) != len(texts):
        raise RunFailed(
            "metric-failed",
            f"{_TOKENIZER}: it returned {len(lines):,} lines for {len(texts):,} texts",
            hint=WITHOUT_JAVA,
        )
    dropped = set(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(word for word in line.rstrip().split(" ") if word not in dropped) for line in lines]


def _start_meteor() -> AbstractContextManager[JavaProcess]:
    """Start the Java process of METEOR 1.5 in pycocoevalcap, as the COCO evaluation does."""
    from pycocoevalcap.meteor import meteor

    jar = Path(meteor.__file__).with_name(meteor.METEOR_JAR)
    return java_process("METEOR", ["-Xmx2G", "-jar", str(jar), *_METEOR_OPTIONS])


def _meteor(
    meteor: JavaProcess, tokens: Sequence[str], references: Sequence[Sequence[str]], working: Callable[[str], None]
) -> float:
    """The score of the corpus, which METEOR computes from the sums of its counts for single texts."""
    counts: list[str] = []
    every = -(-len(tokens) // _PROGRESS_REPORTS)
    for index, (text, truths) in enumerate(zip(tokens, references, strict=True)):
        if index % every == 0:
            working(f"METEOR {index / len(tokens):.0%}")
        text = text.replace("|||", "").replace("  ", " ")
        counts.append(_figures(meteor, meteor.ask(" ||| ".join(["SCORE", *truths, text]))[0]))
    scores = meteor.ask(" ||| ".join(["EVAL", *counts]), answers=len(counts) + 1)  # one for each text, then one for all
    return float(_figures(meteor, scores[-1]))


def _figures(meteor: JavaProcess, answer: str) -> str:
    """The answer of the METEOR process, checked to start with a figure."""
    try:
        next(float(figure) for figure in answer.split())
    except (ValueError, StopIteration):
        raise meteor.failed(answer) from None
    return answer
