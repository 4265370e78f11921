"""A picture and a sentence in, a lesion mask out, beside what another sentence or none would have given."""

import ctypes
import os
import re
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import numpy as np

import tevia_hf

if sys.platform == "linux":
    # glibc keeps the memory of large pictures that are gone, unless told this (M_MMAP_THRESHOLD).
    getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)(-3, 1 << 20)

HERE = Path(__file__).resolve().parent
MOST_CHARACTERS = 1_000
MOST_PIXELS = 16_000_000
LONGEST_SIDE = 1024  # of the pictures shown; the mask to download keeps the file's own size
SLICE = re.compile(r"((axial|coronal|sagittal):)?([0-9]{1,5}|middle)")
WINDOW = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?,[1-9][0-9]{0,5}(\.[0-9]{1,6})?")
TINY = "`tevia-tiny` knows made-up films only: **on real pictures its masks mean nothing.** Left is the picture's."
HINT = "Choose a picture or one of the made-up films."
SCROLL_ON_A_PHONE = "() => innerWidth < 768 && document.querySelector('#summary').scrollIntoView({behavior: 'smooth'})"
refusal = partial(gr.Error, print_exception=False)
heat = partial(tevia_hf.heat_map, longest_side=LONGEST_SIDE)


def default_model() -> Path:
    """`tevia-tiny`, beside this file or in the repository."""
    places = [HERE / "tevia-tiny", *(parent / "hub_configs" / "tevia-tiny" for parent in HERE.parents)]
    if found := [place for place in places if place.is_dir()]:
        return found[0]
    raise ValueError("No model: set TEVIA_MODEL to a name or folder, or put the folder tevia-tiny beside app.py.")


NAME = os.environ.get("TEVIA_MODEL") or str(default_model())
MODEL = tevia_hf.TeViAForSegmentation.from_pretrained(NAME).eval()
PROCESSOR = tevia_hf.TeViAProcessor.from_pretrained(NAME)
FILMS = tempfile.TemporaryDirectory(prefix="tevia-films-")


def read_picture(file: str | None, slice_number: str | None = "", window: str | None = ""):
    """The picture in an uploaded file; `gr.Error` with what to do instead where there is none to show."""
    if not file:
        raise refusal("Choose a picture first: PNG, JPEG, TIFF, DICOM or NIfTI.")
    try:
        picture = tevia_hf.read_image(address(file, slice_number, window), most_pixels=MOST_PIXELS)
        if min(shape := picture.array.shape[:2]) < 16:
            raise ValueError(f"{file}: {shape[0]} x {shape[1]} pixels are too few. Choose a larger picture.")
        return picture
    except FileNotFoundError as error:
        raise refusal("Uploads are deleted after an hour: choose the file again.") from error
    except (ValueError, OSError) as error:
        message = str(error).replace(f"{Path(file).parent}{os.sep}", "")
        raise refusal(re.sub(r"Name one, e\.g\. .*", "Write another under “CT and MRI”.", message)) from error


def address(file: str, slice_number: str | None, window: str | None) -> str:
    """The file and, of a volume, its slice and window, as `read_image` takes them."""
    if not file.lower().endswith((".nii", ".nii.gz", ".dcm", ".dicom")):
        return file
    number, seen = (slice_number or "").strip().lower() or "middle", (window or "").replace(" ", "")
    if not SLICE.fullmatch(number):
        raise refusal("Slice: write its number, counted from 0, or “middle”, or such as “coronal:40”.")
    if seen and not WINDOW.fullmatch(seen):
        raise refusal("Window: write centre and width, such as “-600,1500”.")
    return f"{file}#{number}" + (f"@{seen}" if seen else "")


