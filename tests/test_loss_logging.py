"""Segmentation and alignment loss of the training steps in the Trainer's log, and so in every reporter."""

import pytest
import torch
from stock import BATCH, COUNT, STEPS, labelled, new_model, stock_trainer
from test_schedule import PopsLabels, as_stream
from tiny import tiny_processor
from transformers import TrainerCallback

from tevia_hf import LossLoggingCallback, build_trainer
from tevia_hf.training.arguments import TeViATrainingArguments

NAMES = ("segmentation_loss", "alignment_loss")


class Reporter(TrainerCallback):
    """A reporter such as TensorBoard's, which the Trainer calls before the callbacks it was given."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))


class Steps(TrainerCallback):
    """Both losses of every forward pass in training, by step."""

    def __init__(self):
        self.steps, self.passes = [], []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.hook = model.register_forward_hook(self.note)

    def note(self, model, inputs, outputs):
        if model.training:
            self.passes.append([getattr(outputs, name).item() for name in NAMES])

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(torch.tensor(self.passes).mean(0))
        self.passes = []

    def on_train_end(self, args, state, control, **kwargs):
        self.hook.remove()


def logged(trainer):
    return [record for record in trainer.state.log_history if "loss" in record]


def trained(folder, callbacks=(), dataset=None, model=None, **settings):
    trainer = stock_trainer(model or new_model(), dataset or labelled(), folder, [*callbacks], **settings)
    LossLoggingCallback.add_to(trainer)
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "settings",
    [
        {"logging_steps": 1},
        {"logging_steps": 2},
        {"logging_steps": 1, "gradient_accumulation_steps": 3},
        {"logging_steps": 2, "gradient_accumulation_steps": 2},  # a step of one batch ends the epoch
        {"logging_strategy": "epoch", "gradient_accumulation_steps": 2},
        {"logging_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "extra": {"eval_dataset": labelled(2)}},
    ],
    ids=["each step", "window", "accumulated", "accumulated unevenly", "epoch", "evaluated between"],
)
def test_both_losses_are_means_over_the_steps_since_the_last_record_and_add_up(settings, tmp_path):
    witness = Steps()
    trainer = trained(tmp_path, [witness], **settings)
    records, before = logged(trainer), 0
    assert len(records) > 1
    for record in records:
        expected = torch.stack(witness.steps[before : record["step"]]).mean(0)
        torch.testing.assert_close(torch.tensor([record[name] for name in NAMES]), expected, rtol=1e-5, atol=1e-6)
        weighted = record["segmentation_loss"] + trainer.model.config.alignment_loss_weight * record["alignment_loss"]
        assert record["loss"] == pytest.approx(weighted, rel=1e-4)
        before = record["step"]


def test_reporters_and_the_history_get_the_same_values(tmp_path):
    trainer = stock_trainer(new_model(), labelled(), tmp_path, logging_steps=1)
    reporter = Reporter()
    trainer.callback_handler.callbacks.insert(1, reporter)  # where those of `report_to` stand
    LossLoggingCallback.add_to(trainer)
    trainer.train()
    shown = [[logs[name] for name in NAMES] for logs in reporter.logs if "loss" in logs]
    assert shown == [[record[name] for name in NAMES] for record in logged(trainer)]
    assert len(shown) == 3 * STEPS and "segmentation_loss" not in reporter.logs[-1]


def test_build_trainer_logs_both_losses_of_training_alone(tmp_path):
    args = TeViATrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=BATCH, logging_steps=1, use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = build_trainer(new_model(), tiny_processor(), args, labelled(), labelled(2))
    trainer.train()
    assert len(logged(trainer)) == 3 * STEPS
    for record in trainer.state.log_history:
        assert all((name in record) == ("loss" in record) for name in NAMES)


def test_as_one_of_the_trainers_callbacks_it_fills_the_history_too(tmp_path):
    trainer = stock_trainer(new_model(), labelled(), tmp_path, [LossLoggingCallback()], logging_steps=1)
    trainer.train()
    assert all(name in record for record in logged(trainer) for name in NAMES)


def test_a_model_without_text_has_no_alignment_loss(tmp_path):
    trainer = trained(tmp_path, model=new_model(use_text=False), logging_steps=1)
    for record in logged(trainer):
        assert "alignment_loss" not in record
        assert record["segmentation_loss"] == pytest.approx(record["loss"], rel=1e-4)


def test_a_loss_that_is_not_the_models_is_logged_alone(tmp_path):
    trainer = trained(tmp_path, trainer_class=PopsLabels, logging_steps=1)
    assert logged(trainer) and not any(name in record for record in logged(trainer) for name in NAMES)


def test_a_stream_logs_both_losses(tmp_path):
    trainer = trained(tmp_path, dataset=as_stream("datasets"), max_steps=COUNT, logging_steps=1)
    assert len(logged(trainer)) == COUNT and all(name in record for record in logged(trainer) for name in NAMES)


def test_a_resumed_run_logs_what_the_unbroken_one_does(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 4, "logging_steps": 1}
    unbroken = trained(tmp_path, **settings)
    resumed = stock_trainer(new_model(), labelled(), tmp_path / "resumed", [], logging_steps=1)
    LossLoggingCallback.add_to(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    ours, theirs = ([[r[name] for name in NAMES] for r in logged(trainer)] for trainer in (resumed, unbroken))
    assert ours == theirs
