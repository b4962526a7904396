"""The small decoder's text: things described from records of their features, and diaries of days out.

A record names a thing and some of its features, in one of many notations; the text after it says the same in English.
Names are made up anew for each document, so that a model has to learn to copy them. There is no record and no sentence
of any data set in it, and neither of the notations that the E2E task is read in. Everything is drawn from one seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """A feature of a thing: its key in records, its values, and how a text may say it; `{}` is the value.

    Attributes:
        before: said between article and noun.
        after: said after the noun.
        says: said of the thing, as a predicate.
    """

    key: str
    values: list[str]
    before: list[str]
    after: list[str]
    says: list[str]


@dataclass(frozen=True)
class Domain:
    """A kind of thing: its nouns and features."""

    nouns: list[str]
    features: list[Feature]


# fmt: off
COLOURS = ["red", "blue", "green", "white", "black", "yellow", "grey", "brown", "orange", "purple"]
LANDS = [
    "English", "French", "Italian", "Chinese", "Japanese", "Indian", "Spanish", "Greek", "Danish", "Turkish",
    "Irish", "Dutch",
]
PRICES = ["cheap", "moderate", "expensive", "low", "high", "average"]
AMOUNTS = ["less than £5", "about £10", "£12-18", "£25", "more than £30", "£40", "between £15 and £20"]
GRADES = [
    "1 out of 5", "2 out of 5", "3 out of 5", "4 out of 5", "5 out of 5", "low", "average", "high", "poor",
    "excellent",
]
WATERS = ["the lake", "the sea", "the canal", "the river", "the harbour", "the bay"]
QUARTERS = [
    "the old town", "the city", "the centre", "the suburbs", "the market square", "the north", "the riverbank",
    "the station quarter",
]

DOMAINS = [
    Domain(["boat", "sailing boat", "ferry", "barge", "ship"], [
            Feature("hull", COLOURS, ["{}"], ["with a {} hull"], ["has a {} hull", "is painted {}"]),
            Feature("berth", WATERS, [], ["on {}", "moored by {}"], ["lies on {}", "can be found by {}"]),
            Feature("fare", AMOUNTS, [], ["with fares of {}"], ["takes passengers for {}", "charges {}"]),
            Feature("children", ["yes", "no"], [], [], []),
            Feature("score", GRADES, [],
                ["rated {}", "with a passenger score of {}"],
                ["has a passenger score of {}", "is rated {}"],
            ),
        ],
    ),
    Domain(["museum", "gallery", "exhibition hall", "library"], [
            Feature(
                "collection",
                [f"{land} paintings" for land in LANDS] + ["old maps", "clocks", "toys", "glass", "coins"],
                [],
                ["of {}", "with a collection of {}", "that shows {}"],
                ["shows {}", "is known for its {}", "houses {}"],
            ),
            Feature("entry", PRICES, [], ["with {} entry prices"], ["has {} entry prices", "has a {} price range"]),
            Feature("quarter", QUARTERS, [],
                ["in {}", "located in {}"],
                ["is in {}", "can be found in {}", "is located in {}"],
            ),
            Feature("children", ["yes", "no"], [], [], []),
            Feature("next to", ["NAME"], [],
                ["near {}", "next to {}", "close to {}"],
                ["is near {}", "lies close to {}", "stands next to {}"],
            ),
        ],
    ),
    Domain(["hotel", "inn", "guest house", "hostel"], [
            Feature("style", LANDS, ["{}"], ["in the {} style"], ["is built in the {} style", "serves {} breakfast"]),
            Feature(
                "room", AMOUNTS, [], ["with rooms for {}", "at {} a night"], ["has rooms for {}", "costs {} a night"]
            ),
            Feature("guests say", GRADES, [],
                ["with a guest rating of {}", "rated {} by its guests"],
                ["has a guest rating of {}", "is rated {} by guests"],
            ),
            Feature("waterside", WATERS, [], ["by {}", "on {}"], ["stands by {}", "overlooks {}"]),
            Feature("next to", ["NAME"], [], ["near {}", "not far from {}"], ["is near {}", "can be found near {}"]),
        ],
    ),
    Domain(
        ["shop", "bakery", "bookshop", "florist", "market stall", "tea room", "coffee house", "brewery"],
        [
            Feature(
                "goods",
                [
                    "bread", "wine", "cheese", "fruit", "fish", "flowers", "sushi", "pasta", "coffee", "books",
                    "cakes", "noodles", "beer",
                ],
                [],
                ["selling {}", "that sells {}", "with good {}"],
                ["sells {}", "offers {}", "provides {}", "serves {}"],
            ),
            Feature("price level", PRICES, [],
                ["with {} prices", "in the {} price range"],
                ["has {} prices", "is in the {} price range"],
            ),
            Feature("customers say", GRADES, [],
                ["with {} customer reviews"],
                ["has {} customer reviews", "was given {} by customers"],
            ),
            Feature("quarter", QUARTERS, [], ["in {}", "situated in {}"], ["is in {}", "is situated in {}"]),
            Feature("children", ["yes", "no"], [], [], []),
        ],
    ),
    Domain(["film", "play", "musical", "comedy", "novel", "story"], [
            Feature("language", LANDS, ["{}"], ["in the {} language"], ["is {}", "was made in the {} language"]),
            Feature(
                "critics say", GRADES, [], ["rated {} by critics"], ["has a rating of {}", "was rated {} by critics"]
            ),
            Feature(
                "about",
                [
                    "a lost dog", "two friends", "a long journey", "a king", "the war", "a family", "a young doctor",
                    "a wedding",
                ],
                [],
                ["about {}"],
                ["tells of {}", "is about {}"],
            ),
            Feature("children", ["yes", "no"], [], [], []),
            Feature("by", ["NAME"], [], ["by {}"], ["was written by {}"]),
        ],
    ),
    Domain(["dog", "horse", "cat", "parrot", "donkey"], [
            Feature("coat", COLOURS, ["{}"], ["with a {} coat"], ["is {}", "has a {} coat"]),
            Feature(
                "temper",
                ["friendly", "shy", "lively", "calm", "noisy", "stubborn", "gentle"],
                ["{}"],
                [],
                ["is {}", "can be {}"],
            ),
            Feature("home", QUARTERS, [], ["from {}", "that lives in {}"], ["lives in {}", "comes from {}"]),
            Feature(
                "likes",
                ["apples", "long walks", "fish", "sleeping", "children", "the rain"],
                [],
                ["that likes {}"],
                ["likes {}", "loves {}"],
            ),
            Feature("owner", ["NAME"], [], ["owned by {}"], ["belongs to {}"]),
        ],
    ),
    Domain(["club", "team", "choir", "orchestra", "band"], [
            Feature("colours", COLOURS, [], ["in {}"], ["wears {}", "plays in {}"]),
            Feature("home", QUARTERS, [], ["from {}", "based in {}"], ["is based in {}", "meets in {}"]),
            Feature("fee", AMOUNTS, [], ["with a fee of {}"], ["asks for {} a month", "has a fee of {}"]),
            Feature("form", ["poor", "average", "good", "excellent"], [], ["in {} form"], ["is in {} form"]),
            Feature("children", ["yes", "no"], [], [], []),
        ],
    ),
    Domain(["garden", "park", "playground", "campsite", "farm"], [
            Feature("waterside", WATERS, [], ["by {}", "next to {}"], ["lies by {}", "stretches along {}"]),
            Feature("ticket", AMOUNTS, [], ["with tickets for {}"], ["costs {}", "has tickets for {}"]),
            Feature("visitors say", GRADES, [],
                ["with a visitor rating of {}"],
                ["has a visitor rating of {}", "is rated {} by visitors"],
            ),
            Feature("children", ["yes", "no"], [], [], []),
            Feature("next to", ["NAME"], [], ["near {}", "beside {}"], ["is near {}", "lies beside {}"]),
        ],
    ),
]
FOR_CHILDREN = [
    "suitable for children", "good for families", "a place for the whole family", "friendly to kids",
    "made for children",
]
NOT_FOR_CHILDREN = [
    "not suitable for children", "not for families", "only for adults", "not a place for kids",
    "not friendly to families",
]
NAME_FIRST = [
    "Silver", "Old", "Golden", "Green", "Royal", "Little", "Crooked", "Merry", "Quiet", "Bright", "Wild", "Broken",
    "Blue", "Lucky", "Grand",
]
NAME_SECOND = [
    "Lantern", "Heron", "Bridge", "Harbour", "Anchor", "Oak", "Fox", "Star", "Mill", "Crown", "Garden", "Wheel",
    "Rose", "Tower", "Pepper", "Feather", "Bell", "Kettle",
]
SYLLABLES = [
    "al", "bra", "co", "den", "el", "fi", "gra", "ha", "in", "jo", "ka", "lo", "mar", "ne", "o", "pi", "qua", "ro",
    "sta", "ti", "um", "ver", "wa", "xa", "yo", "zi", "cum", "men", "tor", "ly",
]
NOTATIONS = [  # between key and value, between features, before the text
    (": ", "; ", "\n"),
    (" = ", ", ", "\n"),
    (": ", "\n", "\n\n"),
    (" is ", ", ", " -> "),
    (" - ", " / ", "\n"),
    ("=", " ", "\n"),
    (": ", ", ", " => "),
]
WHO = [
    "I", "we", "my sister", "our neighbours", "my friends", "the children", "my uncle", "they", "a colleague",
    "the teacher",
]
WHEN = [
    "on Monday", "last week", "in the evening", "in summer", "yesterday", "at noon", "after work", "on a rainy day",
    "last year", "before dinner",
]
DID = [
    "went to {place} and had {meal}", "ate {meal} at {place}", "walked to {place}", "met {person} at {place}",
    "paid {amount} for {meal}", "waited for {person} near {place}", "wanted {meal}, but {place} was closed",
    "took the bus from {place} to {place2}", "bought a {colour} coat in {quarter}", "found {place} by {water}",
    "sat by {water} with {person}", "told {person} about {place}", "read a book about {land} history in {place}",
    "saw {place} for the first time", "could not find {place}, which is near {place2}",
]
MEALS = [
    "{land} food", "a {price} meal", "fish and chips", "a glass of wine", "{land} coffee", "a {price} {land} dinner",
    "some cheese and fruit", "fast food", "a cup of tea", "a plate of pasta", "{land} bread",
]
FELT = [
    "It was {grade}.", "The food was {taste}.", "It was too {price} for us.", "We liked it very much.",
    "The service was {taste}.", "Nobody was happy with it.", "The staff were friendly.",
    "It is a good place for families.", "Children are not allowed there.", "The prices are {price}.",
    "Most customers rate it {score}.", "I would go there again.", "It was not worth the price.",
    "There was a pub next door.", "You can see {water} from there.", "It is open every day.",
    "It lies in {quarter}.",
]
TASTES = ["good", "bad", "wonderful", "cold", "excellent", "poor", "average", "not good", "great", "slow"]
# fmt: on


def documents(seed: str) -> Iterator[str]:
    """Documents without end, three in five a record and its text, the others a diary."""
    rng = random.Random(seed)
    while True:
        yield described(rng) if rng.random() < 0.6 else diary(rng)


def name(rng: random.Random) -> str:
    """A made-up name: two words, or syllables."""
    kind = rng.random()
    if kind < 0.5:
        made = f"{rng.choice(NAME_FIRST)} {rng.choice(NAME_SECOND)}"
    else:
        made = "".join(rng.sample(SYLLABLES, rng.choice([2, 3, 3, 4]))).capitalize()
        if kind < 0.65:
            made += f" {rng.choice(NAME_SECOND)}"
    return f"The {made}" if rng.random() < 0.25 else made


def described(rng: random.Random) -> str:
    """A record in some notation, and a text that says the same."""
    domain = rng.choice(DOMAINS)
    noun, own = rng.choice(domain.nouns), name(rng)
    chosen = rng.sample(domain.features, rng.randint(1, len(domain.features)))
    values = [name(rng) if "NAME" in feature.values else rng.choice(feature.values) for feature in chosen]
    features = list(zip(chosen, values, strict=True))
    equals, comma, end = rng.choice(NOTATIONS)
    entries = [("name", own), ("kind", noun), *((feature.key, value) for feature, value in features)]
    if rng.random() < 0.3:
        rng.shuffle(entries)
    return comma.join(f"{key}{equals}{value}" for key, value in entries) + end + text_of(rng, own, noun, features)


def text_of(rng: random.Random, own: str, noun: str, features: list[tuple[Feature, str]]) -> str:
    """English sentences that say each feature once, in any order."""
    features = rng.sample(features, len(features))
    before, after, said = "", [], []
    for feature, value in features:
        if feature.key == "children":
            said.append("is " + rng.choice(FOR_CHILDREN if value == "yes" else NOT_FOR_CHILDREN))
        elif feature.before and not before and rng.random() < 0.7:
            before = rng.choice(feature.before).format(value) + " "
        elif feature.after and len(after) < 2 and rng.random() < 0.5:
            after.append(rng.choice(feature.after).format(value))
        else:
            said.append(rng.choice(feature.says or feature.before).format(value))
    thing = article(f"{before}{noun}")
    place = " ".join(["", *after])
    opening = rng.random()
    if opening < 0.5:
        first = f"{own} is {thing}{place}"
    elif opening < 0.65:
        first = f"There is {thing} called {own}{place}"
    elif opening < 0.8 and after:
        first = f"{capital(after[0])} you will find {own}, {thing}{' '.join(['', *after[1:]])}"
    elif said:
        first = f"The {before}{noun} {own}{place} {said.pop(0)}"
    else:
        first = f"{own}{place} is {thing}"
    sentences = [first]
    while said:
        if rng.random() < 0.3:
            sentences[-1] += f" and {said.pop(0)}" if sentences[-1].startswith((own, "It")) else f". It {said.pop(0)}"
        else:
            sentences.append(f"{rng.choice(['It', 'It', own, f'The {noun}'])} {said.pop(0)}")
    return ". ".join(sentences) + "."


def diary(rng: random.Random) -> str:
    """A few sentences about a day out."""
    place, place2, person = name(rng), name(rng), name(rng)
    sentences = []
    for _ in range(rng.randint(2, 5)):
        if sentences and rng.random() < 0.45:
            template = rng.choice(FELT)
        else:
            subject, when = rng.choice(WHO), rng.choice(WHEN)
            template = rng.choice([f"{subject} {{did}} {when}.", f"{when}, {subject} {{did}}."])
            template = template.replace("{did}", rng.choice(DID))
        filled = template.replace("{meal}", rng.choice(MEALS)).format(
            place=place, place2=place2, person=person, amount=rng.choice(AMOUNTS), colour=rng.choice(COLOURS),
            quarter=rng.choice(QUARTERS), water=rng.choice(WATERS), land=rng.choice(LANDS), price=rng.choice(PRICES),
            grade=rng.choice(TASTES), taste=rng.choice(TASTES), score=rng.choice(GRADES),
        )  # fmt: skip
        sentences.append(capital(filled))
    return " ".join(sentences)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def article(noun: str) -> str:
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun
