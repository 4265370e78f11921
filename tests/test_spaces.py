"""The demo Space as its users meet it: in a browser, by its API, and with input that cannot be used."""

import importlib.util
import io
import shutil
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import RepoCard
from PIL import Image
from tiny import tiny_config, tiny_processor

from tevia_hf import Predictor, TeViAForSegmentation, load_segmentation_dataset
from tevia_hf.colours_tevia import LABEL_COLOURS

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
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "image.png"
    load_segmentation_dataset("synthetic", split="test", size=128, count=1)[0]["image"].save(path)
    return str(path)


def ask(client, file, sentence=LEFT, **more):
    """The answer by name, with its images as arrays."""
    image = handle_file(str(file)) if file else None
    answer = client.predict(image, sentence, **more, api_name="/segment")
    names = ("report", "mask_seen", "changed", "mask_if", "changed_if", "attention", "mask")
    results = dict(zip(names, answer, strict=True))
    return {
        name: np.asarray(Image.open(value)) if value and name != "report" else value for name, value in results.items()
    }


def test_the_api_gives_a_mask_of_the_images_size_that_follows_the_text(client, image):
    left, right = (ask(client, image, sentence) for sentence in (LEFT, RIGHT))
    assert left["mask"].shape == (128, 128) and set(np.unique(left["mask"])) <= {0, 255}
    columns = [np.nonzero(answer["mask"])[1] for answer in (left, right)]
    assert columns[0].max() < 64 <= columns[1].min()
    assert left["mask_if"] is None and left["changed_if"] is None


def test_the_heat_map_is_orange_where_the_text_made_a_lesion_likelier(client, image):
    with_text, blank = ask(client, image, LEFT), ask(client, image, "")
    removed = (blank["mask"] > 0) & (with_text["mask"] == 0)  # 128 px, shown three times as large
    shown = with_text["changed"][1::3, 1::3].astype(int)
    assert removed.sum() > 100 and (shown[removed][:, 2] > shown[removed][:, 0]).mean() > 0.9
    kept = shown[with_text["mask"] > 0]
    assert (kept[:, 0] >= kept[:, 2]).mean() > 0.9
    looked = with_text["attention"].astype(int)
    assert np.ptp(looked[..., 0] - looked[..., 2]) > 100


def test_the_reported_share_is_that_of_the_mask(client, image):
    with_text = ask(client, image, LEFT)
    assert (
        f"{(with_text['mask'] > 0).mean():.1%} of the image is segmented" in with_text["report"]
        and LEFT in with_text["report"]
    )


def test_a_second_text_is_shown_beside_the_first(client, image):
    both, second = ask(client, image, LEFT, what_if=RIGHT), ask(client, image, RIGHT)
    assert np.array_equal(both["mask_if"], second["mask_seen"])
    assert np.array_equal(both["changed_if"], second["changed"])
    assert "share 0%" in both["report"]


def test_a_missing_text_is_reported(client, image):
    none, empty = ask(client, image, LEFT, without_sentence=True), ask(client, image, "")
    assert np.array_equal(none["mask"], empty["mask"]) and "No text" in none["report"]
    assert none["attention"] is None and none["changed"] is None
    assert not np.array_equal(none["mask"], ask(client, image, LEFT)["mask"])


def test_a_higher_threshold_marks_less(client, image):
    low, high = (ask(client, image, LEFT, threshold=threshold)["mask"] for threshold in (0.05, 0.95))
    assert (low >= high).all() and low.sum() > high.sum()


