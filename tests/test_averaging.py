"""The average of the weights is evaluated and saved; a resumed run continues from the weights themselves."""

import pytest
import torch
from safetensors.torch import load_file
from stock import BATCH, labelled, new_model
from tiny import tiny_processor
from transformers import TrainerCallback

from tevia_hf import build_trainer
from tevia_hf.training.arguments import TeViATrainingArguments
from tevia_hf.training.averaging import OTHER

EPOCHS, STEPS = 3, 3


class Recorder(TrainerCallback):
    """The weights after each optimizer step, and those of the model when it is evaluated."""

    def __init__(self):
        self.weights, self.evaluated = [], []

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        self.weights.append(trained_weights(model, optimizer))

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        self.evaluated.append(copy_of(model))


def copy_of(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def trained_weights(model, optimizer) -> dict[str, torch.Tensor]:
    """The weights from which training continues while the model holds their average."""
    kept = {name: optimizer.state.get(p, {}).get(OTHER, p) for name, p in model.named_parameters()}
    return {name: weights.detach().clone() for name, weights in kept.items()}


def trainer_of(folder, decay=0.5, callbacks=(), model=None, rows=None, **settings):
    args = TeViATrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        weight_average_decay=decay,
        learning_rate=1e-2,
        prototype_warmup_epochs=0,
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
        **{"num_train_epochs": EPOCHS, "save_total_limit": None, "load_best_model_at_end": False, **settings},
    )
    rows = rows or labelled()
    model = model or new_model(text_dropout=0.3, auxiliary_loss_weight=0.4)
    return build_trainer(model, tiny_processor(), args, rows, rows, callbacks=callbacks)


