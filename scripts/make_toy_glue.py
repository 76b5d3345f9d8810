"""Write small corpora of all nine GLUE tasks, in the official layout, from sentence templates: no download needed.

    python scripts/make_toy_glue.py --output_dir DIR

Each label follows from the text by the rule that its task's function below states, so that a small BERT can learn the
tasks from a random start. Scores on them say that a program works, and nothing about real language.
Next to the tasks' folders lies vocab.txt, a lower-case WordPiece vocabulary of every word that the templates know and
of single characters. The same seed gives the same files; dev and test do not depend on --train_rows.
"""

import argparse
import random
import re
import string
from pathlib import Path

from fsd.files import InputError, exit_on_input_error, written_whole
from fsd.seeds import stream_seed

MOST_TRAIN_ROWS = 2000


def chance(rng, probability):
    return rng.random() < probability


def other(rng, words, word):
    """One of ``words`` that is not ``word``."""
    return rng.choice([candidate for candidate in words if candidate != word])


def common(rng, words):
    """One of ``words``, the first ones more often, as words are in real text."""
    return rng.choices(words, [0.5**rank for rank in range(len(words))])[0]


def sentence(*parts):
    """The parts that are not empty, as a sentence with a capital and a full stop."""
    text = " ".join(part for part in parts if part)
    return text[0].upper() + text[1:] + " ."


# ---- CoLA ----

ANIMALS = "dog cat horse bird duck goat bear rabbit tiger robot".split()
VERBS = "sleep run sing wait smile dance swim jump eat".split()
REFLEXIVE_VERBS = "see help follow like".split()
ADJECTIVES = "old young small happy brown hungry quiet clever".split()
SINGULAR = "this that every each".split()
PLURAL = "these those many several".split()
MODALS = "can will must should".split()
PLACES = ["near the river", "behind the house", "in the garden", "on the hill", "under the tree", "at the lake"]
TIMES = ["every day", "at night", "in summer", "after lunch", "before dinner", "on Sundays"]


def cola(rng):
    """Acceptable (1) unless one rule is broken: agreement of verb, determiner or reflexive; word order; modal + stem."""
    acceptable = chance(rng, 0.55)
    rule = rng.choice(("verb", "determiner", "reflexive", "order", "modal"))
    broken = None if acceptable else rule
    plural = chance(rng, 0.5)
    noun = rng.choice(ANIMALS) + ("s" if plural else "")
    determiner = rng.choice(PLURAL if plural != (broken == "determiner") else SINGULAR)
    if rule != "determiner" and chance(rng, 0.3):
        determiner = "the"
    adjective = rng.choice(ADJECTIVES) if rule == "order" or chance(rng, 0.4) else ""
    subject = f"{determiner} {noun} {adjective}" if broken == "order" else f"{determiner} {adjective} {noun}"
    verb = rng.choice(REFLEXIVE_VERBS if rule == "reflexive" else VERBS)
    if rule == "modal":
        verb = rng.choice(MODALS) + " " + verb + ("s" if broken == "modal" else "")
    elif plural == (broken == "verb"):
        verb += "s"
    if rule == "reflexive":
        verb += " themselves" if plural != (broken == "reflexive") else " itself"
    place = rng.choice(PLACES) if chance(rng, 0.6) else ""
    time = rng.choice(TIMES) if chance(rng, 0.5) else ""
    return (sentence(*subject.split(), verb, place, time),), int(acceptable)


# ---- SST-2 ----

GOOD = "wonderful charming funny brilliant moving fresh clever lovely gripping superb warm elegant".split()
BAD = "dull tedious clumsy boring shallow awful stale silly lifeless weak messy bland".split()
PARTS = ["film", "story", "plot", "acting", "script", "music", "ending", "dialogue", "cast", "camera work"]
DEGREES = ["very", "quite", "really", "rather", "truly", "simply", "", "", ""]
DENIALS = ["not", "never", "hardly", "far from"]


def _praise(rng, good):
    """Words after "is" that praise or blame; three in ten deny the opposite."""
    denied = chance(rng, 0.3)
    adjective = rng.choice(GOOD if good != denied else BAD)
    return f"{rng.choice(DENIALS)} {adjective}" if denied else f"{rng.choice(DEGREES)} {adjective}".strip()


