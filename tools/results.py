"""Writes docs/results.md from what runs left on disk: every table in it comes from there.

    python tools/results.py --demo outputs/demo --text outputs/qata --vision outputs/qata-vision \\
        --trials "what was changed=outputs/trial" ...

All but the first are output folders of `tevia train`; `--text` and `--vision` also hold the folder `evaluation` that
`tevia evaluate` wrote, and `held_out`, written with `--held-out`.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml

from tevia_hf import TeViAImageProcessor, TeViAPrototypeMemory, convert_lightning_checkpoint
from tevia_hf.evaluation.report import score_table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from references.reference_case import MANIFEST, expected, reference_inputs, reference_state_dict  # noqa: E402  # needs the path above

PATH_FIELDS = ("vision_model", "text_model", "data_dir", "output_dir")
PICTURES = (
    ("qata", "qata/Train/Images/covid_0001.jpg", "qata/Train/GTs/mask_covid_0001.png"),
    ("busi", "busi/malignant/malignant (20).png", "busi/malignant/malignant (20)_mask.png"),
)
PARTS = (("convnext", "vision"), ("bert", "text"))
TEMPLATE = (Path(__file__).parent / "results_template.md").read_text(encoding="utf-8")


def reference_table(pictures: Path | None) -> str:
    """Largest differences between the converted network and the authors' figures."""
    weights = {f"model.{name}": torch.from_numpy(values) for name, values in reference_state_dict().items()}
    vision, text = ({"model_type": kind, **MANIFEST[f"{part}_config"]} for kind, part in PARTS)
    network = convert_lightning_checkpoint({"state_dict": weights}, vision, text)
    case, theirs = reference_inputs(), {name: torch.from_numpy(values) for name, values in expected().items()}
    memory, prototypes = network.prototype_memory, [torch.from_numpy(prototype) for prototype in case.prototypes]
    pixels, ids, mask, labels = (torch.from_numpy(array) for array in case[:4])
    with torch.no_grad():
        plain = network(pixels, ids, mask, labels=labels)
        memory.assign(prototypes)
        guided = network(pixels, ids, mask, labels=labels)
        memory.momentum_step([vectors.mean(0) for vectors in guided.visual_embeddings])
    units = {name: [F.normalize(v, dim=-1) for v in plain[f"{name}_embeddings"]] for name in ("text", "visual")}
    rows = {
        "logits": [(plain.logits, theirs["probabilities"].logit())],
        "logits, prototypes active": [(guided.logits, theirs["probabilities_with_prototype"].logit())],
        "text vectors": [(units["text"][scale], theirs[f"text_mean_{scale}"]) for scale in range(3)],
        "visual vectors": [(units["visual"][scale], theirs[f"visual_mean_{scale}"]) for scale in range(3)],
        "alignment loss": [(plain.alignment_loss, theirs["alignment_loss"])],
        "Dice loss": [(plain.segmentation_loss, theirs["dice_loss"])],
        "momentum step": [(memory.prototypes[scale], theirs[f"prototype_after_{scale}"]) for scale in range(3)],
    }
    fresh = TeViAPrototypeMemory([len(prototype) for prototype in prototypes])
    fresh.collect([vectors.mean(0) for vectors in plain.visual_embeddings], samples=len(pixels))
    rows["warm-up step"] = [(fresh.prototypes[0], theirs["collected_0"])]
    for name, pairs in picture_pairs(pictures).items():
        rows[name] = pairs
    lines = [f"| {name} | {max(float((a - b).abs().max()) for a, b in pairs):.1e} |" for name, pairs in rows.items()]
    return "\n".join(["| quantity | largest difference |", "|---|---|", *lines])


def picture_pairs(folder: Path | None) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Our pixels and masks beside those of the authors' reader (stored in float16), of pictures that stay elsewhere."""
    if folder is None:
        return {}
    theirs = np.load(folder / "reference/pixels_expected.npz")
    processor = TeViAImageProcessor(swap_axes=True, do_antialias=False, normalization="zscore")
    pairs: dict[str, list] = {"pixels of two pictures": [], "their masks": []}
    for name, image, mask in PICTURES:
        inputs = processor(folder / "data" / image, folder / "data" / mask)
        pixels = torch.from_numpy(theirs[f"{name}_pixels"].astype(np.float32))
        pairs["pixels of two pictures"].append((inputs["pixel_values"][0], pixels))
        pairs["their masks"].append((inputs["labels"], torch.from_numpy(theirs[f"{name}_mask"]).long()))
    return pairs


def evaluation_table(text_run: Path, vision_run: Path, folder: str) -> str:
    """Validation scores of both twins, from the `evaluation.json` in a folder of each run."""
    scores = {"vision-only twin": read_json(vision_run / folder / "evaluation.json")["scores"]["no text branch"]}
    for mode, row in read_json(text_run / folder / "evaluation.json")["scores"].items():
        scores[f"with text: {mode}"] = row
    return score_table(scores)


def run_facts(folder: Path) -> str:
    """What a run was: its recipe without paths, and how long it took."""
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    facts = {name: value for name, value in recipe.items() if name not in PATH_FIELDS}
    minutes = read_json(folder / "train_results.json")["train_runtime"] / 60
    return f"{minutes:.0f} minutes; {json.dumps(facts)}"


def trial_table(trials: list[str]) -> str:
    """Validation Dice of short runs after each epoch, at the size the network sees, and pooled after the last."""
    lines = ["| run | dice after each epoch | dice_pooled |", "|---|---|---|"]
    for label, folder in (trial.split("=") for trial in trials):
        states = Path(folder).glob("checkpoint-*/trainer_state.json")
        last = max(states, key=lambda path: read_json(path)["global_step"])
        rows = [row for row in read_json(last)["log_history"] if "eval_dice" in row]
        epochs = " ".join(f"{row['eval_dice']:.3f}" for row in rows)
        lines.append(f"| {label} | {epochs} | {rows[-1]['eval_dice_pooled']:.3f} |")
    return "\n".join(lines)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("demo", "text", "vision"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--trials", nargs="*", default=[], metavar="LABEL=FOLDER")
    parser.add_argument("--pictures", type=Path, help="folder with reference/pixels_expected.npz and data/")
    args = parser.parse_args()
    demo = read_json(args.demo / "scores.json")
    page = TEMPLATE.format(
        reference=reference_table(args.pictures),
        demo=score_table(demo["scores"]),
        demo_seconds=round(demo["train_seconds"]),
        qata=evaluation_table(args.text, args.vision, "evaluation"),
        held_out=evaluation_table(args.text, args.vision, "held_out"),
        held_out_images=read_json(args.text / "held_out/evaluation.json")["settings"]["images"],
        text_facts=run_facts(args.text),
        vision_facts=run_facts(args.vision),
        trials=trial_table(args.trials),
    )
    (ROOT / "docs/results.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
