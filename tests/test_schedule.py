"""In which epoch prototypes are collected and act, whatever the data set and however the run went; and what is said
where they do not.
"""

import pytest
import torch
from stock import BATCH, COUNT, STEPS, labelled, new_model, stock_trainer
from tiny import tiny_processor
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback

from tevia_hf import MomentumPrototypeCallback, build_trainer
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.training.arguments import TeViATrainingArguments


class Witness(TrainerCallback):
    """The steps before which prototypes were active, and the number of collected samples at the end."""

    def __init__(self):
        self.active, self.counts = [], []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.active.append(bool(model.prototype_memory and model.prototype_memory.is_active))

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.counts.append(int(model.prototype_memory.count) if model.prototype_memory else 0)


class Stream(IterableDataset):
    """A torch data set without length."""

    def __init__(self, rows):
        self.rows = list(rows)

    def __iter__(self):
        yield from self.rows


class Fails(TrainerCallback):
    """Runs out of memory after some steps of the first attempts."""

    def __init__(self, at: int, times: int = 1, error: str = "CUDA out of memory."):
        self.at, self.left, self.error = at, times, error

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.at and self.left:
            self.left -= 1
            raise RuntimeError(self.error)


class StopsAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def trained(dataset, folder, callbacks=(), model=None, resume=None, **settings):
    witness = Witness()
    model = new_model() if model is None else model
    callbacks = [MomentumPrototypeCallback(), witness, *callbacks]
    trainer = stock_trainer(model, dataset, folder, callbacks, **settings)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, witness


def as_stream(kind, count=COUNT):
    rows = labelled(count)
    return {"datasets": rows.to_iterable_dataset, "torch": lambda: Stream(rows), "map-style": lambda: rows}[kind]()


# Kinds of data sets


@pytest.mark.parametrize(("kind", "workers"), [("map-style", 0), ("datasets", 0), ("datasets", 2), ("torch", 0)])
def test_epochs_are_passes_over_the_data_of_any_kind(kind, workers, tmp_path):
    trainer, witness = trained(as_stream(kind), tmp_path, max_steps=3 * STEPS, dataloader_num_workers=workers)
    assert witness.active == [False] * 2 * STEPS + [True] * STEPS
    assert witness.counts == [COUNT]


@pytest.mark.parametrize("kind", ["map-style", "datasets"])
def test_a_last_batch_that_is_not_full_belongs_to_its_epoch(kind, tmp_path):
    _, witness = trained(as_stream(kind, count=5), tmp_path, max_steps=3 * STEPS)
    assert witness.counts == [5] and witness.active.index(True) == 2 * STEPS


def test_steps_of_several_batches_that_do_not_divide_the_epoch_lose_no_sample(tmp_path):
    by_kind = {
        kind: trained(as_stream(kind), tmp_path, max_steps=steps, gradient_accumulation_steps=2)[1]
        for kind, steps in (("map-style", 6), ("datasets", 3))  # the Trainer takes no step for a stream's last batch
    }
    # A step that the stream leaves unfinished is begun too.
    assert [witness.active for witness in by_kind.values()] == [[False] * 4 + [True] * 2, [False] * 4 + [True]]
    assert [witness.counts for witness in by_kind.values()] == [[COUNT], [COUNT]]


@pytest.mark.parametrize("epochs", [2.4, 3])
def test_a_broken_number_of_epochs_changes_no_phase(epochs, tmp_path):
    _, witness = trained(labelled(), tmp_path, num_train_epochs=epochs)
    assert witness.counts == [COUNT] and witness.active.index(True) == 2 * STEPS


def test_prototypes_move_alike_on_a_stream_and_on_a_map_style_set(tmp_path):
    runs = [trained(as_stream(kind), tmp_path, max_steps=3 * STEPS)[0] for kind in ("map-style", "datasets")]
    ours, theirs = (trainer.model.prototype_memory.prototypes for trainer in runs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)) and ours[0].any()


