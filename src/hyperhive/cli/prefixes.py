"""Ids too long to type: the beginning of one stands for it as long as it is the only one that begins so."""

from collections.abc import Iterable

from hyperhive.core.errors import NotFoundError

# How many of several are named.
_NAMED = 4


def get_by_prefix(ids: Iterable[str], text: str, noun: str, hint: str) -> str:
    """The one of `ids` that is `text` or alone begins with it.

    `noun` is what they are, `hint` says where they are listed. Raises NotFoundError if it is none or could be several.
    """
    found = sorted({id_ for id_ in ids if id_.startswith(text)}) if text else []
    if text in found:
        return text
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFoundError(f"no {noun} begins with {text[:80]!r}", hint)
    width = max(len(text) + 4, 12)
    named = ", ".join(id_[:width] for id_ in found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
    raise NotFoundError(f"{len(found)} {noun}s begin with {text[:80]!r}: {named}", hint)