def segment(
    file: str | None,
    sentence: str,
    what_if: str = "",
    without_sentence: bool = False,
    threshold: float = 0.5,
    slice_number: str = "",
    window: str = "",
):
    """Masks of a picture with a sentence and, beside it, with another one, and what each sentence changed.

    Args:
        file: PNG, JPEG, TIFF, DICOM or NIfTI.
        sentence: what a report says of the lesion; "" for none.
        what_if: another sentence, to compare; "" for none.
        without_sentence: leave `sentence` out.
        threshold: a pixel is marked where the probability of a lesion is above it.
        slice_number: of a volume, counted from 0, such as "40", "middle" (the default) or "coronal:40".
        window: "centre,width" of DICOM and NIfTI values, such as "-600,1500".
    """
    texts = [" ".join((text or "").split()) for text in ("" if without_sentence else sentence, what_if)]
    if (longest := max(map(len, texts))) > MOST_CHARACTERS:
        raise refusal(f"The sentence has {longest:,} characters: shorten it to {MOST_CHARACTERS:,} at most.")
    if not 0 < threshold < 1:
        raise refusal("Threshold: a number between 0 and 1.")
    picture = read_picture(file, slice_number, window)
    asked = texts if texts[1] else texts[:1]
    try:
        found = tevia_hf.explain_texts(MODEL, PROCESSOR, picture.array, asked)
    except ValueError as error:
        raise refusal(str(error).replace("image 0", Path(file).name)) from error
    masks = [influence.probability > threshold for influence in found]
    shown = [tevia_hf.overlay(picture.array, mask.astype(np.uint8), longest_side=LONGEST_SIDE) for mask in masks]
    changed = [heat(picture.array, influence.effect) if influence.effect.any() else None for influence in found]
    attention = found[0].attention
    looked = None if attention is None else heat(picture.array, attention / (attention.max() or 1))
    second = (shown[1], changed[1]) if texts[1] else (None, None)
    place = [f"Slice {picture.source.frame}, counted from 0."] if picture.source and picture.source.frame else []
    said = "\n\n".join([*place, *summary(asked, masks)])
    return said, shown[0], changed[0], *second, looked, masks[0].astype(np.uint8) * 255


def summary(texts: list[str], masks: list[np.ndarray]) -> list[str]:
    notes = ["".join(f" ⚠️ {note}" for note in tevia_hf.text_warnings(MODEL, PROCESSOR, text)) for text in texts]
    rows = zip(texts, masks, notes, strict=True)
    lines = [f"**{described(text)}:** {amount(mask)}.{note}" for text, mask, note in rows]
    if len(masks) > 1 and (either := masks[0] | masks[1]).any():
        lines.append(f"The two masks share {(masks[0] & masks[1]).sum() / either.sum():.0%} of their area.")
    return lines


def amount(mask: np.ndarray) -> str:
    share = "under 0.1%" if mask.mean() < 0.001 else f"{mask.mean():.1%}"
    return f"{share} of the picture is marked" if mask.any() else "nothing is marked"


def described(text: str) -> str:
    """The text's start, held together where it runs from right to left."""
    return f"“\u2068{inert(text[:120])}\u2069{'…' if len(text) > 120 else ''}”" if text else "No sentence"


def inert(text: str) -> str:
    return "".join(c if c.isalnum() or c in " .,:;" else f"&#{ord(c)};" for c in text)


def page(said: str, before=None, results=(None,) * 6) -> tuple:
    """What stands on the page's right side: pictures that are not there are hidden, older ones too."""
    return said, *(gr.Image(picture, visible=picture is not None) for picture in (before, *results))


def answer(*inputs) -> tuple:
    """`segment` for the page, where an error stands in the answer's place."""
    try:
        said, *results = segment(*inputs)
    except gr.Error as error:
        return page(f"⚠️ {inert(error.message)}")
    except Exception:  # no older mask may stay whatever happens
        traceback.print_exc()
        return page("⚠️ Something went wrong here; the server's log says what.")
    return page(said, results=results)


def preview(file: str | None) -> tuple:
    """A newly chosen picture by itself, with empty fields for slice and window."""
    try:
        picture = read_picture(file).array
    except gr.Error as error:
        return *page(f"⚠️ {inert(error.message)}" if file else HINT), "", ""
    shown = heat(picture, np.zeros(picture.shape[:2]))
    return *page("No mask yet: write a sentence and press **Segment**.", shown), "", ""


