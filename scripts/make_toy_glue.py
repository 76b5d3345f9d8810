"""Write small corpora of all nine GLUE tasks, in the official layout, from sentence templates, without a download.

    python scripts/make_toy_glue.py --output_dir DIR

The text determines each label, by the rule in the docstring of the task's function, so a small BERT can learn the tasks
from a random start. The scores show only that a program works; they say nothing about real language. Word frequencies
differ, as in real text. With equal frequencies, many rules about two sentences would leave no trace in a single sentence,
and a small random model would not start to learn.

The output folder also gets vocab.txt, a lower-case WordPiece vocabulary of all words in the templates and of single
characters. It is always the same.
"""

import fsd.cli.early_signals  # noqa: F401

import argparse
import random
import re
import string
from functools import partial
from pathlib import Path

from fsd.cli.arguments import add_seed_argument
from fsd.cli.parser import Parser, number
from fsd.glue import layout
from fsd.glue.layout import file_text
from fsd.system.errors import exit_on_input_error
from fsd.system.files import check_folder, write_text
from fsd.system.random_streams import stream_seed

# ---- Drawing words and joining them ----


def chance(rng, probability):
    return rng.random() < probability


def other(rng, words, word):
    """One of ``words`` that is not ``word``."""
    return rng.choice([candidate for candidate in words if candidate != word])


def common(rng, words):
    """One of ``words``, each half as often as the one before it."""
    return rng.choices(words, [0.5**rank for rank in range(len(words))])[0]


def sentence(*parts, tokenized=False):
    """The non-empty parts as a sentence with a capital and a full stop; ``tokenized`` keeps spaces before punctuation."""
    text = " ".join(part for part in parts if part)
    text = text[0].upper() + text[1:]
    return f"{text} ." if tokenized else text.replace(" ,", ",") + "."


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


# ---- The official layout ----

MAKERS = {
    "CoLA": cola,
    "SST-2": sst2,
    "MRPC": mrpc,
    "STS-B": stsb,
    "QQP": qqp,
    "MNLI": mnli,
    "QNLI": qnli,
    "RTE": rte,
    "WNLI": wnli,
}
SPLITS = {"MNLI": ("dev_matched", "dev_mismatched", "test_matched", "test_mismatched", "AX", "train")}


def cells(task, index, texts, label, genre):
    """{column name: value} of one row, for the columns of all the task's files."""
    first, second = texts[0], texts[-1]
    texts = {"sentence": second, "sentence1": first, "sentence2": second, "question": first}
    texts |= {"question1": first, "question2": second, "#1 String": first, "#2 String": second}
    labels = dict.fromkeys(("label", "Quality", "is_duplicate", "gold_label"), label)
    labels |= {f"label{annotator}": label for annotator in range(1, 6)}
    if task == "CoLA":
        labels["mark"] = "" if label else "*"
    if task == "STS-B":
        labels["score"] = f"{label:.3f}"
    numbers = dict.fromkeys(("index", "id", "promptID", "pairID"), index)
    numbers |= dict.fromkeys(("#1 ID", "qid1"), 2 * index + 1) | dict.fromkeys(("#2 ID", "qid2"), 2 * index + 2)
    constants = dict.fromkeys(layout.PARSES.split(","), "na") | {"source": "toy", "genre": genre, "filename": "toy"}
    constants |= {"year": "2022", "old_index": f"{index:04d}", "source1": "none", "source2": "none"}
    return texts | labels | numbers | constants


def split_text(task, split, rows):
    """The text of one split's file, with the oddities of the official one (no header, byte-order mark, no final newline)."""
    genre = "toy" if task != "MNLI" else "radio" if "mismatched" in split else "letters"
    text = file_text(task, split, [cells(task, index, texts, label, genre) for index, (texts, label) in enumerate(rows)])
    mark = "\ufeff" if task == "MRPC" and split != "test" else ""
    return mark + (text.removesuffix("\n") if (task, split) == ("CoLA", "dev") else text)


def distinct_rows(maker, rng, count, seen):
    """``count`` rows (texts, label). The texts of a row differ, and are new to ``seen``, which gets them."""
    rows = []
    while len(rows) < count:
        texts, label = maker(rng)
        if texts not in seen and len(set(texts)) == len(texts):
            seen.add(texts)
            rows.append((texts, label))
    return rows


def make_task(task, sizes, seed):
    """Yield (split, rows) without repeated texts. Train comes last, so that its size does not change the other splits."""
    rng, seen = random.Random(stream_seed(seed, f"toy {task}")), set()
    for split in SPLITS.get(task, ("dev", "test", "train")):
        maker = partial(mnli, genre="radio") if "mismatched" in split else MAKERS[task]
        size = sizes["test_rows" if split == "AX" else f"{split.split('_')[0]}_rows"]
        yield split, distinct_rows(maker, rng, size, seen)


def words(text):
    """Split ASCII ``text`` as BERT's basic tokenizer does: lower-case words and single punctuation characters."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def vocabulary():
    """The tokens of vocab.txt: special tokens, characters, their ## variants, and all words in the templates."""
    rng, known = random.Random(0), set()
    for maker in (*MAKERS.values(), partial(mnli, genre="radio")):
        for _ in range(4000):  # enough: each word occurs more than once in 500 rows
            known.update(word for text in maker(rng)[0] for word in words(text))
    characters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return special + characters + [f"##{character}" for character in characters] + sorted(known - set(characters))


# ---- The command line ----


def task_name(name):
    """The folder name of a task; case and hyphens do not matter."""
    for task in MAKERS:
        if name.lower().replace("-", "") == task.lower().replace("-", ""):
            return task
    raise argparse.ArgumentTypeError(f"unknown task {name!r}; one or more of {' '.join(MAKERS)}")


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="folder for the tasks' folders and vocab.txt; created if missing. Replaces these files and "
        "changes no others",
    )
    parser.add_argument("--tasks", nargs="+", type=task_name, default=list(MAKERS), help="tasks to write; MNLI includes AX")
    parser.add_argument("--train_rows", type=number(int, 1, 2000), default=2000, help="rows of each train split")
    parser.add_argument("--dev_rows", type=number(int, 1, 1000), default=300, help="rows of each dev split")
    parser.add_argument("--test_rows", type=number(int, 1, 1000), default=100, help="rows of each test split and AX")
    add_seed_argument(parser)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    check_folder(arguments.output_dir, f"--output_dir {arguments.output_dir}")
    sizes = {name: value for name, value in vars(arguments).items() if name.endswith("_rows")}
    for task in arguments.tasks:
        for split, rows in make_task(task, sizes, arguments.seed):
            path = Path("AX", "AX.tsv") if split == "AX" else Path(task, f"{split}.tsv")
            write_text(arguments.output_dir / path, split_text(task, split, rows))
    pieces = vocabulary()
    write_text(arguments.output_dir / "vocab.txt", "\n".join(pieces) + "\n")
    print(f"{arguments.output_dir}: {', '.join(arguments.tasks)}; vocab.txt of {len(pieces)} pieces")


if __name__ == "__main__":
    exit_on_input_error(main)
