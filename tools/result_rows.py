"""Saves results of trainings and measurements as rows in `benchmarks/results/`, the input of `tools/results.py`.

    python tools/result_rows.py ablation outputs/ablation qata --command "tevia ablate ..." --revision 1a2b3c4
    python tools/result_rows.py demo outputs/demo
    python tools/result_rows.py reference [--images FOLDER]

A row is a JSON file: one per run and seed of an ablation, with both Dice definitions for each text condition, beside
`comparisons.json` with the differences between its runs.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import yaml

from tevia_hf import TeViAImageProcessor, TeViAPrototypeMemory, convert_lightning_checkpoint
from tevia_hf.experiments.grid import safe_name
from tevia_hf.intervals import paired_difference
from tevia_hf.prompts.paraphrasing import corrected
from tevia_hf.prompts.report_language import known_typos
from tevia_hf.prompts.wordings import WORDINGS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from references.reference_case import MANIFEST, expected, reference_inputs, reference_state_dict  # noqa: E402  # needs the path above
from results import ROWS, read_json  # noqa: E402  # a module in this folder

PATH_FIELDS = ("vision_model", "text_model", "data_dir", "output_dir", "text_table")  # specific to the machine
IMAGES = (
    ("qata", "qata/Train/Images/covid_0001.jpg", "qata/Train/GTs/mask_covid_0001.png"),
    ("busi", "busi/malignant/malignant (20).png", "busi/malignant/malignant (20)_mask.png"),
)
PARTS = (("convnext", "vision"), ("bert", "text"))
# Kinds of evaluation wordings of QaTa's texts -> pattern; a text may be of several kinds.
ASIDES = "|".join(re.escape(aside.removesuffix(".")) for aside in WORDINGS["evaluation"].asides)
KINDS = {
    "sides abbreviated: lt., rt., bibasilar": r"\b[lr]t\.|bibasilar",
    "regions as fields: throughout, mid and lower fields": r"throughout|\bfields?\b",
    "regions as thirds: all over, lower third": r"all over|\bthirds?\b",
    "laterality left out": r"^(?!.*-sided)",
    "with an irrelevant remark": ASIDES,
    "with a slip of the keyboard": None,  # detected by the table of typos
}


def keep_ablation(folder: Path, name: str, command: str, revision: str) -> None:
    """Saves a row per finished run and seed of an ablation, and the differences in its table."""
    table = pd.read_csv(folder / "ablation.csv")
    names = {safe_name(run): run for run in table["run"]}
    for trained in sorted(folder.glob("*/seed-*/ablation.json")):
        run = trained.parent
        if (run / "evaluation" / "arguments.json").is_file():
            run_name = names.get(run.parent.name, run.parent.name)
            row = {"experiment": name, "run": run_name, "command": command, "revision": revision, **run_row(run)}
            write_json(ROWS / name / f"{run.parent.name}-{run.name}.json", row)
    if "difference" in table:
        compared = table[["run", "against", "difference", "low", "high", "images", "groups", "seeds"]]
        rows = compared.dropna(subset="difference").to_json(orient="records", double_precision=5)
        write_json(ROWS / name / "comparisons.json", json.loads(rows))


def run_row(run: Path) -> dict[str, Any]:
    """Recipe, cost and scores of a run."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    facts, report = read_json(run / "ablation.json"), read_json(run / "evaluation" / "evaluation.json")
    settings = report["settings"]
    splits = pd.read_csv(run / "_splits.csv", dtype=str, keep_default_na=False)
    images = pd.read_csv(run / "evaluation" / "evaluation.csv", dtype={"group": str}, keep_default_na=False)
    return {
        "seed": recipe["seed"],
        "recipe": {key: value for key, value in recipe.items() if key not in PATH_FIELDS},
        "machine": f"{facts['machine']}, threads: {facts['threads']}",
        "steps": facts["steps"],
        "minutes": round(facts["minutes"], 1),
        "validation_dice": validation_dice(run),
        "dataset": settings["dataset"],
        "texts_from_masks": "text_table" in recipe,
        "train_images": int((splits["part"] == "train").sum()),
        "images": settings["images"],
        "groups": len({group or f"\n{name}" for name, group in zip(images["id"], images["group"], strict=True)}),
        "scores": rounded(report["scores"]),
        "intervals": rounded({name: {"dice": row["dice"]} for name, row in report["intervals"].items()}),
        "wordings": rounded(by_wording(images)) if settings["dataset"] == "qata" else {},
    }


