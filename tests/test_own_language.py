"""A user-defined template is a language like the built-in ones: its texts stay correct and are never empty."""

import json

import datasets
import numpy as np
import pytest
from layouts import image_of, save
from masks import blobs

from tevia_hf import load_segmentation_dataset, register_dataset, write_prompts
from tevia_hf.data.augment import TextAwareAugmentation, augmented
from tevia_hf.data.folder import list_folder
from tevia_hf.data.origin import language_in, with_language
from tevia_hf.data.ready import ready_dataset
from tevia_hf.data.registry import SOURCES
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.evaluation.text_agreement import compare_with_text, text_scores
from tevia_hf.evaluation.text_conditions import chosen_texts, conditions_for, default_conditions
from tevia_hf.prompts import (
    FREE_TEXT,
    QATA,
    Phrasing,
    ReportLanguage,
    as_record,
    flip_text,
    from_record,
    language_of,
    stated_facts,
)

TEMPLATES = (
    "{Count_word} {size} lesion{s} at the {place}.",  # of docs/own_data.md
    "{Place}: {count} {shape} {finding}{s}, {count} in all ({percent} %)",
    "{Lungs}, {laterality}",
    "Left breast with {count_word} {size} mass{s}, {place} of the upper image",
    "Läsionen: {count}, {density}",
)
OWN = ReportLanguage(TEMPLATES[0])
VARIED = TextAwareAugmentation(0.5, 0.7, 0.5, 0.7)


def example_of(language: ReportLanguage, seed: int) -> dict:
    mask = blobs(seed, (96, 128))
    pixels = {"image": mask * np.uint8(200), "labels": mask * np.uint8(1)}
    return {**pixels, "text": language.describe(mask, "benign"), "id": str(seed)}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_text_of_ones_own_template_is_true_of_the_varied_mask(template):
    language, changed = ReportLanguage(template), 0
    for given in (example_of(language, seed) for seed in range(80)):
        varied = VARIED(given, language)
        assert language.disagreements(varied["text"], language.observe(varied["labels"] == 1)) == {}, varied["text"]
        changed += varied["text"] != given["text"]
    assert changed > 8


def test_a_lesion_that_moves_is_followed_where_free_text_loses_its_clause():
    before, after = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    before[3:6, 3:6] = after[3:6, 30:33] = True
    text = "One small lesion at the upper left."
    assert FREE_TEXT.follow(text, before, after) == ""
    assert language_of(text, OWN).follow(text, before, after) == "One small lesion at the upper right."
    assert OWN.follow(text, before, before & False) == OWN.empty == "No lesion."


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (TEMPLATES[0], "Two small lesions."),
        ("MRI with a {finding} tumor in the {place} region.", "MRI with a benign tumor."),
        ("{Lungs}: {count} lesion{s} ({place}).", "2 lesions."),
        ("In the {place}, {size} tumor, {lungs}.", "Small tumor."),
        ("{Size} tumor at the {place} in the scan.", "Small tumor in the scan."),
        ("Tumor located {place}, {size}.", "Tumor located upper left, small."),  # what is left would be no text
        ("{Size} mass located at the {place}.", "Small mass located at the upper left."),
        ("{Size} tumor in the {place}-most area.", "Small tumor in the upper left-most area."),
        ("{Size} tumor between {place} and midline.", "Small tumor between upper left and midline."),
        ("{Size} tumor of the {place} half.", "Small tumor of the upper left half."),
        ("{Size} lesion", "Small lesion"),  # nothing to leave out
        ("{Place}", "Upper left"),
    ],
)
def test_an_underspecified_text_lacks_its_location_unless_it_states_nothing_else(template, text):
    language = ReportLanguage(template)
    values = {"count": "2", "count_word": "two", "s": "s", "size": "small", "finding": "benign"}
    given = language.write(values | {"place": "upper left", "lungs": "upper left lung"})
    assert language.underspecify(given, 0) == text
    assert (language.facts(given) or {}).items() >= (language.facts(text) or {}).items()