def sst2(rng):
    """Positive (1) where the judgement is; denial turns a word around, and a clause with "although" does not count."""
    good = chance(rng, 0.53)
    part = rng.choice(PARTS)
    judgement = f"{rng.choice(('the', 'this', 'its'))} {part} is {_praise(rng, good)}"
    form = rng.randrange(4)
    if form == 0:
        judgement += f" and {_praise(rng, good)}"
    elif form == 1:
        judgement = f"although the {other(rng, PARTS, part)} is {_praise(rng, not good)} , {judgement}"
    elif form == 2:
        judgement = f"{rng.choice(GOOD if good else BAD)} from start to finish , and {judgement}"
    elif chance(rng, 0.5):
        judgement = f"{rng.choice(('to be fair', 'as it happens', 'for me', 'in short'))} , {judgement}"
    return (judgement + " . ",), int(good)


# ---- MRPC ----

PEOPLE = "mayor museum city bank school club".split()
PURCHASES = "lamps boats paintings houses clocks trucks".split()
DAYS = "Monday Tuesday Thursday Saturday".split()
NUMBERS = "two three seven twelve".split()
# Two words of one meaning, and two of the opposite.
ACTIONS = [
    (("bought", "purchased"), ("sold", "auctioned")),
    (("repaired", "restored"), ("damaged", "wrecked")),
    (("praised", "applauded"), ("criticised", "attacked")),
    (("hid", "concealed"), ("showed", "displayed")),
]


def mrpc(rng):
    """Paraphrase (1): synonyms, a moved date; otherwise (0) the same with another verb, number or day."""
    same = chance(rng, 0.55)
    who, what, day, number = (common(rng, words) for words in (PEOPLE, PURCHASES, DAYS, NUMBERS))
    meanings = rng.choice(ACTIONS)
    meaning = chance(rng, 0.25)
    changed = None if same else rng.choices(("verb", "number", "day"), (0.6, 0.2, 0.2))[0]
    first = (who, rng.choice(meanings[meaning]), number, what, day)
    second = (
        who,
        rng.choice(meanings[meaning != (changed == "verb")]),
        other(rng, NUMBERS, number) if changed == "number" else number,
        what,
        other(rng, DAYS, day) if changed == "day" else day,
    )
    return (_report(rng, *first), _report(rng, *second)), int(same)


def _report(rng, who, verb, number, what, day):
    event = f"the {who} {verb} {number} {what}"
    form = rng.randrange(4)
    if form == 0:
        return sentence(f"on {day}", event)
    if form == 1:
        return sentence(f'"{event} on {day}')
    return sentence(event, f"on {day}", "officials said" if form == 2 else "")


# ---- STS-B ----

TOPICS = [
    (["boy", "girl", "man", "woman"], ["kicks", "throws", "catches"], ["ball", "frisbee", "stick"], ["park", "street"]),
    (["cook", "waiter", "baker", "guest"], ["cuts", "tastes", "serves"], ["bread", "soup", "cake"], ["kitchen", "hotel"]),
    (["pianist", "singer", "drummer", "dancer"], ["plays", "hears", "writes"], ["song", "tune", "waltz"], ["hall", "bar"]),
    (["farmer", "driver", "sailor", "pilot"], ["washes", "parks", "fixes"], ["truck", "boat", "plane"], ["port", "barn"]),
]
LOOKS = "tall tired happy young".split()


def stsb(rng):
    """Score: how many of five slots (look, who, verb, what, where) the sentences share."""
    topic = rng.choice(TOPICS)
    first = [common(rng, words) for words in (LOOKS, *topic)]
    shared = rng.randrange(6)
    if shared == 0:
        second = [rng.choice(words) for words in (LOOKS, *other(rng, TOPICS, topic))]
    else:
        second = list(first)
        for slot in rng.sample(range(5), 5 - shared):
            second[slot] = other(rng, (LOOKS, *topic)[slot], first[slot])
    score = sum(a == b for a, b in zip(first, second))
    return (_scene(rng, first), _scene(rng, second)), float(score)


def _scene(rng, slots):
    look, who, verb, what, where = slots
    place = f"in the {where}"
    event = f"a {look} {who} {verb} the {what}"
    return sentence(place, event) if chance(rng, 0.3) else sentence(event, place)


