"""What a check says about a value: the end of a sentence that begins with the key, and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class Wrong(ValueError):
    """A value cannot be used.

    `what` completes "payments.paid …" and never repeats a value that may be secret; `other` is the key that is to be
    blamed where the key itself was left at its default, dotted where it is of another section; `below` leads from the
    key on to the item that is wrong.
    """

    def __init__(self, what: str, remedy: str = "", *, other: str = "", below: tuple[str | int, ...] = ()) -> None:
        """Keep the sentence's end, what to write instead, the other key involved, and the way to the item."""
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.other = other
        self.below = below


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names the known word nearest to `name`, or nothing if none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""
