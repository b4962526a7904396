"""The quickstart's text: a grammar of product reviews, without labels for pretraining and with them for tuning.

Each labelled review concedes a point that goes the other way ("although the zip shines, ..."), and many points are made
by denying the opposite. The words that carry sentiment come from three disjoint lists, one per split.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

# fmt: off
PRODUCTS: dict[str, list[str]] = {
    "laptop": ["battery", "screen", "keyboard", "camera", "speaker", "hinge", "charger"],
    "backpack": ["strap", "zip", "lining", "fabric", "buckle", "handle", "pocket"],
    "kettle": ["lid", "filter", "handle", "switch", "spout", "cable", "display"],
    "bicycle": ["saddle", "pedal", "chain", "brake", "frame", "bell", "light"],
    "radio": ["speaker", "dial", "antenna", "battery", "display", "casing", "alarm"],
    "tent": ["frame", "fabric", "zip", "floor", "window", "rope", "pole"],
}
# Every word is good (1) or bad (-1) on its own, whatever part it describes.
ADJECTIVES: dict[int, list[str]] = {
    1: [
        "superb", "excellent", "splendid", "wonderful", "lovely", "brilliant", "terrific", "fantastic",
        "marvellous", "outstanding", "admirable", "faultless", "sturdy", "reliable", "elegant", "graceful",
        "handsome", "exquisite", "remarkable", "refined", "polished", "dependable", "robust", "trustworthy",
        "comfortable", "smooth", "crisp", "generous", "glorious", "magnificent", "stunning", "fabulous", "perfect",
        "gorgeous", "ingenious", "immaculate", "solid", "neat", "thoughtful", "clever", "gentle", "bright",
        "precise", "sublime",
    ],
    -1: [
        "awful", "terrible", "dreadful", "horrid", "poor", "shoddy", "miserable", "dismal", "appalling",
        "atrocious", "lousy", "pathetic", "useless", "worthless", "hopeless", "feeble", "flimsy", "fragile",
        "erratic", "clumsy", "ugly", "crude", "mediocre", "wobbly", "brittle", "faulty", "defective", "painful",
        "rough", "blurry", "stingy", "nasty", "ghastly", "abysmal", "hideous", "horrible", "unsightly",
        "disgraceful", "tiresome", "weak", "messy", "sloppy", "careless", "foolish",
    ],
}
VERBS: dict[int, list[str]] = {
    1: [
        "shines", "excels", "impresses", "delights", "pleases", "satisfies", "charms", "thrills", "endures",
        "sparkles", "inspires", "dazzles",
    ],
    -1: [
        "fails", "falters", "disappoints", "annoys", "irritates", "frustrates", "rattles", "jams", "leaks",
        "stalls", "breaks", "sags",
    ],
}
INTROS = [
    "I bought this {product} {when}.",
    "This {product} was a gift from {who}.",
    "We got the {product} {when}.",
    "{Who} ordered the {product} {when}.",
    "I use this {product} {often}.",
    "The {product} arrived {when}.",
]
WHEN = ["last week", "in the spring", "a month ago", "on Monday", "before the holidays", "last year", "two days ago"]
WHO = ["my sister", "my brother", "a friend", "our neighbour", "my wife", "my husband", "a colleague", "my uncle"]
OFTEN = ["every day", "at work", "at home", "most weekends", "on every trip", "now and then"]
FILLERS = [
    "It came in a {colour} box.",
    "Mine is the {colour} one.",
    "The parcel took {number} days.",
    "It weighs about {number} pounds.",
    "The shop sells it in {colour} and in {colour2}.",
    "The manual has {number} pages.",
    "It is made in {number} sizes.",
]
COLOURS = ["red", "blue", "green", "black", "white", "grey", "yellow", "brown"]
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine"]
INTENSIFIERS = ["", "", "", "very ", "really ", "quite ", "truly ", "rather ", "simply "]
NEGATIONS = ["not ", "not at all ", "never ", "hardly ", "far from ", "anything but ", "by no means "]
ADVERBS = ["", "really ", "always ", "simply "]
VERB_NEGATIONS = ["never ", "hardly ever ", "by no means "]
COPULAS = ["is", "is", "is", "seems", "looks", "feels"]
# How a conceded point {0} and the point that counts {1} are joined: the same words, either way round.
CONCESSIONS = [
    "although {0}, {1}.",
    "{1}, although {0}.",
    "even though {0}, {1}.",
    "{1}, even though {0}.",
    "while {0}, {1}.",
    "{0}, but {1}.",
    "{0}, yet {1}.",
    "{1}, never mind that {0}.",
]
AGREEMENTS = ["{0}, and {1}.", "{0}, and {1} too.", "{0}; {1}.", "{0}. {1}."]
REACTIONS: dict[int, list[str]] = {  # what people write after the review; {it} is "it" or "the thing"
    1: [
        "I love {it}.",
        "I am happy with {it}.",
        "{It} makes me smile.",
        "I keep the thing because of {it}.",
        "I have only praise for {it}.",
        "{It} deserves five stars.",
        "{It} won me over.",
        "I thank the maker for {it}.",
    ],
    -1: [
        "I hate {it}.",
        "I am upset with {it}.",
        "{It} makes me sigh.",
        "I return the thing because of {it}.",
        "I have only blame for {it}.",
        "{It} deserves one star.",
        "{It} let me down.",
        "I scold the maker for {it}.",
    ],
}
# fmt: on


@dataclass(frozen=True)
class Words:
    """The sentiment words one generator may draw from: by polarity, +1 or -1."""

    adjectives: dict[int, list[str]]
    verbs: dict[int, list[str]]

    def all(self) -> set[str]:
        return {word for table in (self.adjectives, self.verbs) for words in table.values() for word in words}


EVERY_WORD = Words(ADJECTIVES, VERBS)
# Half of the words for training, a quarter each for validation and test.
SPLIT_WORDS: dict[str, Words] = {
    split: Words(*({sign: table[sign][start::step] for sign in table} for table in (ADJECTIVES, VERBS)))
    for split, start, step in (("train", 0, 2), ("validation", 1, 4), ("test", 3, 4))
}
SPLIT_ROWS = {"train": 1200, "validation": 400, "test": 1000}


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def sentences(text: str) -> str:
    """Capitalise the first letter of every sentence."""
    return re.sub(r"(^|[.?] )([a-z])", lambda found: found[1] + found[2].upper(), text)


def clause(rng: random.Random, part: str, sign: int, words: Words, denied: float) -> str:
    """One clause that says the part is good (+1) or bad (-1); by denying the opposite in a share `denied`."""
    negated = rng.random() < denied
    drawn = -sign if negated else sign
    if rng.random() < 0.25:
        verb = rng.choice(words.verbs[drawn])
        adverb = rng.choice(VERB_NEGATIONS if negated else ADVERBS)
        return f"the {part} {adverb}{verb}"
    adjective, second = rng.sample(words.adjectives[drawn], 2)
    modifier = rng.choice(NEGATIONS if negated else INTENSIFIERS)
    if not negated and rng.random() < 0.2:  # two adjectives of one polarity, as people pile them up
        adjective += f" and {second}"
    if not negated and rng.random() < 0.15:
        return f"I find the {part} {modifier}{adjective}"
    return f"the {part} {rng.choice(COPULAS)} {modifier}{adjective}"


def intro(rng: random.Random, product: str) -> str:
    who = rng.choice(WHO)
    return rng.choice(INTROS).format(
        product=product, when=rng.choice(WHEN), who=who, Who=capital(who), often=rng.choice(OFTEN)
    )


def filler(rng: random.Random) -> str:
    colour, colour2 = rng.sample(COLOURS, 2)
    return rng.choice(FILLERS).format(colour=colour, colour2=colour2, number=rng.choice(NUMBERS))


def review(rng: random.Random, sign: int, words: Words, contrast: float, denied: float) -> str:
    """A review of two parts of one product that comes down on the side of `sign`, at times conceding a point."""
    product = rng.choice(list(PRODUCTS))
    first, second = rng.sample(PRODUCTS[product], 2)
    conceding = rng.random() < contrast
    aside = clause(rng, first, -sign if conceding else sign, words, denied)
    main = clause(rng, second, sign, words, denied)
    body = rng.choice(CONCESSIONS if conceding else AGREEMENTS).format(aside, main)
    text = f"{intro(rng, product)} {body}" if rng.random() < 0.15 else body
    return sentences(text)


def reaction(rng: random.Random, sign: int) -> str:
    """What the writer thinks of the product, once the review is written."""
    it = rng.choice(["it", "the thing"])
    return sentences(rng.choice(REACTIONS[sign]).format(it=it, It=it))


def simple_document(rng: random.Random) -> tuple[str, str]:
    """A short document of one mind: a part of a product in several words, all good or all bad, and a remark on it."""
    product, sign = rng.choice(list(PRODUCTS)), rng.choice([1, -1])
    part = rng.choice(PRODUCTS[product])
    *most, last = rng.sample(ADJECTIVES[sign], rng.choice([2, 3, 4]))
    text = f"the {part} {rng.choice(COPULAS)} {', '.join(most)} and {last}"
    if rng.random() < 0.5:
        text += f"; it {rng.choice(VERBS[sign])}"
    return sentences(text + "."), rng.choice(REACTIONS[sign]).format(it="it", It="It")


def single_document(rng: random.Random) -> tuple[str, str]:
    """One clause on one part, which may deny the opposite, and a remark."""
    part, sign = rng.choice(PRODUCTS[rng.choice(list(PRODUCTS))]), rng.choice([1, -1])
    return sentences(clause(rng, part, sign, EVERY_WORD, denied=0.2) + "."), reaction(rng, sign)


def mixed_document(rng: random.Random) -> tuple[str, str]:
    """Mostly a review of two parts, which often fare differently, and a remark."""
    kind, sign = rng.random(), rng.choice([1, -1])
    if kind < 0.2:
        return single_document(rng)
    if kind < 0.97:
        return review(rng, sign, EVERY_WORD, contrast=0.7, denied=0.2), reaction(rng, sign)
    return intro(rng, rng.choice(list(PRODUCTS))) + " " + filler(rng), filler(rng)


def documents(
    seed: str, kind: Callable[[random.Random], tuple[str, str]], count: int, exclude: set[str]
) -> Iterator[tuple[str, str]]:
    """`count` documents whose first part is none of `exclude` (the labelled reviews)."""
    rng = random.Random(seed)
    while count:
        pair = kind(rng)
        if pair[0] not in exclude:
            count -= 1
            yield pair


def labelled_rows(seed: int, split: str) -> list[dict[str, str]]:
    """Rows of one labelled split, half of them positive, no review twice."""
    rng = random.Random(f"{seed}-{split}")
    rows: dict[str, str] = {}
    while len(rows) < SPLIT_ROWS[split]:
        sign = 1 if len(rows) % 2 == 0 else -1
        text = review(rng, sign, SPLIT_WORDS[split], contrast=1.0, denied=0.4)
        rows.setdefault(text, "positive" if sign == 1 else "negative")
    listed = [{"review": text, "label": label} for text, label in rows.items()]
    rng.shuffle(listed)
    return listed


def check_splits(labelled: dict[str, list[dict[str, str]]], pairs: list[tuple[str, str]]) -> None:
    """Hold the labelled set to what its card says of it."""
    used = {split: tokens(row["review"] for row in rows) for split, rows in labelled.items()}
    corpus = tokens(text for pair in pairs for text in pair)
    every = EVERY_WORD.all()
    for split in ("validation", "test"):
        deciding = used[split] & every
        assert deciding == SPLIT_WORDS[split].all(), f"the {split} split should use all of its words and no other"
        assert not deciding & used["train"], f"words that decide {split} labels occur in the training split"
        assert deciding <= corpus, f"words of the {split} split are missing from the corpus"
    assert not used["validation"] & used["test"] & every, "validation and test share sentiment words"
    assert not {"positive", "negative"} & corpus, "a label name occurs in the corpus"
    reviews = [row["review"] for rows in labelled.values() for row in rows]
    assert len(set(reviews)) == len(reviews), "a labelled review occurs twice"
    assert not set(reviews) & {first for first, _ in pairs}, "a labelled review occurs in the corpus"


def tokens(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}