def example_films() -> list[tuple[str, str, str]]:
    """Made-up films as files, with their sentence and one about other lesions."""
    some = partial(tevia_hf.load_segmentation_dataset, "synthetic", split="test", size=256, count=3)
    meant, others = some(counterpart=False), some(counterpart=True)
    examples = []
    for number, (film, other) in enumerate(zip(meant, others, strict=True), start=1):
        path = Path(FILMS.name) / f"film-{number}.png"
        film["image"].save(path)
        examples.append((str(path), film["text"], other["text"]))
    return examples


def build() -> gr.Blocks:
    films = example_films()

    def pick(event: gr.SelectData):
        return films[event.index]

    picture = partial(gr.Image, format="jpeg", interactive=False, visible=False, buttons=["fullscreen"], min_width=240)
    with gr.Blocks(title="TeViA", analytics_enabled=False, delete_cache=(600, 3600)) as demo:  # after an hour
        model = TINY if Path(NAME).name == "tevia-tiny" else f"Model: `{Path(NAME).name}`."
        gr.Markdown((HERE / "introduction.md").read_text("utf-8") + model)
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                file = gr.File(label="Picture", height=140)
                gr.Markdown("or a made-up film, each with two sentences:")
                seen = [(path, f"Film {number}") for number, (path, *_) in enumerate(films, start=1)]
                quiet = {"show_label": False, "allow_preview": False, "interactive": False, "buttons": []}
                gallery = gr.Gallery(seen, columns=3, height=155, **quiet)
                sentence = gr.Textbox("", label="Sentence", placeholder=f"e.g. {films[0][1]}", max_lines=4)
                what_if = gr.Textbox(
                    "", label="What if the report said …?", placeholder="another sentence", max_lines=4
                )
                button = gr.Button("Segment", variant="primary")
                without = gr.Checkbox(label="Leave the sentence out")
                threshold = gr.Slider(0.05, 0.95, 0.5, step=0.05, label="Threshold")
                with gr.Accordion("CT and MRI: slice and window", open=False):
                    number = gr.Textbox("", label="Slice, counted from 0", placeholder="middle, 40 or coronal:40")
                    window = gr.Textbox("", label="Window: centre,width", placeholder="-600,1500 for lungs")
            with gr.Column(scale=3, min_width=280, elem_id="results"):
                said = gr.Markdown(HINT, label="summary", elem_id="summary")
                before = picture(label="Picture, no mask yet", elem_id="before")
                with gr.Row():
                    mask_seen = picture(label="Mask", elem_id="first")
                    changed = picture(label="Changed by the sentence", elem_id="changed")
                with gr.Row():
                    mask_if = picture(label="Mask, what if", elem_id="second")
                    changed_if = picture(label="Changed by what if")
                with gr.Accordion("Where it looked, and the mask as a file", open=False), gr.Row():
                    looked = picture(label="Where it looked")
                    saved = {"format": "png", "image_mode": "L", "buttons": ["download"], "elem_id": "mask"}
                    mask = picture(label="Mask of 0 and 255", **saved)
                gr.Markdown((HERE / "legend.md").read_text("utf-8"))
        inputs = [file, sentence, what_if, without, threshold, number, window]
        results = [mask_seen, changed, mask_if, changed_if, looked, mask]
        right = [said, before, *results]
        api = gr.Button(visible=False)
        api.click(segment, inputs, [said, *results], api_name="segment", concurrency_id="model")
        private = {"api_visibility": "private", "show_progress_on": said, "concurrency_id": "model"}
        enter = [field.submit for field in (sentence, what_if, number, window)]
        asked = gr.on([button.click, *enter, without.input, threshold.release], answer, inputs, right, **private)
        asked.then(js=SCROLL_ON_A_PHONE)
        gr.on([file.upload, file.clear], preview, file, [*right, number, window], **private)
        picked = gallery.select(pick, None, [file, sentence, what_if], **private)
        picked.then(answer, inputs, right, **private).then(js=SCROLL_ON_A_PHONE)
    return demo.queue(max_size=32, default_concurrency_limit=1)


def launch(demo: gr.Blocks, **options):
    theme = gr.themes.Soft(primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["monospace"])
    look = {"theme": theme, "css_paths": HERE / "style.css", "footer_links": ["api"]}
    return demo.launch(max_file_size="50mb", max_threads=2, **look, **options)


if __name__ == "__main__":
    launch(build())
