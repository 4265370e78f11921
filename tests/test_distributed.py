"""Training in two processes with one image each equals training in one with two accumulated images."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from stock import labelled, new_model, stock_trainer
from tiny import tiny_config, tiny_processor
from transformers import TrainerCallback

from tevia_hf import LossLoggingCallback, TeViAForSegmentation, build_trainer
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.training.arguments import TeViATrainingArguments

# Indices of images without a lesion, of four in order: rank 0 gets 0 and 2, rank 1 gets 1 and 3.
CASES = {"every": (), "one-image-without": (1,), "one-rank-without": (0, 2)}
EPOCHS = 4  # before, collecting, momentum, momentum
# Forked after the imports, which take longer than the training.
RANKS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from torch.multiprocessing import start_processes
from test_distributed import train_rank
start_processes(train_rank, tuple(sys.argv[1:]), nprocs=2, start_method="fork")
"""


class Gradients(TrainerCallback):
    """Records the gradients of the first step, as the optimiser gets them."""

    def __init__(self):
        self.first: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.first:
            self.first = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def images(case: str):
    rows = list(synthetic_dataset(size=32, count=4))
    for index in CASES[case]:
        rows[index]["mask"] = Image.new("L", (32, 32))
    return dataset_from_rows(rows)


def train(case: str, folder: str, accumulated: int) -> Path:
    """Writes the final state of this process."""
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(text_dropout=0, prototype_momentum=0.5))
    args = TeViATrainingArguments(
        output_dir=folder,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulated,
        train_sampling_strategy="sequential",
        learning_rate=1e-2,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
    )
    gradients = Gradients()
    trainer = build_trainer(model, tiny_processor(), args, images(case), callbacks=[gradients])
    trainer.train()
    losses = ("loss", "segmentation_loss", "alignment_loss")
    result = {
        "loss": {
            f"{name} {entry['step']}": torch.tensor(entry[name])
            for entry in trainer.state.log_history[:-1]
            for name in losses
        },
        "gradient": gradients.first,
        "weight": {name: p.detach() for name, p in model.named_parameters() if p.requires_grad},
        "prototype": dict(enumerate(model.prototype_memory.prototypes)),
        "count": int(model.prototype_memory.count),
        "processes": args.world_size,
    }
    path = Path(folder) / f"{case}-{args.process_index}-of-{args.world_size}.pt"
    torch.save(result, path)
    return path


def train_stream(folder: str, is_dispatched: bool) -> None:
    """Trains on a data set without length, of which each process reads its share, and writes the final state."""
    trainer = stock_trainer(
        new_model(),
        labelled(4).to_iterable_dataset(num_shards=2),
        folder,
        max_steps=2 * EPOCHS,  # of two images of four, on all ranks
        per_device_train_batch_size=1,
        logging_steps=1,
        accelerator_config={"dispatch_batches": is_dispatched},
    )
    LossLoggingCallback.add_to(trainer)
    trainer.train()
    memory, log = trainer.model.prototype_memory, trainer.state.log_history[:-1]
    result = {
        "count": int(memory.count),
        "active": memory.is_active,
        "prototype": dict(enumerate(memory.prototypes)),
        "loss": {str(entry["step"]): torch.tensor(entry["segmentation_loss"]) for entry in log},
    }
    torch.save(result, Path(folder) / f"stream-{is_dispatched}-{trainer.args.process_index}.pt")


def train_rank(rank: int, folder: str, port: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    for case in CASES:
        train(case, folder, accumulated=1)
    for is_dispatched in (False, True):
        train_stream(folder, is_dispatched)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """Case -> the final states of both processes."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-c", RANKS, str(folder), str(free_port())]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-3000:]
    runs = {case: [torch.load(folder / f"{case}-{rank}-of-2.pt") for rank in range(2)] for case in CASES}
    streams = {kind: [torch.load(folder / f"stream-{kind}-{rank}.pt") for rank in range(2)] for kind in (False, True)}
    return runs | streams


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("accumulated"))
    return {case: torch.load(train(case, folder, accumulated=2)) for case in CASES}


def greatest_difference(ours: dict, theirs: dict) -> float:
    assert ours.keys() == theirs.keys() and ours
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_there_were_two_processes(two_ranks, one_process):
    assert {run["processes"] for case in CASES for run in two_ranks[case]} == {2}
    assert {run["processes"] for run in one_process.values()} == {1}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("what", ["loss", "gradient", "weight", "prototype"])
def test_two_ranks_equal_two_accumulated_images(two_ranks, one_process, case, what):
    assert greatest_difference(two_ranks[case][0][what], one_process[case][what]) < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_ranks_end_with_the_same_weights_and_prototypes(two_ranks, case):
    first, second = two_ranks[case]
    assert greatest_difference(first["prototype"], second["prototype"]) == 0
    assert greatest_difference(first["weight"], second["weight"]) == 0


@pytest.mark.parametrize("case", CASES)
def test_every_image_with_foreground_is_collected_once_whatever_its_rank(two_ranks, one_process, case):
    expected = 4 - len(CASES[case])
    assert [run["count"] for run in (*two_ranks[case], one_process[case])] == [expected] * 3


@pytest.mark.parametrize("is_dispatched", [False, True])
def test_ranks_that_share_a_stream_collect_each_of_its_images_once(two_ranks, is_dispatched):
    first, second = two_ranks[is_dispatched]
    assert first["count"] == second["count"] == 4 and first["active"] and second["active"]
    assert greatest_difference(first["prototype"], second["prototype"]) == 0
    assert greatest_difference(first["loss"], second["loss"]) == 0


def test_the_cases_differ_by_far_more_than_the_tolerance(one_process):
    for what in ("gradient", "weight", "prototype"):
        assert greatest_difference(one_process["every"][what], one_process["one-rank-without"][what]) > 1e-3
