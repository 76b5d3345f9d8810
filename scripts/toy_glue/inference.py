"""The tasks of inference: MNLI with AX, QNLI, RTE and WNLI."""

from toy_glue.words import chance, common, other, sentence

# ---- MNLI, and the diagnostic set AX ----

KINDS = {
    "dog": "poodle spaniel terrier".split(),
    "bird": "robin sparrow parrot".split(),
    "child": "boy girl toddler".split(),
    "musician": "pianist violinist drummer".split(),
}
# What somebody is doing, what follows from it, what it rules out.
DOINGS = [
    ("sleeping", "resting", "jumping"),
    ("running", "moving", "sitting"),
    ("shouting", "making noise", "being silent"),
    ("smiling", "looking happy", "crying"),
    ("eating", "having food", "refusing food"),
    ("swimming", "getting wet", "staying dry"),
]
FACTS = ["with a sister", "for the first time", "because of the weather", "before a long journey", "to win a prize"]
LAWNS = ["in the park", "near the lake", "at the station", "on the lawn", "by the gate", "behind the shop"]
GENRES = {
    "letters": ["as usual ,", "this morning", "", ""],
    "radio": ["listeners report that", "in short ,", "", ""],
}


def mnli(rng, genre="letters"):
    """Entailment: wider words; contradiction: the opposite, or a denial; neutral: a fact not in the premise."""
    label = rng.choice(("entailment", "neutral", "contradiction"))
    kind, (doing, follows, opposite) = rng.choice(list(KINDS)), rng.choice(DOINGS)
    lawn, fact, told = rng.choice(LAWNS), rng.choice(FACTS), chance(rng, 0.25)
    opening = rng.choice(GENRES[genre])
    premise = sentence(opening, f"a {rng.choice(KINDS[kind])} is {doing} {lawn}", fact if told else "")
    if label == "neutral":
        claim, added = rng.choice((follows, doing)), other(rng, FACTS, fact) if told else fact
    else:
        entailed, ruled_out = (follows, follows, f"not {opposite}", doing), (opposite, opposite, f"not {doing}")
        claim = rng.choice(entailed if label == "entailment" else ruled_out)
        added = fact if told and chance(rng, 0.7) else ""
    where = lawn if chance(rng, 0.3) else ""
    return (premise, sentence(rng.choice(("a", "the", "some")), kind, "is", claim, where, added)), label


# ---- QNLI ----

FINDERS = "teacher doctor painter lawyer".split()
FOUND = "letter parcel ticket camera".split()
PAST_AND_STEM = [("found", "find"), ("sold", "sell"), ("lost", "lose"), ("took", "take")]
ANSWERS = {
    "Where": ["in the market", "at the station", "near the harbour", "outside the bank"],
    "When": ["on Monday", "last night", "in the morning", "two weeks ago"],
    "How": ["by accident", "without any help", "with great care", "by asking around"],
    "Why": ["to please a friend", "because of a bet", "for the money", "out of habit"],
}


def qnli(rng):
    """Entailment if the sentence answers the question; not if it lacks the answer or is about somebody else."""
    who, what, (past, stem) = rng.choice(FINDERS), rng.choice(FOUND), rng.choice(PAST_AND_STEM)
    asked = common(rng, list(ANSWERS))
    told = [about for about in ANSWERS if chance(rng, 0.5)][:3]
    rng.shuffle(told)
    found_by = other(rng, FINDERS, who) if chance(rng, 0.06) else who
    text = sentence(f"the {found_by} {past} the {what}", *(rng.choice(ANSWERS[about]) for about in told))
    answered = found_by == who and asked in told
    return (f"{asked} did the {who} {stem} the {what}?", text), "entailment" if answered else "not_entailment"


# ---- RTE ----

SURNAMES = "Weber Novak Silva Tanaka Okoro Larsen".split()
ROLES = "mayor owner director".split()
TOWNS = "Lisbon Prague Oslo Lima".split()
DID = ["managed to", "remembered to", "was able to"]
DID_NOT = ["failed to", "refused to", "forgot to"]
OPEN = ["hoped to", "planned to", "promised to"]
DEEDS = [("close", "closed"), ("visit", "visited"), ("open", "opened"), ("clean", "cleaned"), ("paint", "painted")]
SITES = ["the factory", "the bridge", "the library", "the stadium", "the market"]


def rte(rng):
    """Entailment if the first sentence implies the second: "managed to" did, "failed to" did not, "hoped to" is open."""
    entailed = chance(rng, 0.52)
    name, role, town, site = (rng.choice(words) for words in (SURNAMES, ROLES, TOWNS, SITES))
    stem, past = rng.choice(DEEDS)
    affirmed = chance(rng, 0.5)
    verbs = DID if affirmed == entailed else DID_NOT
    if not entailed and chance(rng, 0.5):
        verbs = OPEN
    premise = sentence(f"{name} , the {role} of {town} , {rng.choice(verbs)} {stem} {site}")
    claim = f"{name} {past} {site}" if affirmed else f"{name} did not {stem} {site}"
    if chance(rng, 0.2):
        claim = f"{name} is the {role if entailed else other(rng, ROLES, role)} of {town}"
    return (premise, sentence(claim)), "entailment" if entailed else "not_entailment"


# ---- WNLI ----

AGES = ["old", "new", "", ""]
PHRASES = ["as we know ,", "once again ,", "sadly ,", "it seems that", "", ""]
# Who does what to whom; the start of the reason; reasons about the first one, reasons about the second.
STORIES = [
    (
        "trophy violin statue ladder".split(),
        ["does not fit into", "will not go into", "is not put into"],
        "suitcase cupboard van drawer".split(),
        ("it", "is too"),
        ("big large wide".split(), "small narrow tiny".split()),
    ),
    (
        "nurse lawyer coach guide".split(),
        ["helped", "supported", "assisted"],
        "patient client player tourist".split(),
        ("she", "was"),
        ("kind strong helpful".split(), "ill weak lost".split()),
    ),
    (
        "fox hawk wolf owl".split(),
        ["chased", "hunted", "caught"],
        "mouse rabbit duck hen".split(),
        ("it", "was"),
        ("hungry fast keen".split(), "slow lame unwary".split()),
    ),
]


def wnli(rng):
    """1 if the second sentence names the one that the pronoun means; the reason shows which one."""
    right, meant = chance(rng, 0.55), int(chance(rng, 0.25))
    doers, deeds, others, (pronoun, verb), reasons = rng.choice(STORIES)
    pair = rng.choice(doers), rng.choice(others)
    reason = f"{verb} {rng.choice(reasons[meant])}"
    story = ("the", rng.choice(AGES), pair[0], rng.choice(deeds), "the", rng.choice(AGES), pair[1])
    first = sentence(rng.choice(PHRASES), *story, "because", pronoun, reason)
    return (first, sentence("the", pair[meant if right else 1 - meant], reason)), int(right)
