"""Web demo: the lesion mask of an image with a text, beside those with another text and with none."""

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
    # Without M_MMAP_THRESHOLD, glibc keeps the memory of large images after they are freed.
    getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)(-3, 1 << 20)

HERE = Path(__file__).resolve().parent
MAX_CHARACTERS, MAX_PIXELS, LONGEST_SIDE = 1_000, 16_000_000, 1024  # the longest side of displayed images
SLICE = re.compile(r"((axial|coronal|sagittal):)?([0-9]{1,5}|middle)")
WINDOW = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?,[1-9][0-9]{0,5}(\.[0-9]{1,6})?")
TINY = "`tevia-tiny` was trained on synthetic images: **masks of real images are meaningless.** Left is the image's."
HINT = "Choose an image, or one of the synthetic images."
SCROLL_ON_A_PHONE = "() => innerWidth < 768 && document.querySelector('#summary').scrollIntoView({behavior: 'smooth'})"
refusal = partial(gr.Error, print_exception=False)
heat = partial(tevia_hf.heat_map, longest_side=LONGEST_SIDE)


def default_model() -> Path:
    """`tevia-tiny`, beside this file or in the repository."""
    candidates = [HERE / "tevia-tiny", *(parent / "hub_configs" / "tevia-tiny" for parent in HERE.parents)]
    if folders := [folder for folder in candidates if folder.is_dir()]:
        return folders[0]
    raise ValueError("No model: set TEVIA_MODEL to a name or folder, or put the folder tevia-tiny beside app.py.")


NAME = os.environ.get("TEVIA_MODEL") or str(default_model())
MODEL = tevia_hf.TeViAForSegmentation.from_pretrained(NAME).eval()
PROCESSOR = tevia_hf.TeViAProcessor.from_pretrained(NAME)
CLASSES = [name for label, name in sorted(MODEL.config.id2label.items()) if label]  # empty with one label
COLOURS = ["orange", "light blue", "pink", "green", "red", "dark blue"]  # of `tevia_hf.overlay`
EXAMPLES = tempfile.TemporaryDirectory(prefix="tevia-examples-")


def read_upload(file: str | None, slice_number: str | None = "", window: str | None = ""):
    """The image in an uploaded file. Raises `gr.Error` with the fix if it cannot be used."""
    if not file:
        raise refusal("Choose an image first: PNG, JPEG, TIFF, DICOM or NIfTI.")
    try:
        image = tevia_hf.read_image(address(file, slice_number, window), most_pixels=MAX_PIXELS)
        if min(shape := image.array.shape[:2]) < 16:
            raise ValueError(f"{file}: {shape[0]} x {shape[1]} pixels are too few. Choose a larger image.")
        return image
    except FileNotFoundError as error:
        raise refusal("Uploads are deleted after an hour: choose the file again.") from error
    except (ValueError, OSError) as error:
        message = str(error).replace(f"{Path(file).parent}{os.sep}", "")
        raise refusal(re.sub(r"Select one, e\.g\. .*", "Enter another under “CT and MRI”.", message)) from error


def address(file: str, slice_number: str | None, window: str | None) -> str:
    """The file with the slice and window of a volume, as `read_image` expects it."""
    if not file.lower().endswith((".nii", ".nii.gz", ".dcm", ".dicom")):
        return file
    number, window = (slice_number or "").strip().lower() or "middle", (window or "").replace(" ", "")
    if not SLICE.fullmatch(number):
        raise refusal("Slice: write its number, counted from 0, or “middle”, or such as “coronal:40”.")
    if window and not WINDOW.fullmatch(window):
        raise refusal("Window: write centre and width, such as “-600,1500”.")
    return f"{file}#{number}" + (f"@{window}" if window else "")


