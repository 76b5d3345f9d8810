"""The tasks of two sentences that may mean the same: MRPC, STS-B and QQP."""

from toy_glue.words import chance, common, other, sentence

# ---- MRPC ----

BUYERS = "mayor museum city bank school club".split()
GOODS = "lamps boats paintings houses clocks trucks".split()
DAYS = "Monday Tuesday Thursday Saturday".split()
NUMBERS = "two three seven twelve".split()
# Two synonyms, and two words with the opposite meaning.
DEALS = [
    (("bought", "purchased"), ("sold", "auctioned")),
    (("repaired", "restored"), ("damaged", "wrecked")),
    (("praised", "applauded"), ("criticised", "attacked")),
    (("accepted", "welcomed"), ("rejected", "refused")),
]


def mrpc(rng):
    """Paraphrase (1): synonyms, passive, moved date; otherwise (0) the opposite verb, another number or another day."""
    same = chance(rng, 0.55)
    who, what, day, number = (common(rng, words) for words in (BUYERS, GOODS, DAYS, NUMBERS))
    meanings = rng.choice(DEALS)
    meaning = chance(rng, 0.25)
    changed = None if same else rng.choices(("verb", "number", "day"), (0.6, 0.2, 0.2))[0]
    first = _report(rng, who, rng.choice(meanings[meaning]), number, what, day)
    if changed == "number":
        number = other(rng, NUMBERS, number)
    if changed == "day":
        day = other(rng, DAYS, day)
    second = _report(rng, who, rng.choice(meanings[meaning != (changed == "verb")]), number, what, day)
    return (first, second), int(same)


def _report(rng, who, verb, number, what, day):
    event = f"the {who} {verb} {number} {what}"
    form = rng.randrange(5)
    if form == 0:
        return sentence(f"on {day} ,", event, tokenized=True)
    if form == 1:
        return sentence(f"{number} {what} were {verb} by the {who} on {day}", tokenized=True)
    if form == 2:
        return '"' + sentence(event, f"on {day}", tokenized=True)  # some official rows also have an unclosed quote
    return sentence(event, f"on {day}", ", officials said" if form == 3 else "", tokenized=True)


# ---- STS-B ----

LOOKS = "tall tired happy young".split()
# Who, does, what, where.
SCENES = [
    (["boy", "girl", "man", "woman"], ["kicks", "throws", "catches"], ["ball", "frisbee", "stick"], ["park", "street"]),
    (["cook", "waiter", "baker", "guest"], ["cuts", "tastes", "serves"], ["bread", "soup", "cake"], ["kitchen", "hotel"]),
    (["pianist", "singer", "drummer"], ["plays", "hears", "writes"], ["song", "tune", "waltz"], ["hall", "bar"]),
    (["farmer", "driver", "sailor", "pilot"], ["washes", "parks", "fixes"], ["truck", "boat", "plane"], ["port", "barn"]),
]


def stsb(rng):
    """Score: how many of five slots (look, who, does, what, where) are the same; the second sentence may lack some."""
    scene = common(rng, SCENES)
    first = [common(rng, words) for words in (LOOKS, *scene)]
    if chance(rng, 0.15):
        second = [rng.choice(words) for words in (LOOKS, *other(rng, SCENES, scene))]
    else:
        second = list(first)
        for slot in rng.sample(range(5), rng.randrange(5)):
            left_out = slot in (0, 3, 4) and chance(rng, 0.5)
            second[slot] = "" if left_out else other(rng, (LOOKS, *scene)[slot], first[slot])
    return (_scene(rng, *first), _scene(rng, *second)), sum(a == b for a, b in zip(first, second, strict=True))


def _scene(rng, look, who, does, what, where):
    event = ("a", look, who, does, f"the {what}" if what else "")
    place = f"in the {where}" if where else ""
    return sentence(place, *event) if chance(rng, 0.3) else sentence(*event, place)


# ---- QQP ----

INTENTS = [
    ("How do I {}?", "What is the best way to {}?", "Can you explain how to {}?"),
    ("Why do people {}?", "What are good reasons to {}?"),
    ("When should I {}?", "What is the right time to {}?"),
    ("Where can I {}?", "Which place is best to {}?"),
    ("How much does it cost to {}?", "What is a fair price to {}?"),
]
PURSUITS = [
    ("learn", ("French", "German", "Spanish")),
    ("bake", ("bread", "pizza", "cake")),
    ("buy", ("shoes", "a car", "a house")),
    ("fix", ("a bike", "a phone", "a door")),
    ("grow", ("roses", "tomatoes", "apples")),
    ("play", ("chess", "tennis", "golf")),
    ("visit", ("Rome", "Paris", "Tokyo")),
    ("watch", ("birds", "films", "stars")),
]
# The official rows double their quotes.
MANNERS = [" in winter", " at home", " with friends", " this year", " in town", ' ""properly""', "", "", "", ""]


def qqp(rng):
    """Duplicate (1): the same intent and thing in any words; otherwise (0) another intent or another thing."""
    same = chance(rng, 0.52)  # the final share is lower, because identical questions are dropped
    intent = common(rng, INTENTS)
    verb, things = rng.choice(PURSUITS)
    thing, manner = common(rng, things), rng.choice(MANNERS)
    changed = None if same else rng.choices(("intent", "thing"), (0.7, 0.3))[0]
    first = rng.choice(intent).format(f"{verb} {thing}{manner}")
    if changed == "intent":
        intent = other(rng, INTENTS, intent)
    if changed == "thing":
        thing = other(rng, things, thing)
    return (first, rng.choice(intent).format(f"{verb} {thing}{manner}")), int(same)
