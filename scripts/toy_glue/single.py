"""The tasks of one sentence: CoLA and SST-2."""

from toy_glue.words import chance, other, sentence

# ---- CoLA ----

ANIMALS = "dog cat horse bird duck goat bear rabbit tiger robot".split()
VERBS = "sleep run sing wait smile dance swim jump eat".split()
REFLEXIVE_VERBS = "see help follow like".split()
ADJECTIVES = "old young small happy brown hungry quiet clever".split()
SINGULAR = "this that every each".split()
PLURAL = "these those many several".split()
MODALS = "can will must should".split()
SPOTS = ["by the river", "behind the house", "in the garden", "on the hill", "under the tree", "at the lake"]
TIMES = ["every day", "at night", "in summer", "after lunch", "before dinner", "on Sundays"]


def cola(rng):
    """Acceptable (1) unless one rule is broken: number of determiner, verb or reflexive; word order; modal and stem."""
    acceptable = chance(rng, 0.55)
    rule = rng.choice(("determiner", "verb", "reflexive", "order", "modal"))
    broken = None if acceptable else rule
    plural = chance(rng, 0.5)
    noun = rng.choice(ANIMALS) + ("s" if plural else "")
    determiner = rng.choice(PLURAL if plural != (broken == "determiner") else SINGULAR)
    if rule != "determiner" and chance(rng, 0.4):
        determiner = "the"
    adjective = rng.choice(ADJECTIVES) if rule == "order" or chance(rng, 0.4) else ""
    verb = rng.choice(REFLEXIVE_VERBS if rule == "reflexive" else VERBS)
    if rule == "modal":
        verb = rng.choice(MODALS) + " " + verb + ("s" if broken else "")
    elif plural == (broken == "verb"):
        verb += "s"
    if rule == "reflexive":
        verb += " themselves" if plural != (broken == "reflexive") else " itself"
    subject = (noun, adjective) if broken == "order" else (adjective, noun)
    # A second noun between subject and verb; its number must not matter.
    beside = f"near the {rng.choice(ANIMALS)}{rng.choice(('', 's'))}" if chance(rng, 0.25) else ""
    spot = rng.choice(SPOTS) if chance(rng, 0.5) else ""
    time = rng.choice(TIMES) if chance(rng, 0.5) else ""
    return (sentence(determiner, *subject, beside, verb, spot, time),), int(acceptable)


# ---- SST-2 ----

GOOD = "wonderful charming funny brilliant moving fresh clever lovely gripping superb warm elegant".split()
BAD = "dull tedious clumsy boring shallow awful stale silly lifeless weak messy bland".split()
FILM_PARTS = ["film", "story", "plot", "acting", "script", "music", "ending", "dialogue", "cast", "camera work"]
DEGREES = ["very", "quite", "really", "rather", "truly", "simply", "", "", ""]
DENIALS = ["not", "never", "hardly", "far from"]
ASIDES = ["to be fair ,", "as it happens ,", "for me ,", "in short ,", "", "", ""]


def sst2(rng):
    """Positive (1) if the main clause is: a denial reverses a word, a clause with "although" does not count."""
    good = chance(rng, 0.53)
    part = rng.choice(FILM_PARTS)
    main = f"{rng.choice(('the', 'this', 'its'))} {part} is {_judgement(rng, good)}"
    form = rng.randrange(5)
    if form == 0:
        main += f" and {_judgement(rng, good)}"
    elif form < 3:
        clause = f"although the {other(rng, FILM_PARTS, part)} is {_judgement(rng, not good)}"
        main = f"{clause} , {main}" if form == 1 else f"{main} , {clause}"
    elif form == 3:
        main = f"{rng.choice(GOOD if good else BAD)} from start to finish , and {main}"
    # The official sentences are lower-case, with spaces around punctuation and after the end.
    return (f"{rng.choice(ASIDES)} {main} . ".lstrip(),), int(good)


def _judgement(rng, good):
    if chance(rng, 0.3):
        return f"{rng.choice(DENIALS)} {rng.choice(BAD if good else GOOD)}"
    return f"{rng.choice(DEGREES)} {rng.choice(GOOD if good else BAD)}".strip()