def segment(
    file: str | None,
    sentence: str,
    what_if: str = "",
    without_sentence: bool = False,
    threshold: float = 0.5,
    slice_number: str = "",
    window: str = "",
):
    """Masks of an image with a text and with another one, and what each text changed.

    Args:
        file: PNG, JPEG, TIFF, DICOM or NIfTI.
        sentence: a text about the lesion, as in a report; "" for none.
        what_if: another text to compare; "" for none.
        without_sentence: ignore `sentence`.
        threshold: the probability above which a pixel is lesion, for a model with one label.
        slice_number: slice of a volume, counted from 0, such as "40", "middle" (the default) or "coronal:40".
        window: "centre,width" of the intensity window of DICOM and NIfTI, such as "-600,1500".
    """
    texts = [" ".join((text or "").split()) for text in ("" if without_sentence else sentence, what_if)]
    if (longest := max(map(len, texts))) > MAX_CHARACTERS:
        raise refusal(f"The text has {longest:,} characters: shorten it to {MAX_CHARACTERS:,} at most.")
    if not 0 < threshold < 1:
        raise refusal("Threshold: a number between 0 and 1.")
    image = read_upload(file, slice_number, window)
    texts = texts if texts[1] else texts[:1]
    try:
        influences = tevia_hf.explain_texts(MODEL, PROCESSOR, image.array, texts)
    except ValueError as error:
        raise refusal(str(error).replace("image 0", Path(file).name)) from error
    masks = [influence.mask(threshold) for influence in influences]
    overlays = [tevia_hf.overlay(image.array, mask, longest_side=LONGEST_SIDE) for mask in masks]
    changes = [heat(image.array, influence.effect) if influence.effect.any() else None for influence in influences]
    focus = influences[0].attention
    attention = None if focus is None else heat(image.array, focus / (focus.max() or 1))
    second = (overlays[1], changes[1]) if len(texts) > 1 else (None, None)
    position = [f"Slice {image.source.frame}, counted from 0."] if image.source and image.source.frame else []
    report = "\n\n".join([*position, *summary(texts, masks)])
    return report, overlays[0], changes[0], *second, attention, masks[0] * (1 if CLASSES else 255)


def summary(texts: list[str], masks: list[np.ndarray]) -> list[str]:
    notes = ["".join(f" ⚠️ {note}" for note in tevia_hf.text_warnings(MODEL, PROCESSOR, text)) for text in texts]
    rows = zip(map(described, texts), map(amount, masks), notes, strict=True)
    lines = [f"**{text}:** {segmented}.{note}" for text, segmented, note in rows]
    if len(masks) > 1 and (either := (masks[0] > 0) | (masks[1] > 0)).any():
        lines.append(f"The two masks share {(either & (masks[0] == masks[1])).sum() / either.sum():.0%} of their area.")
    return lines


def amount(mask: np.ndarray) -> str:
    areas = {"of the image is segmented": mask > 0, **{name: mask == label for label, name in enumerate(CLASSES, 1)}}
    shares = {name: f"{area.mean():.1%}" if area.mean() >= 0.001 else "under 0.1%" for name, area in areas.items()}
    parts = [f"{shares[name]} {name}" for name, area in areas.items() if area.any()] or ["nothing is segmented"]
    return ": ".join(filter(None, [parts[0], ", ".join(parts[1:])]))


def legend() -> str:
    names = inert(", ".join(f"{name} {COLOURS[index % len(COLOURS)]}" for index, name in enumerate(CLASSES)))
    return (HERE / "legend.md").read_text("utf-8").replace("orange", names or "orange", 1)


def described(text: str) -> str:
    """The start of the text, isolated so that right-to-left scripts do not reorder the rest."""
    return f"“\u2068{inert(text[:120])}\u2069{'…' if len(text) > 120 else ''}”" if text else "No text"


def inert(text: str) -> str:
    return "".join(c if c.isalnum() or c in " .,:;" else f"&#{ord(c)};" for c in text)


def page(report: str, before=None, results=(None,) * 6) -> tuple:
    """The content of the right column; images that are None are hidden, so that no older one remains."""
    return report, *(gr.Image(image, visible=image is not None) for image in (before, *results))


def answer(*inputs) -> tuple:
    """`segment` for the page, which shows an error in place of the result."""
    try:
        report, *results = segment(*inputs)
    except gr.Error as error:
        return page(f"⚠️ {inert(error.message)}")
    except Exception:  # no older mask may remain on the page
        traceback.print_exc()
        return page("⚠️ Something went wrong; see the log of the server.")
    return page(report, results=results)


def preview(file: str | None) -> tuple:
    """A newly chosen image by itself, with empty fields for slice and window."""
    try:
        image = read_upload(file).array
    except gr.Error as error:
        return *page(f"⚠️ {inert(error.message)}" if file else HINT), "", ""
    displayed = heat(image, np.zeros(image.shape[:2]))
    return *page("No mask yet: write a text and press **Segment**.", displayed), "", ""