@pytest.fixture
def scan(image, tmp_path):
    """A volume whose last of three slices is the image; the others are black."""
    pixels = np.asarray(Image.open(image)).astype(np.int16)
    dark = np.zeros_like(pixels).T
    volume = np.stack([dark, dark, pixels.T[:, ::-1]], axis=-1)
    nibabel.Nifti1Image(volume, np.diag([-1, 1, 1, 1])).to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_a_slice_of_a_volume_is_windowed(client, image, scan):
    assert "Slice 1, counted from 0" in ask(client, scan)["report"]
    with pytest.raises(AppError, match="3 axial slices, 0 to 2; not 3. Enter another under “CT and MRI”"):
        ask(client, scan, slice_number="3")
    seen = ask(client, scan, slice_number="2", window="128,256")
    assert seen["mask"].shape == (128, 128)
    overlap = (seen["mask"] & ask(client, image)["mask"]).sum()
    assert overlap > 0.5 * seen["mask"].sum() > 0


def test_a_large_image_is_displayed_smaller_with_a_mask_of_its_own_size(client, tmp_path):
    load_segmentation_dataset("synthetic", split="test", size=2000, count=1)[0]["image"].save(tmp_path / "large.png")
    answer = ask(client, tmp_path / "large.png", LEFT)
    assert answer["mask"].shape == (2000, 2000) and answer["mask"].any()
    assert answer["mask_seen"].shape == answer["changed"].shape == answer["attention"].shape == (1024, 1024, 3)


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
    "text.png": (lambda path: path.write_text("no picture"), "text.png: not readable, corrupt or cut short"),
    "bomb.png": (header_bomb, "bomb.png: claims more than 178,956,970 pixels. Shrink it"),
    "animated.gif": (animation, "animated.gif: holds 3 pages"),
    "animated.png": (animation, "animated.png: holds 3 pages"),
    "empty.png": (lambda path: path.touch(), "empty.png: not readable"),
    "large.png": (
        lambda path: Image.new("L", (9_000, 3_000)).save(path),
        "large.png: claims 3000 x 9000 pixels, more than 16,000,000. Shrink it",
    ),
    "dot.png": (lambda path: Image.new("RGB", (1, 40)).save(path), "dot.png: 40 x 1 pixels are too few"),
    "scan.dcm": (lambda path: path.write_bytes(b"\0" * 200), "scan.dcm"),
    "scan.nii.gz": (lambda path: path.write_bytes(b"\0" * 200), "scan.nii.gz"),
    "model.safetensors": (lambda path: path.write_bytes(b"\0"), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_an_unusable_file_is_reported_by_its_name_and_the_server_continues(name, client, image, tmp_path):
    write, message = BAD_FILES[name]
    write(tmp_path / name)
    with pytest.raises(AppError, match=message) as raised:
        ask(client, tmp_path / name)
    assert "/tmp" not in str(raised.value) and str(tmp_path) not in str(raised.value)
    assert ask(client, image)["mask"].any()


def test_a_missing_image_is_requested(client):
    with pytest.raises(AppError, match="Choose an image first"):
        ask(client, None)


def test_a_text_of_10_000_characters_is_refused(client, image):
    with pytest.raises(AppError, match="10,000 characters: shorten"):
        ask(client, image, "a" * 10_000)
    with pytest.raises(AppError, match="10,000 characters: shorten"):
        ask(client, image, LEFT, what_if="a" * 10_000)


@pytest.mark.parametrize(
    "sentence", ["🫁🔥", "التهاب رئوي في الرئة اليسرى", "左肺中部", "<script>alert(1)</script> *lung*"]
)
def test_words_that_the_model_does_not_know_are_reported(sentence, client, image):
    answer = ask(client, image, sentence)
    assert "unknown to the tokenizer" in answer["report"] and "<script>" not in answer["report"]


def test_a_text_unlike_those_of_the_training_causes_a_warning_beside_the_mask(client, image):
    answer = ask(client, image, "hello world")
    assert "in no text of the training (hello, world)" in answer["report"] and answer["mask"] is not None
    assert "training" not in ask(client, image, LEFT)["report"]


def test_a_truncated_text_is_reported(client, image):
    assert "reads the first" in ask(client, image, "left lung " * 90)["report"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"window": "wide"}, "Window: write centre and width, such as “-600,1500”"),
        ({"window": "40,0"}, "Window: write centre and width"),
        ({"slice_number": "../../x"}, "Slice: write its number, counted from 0"),
        ({"slice_number": "9" * 5000}, "Slice: write its number"),
        ({"threshold": 7}, "maximum|0.95"),
        ({"threshold": float("nan")}, "Threshold: a number between 0 and 1|JSON"),
    ],
)
def test_an_invalid_option_is_explained_by_its_label(choice, message, client, image, scan):
    with pytest.raises((AppError, ValueError), match=message):
        ask(client, scan, **choice)
    assert ask(client, image)["mask"].any()


