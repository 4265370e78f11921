"""A picture and a sentence in, a lesion mask out, beside what another sentence or none would have given."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import numpy as np

from tevia_hf import (
    TeViAForSegmentation,
    TeViAProcessor,
    explain_text,
    heat_map,
    load_segmentation_dataset,
    overlay,
    read_image,
)

MOST_CHARACTERS = 1_000
MOST_PIXELS = 16_000_000
MOST_WAITING = 32
LARGEST_FILE = "50mb"
FILES_KEPT_FOR = (600, 3600)  # looked at every 10 minutes, deleted after an hour

INTRODUCTION = """
# TeViA: the sentence says which lesion
A medical picture (PNG, JPEG, TIFF, DICOM, NIfTI) and one clinical sentence go in, a mask comes out. Ask what the mask
*would have been* with another sentence, or with none. "Left" is the picture's left. **Not for clinical decisions.**
"""
LEGEND = """
**Mask**: orange. **What the sentence changed**: orange where it made a lesion more likely than no sentence at all, blue
where less. **Where it looked**: where the network's attention singled out some of the sentence's words; that alone does
not tell that the mask changed there.
"""
CSS = """
.gradio-container {max-width: 1180px !important; min-width: 0 !important; margin: auto}
.gradio-container .main {padding: 16px max(12px, 2vw) !important; min-width: 0 !important}
#results img {image-rendering: auto; width: 100%; object-fit: contain}
"""
THEME = gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def default_model() -> Path:
    """`tevia-tiny`, beside this file or in the repository."""
    here = Path(__file__).resolve()
    places = [here.with_name("tevia-tiny"), *(parent / "hub_configs" / "tevia-tiny" for parent in here.parents)]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise ValueError("No model: set TEVIA_MODEL to a name or folder, or put the folder tevia-tiny beside app.py.")
    return found


NAME = os.environ.get("TEVIA_MODEL") or str(default_model())
MODEL = TeViAForSegmentation.from_pretrained(NAME).eval()
PROCESSOR = TeViAProcessor.from_pretrained(NAME)


def read_picture(file: str | None, slice_number: str = "", window: str = "") -> np.ndarray:
    """The pixels of an uploaded file; `gr.Error` with what to do instead where there are none to show."""
    if not file:
        raise gr.Error("Choose a picture first: PNG, JPEG, TIFF, DICOM or NIfTI.", print_exception=False)
    place = slice_number.strip() + (f"@{window.replace(' ', '')}" if window.strip() else "")
    try:
        picture = read_image(f"{file}#{place}" if place and is_sliced(file) else file).array
    except (ValueError, OSError) as error:
        message = str(error).replace(f"{Path(file).parent}{os.sep}", "")
        where = " Slice and window go into the fields under “CT and MRI”." if is_sliced(file) else ""
        raise gr.Error(message + where, print_exception=False) from error
    height, width = picture.shape[:2]
    if height * width > MOST_PIXELS:
        raise gr.Error(f"{height} x {width} pixels are too many here: shrink the picture.", print_exception=False)
    return picture


def is_sliced(file: str) -> bool:
    return file.lower().endswith((".nii", ".nii.gz", ".dcm", ".dicom"))


def checked_sentence(sentence: str | None) -> str:
    sentence = (sentence or "").strip()
    if len(sentence) > MOST_CHARACTERS:
        message = f"The sentence has {len(sentence):,} characters: shorten it to {MOST_CHARACTERS:,} at most."
        raise gr.Error(message, print_exception=False)
    return sentence


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
        slice_number: of a volume, counted from 0, such as "40", "middle" or "coronal:40".
        window: "centre,width" of DICOM and NIfTI values, such as "-600,1500".
    """
    texts = ["" if without_sentence else checked_sentence(sentence), checked_sentence(what_if)]
    picture = read_picture(file, slice_number, window)
    try:
        first, second = (explain_text(MODEL, PROCESSOR, picture, text) for text in texts)
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
    masks = [found.probability > threshold for found in (first, second)]
    looked = None if first.attention is None else heat_map(picture, first.attention / (first.attention.max() or 1))
    shown = [overlay(picture, mask.astype(np.uint8)) for mask in masks]
    changed = [heat_map(picture, found.effect) for found in (first, second)]
    if not texts[1]:
        shown[1] = changed[1] = None
    mask = masks[0].astype(np.uint8) * 255
    return summary(texts, masks, threshold), shown[0], changed[0], shown[1], changed[1], looked, mask


def summary(texts: list[str], masks: list[np.ndarray], threshold: float) -> str:
    lines = [f"**{described(texts[0])}:** {masks[0].mean():.1%} of the picture is marked (threshold {threshold:g})."]
    if texts[1]:
        either = (masks[0] | masks[1]).sum()
        shared = (masks[0] & masks[1]).sum() / either if either else 1.0
        lines.append(
            f"**{described(texts[1])}:** {masks[1].mean():.1%}; the two masks share {shared:.0%} of their area."
        )
    return "\n\n".join([*lines, *(note for text in texts for note in reading_notes(text))])