# ---- QQP ----

INTENTS = {
    "how": ["How do I {}", "What is the best way to {}", "Can you explain how to {}"],
    "why": ["Why do people {}", "What are good reasons to {}"],
    "when": ["When should I {}", "What is the right time to {}"],
    "where": ["Where can I {}", "Which place is best to {}"],
    "cost": ["How much does it cost to {}", "What is a fair price to {}"],
}
PURSUITS = [
    ("learn", ["French", "German", "Spanish"]),
    ("bake", ["bread", "pizza", "cake"]),
    ("buy", ["shoes", "a car", "a house"]),
    ("fix", ["a bike", "a phone", "a door"]),
    ("grow", ["roses", "tomatoes", "apples"]),
    ("play", ["chess", "tennis", "golf"]),
    ("visit", ["Rome", "Paris", "Tokyo"]),
    ("watch", ["birds", "films", "stars"]),
]
ASIDES = ["", "", "", " in winter", " at home", " with friends", " this year", " as a beginner"]


def qqp(rng):
    """Duplicate (1): the same intent and topic in other words; otherwise another intent or another thing."""
    same = chance(rng, 0.45)
    intent = common(rng, list(INTENTS))
    verb, things = rng.choice(PURSUITS)
    thing = common(rng, things)
    changed = None if same else rng.choices(("intent", "thing"), (0.7, 0.3))[0]
    second_intent = other(rng, list(INTENTS), intent) if changed == "intent" else intent
    second_thing = other(rng, things, thing) if changed == "thing" else thing
    aside = rng.choice(ASIDES)
    first = rng.choice(INTENTS[intent]).format(f"{verb} {thing}") + aside + "?"
    second = rng.choice(INTENTS[second_intent]).format(f"{verb} {second_thing}") + aside + "?"
    return (first, second), int(same)


# ---- MNLI ----

KINDS = {
    "dog": "poodle spaniel terrier".split(),
    "bird": "robin sparrow parrot".split(),
    "child": "boy girl toddler".split(),
    "musician": "pianist violinist drummer".split(),
}
# What one is seen doing, what follows from it, what it rules out.
STATES = [
    ("sleeping", "resting", "jumping"),
    ("running", "moving", "sitting"),
    ("shouting", "making noise", "being silent"),
    ("smiling", "looking happy", "crying"),
    ("eating", "having food", "refusing food"),
    ("swimming", "getting wet", "staying dry"),
]
EXTRAS = ["with a sister", "for the first time", "because of the weather", "before a long journey", "to win a prize"]
SPOTS = ["in the park", "near the lake", "at the station", "on the lawn", "by the gate", "behind the shop"]


def mnli(rng, genre_opening=""):
    """Entailment: a wider word; contradiction: an opposite or a denial; neutral: a fact that is not in the premise."""
    label = rng.choice(("entailment", "neutral", "contradiction"))
    kind = rng.choice(list(KINDS))
    doing, follows, opposite = rng.choice(STATES)
    spot, extra = rng.choice(SPOTS), rng.choice(EXTRAS)
    told = label != "neutral" and chance(rng, 0.25)
    premise = sentence(genre_opening, f"a {rng.choice(KINDS[kind])} is {doing} {spot}", extra if told else "")
    what = {
        "entailment": lambda: rng.choice((follows, follows, f"not {opposite}", doing)),
        "neutral": lambda: rng.choice((follows, doing)),
        "contradiction": lambda: rng.choice((opposite, opposite, f"not {doing}")),
    }[label]()
    adds = extra if label == "neutral" or told and chance(rng, 0.7) else ""
    hypothesis = sentence(f"{rng.choice(('a', 'the', 'some'))} {kind} is {what}", spot if chance(rng, 0.3) else "", adds)
    return (premise, hypothesis), label


# ---- QNLI ----

VISITORS = "teacher doctor painter lawyer".split()
GOODS = "letter parcel ticket camera".split()
ANSWERS = {
    "Where": ["in the market", "at the station", "near the harbour", "outside the bank"],
    "When": ["on Monday", "last night", "in the morning", "two weeks ago"],
    "How": ["by accident", "without any help", "with great care", "by asking around"],
    "Why": ["to please a friend", "because of a bet", "for the money", "out of habit"],
}