def test_none_for_slice_window_and_texts_is_the_default(client, image):
    plain, given = ask(client, image, ""), ask(client, image, None, what_if=None, slice_number=None, window=None)
    assert np.array_equal(plain["mask"], given["mask"])


def test_at_most_32_calls_wait_and_files_are_limited_and_deleted(app):
    demo = app.build()
    assert demo._queue.max_size == 32 and demo.delete_cache == (600, 3600)


def test_a_file_of_over_50_mb_is_refused(client, image, tmp_path):
    with open(tmp_path / "huge.nii", "wb") as file:
        file.truncate(53_000_000)
    with pytest.raises(Exception, match="50|413|size"):
        ask(client, tmp_path / "huge.nii")
    assert ask(client, image)["mask"].any()


def test_the_page_keeps_no_old_mask_whatever_goes_wrong(app, image, monkeypatch):
    def break_down(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(app.tevia_hf, "explain_texts", break_down)
    report, *images = app.answer(image, LEFT, "", False, 0.5, "", "")
    assert "went wrong" in report and not any(image.visible for image in images)


def test_several_classes_have_their_colours_and_a_legend_with_names(app, image, monkeypatch, tmp_path):
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(id2label={0: "background", 1: "benign", 2: "malignant"}))
    torch.nn.init.zeros_(model.decode_head.classifier.bias)
    monkeypatch.setattr(app, "MODEL", model.eval())
    monkeypatch.setattr(app, "PROCESSOR", tiny_processor(num_labels=3))
    monkeypatch.setattr(app, "CLASSES", ["benign", "malignant"])
    report, shown, *_, mask = app.segment(image, LEFT)
    expected = Predictor(app.MODEL, app.PROCESSOR).predictions([({"image": image}, [LEFT])])
    assert np.array_equal(mask, next(expected).masks[0]) and mask.any()
    for label, name in enumerate(app.CLASSES, 1):
        assert (f"% {name}" in report) == (mask == label).any()
        assert (np.asarray(shown) == LABEL_COLOURS[label - 1]).all(-1).any() == (mask == label).any()
    assert app.legend().startswith("**Mask**: benign orange, malignant light blue. **Changed**")
    assert len(app.COLOURS) == len(LABEL_COLOURS)