def test_the_conditions_ask_the_language_or_are_refused():
    texts = [OWN.describe(blobs(seed)) for seed in range(6)] + ["", None]
    given = chosen_texts(conditions_for(("underspecified", "overspecified", "absent", "flipped"), True), texts, 0, OWN)
    assert "paraphrased" not in default_conditions(texts, 0, OWN)
    with pytest.raises(ValueError, match=r"\['paraphrased'\] change none of the 8 texts: .* no other words"):
        chosen_texts(conditions_for(("paraphrased",), True), texts, 0, OWN)
    facts = {name: [stated_facts(text, OWN) for text in row[:6]] for name, row in given.items()}
    assert all(all(row[:6]) and row[6:] == ["", ""] for name, row in given.items() if name != "shuffled")
    assert facts["overspecified"] == facts["correct"] and facts["absent"] == [{}] * 6
    without_place = [{name: value for name, value in row.items() if name != "place"} for row in facts["correct"]]
    assert facts["underspecified"] == without_place


def test_user_phrasings_are_paraphrased_and_read_back():
    record = {
        "template": TEMPLATES[0],
        "training": {"templates": ["{Count_word} {lesion} {place}"], "empty": ["Clear."]},
        "evaluation": [["Seen {place}: {count_word}"]],
    }
    language = from_record(record)
    assert language == from_record(json.loads(json.dumps(as_record(language))))
    for seed in range(40):
        text = language.describe(blobs(seed))
        facts = language.facts(text)
        for table in ("training", "evaluation"):
            written = language.paraphrase(text, seed, table)
            assert language.facts(written) == {name: facts[name] for name in ("count_word", "place")}
    assert language.facts(language.paraphrase(language.empty, 1)) == {}
    assert language.paraphrase(language.empty, 1, "evaluation") == language.empty  # for which it has no words
    assert "clear" in language.paraphrase_words() and OWN.paraphrase_words() == set()


def test_the_plural_of_user_phrasings_follows_the_count():
    language = ReportLanguage(TEMPLATES[0], training=Phrasing(["{Count_word} spot{s}, {place}"]))
    for number, plural in (("one", ""), ("two", "s")):
        text = language.write({"count_word": number, "s": plural, "size": "small", "place": "upper left"})
        written = [language.paraphrase(text, seed).lower() for seed in range(20)]
        assert all(f" spot{plural}," in each for each in written)


def test_a_denial_in_a_user_phrasing_is_contradicted_by_a_lesion():
    quiet = Phrasing(empty=["Even density."])
    language = ReportLanguage("Clear {size} mass at the {place}.", "The tissue is inconspicuous.", training=quiet)
    for text in (language.empty, *quiet.empty):
        assert language_of(text, language).contradict(text) == "There is a lesion in this image."
    assert language.contradict("Clear small mass at the upper.") == language.empty


def test_what_is_written_anew_of_a_flipped_text_has_its_sides():
    words = Phrasing(["Left breast: {size} mass {place}"], ["Left breast without a mass."])
    language = ReportLanguage(
        "The left breast has a {size} mass at the {place}.",
        "The left breast is clear.",
        training=words,
        evaluation=words,
    )
    for text in (language.describe(blobs(0)), language.empty):
        flipped = flip_text(text)
        generated = [
            language.paraphrase(flipped, seed, table) for seed in range(9) for table in ("training", "evaluation")
        ]
        generated += [language.underspecify(flipped, 0), *(language.deny(flipped, seed) for seed in range(9))]
        assert all("right b" in each.lower() and "left b" not in each.lower() for each in generated)
        assert all(language.facts(each) is not None for each in generated)
    assert language.contradict(flip_text(language.describe(blobs(0)))) == "The right breast is clear."


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"less_specific": ["{count:>3} lesions"]}, "write {count} alone"),
        ({"less_specific": ["{shape} lesion"]}, r"`less_specific` has the fields \['shape'\]"),
        ({"training": Phrasing(["{lungs} {lesion}"])}, r"`training` has the fields \['lungs'\]"),
        ({"training": Phrasing(["Single view. {count_word} {lesion}"])}, "`training`: what 'Single view.* read back"),
        ({"training": Phrasing(["There {is} {lesion}"])}, "`training`: what 'There .* cannot be read back"),
        ({"training": Phrasing(["{size} left mass"])}, "`training`: .* does not show whether the sides of"),
        ({"empty": "Clear left breast."}, "`empty`: .* does not show whether the sides of"),
        ({"empty": " ."}, "`empty` is blank"),
        ({"irrelevant": "Done."}, r"`irrelevant` is 'Done.': give a sequence of texts, such as \['Done.'\]"),
        ({"less_specific": "{size} lesion"}, "`less_specific` is '{size} lesion'"),
        ({"training": {"templates": "{size} lesion"}}, "`training.templates` is '{size} lesion'"),
        ({"evaluation": "{size} lesion"}, "`evaluation.templates` is '{size} lesion'"),
    ],
)
def test_phrasings_that_cannot_be_read_back_or_flipped_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ReportLanguage(TEMPLATES[0], **fields)