def qnli(rng):
    """Entailment: the sentence answers the question; not where it is silent on it or speaks of somebody else."""
    who, what = rng.choice(VISITORS), rng.choice(GOODS)
    asked = common(rng, list(ANSWERS))
    told = [about for about in ANSWERS if chance(rng, 0.5)]
    rng.shuffle(told)
    found = other(rng, VISITORS, who) if chance(rng, 0.06) else who
    past, stem = rng.choice((("found", "find"), ("sold", "sell"), ("lost", "lose"), ("took", "take")))
    text = sentence(f"the {found} {past} the {what}", *(rng.choice(ANSWERS[about]) for about in told[:3]))
    answered = found == who and asked in told[:3]
    return (f"{asked} did the {who} {stem} the {what}?", text), ("entailment" if answered else "not_entailment")


# ---- RTE ----

SURNAMES = "Weber Novak Silva Tanaka Okoro Larsen".split()
ROLES = "mayor owner director".split()
PLACES_LED = "Lisbon Prague Oslo Lima".split()
DID = ["managed to", "remembered to", "was able to"]
DID_NOT = ["failed to", "refused to", "forgot to"]
UNKNOWN = ["hoped to", "planned to", "promised to"]
DEEDS = [("close", "closed"), ("visit", "visited"), ("open", "opened"), ("clean", "cleaned"), ("paint", "painted")]
SITES = ["the factory", "the bridge", "the library", "the stadium", "the market"]


def rte(rng):
    """Entailment where the first sentence settles it: "managed to" did, "failed to" did not, "hoped to" is open."""
    entailed = chance(rng, 0.52)
    name, role, place = rng.choice(SURNAMES), rng.choice(ROLES), rng.choice(PLACES_LED)
    stem, past = rng.choice(DEEDS)
    site = rng.choice(SITES)
    affirms = chance(rng, 0.5)
    if entailed:
        verbs = DID if affirms else DID_NOT
    else:
        verbs = rng.choice((UNKNOWN, DID_NOT if affirms else DID))
    premise = sentence(f"{name} , the {role} of {place} , {rng.choice(verbs)} {stem} {site}")
    if chance(rng, 0.2):
        claim = f"{name} is the {role if entailed else other(rng, ROLES, role)} of {place}"
    else:
        claim = f"{name} {past} {site}" if affirms else f"{name} did not {stem} {site}"
    return (premise, sentence(claim)), ("entailment" if entailed else "not_entailment")


# ---- WNLI ----

CONTENTS = "trophy violin statue ladder".split()
CONTAINERS = "suitcase cupboard van drawer".split()
HELPERS = "nurse lawyer coach guide".split()
HELPED = "patient client player tourist".split()
OPENINGS = ["", "", "as we know ,", "once again ,", "sadly ,", "it seems that"]
AGES = ["old", "new", "", ""]


def wnli(rng):
    """1 where the pronoun was replaced by the one it speaks of."""
    right = chance(rng, 0.55)
    meant = chance(rng, 0.25)
    if chance(rng, 0.5):
        pair = rng.choice(CONTENTS), rng.choice(CONTAINERS)
        reason = "is too " + rng.choice((("big", "large", "wide"), ("small", "narrow", "tiny"))[meant])
        first = ("the", rng.choice(AGES), pair[0], rng.choice(("does", "did", "will")), "not fit into the", rng.choice(AGES), pair[1], "because it", reason)
    else:
        pair = rng.choice(HELPERS), rng.choice(HELPED)
        reason = "was " + rng.choice((("kind", "strong", "helpful"), ("ill", "weak", "lost"))[meant])
        first = ("the", rng.choice(AGES), pair[0], rng.choice(("helped", "supported", "assisted")), "the", rng.choice(AGES), pair[1], "because she", reason)
    return (sentence(rng.choice(OPENINGS), *first), sentence("the", pair[meant if right else 1 - meant], reason)), int(right)


MAKERS = {"CoLA": cola, "SST-2": sst2, "MRPC": mrpc, "STS-B": stsb, "QQP": qqp, "MNLI": mnli, "QNLI": qnli, "RTE": rte, "WNLI": wnli}