def average(weights: list[torch.Tensor], decay: float) -> torch.Tensor:
    held = weights[0]
    for step, new in enumerate(weights[1:], start=2):
        share = min(decay, (1 + step) / (10 + step))
        held = share * held + (1 - share) * new
    return held


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run and what was recorded of it."""
    folder, recorder = tmp_path_factory.mktemp("run"), Recorder()
    trainer = trainer_of(folder, callbacks=[recorder])
    torch.manual_seed(1)
    trainer.train()
    return trainer, recorder, folder


def test_the_average_is_evaluated_after_each_epoch(run):
    _, recorder, _ = run
    name = "decode_head.classifier.weight"
    for epoch, evaluated in enumerate(recorder.evaluated):
        weights = [step[name] for step in recorder.weights[: (epoch + 1) * STEPS]]
        torch.testing.assert_close(evaluated[name], average(weights, 0.5))
        assert not torch.equal(evaluated[name], weights[-1])


def test_a_checkpoint_and_the_trained_model_hold_the_average(run):
    trainer, recorder, folder = run
    name = "decode_head.classifier.weight"
    saved = load_file(folder / f"checkpoint-{STEPS}" / "model.safetensors")
    torch.testing.assert_close(saved[name], recorder.evaluated[0][name])
    torch.testing.assert_close(copy_of(trainer.model)[name], recorder.evaluated[-1][name])


def test_running_statistics_are_averaged_like_the_weights(tmp_path):
    class Seen(TrainerCallback):
        def __init__(self):
            self.momenta = []

        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            self.momenta.append(model.model.decoder[0].upsampling.norm1.momentum)

    seen = Seen()
    trainer = trainer_of(tmp_path, decay=0.3, callbacks=[seen], num_train_epochs=2)
    trainer.train()
    assert seen.momenta == pytest.approx([9 / 11, 9 / 12, 0.7, 0.7, 0.7, 0.7])
    assert trainer.model.model.decoder[0].upsampling.norm1.momentum == 0.1


def test_training_resumes_from_the_weights_and_not_from_their_average(run, tmp_path):
    _, recorder, _ = run
    unaveraged = Recorder()
    trainer = trainer_of(tmp_path, decay=0.0, callbacks=[unaveraged])
    torch.manual_seed(1)
    trainer.train()
    for ours, theirs in zip(recorder.weights, unaveraged.weights, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_resumed_run_ends_like_the_unbroken_one(decay, tmp_path):
    unbroken = trainer_of(tmp_path / "a", decay)
    torch.manual_seed(1)
    unbroken.train()
    resumed = trainer_of(tmp_path / "b", decay)
    for parameter in resumed.model.auxiliary_heads.parameters():  # which no checkpoint's model holds
        torch.nn.init.normal_(parameter)
    torch.manual_seed(1)  # draws the order of the examples
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{STEPS}"))
    ours, theirs = copy_of(resumed.model), copy_of(unbroken.model)
    differing = [name for name in theirs if not torch.equal(ours[name], theirs[name])]
    assert ours.keys() == theirs.keys() and not differing


def test_a_run_resumed_without_averaging_starts_from_the_weights(run, tmp_path):
    _, recorder, folder = run
    other = Recorder()
    resumed = trainer_of(tmp_path, decay=0.0, callbacks=[other])
    resumed.train(resume_from_checkpoint=str(folder / f"checkpoint-{2 * STEPS}"))
    name = "decode_head.classifier.weight"
    torch.testing.assert_close(other.weights[-1][name], recorder.weights[-1][name])
    torch.testing.assert_close(copy_of(resumed.model)[name], recorder.weights[-1][name])


def test_the_best_checkpoint_is_loaded_as_it_was_evaluated(tmp_path):
    recorder = Recorder()
    trainer = trainer_of(tmp_path, callbacks=[recorder], load_best_model_at_end=True)
    trainer.train()
    best = trainer.state.best_global_step // STEPS - 1
    held = copy_of(trainer.model)
    assert all(torch.equal(held[name], recorder.evaluated[best][name]) for name in held)


def test_a_second_training_begins_with_what_the_model_holds(tmp_path):
    trainer = trainer_of(tmp_path, eval_strategy="no", save_strategy="no")
    trainer.train()
    held = copy_of(trainer.model)
    recorder = Recorder()
    trainer.add_callback(recorder)
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 0.0
    trainer.lr_scheduler = None
    trainer.train()
    assert all(torch.equal(weights[name], held[name]) for weights in recorder.weights for name in held)


def test_a_checkpoint_requested_by_another_callback_is_resumed_exactly(tmp_path):
    class Saves(TrainerCallback):
        """Asks for a checkpoint of step 4 when all other callbacks have acted."""

        def on_log(self, args, state, control, **kwargs):
            control.should_save |= state.global_step == 4

    settings = {"eval_strategy": "no", "save_strategy": "no", "logging_steps": 1}
    whole, rest = Recorder(), Recorder()
    models = [new_model(text_dropout=0.3) for _ in range(2)]
    trainer = trainer_of(tmp_path / "a", callbacks=[Saves(), whole], model=models[0], **settings)
    torch.manual_seed(1)
    trainer.train()
    resumed = trainer_of(tmp_path / "b", callbacks=[Saves(), rest], model=models[1], **settings)
    torch.manual_seed(1)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    for ours, theirs in zip(rest.weights, whole.weights[4:], strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(torch.equal(x, copy_of(trainer.model)[name]) for name, x in copy_of(resumed.model).items())


def test_a_resumed_run_evaluates_the_average_before_it_continues(run, tmp_path):
    _, recorder, folder = run
    again = Recorder()
    trainer_of(tmp_path, callbacks=[again], eval_on_start=True).train(
        resume_from_checkpoint=str(folder / f"checkpoint-{STEPS}")
    )
    evaluated = {name: x for name, x in again.evaluated[0].items() if "auxiliary" not in name}
    assert all(torch.equal(x, recorder.evaluated[0][name]) for name, x in evaluated.items())


def test_a_run_that_was_broken_off_leaves_the_next_its_own_momentum(tmp_path):
    class Fails(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    model = new_model()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tmp_path / "a", model=model, callbacks=[Fails()]).train()
    trainer_of(tmp_path / "b", decay=0.0, model=model).train()
    assert model.model.decoder[0].upsampling.norm1.momentum == 0.1


def test_an_average_of_half_precision_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match="float32"):
        trainer_of(tmp_path, model=new_model().to(torch.bfloat16))


def test_whatever_callback_looks_at_the_model_between_steps_sees_the_average(tmp_path):
    """At any position in the list."""

    class Sees(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen.append(copy_of(model))

    seen, recorder = [], Recorder()
    trainer = trainer_of(tmp_path, callbacks=[Sees(), recorder], num_train_epochs=1)
    trainer.add_callback(Sees())
    trainer.train()
    name = "decode_head.classifier.weight"
    assert len(seen) == 2 * STEPS
    for step in range(STEPS):
        expected = average([weights[name] for weights in recorder.weights[: step + 1]], 0.5)
        for held in seen[2 * step : 2 * step + 2]:
            torch.testing.assert_close(held[name], expected)


def test_forward_passes_without_a_step_leave_the_average(tmp_path):
    """A stream that ends within the passes of a step, and a skipped step, as in fp16."""
    recorder, rows = Recorder(), labelled(10).to_iterable_dataset()
    settings = {"max_steps": 4, "gradient_accumulation_steps": 2, "eval_strategy": "no"}
    trainer = trainer_of(tmp_path, callbacks=[recorder], rows=rows, **settings)
    trainer.train()
    name = "decode_head.classifier.weight"
    saved = load_file(tmp_path / "checkpoint-2" / "model.safetensors")[name]
    torch.testing.assert_close(saved, average([weights[name] for weights in recorder.weights[:2]], 0.5))
    held = copy_of(trainer.model)[name]
    for event in ("on_step_end", "on_epoch_end", "on_train_end"):
        trainer.optimizer.train()
        assert not torch.equal(copy_of(trainer.model)[name], held)
        getattr(trainer.callback_handler, event)(trainer.args, trainer.state, trainer.control)
        assert torch.equal(copy_of(trainer.model)[name], held)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_its_range_is_refused(decay, tmp_path):
    with pytest.raises(ValueError, match="weight_average_decay"):
        TeViATrainingArguments(output_dir=str(tmp_path), weight_average_decay=decay, use_cpu=True)
