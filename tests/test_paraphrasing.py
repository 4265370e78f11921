"""Paraphrases state what the text states, vary in all else, and are read back."""

import re
from itertools import product
from string import Formatter

import numpy as np
import pytest
from masks import blobs

from tevia_hf.prompts import (
    BRAIN,
    BREAST,
    FREE_TEXT,
    LANGUAGES,
    NUCLEI,
    QATA,
    REGIONS,
    Area,
    language_of,
    qata_text,
    stated_facts,
)
from tevia_hf.prompts.paraphrasing import corrected, lung_phrases, typos_of, with_typo
from tevia_hf.prompts.report_language import known_typos
from tevia_hf.prompts.wordings import WORDINGS

EMPTY = [language.empty for language in LANGUAGES.values()]
MIXED = qata_text([Area("left", ("upper", "lower")), Area("right", ("middle",))], 4)


def texts_of(name: str, seed: int) -> list[str]:
    """A text of a random mask, with and without a finding, in two cases."""
    language, mask = LANGUAGES[name], blobs(seed)
    return [language.describe(mask, finding="benign"), language.describe(mask).lower()]


def paraphrased(text: str, seed: int, table: str = "training") -> str:
    return language_of(text).paraphrase(text, seed, table)


def facts_of(text: str) -> dict[str, str]:
    values = next(values for language in LANGUAGES.values() if (values := language.read(text)) is not None)
    return {name: value for name, value in values.items() if value and name != "s"}


@pytest.mark.parametrize("templates", WORDINGS)
@pytest.mark.parametrize("name", LANGUAGES)
def test_a_paraphrase_states_every_fact_of_its_text_and_no_other(name, templates):
    for seed in range(300):
        for text in texts_of(name, seed % 25):
            written = paraphrased(text, seed, templates)
            facts, read = facts_of(text), stated_facts(written)
            assert read is not None, written
            assert {"laterality": facts.get("laterality"), **read} == {"laterality": None, **facts}, written


@pytest.mark.parametrize("templates", WORDINGS)
def test_every_part_of_the_lungs_is_named_and_read_in_every_wording(templates):
    subsets = [regions for bits in range(1, 8) if (regions := tuple(r for i, r in enumerate(REGIONS) if bits >> i & 1))]
    areas = [[Area(side, regions)] for side in ("left", "right") for regions in subsets]
    areas += [[Area("left", a), Area("right", b)] for a, b in product(subsets, subsets)]
    for given in areas:
        text = qata_text(given)
        for seed in range(25):
            written = paraphrased(text, seed, templates)
            assert (stated_facts(written) or {}).get("lungs") == facts_of(text)["lungs"], written


@pytest.mark.parametrize("templates", WORDINGS)
@pytest.mark.parametrize("text", EMPTY)
def test_that_nothing_is_there_stays_so(text, templates):
    written = {paraphrased(text, seed, templates) for seed in range(50)}
    assert len(written) > 5 and all(stated_facts(each) == {} for each in written)


def test_a_seed_gives_one_text_and_seeds_give_many():
    assert paraphrased(MIXED, 7) == paraphrased(MIXED, 7) == paraphrased(MIXED, np.random.default_rng(7))
    assert len({paraphrased(MIXED, seed) for seed in range(100)}) > 80


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello world",
        "A nodule in the left lung.",
        "Unilateral pulmonary infection, two infected areas, upper left lung and lower right lung.",  # not so
        "Unilateral pulmonary infection, one infected area, lower upper left lung.",
    ],
)
def test_what_no_language_reads_comes_back_as_it_is(text):
    assert {paraphrased(text, seed) for seed in range(5)} == {text}


@pytest.mark.parametrize("text", ["hello world", "There are two opacities.", "opacity in the left lung", ""])
def test_what_nobody_wrote_in_this_way_is_not_read(text):
    assert stated_facts(text) is None


@pytest.mark.parametrize("language", [QATA, BREAST, NUCLEI, BRAIN])
def test_a_text_of_the_language_itself_is_read_as_well(language):
    text = language.describe(blobs(3))
    assert stated_facts(text) == facts_of(text) and stated_facts(language.empty) == {}


def test_sides_are_those_of_the_image_and_a_left_middle_lobe_is_not_invented():
    left, right = (qata_text([Area(side, ("middle",))]) for side in ("left", "right"))
    written = {side: [paraphrased(text, seed) for seed in range(300)] for side, text in (("L", left), ("R", right))}
    assert any("RML" in each for each in written["R"]) and not any("LML" in each for each in written["L"])
    assert not any(re.search(r"\bright\b|\bR", each) for each in written["L"] if not each.isupper())


@pytest.mark.parametrize(
    ("templates", "form"),
    [
        ("training", "LUL"),
        ("training", "bibasal"),
        ("training", "bilat."),
        ("training", "There are 2 "),
        ("evaluation", "bibasilar"),
        ("evaluation", "throughout the two lungs"),
        ("evaluation", "a pair of"),
    ],
)
def test_paraphrases_have_abbreviations_digits_and_whole_sentences(templates, form):
    alike = [qata_text([Area(side, regions) for side in ("left", "right")]) for regions in (("lower",), REGIONS)]
    texts = [*alike, qata_text([Area("left", ("upper",))])]
    assert any(form in paraphrased(text, seed, templates) for text in texts for seed in range(300))


