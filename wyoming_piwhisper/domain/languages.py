"""Which language an utterance is transcribed in."""

from collections.abc import Iterable


def choose_language(asked: str | None, fallback: str, supported: Iterable[str]) -> str | None:
    """Pick the language of an utterance from `supported` (BCP 47 codes).

    The client's wish comes first, then `fallback` from the settings; `en-GB` finds `en` where only that is supported.
    None, the model's own choice, where neither is supported: a person who spoke gets an answer, not an error.
    """
    by_lower_case = {code.lower(): code for code in supported}
    for wish in (asked, fallback):
        if wish:
            exact = wish.replace("_", "-").lower()
            for candidate in (exact, exact.partition("-")[0]):
                if candidate in by_lower_case:
                    return by_lower_case[candidate]
    return None
