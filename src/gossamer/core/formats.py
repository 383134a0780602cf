"""Numbers and names as a reader wants them."""

import difflib
from collections.abc import Iterable
from contextlib import suppress
from numbers import Real

NOTHING = "–"
"""Stands where there is no number."""


def decimal(value: float, digits: int, *, signed: bool = False) -> str:
    """Return a number with a true minus sign, and never a negative zero.

    Examples
    --------
    >>> decimal(-1.25, 1), decimal(-0.001, 2), decimal(1.5, 2, signed=True)
    ('−1.2', '0.00', '+1.50')
    """
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def percent(fraction: float, digits: int = 2) -> str:
    """Return a fraction in percent, without the sign; 100 and 0 only if they are exact.

    Examples
    --------
    >>> percent(0.9709), percent(0.999999), percent(1.0), percent(0.00001, 1)
    ('97.09', '>99.99', '100.00', '<0.1')
    """
    text = decimal(100 * fraction, digits)
    if fraction < 1 and float(text.replace("−", "-")) >= 100:
        return f">{100 - 10**-digits:.{digits}f}"
    if fraction > 0 and float(text.replace("−", "-")) == 0:
        return f"<{10**-digits:.{digits}f}"
    return text


def compact(value: float, unit: str = "") -> str:
    """Return a count in thousands, millions or milliards, three digits of it.

    Examples
    --------
    >>> compact(2386000), compact(23860), compact(999), compact(9544000, "B")
    ('2.39 M', '23.9 k', '999', '9.54 MB')
    """
    scale, prefix = 1.0, ""
    for power, name in ((1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")):
        if value >= 0.9995 * power:
            scale, prefix = power, name
    number = value / scale
    digits = 0 if not prefix or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {prefix}{unit}".strip()


def percentage(given: object) -> str:
    """Say what a percentage is as a fraction, where a number from 0 to 1 was expected.

    Examples
    --------
    >>> percentage(90), percentage("80 %"), percentage(-0.5)
    (': 90% is 0.9', ': 80% is 0.8', '')
    """
    percent = 0.0
    if isinstance(given, str) and given.rstrip().endswith("%"):
        with suppress(ValueError):
            percent = float(given.rstrip().rstrip("%"))
    elif isinstance(given, Real) and not isinstance(given, bool) and float(given) > 1:
        percent = float(given)
    return f": {percent:g}% is {percent / 100:g}" if 0 < percent <= 100 else ""


def likeliest(given: str, known: Iterable[str]) -> str | None:
    """Return the name that is most like a misspelt one, whatever its case; None if none is.

    Examples
    --------
    >>> likeliest("wieght", ["dense", "weight"]), likeliest("zebra", ["dense"])
    ('weight', None)
    >>> likeliest("N_by_M", ["n-by-m", "block"])
    'n-by-m'
    """
    plain = {_plain(name): name for name in sorted(known)}
    nearest = difflib.get_close_matches(_plain(given), plain, n=1)
    return plain[nearest[0]] if nearest else None


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-").replace(" ", "-")


def duration(seconds: float) -> str:
    """Return a time in the two units that matter.

    Examples
    --------
    >>> duration(0.01), duration(0.21), duration(12.34), duration(75), duration(7320)
    ('<0.1 s', '0.2 s', '12 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 0.05:
        return "<0.1 s"
    if seconds < 59.5:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural.

    Examples
    --------
    >>> counted(1, "process"), counted(2, "process"), counted(1200, "trial")
    ('1 process', '2 processes', '1,200 trials')
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def epochs_in_words(epochs: float) -> str:
    """Return a number of epochs, which may be a part of one.

    Examples
    --------
    >>> epochs_in_words(1), epochs_in_words(12.0), epochs_in_words(0.125)
    ('1 epoch', '12 epochs', '0.12 epochs')
    """
    return (
        "1 epoch"
        if epochs == 1
        else f"{epochs:.3g} epochs"
        if epochs > 1
        else f"{epochs:.2g} epochs"
    )


def listed(items: list[str]) -> str:
    """Return items as an enumeration.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def sentence(text: str) -> str:
    """Return a text with a capital letter at its start, behind a quotation mark if there is one.

    Examples
    --------
    >>> sentence("weight pruning"), sentence("“pruned, trained on”"), sentence("")
    ('Weight pruning', '“Pruned, trained on”', '')
    """
    start = 2 if text.startswith("“") else 1
    return text[:start].upper() + text[start:]


def inside(label: str) -> str:
    """Return a label as it stands inside a sentence; what looks like a name keeps its capital.

    Examples
    --------
    >>> inside("Weight pruning"), inside("ERK"), inside("Erdos-Renyi")
    ('weight pruning', 'ERK', 'Erdos-Renyi')
    >>> inside("Pruning, then training"), inside("Fashion: dense")
    ('“pruning, then training”', 'Fashion: dense')
    """
    word = label.split(" ")[0]
    is_name = not word[1:].islower() or word.endswith(":")
    text = label if is_name else label[:1].lower() + label[1:]
    return f"“{text}”" if "," in text else text
