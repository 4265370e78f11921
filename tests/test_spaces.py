"""The demo Space as its users meet it: in a browser, by its API, and with input that cannot be used."""

import importlib.util
import shutil
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import RepoCard
from PIL import Image

from tevia_hf import load_segmentation_dataset

SPACE = Path(__file__).parents[1] / "spaces" / "tevia-demo"
CHROMIUM = shutil.which("chromium")
CHROMIUM_FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()
SENTENCE = "Unilateral pulmonary infection, one infected area, {} lung."
LEFT, RIGHT = SENTENCE.format("middle left"), SENTENCE.format("lower right")


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("tevia_demo_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def address(app):
    demo = app.build()
    _, url, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    yield url
    demo.close()


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "film.png"
    load_segmentation_dataset("synthetic", split="test", size=128, count=1)[0]["image"].save(path)
    return str(path)


def ask(client, file, sentence=LEFT, **more):
    """The answer by name, with its pictures as arrays."""
    picture = handle_file(str(file)) if file else None
    answer = client.predict(picture, sentence, **more, api_name="/segment")
    names = ("said", "mask_seen", "changed", "mask_if", "changed_if", "looked", "mask")
    found = dict(zip(names, answer, strict=True))
    return {name: np.asarray(Image.open(value)) if value and name != "said" else value for name, value in found.items()}


def test_the_api_gives_a_mask_of_the_pictures_size_that_follows_the_sentence(client, film):
    left, right = (ask(client, film, sentence) for sentence in (LEFT, RIGHT))
    assert left["mask"].shape == (128, 128) and set(np.unique(left["mask"])) <= {0, 255}
    columns = [np.nonzero(answer["mask"])[1] for answer in (left, right)]
    assert columns[0].max() < 64 <= columns[1].min()
    assert left["mask_if"] is None and left["changed_if"] is None


def test_a_second_sentence_stands_beside_the_first(client, film):
    both, second = ask(client, film, LEFT, what_if=RIGHT), ask(client, film, RIGHT)
    assert np.array_equal(both["mask_if"], second["mask_seen"])
    assert np.array_equal(both["changed_if"], second["changed"])
    assert "share 0%" in both["said"]


def test_without_its_sentence_the_model_says_so(client, film):
    none, empty = ask(client, film, LEFT, without_sentence=True), ask(client, film, "")
    assert np.array_equal(none["mask"], empty["mask"]) and "No sentence" in none["said"]
    assert none["looked"] is None
    assert not np.array_equal(none["mask"], ask(client, film, LEFT)["mask"])


def test_a_higher_threshold_marks_less(client, film):
    low, high = (ask(client, film, LEFT, threshold=threshold)["mask"] for threshold in (0.05, 0.95))
    assert (low >= high).all() and low.sum() > high.sum()


def test_a_slice_of_a_volume_is_seen_through_its_window(client, film, tmp_path):
    pixels = np.asarray(Image.open(film)).astype(np.int16)
    volume = np.stack([np.zeros_like(pixels).T, pixels.T[:, ::-1]], axis=-1)
    nibabel.Nifti1Image(volume, np.diag([-1, 1, 1, 1])).to_filename(tmp_path / "scan.nii.gz")
    with pytest.raises(AppError, match="2 axial slices.*under “CT and MRI”"):
        ask(client, tmp_path / "scan.nii.gz")
    seen = ask(client, tmp_path / "scan.nii.gz", slice_number="1", window="128,256")
    assert seen["mask"].shape == (128, 128)
    overlap = (seen["mask"] & ask(client, film)["mask"]).sum()
    assert overlap > 0.5 * seen["mask"].sum() > 0


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header_bomb(path):
    """A few bytes that claim 40,000 x 40,000 pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 99)))


def animation(path):
    frames = [Image.new("L", (40, 40), grey) for grey in (0, 90, 180)]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


BAD_FILES = {
    "text.png": (lambda path: path.write_text("no picture"), "text.png: not readable as an image"),
    "bomb.png": (header_bomb, "bomb.png: not readable as an image.*1600000000 pixels"),
    "animated.gif": (animation, "animated.gif: files ending in '.gif' cannot be read"),
    "animated.png": (animation, "animated.png: holds 3 pages"),
    "empty.png": (lambda path: path.touch(), "empty.png: not readable as an image"),
    "large.png": (lambda path: Image.new("L", (9_000, 3_000)).save(path), "9000.* pixels are too many|too many here"),
    "scan.dcm": (lambda path: path.write_bytes(b"\0" * 200), "scan.dcm"),
    "scan.nii.gz": (lambda path: path.write_bytes(b"\0" * 200), "scan.nii.gz"),
    "model.safetensors": (lambda path: path.write_bytes(b"\0"), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_is_told_by_its_name_and_the_server_goes_on(name, client, film, tmp_path):
    write, message = BAD_FILES[name]
    write(tmp_path / name)
    with pytest.raises(AppError, match=message) as raised:
        ask(client, tmp_path / name)
    assert "/tmp" not in str(raised.value) and str(tmp_path) not in str(raised.value)
    assert ask(client, film)["mask"].any()


def test_a_missing_picture_is_asked_for(client):
    with pytest.raises(AppError, match="Choose a picture first"):
        ask(client, None)


def test_a_sentence_of_10_000_characters_is_refused(client, film):
    with pytest.raises(AppError, match="10,000 characters: shorten"):
        ask(client, film, "a" * 10_000)
    with pytest.raises(AppError, match="10,000 characters: shorten"):
        ask(client, film, LEFT, what_if="a" * 10_000)


@pytest.mark.parametrize(
    "sentence", ["🫁🔥", "التهاب رئوي في الرئة اليسرى", "左肺中部", "<script>alert(1)</script> *lung*"]
)
def test_words_the_model_cannot_know_are_marked_as_unknown(sentence, client, film):
    answer = ask(client, film, sentence)
    assert "unknown to the model" in answer["said"] and "<script>" not in answer["said"]


def test_a_sentence_longer_than_the_model_reads_is_marked(client, film):
    assert "reads the first" in ask(client, film, "left lung " * 90)["said"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"window": "wide"}, "names no slice|window"),
        ({"slice_number": "7"}, "slices"),
        ({"threshold": 7}, "maximum|0.95"),
    ],
)
def test_a_choice_that_cannot_be_is_explained(choice, message, client, film, tmp_path):
    nibabel.Nifti1Image(np.zeros((40, 40, 2), np.int16), np.eye(4)).to_filename(tmp_path / "scan.nii.gz")
    with pytest.raises(AppError, match=message):
        ask(client, tmp_path / "scan.nii.gz", **{"slice_number": "1", **choice})
    assert ask(client, film)["mask"].any()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_in_a_browser_the_mask_changes_with_the_sentence_and_nothing_leaves_the_machine(width, address, film, tmp_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        hosts, errors, pictures = set(), [], []
        page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.locator("input[type=file]").set_input_files(film)
        for sentence in (LEFT, RIGHT):
            page.get_by_label("Sentence", exact=True).fill(sentence)
            page.get_by_role("button", name="Segment").click()
            page.locator("#summary").get_by_text(sentence.split()[-2], exact=False).wait_for()
            page.wait_for_timeout(500)
            pictures.append(page.locator("#first img").screenshot())
        page.screenshot(path=str(tmp_path / f"space-{width}.png"), full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert pictures[0] != pictures[1] and not errors
    assert hosts <= {address.split("/")[2], ""}


def test_the_app_is_short_and_its_card_is_read_by_the_hubs_loader():
    assert len((SPACE / "app.py").read_text().splitlines()) < 250
    card = RepoCard.load(SPACE / "README.md", ignore_metadata_errors=False).data.to_dict()
    assert card["sdk"] == "gradio" and (SPACE / card["app_file"]).is_file()
    assert f"gradio=={card['sdk_version']}" in (SPACE.parents[1] / "constraints.txt").read_text()