def test_nuclei_are_compared_by_the_area_that_they_cover_and_no_cause_is_added_to_an_infection():
    texts = ["The nuclei are sparsely distributed.", "The nuclei density in the upper left is high.", MIXED]
    pairs = product(texts, WORDINGS, range(200))
    written = " ".join(paraphrased(text, seed, templates) for text, templates, seed in pairs).lower()
    assert not re.search(r"few nuclei|most nuclei|covid|viral", written)


def test_a_count_always_precedes_its_noun_and_a_place_its_verb():
    texts = [qata_text([Area(side, REGIONS) for side in sides]) for sides in (["left"], ["left", "right"])]
    texts += [qata_text([Area("left", ("lower",))]), *texts_of("breast", 1), *texts_of("breast", 2)]
    written = [paraphrased(text, seed, name).lower() for text in texts for name in WORDINGS for seed in range(200)]
    assert not [text for text in written if re.search(r"pair of\W*[.;,]|solitary[.;,]|number a|located|^of ", text)]


def test_a_count_in_digits_is_read_as_its_word():
    text = "Unilateral pulmonary infection, 1 infected area, lower left lung."
    assert facts_of(text)["count_word"] == "one"
    written = {paraphrased(text, seed, "training").lower() for seed in range(100)}
    assert not [each for each in written if re.search("opacities|foci|areas|lesions", each)]


def test_case_and_full_stop_vary():
    written = [paraphrased(MIXED, seed) for seed in range(100)]
    assert any(each.isupper() for each in written) and any(each.islower() for each in written)
    assert 10 < sum(each.endswith(".") for each in written) < 90


def test_no_text_but_for_its_facts_is_written_for_training_and_for_evaluation():
    training, evaluation = (frames(name) for name in ("training", "evaluation"))
    assert len(training) > 100 < len(evaluation) and not training & evaluation
    for part in ("asides", "place", "lungs"):
        own, other = (set(words_of(WORDINGS[name], part)) for name in ("training", "evaluation"))
        assert own and other and not own & other


def frames(table: str) -> set[str]:
    """All texts of a table with their facts masked out, in lower case."""
    found = set()
    for templates, empty in (getattr(language, table) for language in LANGUAGES.values()):
        found |= {text.lower().removesuffix(".") for text in empty}
        for parsed in map(Formatter().parse, templates):
            parts = [[literal + form for form in forms_of(WORDINGS[table], name)] for literal, name, _, _ in parsed]
            found |= {"".join(choice).lower() for choice in product(*parts)}
    return found


def forms_of(table, name: str | None) -> list[str]:
    words = table.free_words.get(name, ["*"] if name else [""])
    return [form for word in words for form in word.split("|")]


def words_of(table, part: str):
    own = {"asides": table.asides, "place": table.place.values(), "lungs": lung_phrases(table)}
    return own[part]


def test_no_two_facts_are_written_alike():
    for table in WORDINGS.values():
        for values in [*table.values.values(), {place: [words] for place, words in table.place.items()}]:
            wordings = [wording.lower() for words in values.values() for wording in words]
            assert len(set(wordings)) == len(wordings)
        for phrase, areas in lung_phrases(table).items():
            same = [other for other in WORDINGS.values() if lung_phrases(other).get(phrase, areas) != areas]
            assert not same, phrase


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_words_of_paraphrases_are_known_beforehand(name):
    text = LANGUAGES[name].describe(blobs(1))
    known = language_of(text).paraphrase_words() | set(re.findall("[a-z]+", text.lower()))
    written = corrected(" ".join(paraphrased(text, seed) for seed in range(100)).lower(), known_typos())
    assert set(re.findall("[a-z]+", written)) <= known
    assert FREE_TEXT.paraphrase_words() == set()


def test_typos_are_corrected_and_spare_words_with_facts():
    typos = typos_of({"pneumonia", "opacity", "form", "infiltrate", "infiltrates"})
    assert typos["penumonia"] == typos["pneuumonia"] == typos["pneumona"] == "pneumonia"
    assert "infiltrate" not in typos and not any(word == "form" for word in typos.values())
    written = {with_typo("Pneumonia of a form", typos, np.random.default_rng(seed)) for seed in range(50)}
    assert len(written) > 5 and {corrected(each.lower(), typos) for each in written} == {"pneumonia of a form"}
    assert with_typo("left lung", typos, np.random.default_rng(0)) == "left lung"


def test_no_typo_is_in_a_word_that_carries_a_fact():
    facts = {"left", "right", "upper", "middle", "lower", "bilateral", "unilateral", "solitary", "single", "thirteen"}
    assert len(known_typos()) > 500 and not facts & set(known_typos().values())