def validation_dice(run: Path) -> list[float]:
    """The validation Dice of the evaluated weights after each epoch."""
    states = [run / "trainer_state.json", *run.glob("checkpoint-*/trainer_state.json")]
    logs = [read_json(path)["log_history"] for path in states if path.is_file()]
    log = max(logs, key=len, default=[])
    return [round(entry["eval_dice"], 4) for entry in log if "eval_dice" in entry]


def by_wording(images: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Kind of evaluation wording -> Dice with it minus Dice with the own texts, on images with that kind."""
    own, other = (images[images["text_mode"] == mode].set_index("id") for mode in ("correct", "paraphrased"))
    other = other[other["text"] != own["text"].reindex(other.index)]
    differences: dict[str, dict[str, Any]] = {}
    for kind, pattern in KINDS.items() if len(other) else ():
        has_kind = [is_of_kind(text.lower(), pattern) for text in other["text"]]
        if any(has_kind):
            ours, theirs = other[has_kind], own.loc[other.index[has_kind]]
            difference = paired_difference(list(ours["dice"]), list(theirs["dice"]), list(ours["group"]))
            differences[kind] = {
                "images": len(ours),
                "difference": difference.difference,
                "interval": difference.interval and list(difference.interval),
            }
    return differences


def is_of_kind(text: str, pattern: str | None) -> bool:
    intended = corrected(text, known_typos())
    return intended != text if pattern is None else re.search(pattern, intended, re.IGNORECASE) is not None


def keep_demo(folder: Path) -> None:
    demo = read_json(folder / "scores.json")
    write_json(ROWS / "demo.json", {**demo, "scores": rounded(demo["scores"]), "command": "make demo"})


def keep_reference(images: Path | None) -> None:
    """Saves the largest differences between the converted network and the authors' values."""
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
    rows |= image_pairs(images)
    largest = {name: max(float((a - b).abs().max()) for a, b in pairs) for name, pairs in rows.items()}
    command = "python tools/result_rows.py reference"
    write_json(ROWS / "reference.json", {"command": command, "largest_difference": largest})


def image_pairs(folder: Path | None) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Our pixels and masks paired with those of the authors' reader (float16), for images outside the repository."""
    if folder is None:
        return {}
    theirs = np.load(folder / "reference/pixels_expected.npz")
    processor = TeViAImageProcessor(swap_axes=True, do_antialias=False, normalization="zscore")
    pairs: dict[str, list] = {"pixels of two images": [], "their masks": []}
    for name, image, mask in IMAGES:
        inputs = processor(folder / "data" / image, folder / "data" / mask)
        pixels = torch.from_numpy(theirs[f"{name}_pixels"].astype(np.float32))
        pairs["pixels of two images"].append((inputs["pixel_values"][0], pixels))
        pairs["their masks"].append((inputs["labels"], torch.from_numpy(theirs[f"{name}_mask"]).long()))
    return pairs


def rounded(value: Any) -> Any:
    """The value with all numbers rounded to five decimals."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return round(value, 5) if isinstance(value, float) else value


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    ablation = kinds.add_parser("ablation")
    ablation.add_argument("folder", type=Path)
    ablation.add_argument("name")
    ablation.add_argument("--command", required=True, help="the command of the run, with folders as $VARIABLES")
    ablation.add_argument("--revision", required=True, help="commit of the code that was run")
    kinds.add_parser("demo").add_argument("folder", type=Path)
    kinds.add_parser("reference").add_argument("--images", type=Path, help="folder with reference/ and data/")
    args = parser.parse_args()
    if args.kind == "ablation":
        keep_ablation(args.folder, args.name, args.command, args.revision)
    elif args.kind == "demo":
        keep_demo(args.folder)
    else:
        keep_reference(args.images)


if __name__ == "__main__":
    main()