def described(text: str) -> str:
    plain = "".join(character if character.isalnum() else f"&#{ord(character)};" for character in text[:120])
    return f"“{plain}{'…' if len(text) > 120 else ''}”" if text else "No sentence"


def reading_notes(text: str) -> list[str]:
    """What of a sentence the model cannot take in."""
    if not text or not MODEL.config.use_text:
        return ["This model reads no text."] if text else []
    tokenizer, limit = PROCESSOR.tokenizer, MODEL.config.max_text_length
    tokens = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    notes = []
    if len(tokens) > limit:
        notes.append(f"It has {len(tokens)} tokens, of which the model reads the first {limit}.")
    if unknown := tokens.count(tokenizer.unk_token_id):
        notes.append(f"{unknown} of its words or signs are unknown to the model, which guesses without them.")
    return [f"⚠️ {described(text)} {note}" for note in notes]


def example_films() -> list[tuple[str, str, str]]:
    """Made-up films as files, with their sentence and one about other lesions."""
    folder = Path(tempfile.mkdtemp(prefix="tevia-films-"))
    meant, others = (
        load_segmentation_dataset("synthetic", split="test", size=256, count=3, counterpart=other)
        for other in (False, True)
    )
    examples = []
    for number, (film, other) in enumerate(zip(meant, others, strict=True), start=1):
        path = folder / f"film-{number}.png"
        film["image"].save(path)
        examples.append((str(path), film["text"], other["text"]))
    return examples


def build() -> gr.Blocks:
    films = example_films()

    def pick(event: gr.SelectData):
        return films[event.index]

    with gr.Blocks(title="TeViA", analytics_enabled=False, delete_cache=FILES_KEPT_FOR) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                file = gr.File(label="Picture", height=140)
                sentence = gr.Textbox("", label="Sentence", lines=2, placeholder=films[0][1])
                what_if = gr.Textbox(
                    "", label="What if the report said …?", lines=2, placeholder="compare another sentence"
                )
                without = gr.Checkbox(label="Leave the sentence out")
                threshold = gr.Slider(0.05, 0.95, 0.5, step=0.05, label="Threshold")
                with gr.Accordion("CT and MRI: slice and window", open=False):
                    number = gr.Textbox("", label="Slice, counted from 0", placeholder="40, middle or coronal:40")
                    window = gr.Textbox(
                        "", label="Window: centre,width", placeholder="-600,1500 for lungs, 40,400 soft tissue"
                    )
                button = gr.Button("Segment", variant="primary")
                gr.Markdown("**Made-up films to try**, each with two sentences:")
                gallery = gr.Gallery(
                    [path for path, _, _ in films],
                    show_label=False,
                    columns=3,
                    height=150,
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                )
            with gr.Column(scale=3, min_width=300, elem_id="results"):
                said = gr.Markdown("Choose a picture or one of the made-up films.", elem_id="summary")
                with gr.Row():
                    with gr.Column(min_width=260):
                        mask_seen = gr.Image(label="Mask", elem_id="first", **PICTURE)
                        changed = gr.Image(label="What the sentence changed", **PICTURE)
                    with gr.Column(min_width=260):
                        mask_if = gr.Image(label="Mask, what if", elem_id="second", **PICTURE)
                        changed_if = gr.Image(label="What that sentence changed", **PICTURE)
                with gr.Accordion("Where it looked, and the mask as a file", open=False), gr.Row():
                    looked = gr.Image(label="Where it looked", min_width=260, **PICTURE)
                    mask = gr.Image(label="Mask, 0 and 255", min_width=260, image_mode="L", **PICTURE)
                gr.Markdown(LEGEND)
        inputs = [file, sentence, what_if, without, threshold, number, window]
        outputs = [said, mask_seen, changed, mask_if, changed_if, looked, mask]
        asked = [button.click, sentence.submit, what_if.submit]
        gr.on(asked, segment, inputs, outputs, api_name="segment", concurrency_id="model")
        preview = {"api_visibility": "private", "show_progress": "hidden"}
        file.upload(shown_before, [file, number, window], outputs, **preview)
        picked = gallery.select(pick, None, [file, sentence, what_if], **preview)
        picked.then(segment, inputs, outputs, api_visibility="private", concurrency_id="model")
    return demo.queue(max_size=MOST_WAITING, default_concurrency_limit=1)


PICTURE = {"format": "png", "interactive": False, "buttons": ["download", "fullscreen"]}


def shown_before(file: str, slice_number: str, window: str) -> list:
    """The picture itself until a mask is asked for."""
    picture = read_picture(file, slice_number, window)
    return ["", heat_map(picture, np.zeros(picture.shape[:2])), *[None] * 5]


def launch(demo: gr.Blocks, **options):
    return demo.launch(theme=THEME, css=CSS, max_file_size=LARGEST_FILE, share=False, footer_links=["api"], **options)


if __name__ == "__main__":
    launch(build())
