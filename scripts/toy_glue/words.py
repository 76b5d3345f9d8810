"""Drawing words, and joining them to sentences."""


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