def test_with_one_label_the_legend_names_its_colour(app):
    assert app.CLASSES == [] and app.legend().startswith("**Mask**: orange. **Changed**")


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("needs Debian's package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, address):
    """Opens the page in a window of a width; at the end, no script failed and no request left the machine."""
    hosts, errors, pages = set(), [], []

    def opened(width=1280):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.get_by_role("button", name="Segment").wait_for()
        page.get_by_text("the mask as a file").click()
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert not errors and hosts <= {address.split("/")[2], ""}


def choose(page, file):
    page.locator("input[type=file]").set_input_files(str(file))
    page.locator("#before img").wait_for()


def drop_file(page):
    page.get_by_label("Remove this file").or_(page.get_by_label("Clear")).first.click()
    page.locator("#summary").get_by_text("Choose an image").wait_for()


def enter(page, label, text):
    """Types a text and waits for its mask."""
    page.get_by_role("textbox", name=label).fill(text)
    page.get_by_role("textbox", name=label).press("Enter")
    page.locator("#summary").get_by_text(text, exact=False).wait_for()
    page.locator("#mask img").wait_for()


def mask_on(page):
    """The mask that the page offers as a file."""
    answer = page.request.get(page.locator("#mask img").get_attribute("src"))
    return np.asarray(Image.open(io.BytesIO(answer.body())))


@pytest.mark.parametrize("width", [1280, 390, 320], ids=["desktop", "phone", "small phone"])
def test_in_a_browser_the_mask_changes_with_the_text(width, open_page, image, tmp_path):
    page = open_page(width)
    choose(page, image)
    assert "No mask yet" in page.locator("#summary").inner_text() and not page.locator("#first img").count()
    masks = []
    for sentence in (LEFT, RIGHT):
        enter(page, "Text", sentence)
        masks.append(mask_on(page))
    assert masks[0].shape == (128, 128) and masks[0].any() and masks[1].any() and not (masks[0] & masks[1]).any()
    assert page.locator("#first img").is_visible() and not page.locator("#before img").count()
    assert not page.locator("#second img").count()
    enter(page, "What if the report said", LEFT)
    page.locator("#second img").wait_for()
    page.screenshot(path=str(tmp_path / f"space-{width}.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_in_a_browser_an_error_replaces_the_old_mask(open_page, image, tmp_path):
    page = open_page()
    choose(page, image)
    enter(page, "Text", LEFT)
    (tmp_path / "text.png").write_text("no picture")
    drop_file(page)
    assert not page.locator("#results img").count()
    page.locator("input[type=file]").set_input_files(str(tmp_path / "text.png"))
    page.locator("#summary").get_by_text("text.png: not readable").wait_for()
    page.get_by_role("textbox", name="Text").fill("a" * 1001)
    page.get_by_role("button", name="Segment").click()
    page.locator("#summary").get_by_text("1,001 characters: shorten").wait_for()
    assert not page.locator("#results img").count()


def test_in_a_browser_a_synthetic_image_comes_with_two_texts(open_page):
    page = open_page()
    page.locator(".grid-container button").nth(1).click()
    page.locator("#second img").wait_for()
    example, other = (
        load_segmentation_dataset("synthetic", split="test", size=256, count=2, counterpart=c)[1] for c in (False, True)
    )
    report = page.locator("#summary").inner_text()
    assert example["text"] in report and other["text"] in report
    reference = np.asarray(example["mask"]) > 0
    mask = mask_on(page) > 0
    assert 2 * (reference & mask).sum() / (reference.sum() + mask.sum()) > 0.8


def test_in_a_browser_the_threshold_the_toggle_and_another_slice_are_followed(open_page, image, scan):
    page = open_page()
    choose(page, image)
    enter(page, "Text", LEFT)
    with_text = mask_on(page)
    page.get_by_label("Ignore the text").check()
    page.locator("#summary").get_by_text("No text").wait_for()
    assert mask_on(page).sum() > with_text.sum() and not page.locator("#changed img").count()
    page.get_by_text("CT and MRI: slice").click()
    slice_number = page.get_by_label("Slice, counted")
    for change_file in (lambda: drop_file(page), lambda: choose(page, scan)):
        slice_number.fill("40")
        change_file()
        page.wait_for_function("field => !field.value", arg=slice_number.element_handle())
    slice_number.press_sequentially("2")
    slice_number.press("Enter")
    page.locator("#summary").get_by_text("Slice 2").wait_for()
    assert mask_on(page).any()


def test_the_app_is_short_and_its_card_is_read_by_the_hubs_loader():
    assert len((SPACE / "app.py").read_text().splitlines()) < 250
    card = RepoCard.load(SPACE / "README.md", ignore_metadata_errors=False).data.to_dict()
    assert card["sdk"] == "gradio" and (SPACE / card["app_file"]).is_file()
    assert f"gradio=={card['sdk_version']}" in (SPACE.parents[1] / "constraints.txt").read_text()