def test_the_augmentation_gets_the_number_of_each_pass(tmp_path):
    class Noted(TextAwareAugmentation):
        def __call__(self, example, *language):
            seen.append((self.epoch, example["id"]))
            return super().__call__(example, *language)

    seen: list[tuple[int, str]] = []
    args = TeViATrainingArguments(
        output_dir=str(tmp_path), max_steps=3 * STEPS, per_device_train_batch_size=BATCH, eval_strategy="no",
        save_strategy="no", load_best_model_at_end=False, use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    build_trainer(new_model(), tiny_processor(), args, as_stream("datasets"), augmentation=Noted()).train()
    assert set(seen) == {(epoch, str(index)) for epoch in range(3) for index in range(COUNT)}


# Interrupted runs


@pytest.mark.parametrize("kind", ["map-style", "datasets"])
@pytest.mark.parametrize("stopped_at", [STEPS, STEPS + 2, 2 * STEPS + 1])
def test_a_resumed_run_collects_and_activates_where_an_unbroken_one_does(kind, stopped_at, tmp_path):
    settings = {"max_steps": 3 * STEPS, "save_strategy": "steps", "save_steps": stopped_at}
    trained(as_stream(kind), tmp_path, [StopsAt(stopped_at)], **settings)
    checkpoint = str(tmp_path / f"checkpoint-{stopped_at}")
    _, witness = trained(as_stream(kind), tmp_path, resume=checkpoint, **settings)
    assert witness.counts == [COUNT]
    assert witness.active == ([False] * 2 * STEPS + [True] * STEPS)[stopped_at:]


@pytest.mark.parametrize("kind", ["map-style", "datasets"])
def test_a_run_resumed_twice_still_knows_its_epochs(kind, tmp_path):
    settings = {"max_steps": 3 * STEPS, "save_strategy": "steps", "save_steps": 1}
    trained(as_stream(kind), tmp_path, [StopsAt(4)], **settings)
    trained(as_stream(kind), tmp_path, [StopsAt(5)], resume=str(tmp_path / "checkpoint-4"), **settings)
    _, witness = trained(as_stream(kind), tmp_path, resume=str(tmp_path / "checkpoint-5"), **settings)
    assert witness.counts == [COUNT] and witness.active == [False] + [True] * STEPS


def test_a_resumed_run_that_skips_no_data_keeps_the_schedule(tmp_path):
    settings = {"max_steps": 3 * STEPS, "save_strategy": "steps", "save_steps": 4, "ignore_data_skip": True}
    trained(labelled(), tmp_path, [StopsAt(4)], **settings)
    _, witness = trained(labelled(), tmp_path, resume=str(tmp_path / "checkpoint-4"), **settings)
    assert witness.counts == [COUNT] and witness.active == [False] * 2 + [True] * STEPS


def test_a_checkpoint_of_a_run_without_the_callback_is_resumed_and_saved_again(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 1}
    stock_trainer(new_model(), labelled(), tmp_path, [StopsAt(1)], **settings).train()
    _, witness = trained(labelled(), tmp_path, resume=str(tmp_path / "checkpoint-1"), **settings)
    assert witness.counts == [COUNT] and (tmp_path / f"checkpoint-{3 * STEPS}").exists()


@pytest.mark.parametrize(
    ("kind", "fails_at", "times"),
    [("map-style", 3, 1), ("map-style", 5, 1), ("datasets", 3, 1), ("datasets", 5, 2)],
    ids=["collecting", "active", "stream collecting", "stream active, twice"],
)
def test_a_run_retried_after_it_ran_out_of_memory_counts_no_sample_twice(kind, fails_at, times, tmp_path):
    settings = {"max_steps": 9, "per_device_train_batch_size": 4, "auto_find_batch_size": True}
    trainer, witness = trained(as_stream(kind), tmp_path, [Fails(fails_at, times)], **settings)
    assert trainer.state.train_batch_size == 4 - times
    assert witness.counts == [COUNT]
    steps = -(-COUNT // trainer.state.train_batch_size)
    assert witness.active[-9:] == [False] * 2 * steps + [True] * (9 - 2 * steps)


@pytest.mark.parametrize("fails_at", [STEPS + 2, 2 * STEPS + 1], ids=["collecting", "active"])
def test_a_run_that_broke_and_is_begun_anew_counts_no_sample_twice(fails_at, tmp_path):
    witness = Witness()
    callbacks = [MomentumPrototypeCallback(), witness, Fails(fails_at, error="no power")]
    trainer = stock_trainer(new_model(), labelled(), tmp_path, callbacks)
    with pytest.raises(RuntimeError, match="no power"):
        trainer.train()
    trainer.train()
    assert witness.counts == [COUNT]
    assert witness.active[-3 * STEPS :] == [False] * 2 * STEPS + [True] * STEPS


def test_a_new_callback_takes_over_from_that_of_a_run_that_broke(tmp_path):
    model = new_model()
    with pytest.raises(RuntimeError, match="no power"):
        trained(labelled(), tmp_path, [Fails(STEPS + 2, error="no power")], model=model)
    _, witness = trained(labelled(), tmp_path, model=model)
    assert witness.counts == [COUNT] and not model._forward_hooks


# Callbacks of the same kind


@pytest.mark.parametrize("second", [1, 5])
def test_a_second_prototype_callback_does_nothing_and_warns(second, tmp_path, caplog):
    pairs = [MomentumPrototypeCallback(), MomentumPrototypeCallback(second)]
    models = new_model(), new_model()
    for model, callbacks in zip(models, (pairs[:1], pairs), strict=True):
        stock_trainer(model, labelled(), tmp_path, callbacks).train()
    ours, theirs = ([int(m.prototype_memory.count), *m.prototype_memory.prototypes] for m in models)
    assert ours[0] == theirs[0] == COUNT
    assert all(torch.equal(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True))
    assert caplog.text.count("has two `MomentumPrototypeCallback`s") == 1


def test_build_trainer_and_a_callback_of_the_users_move_prototypes_once(tmp_path, caplog):
    counts = []
    for callbacks in ([], [MomentumPrototypeCallback()]):
        args = TeViATrainingArguments(
            output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=BATCH, eval_strategy="no",
            save_strategy="no", load_best_model_at_end=False, use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        trainer = build_trainer(new_model(), tiny_processor(), args, labelled(), callbacks=callbacks)
        trainer.train()
        counts.append(
            (int(trainer.model.prototype_memory.count), trainer.model.prototype_memory.prototypes[0].tolist())
        )
    assert counts[0] == counts[1] and "set by `prototype_warmup_epochs`" not in caplog.text
    assert "the argument `prototype_warmup_epochs`" in caplog.text


# What did not happen


def own_loss(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits[:, 0], (labels == 1).float())


class PopsLabels(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = own_loss(outputs, labels)
        return (loss, outputs) if return_outputs else loss


class KeepsLabels(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs = model(**inputs)
        return own_loss(outputs, inputs["labels"])


class TakesTuples(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return model(**inputs, return_dict=False)[0]


HIDDEN = {
    "compute_loss_func": {"extra": {"compute_loss_func": own_loss}},
    "labels popped": {"trainer_class": PopsLabels},
    "tuples": {"trainer_class": TakesTuples},
}


def warnings_of(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.name.startswith("tevia_hf")]


@pytest.mark.parametrize("kind", HIDDEN)
def test_missing_labels_are_reported_once_at_the_end(kind, tmp_path, caplog):
    trained(labelled(), tmp_path, **HIDDEN[kind])
    (warning,) = warnings_of(caplog)
    assert warning.startswith("No prototype was collected") and "compute_loss" in warning


@pytest.mark.parametrize("kind", HIDDEN)
def test_active_prototypes_that_were_not_updated_are_reported(kind, tmp_path, caplog):
    model = new_model()
    model.prototype_memory.assign([torch.ones_like(p) for p in model.prototype_memory.prototypes])
    trained(labelled(), tmp_path, model=model, num_train_epochs=1, **HIDDEN[kind])
    (warning,) = warnings_of(caplog)
    assert warning.startswith("Prototypes are active but took no momentum step")


def test_a_loss_of_ones_own_that_leaves_the_labels_collects_prototypes(tmp_path, caplog):
    _, witness = trained(labelled(), tmp_path, trainer_class=KeepsLabels)
    assert witness.counts == [COUNT] and not warnings_of(caplog)


def test_training_on_healthy_images_alone_is_reported_with_its_own_reason(tmp_path, caplog):
    dataset = labelled().map(lambda example: {"mask": example["mask"].point(lambda value: 0)})
    trained(dataset, tmp_path)
    (warning,) = warnings_of(caplog)
    assert "marks a lesion" in warning


@pytest.mark.parametrize("max_steps", [2, STEPS + 1, 2 * STEPS])
def test_a_stream_that_ends_before_prototypes_are_active_is_reported(max_steps, tmp_path, caplog):
    trained(as_stream("datasets"), tmp_path, max_steps=max_steps)
    (warning,) = warnings_of(caplog)
    assert f"(step {max_steps}), before prototypes become active" in warning


def test_a_run_known_to_be_too_short_is_reported_once(tmp_path, caplog):
    trained(labelled(), tmp_path, num_train_epochs=2)
    (warning,) = warnings_of(caplog)
    assert "2 epochs end before prototypes become active" in warning


def test_a_run_stopped_early_is_reported(tmp_path, caplog):
    trained(labelled(), tmp_path, [StopsAt(STEPS + 1)])
    (warning,) = warnings_of(caplog)
    assert "Training ended in epoch 2" in warning


def test_a_run_that_went_as_scheduled_gives_no_warning(tmp_path, caplog):
    trained(labelled(), tmp_path)
    trained(labelled(), tmp_path, model=new_model(use_text=False))
    assert not warnings_of(caplog)


# The best model


def chosen_at(best, folder, scores=None, build=None, **settings):
    """A trained trainer whose validation was best in one epoch."""
    scores = iter([0.9 if epoch == best else 0.1 * epoch for epoch in range(1, 5)])
    per_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    settings = {"num_train_epochs": 4, "metric_for_best_model": "dice", **per_epoch, **settings}
    if build:
        settings |= {"per_device_train_batch_size": BATCH, "use_cpu": True, "disable_tqdm": True}
        args = TeViATrainingArguments(output_dir=str(folder), **settings)
        trainer = build_trainer(new_model(), tiny_processor(), args, labelled(), labelled(2))
    else:
        trainer = stock_trainer(new_model(), labelled(), folder, extra={"eval_dataset": labelled(2)}, **settings)
    trainer.compute_metrics = lambda prediction: {"dice": next(scores)}
    trainer.train()
    return trainer


@pytest.mark.parametrize("best", [1, 2])
def test_a_best_model_from_before_active_prototypes_is_reported(best, tmp_path, caplog):
    trainer = chosen_at(best, tmp_path)
    assert not trainer.model.prototype_memory.is_active
    (warning,) = warnings_of(caplog)
    assert f"loaded the model of epoch {best} " in warning and "`eval_delay=3`" in warning


def test_the_delay_that_the_warning_names_chooses_among_models_with_prototypes(tmp_path, caplog):
    trainer = chosen_at(1, tmp_path, eval_delay=3)
    assert trainer.model.prototype_memory.is_active and not warnings_of(caplog)


def test_a_best_model_with_prototypes_needs_no_word(tmp_path, caplog):
    assert chosen_at(3, tmp_path).state.best_global_step == 3 * STEPS
    assert not warnings_of(caplog)


@pytest.mark.parametrize(("best", "chosen"), [(1, 4), (2, 4), (3, 3)])
def test_build_trainer_chooses_among_models_with_prototypes(best, chosen, tmp_path, caplog):
    trainer = chosen_at(best, tmp_path, build=True)
    assert trainer.model.prototype_memory.is_active and trainer.state.best_global_step == chosen * STEPS
    evaluated = [record["epoch"] for record in trainer.state.log_history if "eval_dice" in record]
    assert evaluated == [1, 2, 3, 4] and not warnings_of(caplog)


def test_build_trainer_keeps_the_best_of_a_run_too_short_for_prototypes(tmp_path):
    trainer = chosen_at(1, tmp_path, build=True, num_train_epochs=2)
    assert trainer.state.best_global_step == STEPS


def test_the_choice_begins_anew_in_a_resumed_run_too(tmp_path):
    class Stops(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            control.should_training_stop |= state.epoch >= 2

    per_epoch = {"per_device_train_batch_size": BATCH, "use_cpu": True, "disable_tqdm": True, "num_train_epochs": 4}
    args = TeViATrainingArguments(output_dir=str(tmp_path), **per_epoch)
    scores = iter([0.9, 0.1, 0.2, 0.3])
    for callbacks, resume in ([Stops()], None), ([], str(tmp_path / f"checkpoint-{2 * STEPS}")):
        trainer = build_trainer(new_model(), tiny_processor(), args, labelled(), labelled(2), callbacks=callbacks)
        trainer.compute_metrics = lambda prediction: {"dice": next(scores)}
        trainer.train(resume_from_checkpoint=resume)
    assert trainer.model.prototype_memory.is_active and trainer.state.best_global_step == 4 * STEPS
