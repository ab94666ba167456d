"""What is asked and answered by a search for a name."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from math import prod

from events.errors import UsageError

# PostgreSQL's indexes of names take no longer ones, so nothing is called so.
LONGEST_BYTES = 2_700
# Of a name that more have, these are the first.
MOST = 100
# All of a name of twelve letters; each is looked up in an index.
MOST_SPELLINGS = 4_096
MOST_LETTERS = 100_000


@dataclass(frozen=True, slots=True)
class Named:
    """An entity that has the name. `matched`: `name`, or `alias` if only one of its aliases is it; `artist_credit` is
    None where its type has none."""

    mbid: str
    name: str
    comment: str
    artist_credit: str | None
    matched: str


@dataclass(frozen=True, slots=True)
class Names:
    """The first of those that have a name. `complete`: there are no more."""

    found: Sequence[Named]
    complete: bool


def normalised(entity_type: str, name: str) -> str:
    """The name as it is looked for, the same for all that find the same. Raises UsageError.

    Spaces within a name stay as they are: MusicBrainz has names with two together, and with wide ones. Case matters in
    URLs. Letters beyond ASCII keep theirs too: PostgreSQL folds some of them otherwise than Python.
    """
    if "\0" in name or any("\ud800" <= each <= "\udfff" for each in name):
        raise UsageError("A name is UTF-8 without NUL.")
    # As it was given: marks without end take the square of their number to be put in order, and all threads wait.
    if len(name.encode()) > LONGEST_BYTES:
        raise UsageError(f"No name has more than {LONGEST_BYTES:,} bytes.")
    text = unicodedata.normalize("NFC", name).strip()
    if not text:
        raise UsageError("A search needs a name.")
    return text.lower() if text.isascii() and entity_type != "url" else text


def spellings(name: str) -> tuple[list[str], bool]:
    """How a name may be spelt if case does not matter, and whether these are all: of more than MOST_SPELLINGS the usual
    ones. What a letter of them is in PostgreSQL is for it to say."""
    cases = [_cases(letter) for letter in name]
    number = prod(map(len, cases))
    if 0 < number <= MOST_SPELLINGS and number * len(name) <= MOST_LETTERS:
        return ["".join(each) for each in product(*cases)], True
    words = " ".join(word.capitalize() for word in name.split(" "))
    return list(dict.fromkeys([name, name.lower(), name.upper(), name.capitalize(), words])), False


def has_words(name: str) -> bool:
    """Whether an index of words has it: not if it is made of signs only."""
    return any(letter.isalnum() for letter in name)


def _cases(letter: str) -> str:
    """Of one letter; none if it is more than one letter in another case, as ß is."""
    lower, upper = letter.lower(), letter.upper()
    if len(lower) + len(upper) > 2:
        return ""
    # Both small ones of Greek are one capital.
    return "".join(dict.fromkeys([letter, lower, upper, *("σς" if upper == "Σ" else "")]))


def key(entity_type: str, name: str) -> str:
    """Of a normalised name in the cache."""
    return f"name:{entity_type}:{blake2b(name.encode(), digest_size=16).hexdigest()}"