# With the data set


@pytest.fixture
def scans(tmp_path):
    for seed, split in enumerate(("train", "train", "val", "test")):
        save(tmp_path / "scans" / "images" / f"{split}{seed}.png", image_of(split))
        save(tmp_path / "scans" / "masks" / f"{split}{seed}.png", blobs(seed) * np.uint8(255))
    rows = [f"{path.name},,{path.stem[:-1]}" for path in sorted((tmp_path / "scans" / "masks").iterdir())]
    (tmp_path / "scans" / "scans.csv").write_text("\n".join(["Image,Description,split", *rows]))
    return tmp_path / "scans"


def test_texts_of_a_template_are_known_to_whoever_reads_their_table(scans, tmp_path):
    table = tmp_path / "prompts.csv"
    write_prompts("folder", scans, table, template=TEMPLATES[0], empty_template="Clear.")
    dataset = load_segmentation_dataset("folder", scans, text_table=table)
    language = ReportLanguage(TEMPLATES[0], "Clear.")
    dataset.shuffle(seed=1).save_to_disk(tmp_path / "saved")
    for kept in (dataset, datasets.load_from_disk(tmp_path / "saved"), ready_dataset(dataset.select([0]))):
        assert language_in(kept) == language
    for varied in augmented(dataset, VARIED, white_is_lesion=True):
        assert varied["text"] == language.describe(varied["labels"] == 1)
    masks = [np.asarray(mask) > 0 for mask in dataset["mask"]]
    pairs = zip(dataset["text"], masks, strict=True)
    agreement = text_scores(
        [compare_with_text(text, mask, mask, language_in(dataset)) for text, mask in pairs]
    ).agreement
    assert {field: row.images for field, row in agreement.items()} == {"count": 2, "region": 2}
    write_prompts("folder", scans, table, language="qata", overwrite=True)
    assert language_in(load_segmentation_dataset("folder", scans, text_table=table)) is QATA


def test_a_file_beside_the_own_table_of_a_set_names_its_language_for_these_texts_alone(scans, tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "folder", SOURCES["folder"]._replace(language=QATA))
    (scans / "scans.language.json").write_text(json.dumps({"template": TEMPLATES[0], "empty": "Clear."}))
    assert language_in(load_segmentation_dataset("folder", scans)) == ReportLanguage(TEMPLATES[0], "Clear.")
    other = (scans / "scans.csv").rename(tmp_path / "other.csv")
    (scans / "table.csv").write_text(other.read_text())
    assert language_in(load_segmentation_dataset("folder", scans, text_table=other)) is QATA
    (scans / "table.language.json").write_text("{")
    with pytest.raises(ValueError, match=r"table\.language\.json: "):
        load_segmentation_dataset("folder", scans)


@pytest.mark.parametrize("content", ['"latin"', "{", '{"pattern": "{count}"}', "[]"])
def test_a_file_beside_a_table_that_names_no_language_is_refused(content, scans, tmp_path):
    (tmp_path / "prompts.language.json").write_text(content)
    (tmp_path / "prompts.csv").write_text((scans / "scans.csv").read_text())
    with pytest.raises(ValueError, match=r"prompts\.language\.json: "):
        load_segmentation_dataset("folder", scans, text_table=tmp_path / "prompts.csv")


def test_a_registered_data_set_names_its_language_once(scans, monkeypatch):
    monkeypatch.setattr("tevia_hf.data.registry.SOURCES", dict(SOURCES))
    register_dataset("clinic", list_folder, language=OWN)
    assert language_in(load_segmentation_dataset("clinic", scans)) == OWN
    assert language_in(load_segmentation_dataset("synthetic", count=1)) is QATA
    assert language_in(load_segmentation_dataset("folder", scans)) is None


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_data_set_made_in_python_may_name_its_language(is_stream):
    dataset = synthetic_dataset(count=8).map(lambda row: {"text": OWN.describe(np.asarray(row["mask"]) > 0)})
    dataset = with_language(dataset.to_iterable_dataset() if is_stream else dataset, OWN)
    for varied in augmented(ready_dataset(dataset), VARIED, white_is_lesion=True):
        assert varied["text"] == OWN.describe(varied["labels"] == 1)
