"""Detection of texts with a side, direction or clock position that cannot be rewritten after a flip.

Augmentation, training and `check-data` share this rule. It prefers false alarms, which cost a flip, to wrong texts.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from tevia_hf.prompts.fields import FIELDS
from tevia_hf.prompts.lesions import Lesions
from tevia_hf.prompts.rewriting import AXES, Axis, without_known_sides

MOVING_FIELDS = ("count", "lungs", "place", "size")
LEAST_WORDS = 4  # from which a text without any English word is treated as another language
_HOUR = r"(?:1[0-2]|0?[1-9])"

# Of either axis; searched in the text without the words that `flip_text` rewrites.
_POSITIONS = (
    r"clock",  # "2/3 o'clock", "clockwise"
    rf"\b{_HOUR}:[0-5]\d\b",
    rf"\b{_HOUR}\s?(?:h|hrs?|uhr|heures?|horas?|ore|uur)\b",
    r"\d\s?(?:°|degrees?\b|deg\b)(?!\s?[CF]\b)",
    r"\b[xy]\s?[=:]\s?-?[\d.]",
    r"[(\[]\s?\d+(?:\.\d+)?\s?[,;]\s?\d+(?:\.\d+)?\s?(?:[,;]\s?\d+(?:\.\d+)?\s?)*[)\]]",
    r"\b(?:bbox|bounding box|coordinates?)\b",
)
_ENGLISH_SIDES = {
    "horizontal": (
        r"(?<![a-z])(?:left(?!over)|right(?!eous|ful|ly\b))",  # "leftLung", "left1"
        r"(?<![^\W_])(?:l(?!-spine|-dopa)|r(?!/o))(?![^\W_])",  # "L > R", "L breast"; "r/o" is "rule out"
        r"\b(?:lft|lef|letf|lefft|leeft|leftt|lfet|rgt|rgth|rght|rigt|righ|rigth|rihgt|riht|rigght|rightt)\b",
        r"\b(?:lhs|rhs|lts|rts)\b",
        r"\b(?:sinist(?:er|r)|dexter|dextr(?:al|o(?!se|meth))|la?evo(?:\b|scol|card|rot|pos))",
        r"\b(?:dxt?|sx|sin|dext)\b",
        r"\b(?:od|os|ou)\b",
        r"\b[lr](?:v|a|vh|vot|aa|bbb|ad|ca|cx|mca|ica|cca|ue|le|so|if|ao|po|mlo|upper|lower)\b",
        r"\blcc\b|\brcc\b(?=.*\b(?:view|mammo|breast))",
        r"\b[ul][oi]q\b",
        r"\b(?:ipsi|contra|homo)lateral",
        r"\b(?:heart|cardiac|liver|hepatic|gastric|stomach|spleen|splenic)[- ]side",
        r"\b(?:(?:north|south)-?)?(?:east|west)(?:ern|wards?|erly)?\b",
        "[←→↔↖↗↘↙⇐⇒⬅➡]",
    ),
    "vertical": (
        r"(?<![a-z])(?:upper|lower|top(?![a-z])|bottom|superior|inferior)",
        r"\b(?:uper|uppre|upperr|lowr|loewr|lwoer)\b",
        r"\b(?:above|below|beneath|underneath|downwards?|upwards?|down|highest|lowest)\b",
        r"(?<![-\w])(?<!follow )up\b(?! to)(?!-)",
        r"\b(?:cranial|caudal|cephal|caudad|rostral|apical|basal|basilar|bibas|biapical|apex|apices|bases?\b)",
        r"\b(?:supra|infra(?!red))",
        r"\b(?:antero|postero)?(?:anterior|posterior|ventral|dorsal)",
        r"\b[ul][oi]q\b",
        r"\b(?:north|south)(?:-?(?:east|west))?(?:ern|wards?|erly)?\b",
        "[↑↓↕↖↗↘↙⇑⇓⬆⬇]",
    ),
}
_FOREIGN_SIDES = (
    r"link(?:e[nmrs]?|s)\b|linkss?\w+|linker\w*|recht(?:e[nmrs]?|er|s)?\b|rechtss?\w+|rechter\w*",  # German, Dutch
    r"regter\w*|venstre\w*|h[oø]yre\w*|højre\w*|v[aä]nster\w*|h[oö]ger\w*|vinstr\w*",  # Afrikaans, Nordic
    r"izq\w*|izd[ao]\b|derech\w*|dch[ao]\b|esquerd\w*|direit\w*|dereit\w*|esquerr\w*|dret[as]?\b",  # Iberian
    r"sinistr\w*|destr[aoie]\b|gauches?\b|droite?s?\b|st[aâ]ng\w*|drea?pt\w*|dekstr\w*|maldekstr\w*",  # Italian, French
    r"lew(?:y(?! bod)|[aeo]|ego|ej|ym|ą|ostron\w*)\b|praw(?:[yaeo]|ego|ej|ym|ą|ostron\w*)\b",  # Polish
    r"lev(?:[yaeoi]|ou|em|eho|ej|ym|ostran\w*)\b|prav(?:[yaeoi]|ou|em|eho|ej|ym|ostran\w*)\b|lijev\w*|desn[aioeu]\w*",
    r"sol(?:da|daki|unda|undaki)?\b|sa[gğ](?:da|daki|inda|ında|lı)\b|sağ\w*|sag akci\w*",  # Turkish
    r"bal oldal\w*|jobb\w*|vasem\w*|vasen\w*|oike\w*|vasak\w*|kair[eė]\w*|de[sš]in\w*",  # Hungarian, Finnic, Lithuanian
    r"kiri\b|kanan\b|kaliwa\b|kushoto\b|kulia\b|ezker\w*|eskuin\w*|djatht\w*|majt\w*|chwith\b|phai\b|trai\b",
    r"oben\b|unten\b|ober(?:e[nmrs]?\b|lapp|feld|halb)\w*|unter(?:e[nmrs]?\b|lapp|feld|halb)\w*|mittellapp\w*",
    r"arriba\b|abajo\b|acima\b|abaixo\b|sup[eé]rieure?s?\b|inf[eé]rieure?s?\b|superiores\b|inferiores\b|onder\w*|boven\w*",
)
# Words of other languages and words that only English has: the more frequent kind decides the language of a text.
_FOREIGN_WORDS = set(
    """
    der das dem den des ein eine einen einem einer eines im am zum zur und oder mit ohne nicht ist sind auf aus bei vom
    von nach kein keine keinen beide beiden beidseits die el la los las en del y con sin un una unos por para que ambos
    le les du et dans une avec sans au aux est sur pas il lo gli di nel nella nei della dello senza uno ed alla os um
    uma ao dos das nos nas com sem het een van met zonder op bij niet og och med på av af til till ikke inte det som
    oraz bez jest nie przy przez ve ile bir icin var yok este fara si cu dan yang dengan pada tidak ada kedua ja ei az
    egy nem cum et sine lungen lungenherd lunge pulmones pulmonar pulmonares pulmonaire pulmonaires pulmao poumon
    poumons polmone polmoni polmonare polmonari lobulo lobo infiltrado infiltrato infiltrat infiltraat nodulo nodulos
    noduli tumore tumeur tumeurs tumorale masa massa opacite opacites opacidad opacita lesione lesioni lesao lesiones
    herd leber niere brust mama sein foie paru akciger pluca pluco plice plic
    """.split()
)
_ENGLISH_WORDS = set(
    """
    the of and is are was were be been with without there this that these those on at by from to for has have its which
    within into or not seen shows show showing both each single one two three four five six several many few all whole
    left right upper lower middle mid top bottom side sided lung lungs breast brain liver kidney heart chest skin bone
    tumour lesions mass masses infected round shaped shape scan tissue cell cells benign malignant small mild moderate
    severe node nodes opacities tumors findings view disease scattered stroke bleed fluid shadow white black dark
    bright thick thin wall effusion effusions ray ultrasound follow up months weeks years
    """.split()
)
_ENGLISH_ENDING = re.compile(r"\w{3,}(?:y|ing|ed|ous|ness|ght|ck|th|sh|less|like)")
_LATIN_ENDING = re.compile(r"\w{2,}(?:tions?|ic|oid|al|omas?|osis|itis|asis|ense|ive|ia)")  # also of English words

_UNKNOWN = {axis: re.compile("|".join((*_POSITIONS, *_ENGLISH_SIDES[axis])), re.IGNORECASE) for axis in AXES}
_FOREIGN = re.compile(rf"(?<![^\W_])(?:{'|'.join(_FOREIGN_SIDES)})", re.IGNORECASE)
_INNER_SIDE = re.compile(r"(?<=[a-z])(?:Left|Right|Upper|Lower|Top|Bottom|Superior|Inferior)(?![a-z])")  # "lungLeft"
_GREEK_SYMBOL = re.compile(r"(?<![^\W\d_])[Α-Ωα-ω](?![^\W\d_])|μ(?=[a-zA-Z])")  # "β-catenin", "5 μm"
_WORD = re.compile(r"[^\W\d_]+")


def may_hold_unknown_side(text: str | None, axis: Axis = "horizontal") -> bool:
    """Whether a text may contain a side, direction or clock position that `flip_text` does not rewrite on this axis.

    True for any text in another language than English. Words that a flip does not change ("medial", "bilateral") and
    organs on one side of the body ("heart") are not sides.
    """
    text = text or ""
    if is_foreign(text) or _FOREIGN.search(_normalized(text)):
        return True
    rest = _normalized(
        without_known_sides(text, axis)
    )  # normalized after that, as a full-width "Left" is not rewritten
    return bool(_UNKNOWN[axis].search(rest) or _INNER_SIDE.search(rest))


def is_foreign(text: str) -> bool:
    """Whether a text is not in Latin script, or is more likely in another language than in English."""
    plain = _GREEK_SYMBOL.sub("", _normalized(text))
    if not all(unicodedata.name(letter, "").startswith("LATIN") for letter in filter(str.isalpha, plain)):
        return True
    words = [word for word in _WORD.findall(plain.lower()) if len(word) > 1 or word == "y"]
    foreign = sum(word in _FOREIGN_WORDS or not word.isascii() for word in words)
    english = sum(word in _ENGLISH_WORDS or bool(_ENGLISH_ENDING.fullmatch(word)) for word in words)
    is_unknown = not english and len(words) >= LEAST_WORDS and not any(map(_LATIN_ENDING.fullmatch, words))
    return foreign > english or is_unknown


def is_moved(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether number, size or place of the lesions differ between two masks (height, width)."""
    old, new = Lesions(before), Lesions(after)
    if not (old.count and new.count):
        return old.count != new.count
    return any(FIELDS[name].value(old) != FIELDS[name].value(new) for name in MOVING_FIELDS)


def unknown_sides_warning(texts: Iterable[str | None], axes: Sequence[Axis] = AXES[:1]) -> str | None:
    """A warning with the number of texts that may hold an unknown side on one of the axes; None without such texts.

    Empty texts are ignored.
    """
    texts = [text for text in texts if text and text.strip()]
    unknown = {text for text in set(texts) if any(may_hold_unknown_side(text, axis) for axis in axes)}
    if not unknown:
        return None
    count = sum(text in unknown for text in texts)
    example = next(text for text in texts if text in unknown)
    return (
        f"{count} of {len(texts)} texts may name a side (left, right) that a flip cannot swap, e.g. {example!r}: their "
        "images are not flipped. To flip them, write sides in English as left and right (upper and lower)"
    )


def _normalized(text: str) -> str:
    """The text in normalization form NFKC without invisible characters, such as soft hyphens."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) != "Cf")
