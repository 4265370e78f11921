"""Miniatures of the public data sets, in the exact layout that users have on disk."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image

TEXT = "unilateral pulmonary infection, one infected area, lower left lung."
SIZE = (48, 64)


def image_of(name: str, channels: int | None = None) -> np.ndarray:
    """A different image for every name."""
    rng = np.random.default_rng(list(name.encode()))
    shape = SIZE if channels is None else (*SIZE, channels)
    return np.kron(rng.integers(20, 230, (6, 8, *shape[2:])), np.ones((8, 8, *[1] * len(shape[2:])))).astype(np.uint8)


def square(left: int = 4, value: int = 255, channels: int | None = None) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[30:40, left : left + 10] = value
    return mask if channels is None else np.stack([mask] * channels, -1)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_table(path: Path, names, text: str = TEXT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"Image": list(names), "Description": [text] * len(names)})
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_excel(path, index=False)


def qata(root: Path) -> None:
    """TeViA's copy: train and val share a folder."""
    names = {"train": ["covid_1", "cxr_s11-e1-r1", "cxr_s11-e2-r1"], "val": ["covid_2", "cxr_s12-e1-r1"]}
    for split, of_split in names.items():
        for name in of_split:
            save(root / "Train" / "Images" / f"{name}.jpg", image_of(name))
            save(root / "Train" / "GTs" / f"mask_{name}.png", square() > 0)
        write_table(root / "prompt" / f"{split}.csv", [f"mask_{name}.png" for name in of_split])


def mosmed(root: Path) -> None:
    """LViT's copy: image and mask share a name, masks have three channels."""
    names = {
        "Train": ["Morozov_study_0017_20.png", "Morozov_study_0017_21.png", "Jun_coronacases_case7_75.png"],
        "Val": ["Morozov_study_0018_4.png"],
        "Test": ["Jun_radiopaedia_case1_3.png"],
    }
    for title, of_split in names.items():
        folder = root / f"{title}_Folder"
        for name in of_split:
            save(folder / "img" / name, image_of(name))
            save(folder / "labelcol" / name, square(channels=3))
        write_table(folder / f"{title}_text.xlsx", of_split)


def monuseg(root: Path) -> None:
    """LViT's copy: test images are TIFF, masks PNG, the table names PNG."""
    names = {"Train": "TCGA-18-5592-01Z-00-DX1", "Val": "TCGA-38-6178-01Z-00-DX1", "Test": "TCGA-2Z-A9J9-01A-01-TS1"}
    for title, name in names.items():
        folder = root / f"{title}_Folder"
        save(folder / "img" / f"{name}{'.tif' if title == 'Test' else '.png'}", image_of(name, channels=3))
        save(folder / "labelcol" / f"{name}.png", square())
        write_table(folder / f"{title}_text.xlsx", [f"{name}.png"], "The nuclei are evenly distributed.")


def busi(root: Path) -> None:
    """As published: classes in folders, extra lesions in masks of their own, normal masks in colour."""
    folder = root / "Dataset_BUSI_with_GT"
    for kind in ("benign", "malignant", "normal"):
        for number in range(1, 7):
            name = f"{kind} ({number})"
            save(folder / kind / f"{name}.png", image_of(name, channels=3))
            mask = np.zeros((*SIZE, 3), np.uint8) if kind == "normal" else square() > 0
            save(folder / kind / f"{name}_mask.png", mask)
    save(folder / "benign" / "benign (2)_mask_1.png", square(40) > 0)
    save(folder / "benign" / "benign (2)_mask_2.png", square(20) > 0)


def breast_package(root: Path) -> None:
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        for kind in ("benign", "malignant"):
            name = f"{kind} ({number}).png"
            save(root / f"{split}_images" / name, image_of(name))
            save(root / f"{split}_masks" / name, square())


def lgg(root: Path) -> None:
    for patient in ("TCGA_CS_4941_19960909", "TCGA_DU_7010_19860307", "TCGA_HT_7473_19970826", "TCGA_HT_7475_19970918"):
        for number in (1, 2, 10):
            folder, name = root / "kaggle_3m" / patient, f"{patient}_{number}"
            save(folder / f"{name}.tif", image_of(name, channels=3))
            save(folder / f"{name}_mask.tif", square(value=255 * (number > 1)))
    (root / "kaggle_3m" / "data.csv").write_text("Patient\n")


def figshare(root: Path) -> None:
    """MATLAB 7.3 records; what MATLAB sees as (height, width) is stored as (width, height)."""
    for number in range(1, 9):
        folder = root / ("brainTumorDataPublic_1-766" if number < 5 else "brainTumorDataPublic_767-1532")
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / f"{number}.mat", "w") as file:
            record = file.create_group("cjdata")
            record["image"] = image_of(str(number)).astype(np.int16).T * 20
            record["tumorMask"] = (square(number) > 0).astype(np.uint8).T
            record["label"] = np.array([[float(1 + number % 3)]])
            record["PID"] = np.array([[ord(character)] for character in f"10{(number + 1) // 2}"], np.uint16)
    (root / "cvind.mat").write_bytes(b"not read")


LAYOUTS = {
    "qata": ("qata", qata),
    "mosmed": ("mosmed", mosmed),
    "monuseg": ("monuseg", monuseg),
    "busi": ("breast", busi),
    "breast-package": ("breast", breast_package),
    "lgg": ("brain", lgg),
    "figshare": ("brain", figshare),
}