def synthetic_examples() -> list[tuple[str, str, str]]:
    """Files of synthetic images, each with its text and one about other lesions."""
    load = partial(tevia_hf.load_segmentation_dataset, "synthetic", split="test", size=256, count=3)
    pairs, examples = zip(load(counterpart=False), load(counterpart=True), strict=True), []
    for number, (example, other) in enumerate(pairs, start=1):
        path = Path(EXAMPLES.name) / f"image-{number}.png"
        example["image"].save(path)
        examples.append((str(path), example["text"], other["text"]))
    return examples


def build() -> gr.Blocks:
    examples = synthetic_examples()

    def pick(event: gr.SelectData):
        return examples[event.index]

    image = partial(gr.Image, format="jpeg", interactive=False, visible=False, buttons=["fullscreen"], min_width=240)
    with gr.Blocks(title="TeViA", analytics_enabled=False, delete_cache=(600, 3600)) as demo:  # after an hour
        model = TINY if Path(NAME).name == "tevia-tiny" else f"Model: `{Path(NAME).name}`."
        gr.Markdown((HERE / "introduction.md").read_text("utf-8") + model)
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                file = gr.File(label="Image", height=140)
                gr.Markdown("or a synthetic image, each with two texts:")
                thumbnails = [(path, f"Image {number}") for number, (path, *_) in enumerate(examples, start=1)]
                quiet = {"show_label": False, "allow_preview": False, "interactive": False, "buttons": []}
                gallery = gr.Gallery(thumbnails, columns=3, height=155, **quiet)
                sentence = gr.Textbox("", label="Text", placeholder=f"e.g. {examples[0][1]}", max_lines=4)
                what_if = gr.Textbox("", label="What if the report said …?", placeholder="another text", max_lines=4)
                button = gr.Button("Segment", variant="primary")
                without = gr.Checkbox(label="Ignore the text")
                threshold = gr.Slider(0.05, 0.95, 0.5, step=0.05, label="Threshold", visible=not CLASSES)
                with gr.Accordion("CT and MRI: slice and window", open=False):
                    number = gr.Textbox("", label="Slice, counted from 0", placeholder="middle, 40 or coronal:40")
                    window = gr.Textbox("", label="Window: centre,width", placeholder="-600,1500 for lungs")
            with gr.Column(scale=3, min_width=280, elem_id="results"):
                report = gr.Markdown(HINT, label="summary", elem_id="summary")
                before = image(label="Image, no mask yet", elem_id="before")
                with gr.Row():
                    mask_overlay = image(label="Mask", elem_id="first")
                    changed = image(label="Changed by the text", elem_id="changed")
                with gr.Row():
                    mask_if = image(label="Mask, what if", elem_id="second")
                    changed_if = image(label="Changed by what if")
                with gr.Accordion("Attention, and the mask as a file", open=False), gr.Row():
                    attention = image(label="Attention")
                    saved = {"format": "png", "image_mode": "L", "buttons": ["download"], "elem_id": "mask"}
                    mask = image(label="Mask of label numbers" if CLASSES else "Mask of 0 and 255", **saved)
                gr.Markdown(legend())
        inputs = [file, sentence, what_if, without, threshold, number, window]
        results = [mask_overlay, changed, mask_if, changed_if, attention, mask]
        right = [report, before, *results]
        api = gr.Button(visible=False)
        api.click(segment, inputs, [report, *results], api_name="segment", concurrency_id="model")
        private = {"api_visibility": "private", "show_progress_on": report, "concurrency_id": "model"}
        enter = [field.submit for field in (sentence, what_if, number, window)]
        answered = gr.on([button.click, *enter, without.input, threshold.release], answer, inputs, right, **private)
        answered.then(js=SCROLL_ON_A_PHONE)
        gr.on([file.upload, file.clear], preview, file, [*right, number, window], **private)
        picked = gallery.select(pick, None, [file, sentence, what_if], **private)
        picked.then(answer, inputs, right, **private).then(js=SCROLL_ON_A_PHONE)
    return demo.queue(max_size=32, default_concurrency_limit=1)


def launch(demo: gr.Blocks, **options):
    theme = gr.themes.Soft(primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["monospace"])
    options |= {"theme": theme, "css_paths": HERE / "style.css", "footer_links": ["api"]}
    return demo.launch(max_file_size="50mb", max_threads=2, **options)


if __name__ == "__main__":
    launch(build())
