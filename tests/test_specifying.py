"""Underspecified, overspecified and denying texts: the facts that they state are still known."""

import pytest
from masks import blobs

from tevia_hf.prompts import (
    FREE_TEXT,
    LANGUAGES,
    QATA,
    denies_lesion,
    language_of,
    stated_facts,
)

LUNGS = "Unilateral pulmonary infection, one infected area, lower left lung."
LOCATION = {"laterality", "lungs", "place", "density"}


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("seed", range(12))
def test_an_underspecified_text_states_less_and_nothing_else(name, seed):
    text = LANGUAGES[name].describe(blobs(seed), finding="benign")
    facts, left = stated_facts(text), stated_facts(language_of(text).underspecify(text, seed)) or {}
    assert left.items() < facts.items()
    assert not left.keys() & LOCATION or "count_word" not in left


def test_either_the_location_or_the_count_is_left_out():
    written = {language_of(LUNGS).underspecify(LUNGS, seed) for seed in range(20)}
    assert written == {
        "Pulmonary infection, one infected area.",
        "Unilateral pulmonary infection, lower left lung.",
    }
    assert QATA.underspecify(LUNGS.lower(), 0).islower()


def test_without_its_count_a_text_does_not_state_the_number():
    text = LANGUAGES["breast"].describe(blobs(1)).replace("One", "Two").replace("tumor ", "tumors ")
    written = {language_of(text).underspecify(text, seed) for seed in range(20)}
    assert any("tumor tissue at the" in each for each in written) and not any("lesion" in each for each in written)


def test_of_free_text_the_clauses_with_location_or_count_are_left_out():
    text = "Two nodules, at the left base, with calcification."
    written = {language_of(text).underspecify(text, seed) for seed in range(20)}
    assert written == {"at the left base, with calcification.", "Two nodules, with calcification."}
    for kept in ("Two nodules at the left base.", "hello world", "", QATA.empty):
        assert language_of(kept).underspecify(kept, 0) == kept


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("seed", range(12))
def test_an_overspecified_text_states_the_same_facts_in_more_words(name, seed):
    for text in (
        LANGUAGES[name].describe(blobs(seed)),
        LANGUAGES[name].describe(blobs(seed)).lower(),
        LANGUAGES[name].empty,
    ):
        longer = language_of(text).overspecify(text, seed)
        assert longer.startswith(text.removesuffix(".")) and longer.count(".") >= 3
        assert stated_facts(longer) == stated_facts(text)
        assert denies_lesion(longer) == denies_lesion(text)


def test_irrelevant_findings_are_added_to_free_text_but_not_to_none():
    assert FREE_TEXT.overspecify("A nodule", 0).startswith("A nodule. ")
    assert FREE_TEXT.overspecify("", 0) == FREE_TEXT.deny("", 0) == FREE_TEXT.underspecify("", 0) == ""


@pytest.mark.parametrize(
    "text", [*(language.describe(blobs(0)) for language in LANGUAGES.values()), "A nodule.", LUNGS]
)
def test_a_denial_has_several_wordings_which_are_known_as_such(text):
    denials = {language_of(text).deny(text, seed) for seed in range(30)}
    assert len(denials) >= 3 and all(map(denies_lesion, denials)) and not denies_lesion(text)


@pytest.mark.parametrize(
    ("text", "denies"),
    [
        ("Clear lungs.", True),
        ("Chest radiograph without infiltrates", True),
        ("No lesion is seen. The examination is complete. Image contrast is good.", True),
        ("There is a lesion in this image.", False),
        ("Normal film, one scar.", False),
        ("No tumor.", False),  # not a known text
        ("An oval mass without calcification in the upper part.", False),
        ("Heart size is normal. Right lower lobe opacity.", False),
        ("MRI: no tumor in the left part.", False),
        ("One lesion, no effusion.", False),
        ("No change can be judged. There is one opacity in the upper zone of the left lung.", False),
        ("", False),
    ],
)
def test_a_denial_is_a_fact_of_known_texts_alone(text, denies):
    assert denies_lesion(text) == denies


@pytest.mark.parametrize("text", ["MRI: no tumor in the left part.", "MRI displaying a no tumor in the left region."])
def test_a_denied_finding_is_not_read_as_a_class(text):
    assert stated_facts(text) is None
    assert (stated_facts("MRI: non-enhancing tumor in the left part.") or {})["finding"] == "non-enhancing"


@pytest.mark.parametrize("seed", range(40))
def test_a_paraphrase_that_begins_with_a_negative_aside_denies_nothing(seed):
    assert not any(denies_lesion(QATA.paraphrase(LUNGS, seed, table)) for table in ("training", "evaluation"))


@pytest.mark.parametrize("text", ["hello world", "", "MRI displaying a tumor.", "The image shows nuclei."])
def test_texts_without_known_facts_are_not_taken_for_denials(text):
    assert stated_facts(text) is None and not denies_lesion(text)
