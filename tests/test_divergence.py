"""Training with NaN or infinite values stops at that step with details, and never saves such weights."""

import copy
import io
import math
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from stock import BATCH, STEPS, labelled, new_model, stock_trainer
from tiny import tiny_processor
from transformers import TrainerCallback

from tevia_cli.main import main
from tevia_hf import DivergenceCallback, TeViAForSegmentation, TrainingDivergedError, build_trainer
from tevia_hf.data.collate import SegmentationCollator
from tevia_hf.training.arguments import TeViATrainingArguments
from tevia_hf.training.divergence import last_finite_checkpoint, remember_ids, remove_ids_from_inputs
from tevia_hf.training.trainer import validation_failure


class Spoils(TrainerCallback):
    """Calls `spoil(model)` at an event of a step, counted from 1."""

    def __init__(self, spoil, at: int, event: str = "on_step_begin"):
        def called(args, state, control, model=None, **kwargs):
            if state.global_step + (event != "on_step_end") == at:
                spoil(model)

        setattr(self, event, called)


def spoil_weight(model):
    model.decode_head.classifier.bias.data.fill_(math.inf)


def spoil_prototype(model):
    model.prototype_memory.prototype_1.fill_(math.nan)


def spoil_gradient_only(model):
    weight = model.decode_head.classifier.weight
    weight.register_hook(lambda gradient: torch.full_like(gradient, math.nan))


def trainer_of(folder, *callbacks, model=None, dataset=None, **settings):
    values = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 2,
        "prototype_warmup_epochs": 0,
        "disable_tqdm": True,
        "report_to": [],
        "use_cpu": True,
    }
    args = TeViATrainingArguments(**{**values, **settings})
    dataset = labelled() if dataset is None else dataset
    return build_trainer(model or new_model(), tiny_processor(), args, dataset, dataset, callbacks=callbacks)


def diverged(trainer) -> TrainingDivergedError:
    with pytest.raises(TrainingDivergedError) as caught:
        trainer.train()
    assert not [hook for hook in trainer.model._forward_hooks.values() if "Divergence" in repr(hook)]
    return caught.value


@pytest.mark.parametrize(
    ("spoil", "event", "what"),
    [
        (spoil_weight, "on_step_begin", "the loss"),
        (spoil_gradient_only, "on_step_begin", "the gradient became"),
        (spoil_weight, "on_optimizer_step", "decode_head.classifier.bias"),
        (spoil_prototype, "on_step_end", "prototype_memory.prototype_1"),
    ],
)
def test_what_is_not_finite_ends_the_run_at_its_step_with_the_ids_of_its_batch(spoil, event, what, tmp_path):
    error = diverged(trainer_of(tmp_path, Spoils(spoil, 2, event)))
    assert (error.step, error.ids, error.checkpoint) == (2, ["2", "3"], None)
    assert "at step 2 (epoch " in str(error) and what in str(error) and "The batch: 2, 3." in str(error)
    assert "There is no finite checkpoint yet" in str(error)
    assert not [*tmp_path.glob("checkpoint-*")]


def test_the_last_finite_checkpoint_stays_and_is_named_and_is_the_best(tmp_path):
    spoils = Spoils(spoil_weight, 2 * STEPS + 2)
    trainer = trainer_of(tmp_path, spoils, num_train_epochs=4, save_total_limit=1)
    error = diverged(trainer)
    assert error.step == 2 * STEPS + 2 and error.checkpoint == tmp_path / f"checkpoint-{2 * STEPS}"
    assert f"The last finite checkpoint is {error.checkpoint}." in str(error)
    for path in tmp_path.glob("checkpoint-*"):
        assert all(weight.isfinite().all() for weight in load_file(path / "model.safetensors").values())
    assert trainer.state.best_model_checkpoint and math.isfinite(trainer.state.best_metric)


def test_a_checkpoint_that_is_not_finite_is_never_the_one_named(tmp_path):
    for step, value in ((1, 0.0), (2, math.nan)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"weight": torch.tensor([value])}, folder / "model.safetensors")
        (folder / "trainer_state.json").write_text("{}")
    assert last_finite_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    assert last_finite_checkpoint(tmp_path / "none") is None


def test_an_evaluation_during_training_gives_no_dice_of_nan(tmp_path):
    class SpoilsInEvaluation(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == STEPS:
                model.decode_head.classifier.register_forward_hook(lambda module, inputs, output: output * math.nan)

    trainer = trainer_of(tmp_path, SpoilsInEvaluation())
    error = diverged(trainer)
    assert "the loss of the evaluation" in str(error) and (error.step, error.ids[:2]) == (STEPS, ["0", "1"])
    assert trainer.state.best_metric is None and not [*tmp_path.glob("checkpoint-*")]


def test_an_evaluation_after_training_refuses_logits_that_are_not_finite(tmp_path):
    trainer = trainer_of(tmp_path, num_train_epochs=1, eval_strategy="no", load_best_model_at_end=False)
    trainer.train()
    assert 0 <= trainer.evaluate()["eval_dice"] <= 1
    spoil_weight(trainer.model)
    with pytest.raises(ValueError, match="logits of image 0.* are not finite"):
        trainer.evaluate()


@pytest.mark.parametrize("at", [0, 1])
def test_of_accumulated_batches_the_one_at_fault_is_named(at, tmp_path):
    class SpoilsPass(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            self.passes = 0
            model.decode_head.classifier.weight.register_hook(self.spoilt)

        def spoilt(self, gradient):
            self.passes += 1
            return gradient * math.nan if self.passes == at + 1 else gradient

    error = diverged(trainer_of(tmp_path, SpoilsPass(), gradient_accumulation_steps=2))
    assert error.step == 1 and error.ids == [["0", "1"], ["2", "3"]][at]


def test_the_ids_come_from_data_workers_too(tmp_path):
    error = diverged(trainer_of(tmp_path, Spoils(spoil_weight, 2), dataloader_num_workers=1))
    assert error.ids == ["2", "3"]


def test_a_peft_model_is_watched_too(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["decode_head.classifier"])
    model = peft.get_peft_model(new_model(), config)
    spoils = Spoils(lambda model: next(p for p in model.parameters() if p.requires_grad).data.fill_(math.nan), 2)
    error = diverged(trainer_of(tmp_path, spoils, model=model))
    assert (error.step, error.ids) == (2, ["2", "3"])


def test_a_stock_trainer_with_the_callback_stops_too(tmp_path):
    callbacks = [Spoils(spoil_weight, 2), DivergenceCallback()]
    error = diverged(stock_trainer(new_model(), labelled(), tmp_path, callbacks))
    assert error.step == 2 and error.ids == [] and "The batch" not in str(error)
    trainer = stock_trainer(new_model(), labelled(), tmp_path, callbacks)
    trainer.data_collator = SegmentationCollator(tiny_processor(), with_ids=True)
    assert diverged(trainer).ids == ["2", "3"]


def test_weights_that_are_not_finite_do_not_start(tmp_path):
    model = new_model()
    spoil_weight(model)
    error = diverged(trainer_of(tmp_path, model=model))
    assert error.step == 0 and "decode_head.classifier.bias" in str(error)


def test_infinite_gradients_are_the_scalers_own_matter_in_float16(tmp_path, tiny_model):
    callback = DivergenceCallback()
    callback.args = TeViATrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    callback.trainer_state = trainer_of(tmp_path).state
    tiny_model.decode_head.classifier.bias.grad = torch.full_like(tiny_model.decode_head.classifier.bias, math.inf)
    with pytest.raises(TrainingDivergedError):
        callback.check_gradients(tiny_model, 1)
    callback.args.fp16 = True
    callback.check_gradients(tiny_model, 1)


def test_gradients_whose_squares_overflow_are_finite(tmp_path, tiny_model):
    callback = DivergenceCallback()
    callback.args = TeViATrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    tiny_model.decode_head.classifier.bias.grad = torch.full_like(tiny_model.decode_head.classifier.bias, 1e30)
    callback.check_gradients(tiny_model, 1)


def test_a_model_is_saved_copied_and_pickled_as_before(tmp_path):
    trainer = trainer_of(tmp_path / "run", num_train_epochs=1, eval_strategy="no", load_best_model_at_end=False)
    trainer.train()
    model = trainer.model.eval()
    assert not model._forward_hooks and [*model._forward_pre_hooks.values()] == [remember_ids]
    trainer_of(tmp_path / "again", model=model)
    assert len(model._forward_pre_hooks) == 1
    inputs = tiny_processor()([labelled(1)[0]["image"]], ["left lung"])
    model.save_pretrained(tmp_path / "saved")
    others = (copy.deepcopy(model), TeViAForSegmentation.from_pretrained(tmp_path / "saved").eval())
    with torch.no_grad():
        expected = model(**inputs).logits
        for other in others:
            torch.testing.assert_close(other(**inputs).logits, expected)


def test_a_model_from_which_ids_are_taken_out_is_pickled():
    model = new_model().eval()
    remove_ids_from_inputs(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)  # before its first pass: transformers' own hooks cannot be pickled
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    image = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(image, ids=["a"]).logits, model(image).logits)


def test_batches_that_are_dispatched_carry_no_ids(tmp_path):
    assert trainer_of(tmp_path).data_collator.with_ids
    dispatched = trainer_of(tmp_path, accelerator_config={"dispatch_batches": True})
    assert not dispatched.data_collator.with_ids


def test_a_loss_that_is_not_finite_is_logged_as_it_is(tmp_path):
    assert TeViATrainingArguments(output_dir=str(tmp_path), use_cpu=True).logging_nan_inf_filter is False


# By the command


@pytest.fixture
def recipe(tmp_path):
    new_model().save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    values = {
        "model_name_or_path": str(tmp_path / "model"),
        "max_train_samples": 4,
        "max_eval_samples": 2,
        "per_device_train_batch_size": 2,
        "num_train_epochs": 3,
        "output_dir": str(tmp_path / "run"),
        "use_cpu": True,
        "disable_tqdm": True,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return str(tmp_path / "recipe.yaml")


@pytest.fixture
def few(monkeypatch):
    from tevia_hf.data import synthetic

    monkeypatch.setattr(synthetic, "DEFAULT_COUNTS", {"train": 4, "val": 2, "test": 2})


def test_the_command_ends_without_a_traceback_and_without_a_model(recipe, few, tmp_path, capsys):
    assert main(["train", recipe, "--learning_rate", "1e20"]) == 2
    shown = capsys.readouterr().err
    assert "Training is no longer finite: at step" in shown and "Traceback" not in shown
    assert "Lower `learning_rate` (it is 1e+20)" in shown and "raise" not in shown
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with pytest.raises(ValueError, match="no longer finite") as caught:
        main(["--debug", "train", recipe, "--learning_rate", "1e20", "--overwrite"])
    assert isinstance(caught.value.__cause__, TrainingDivergedError)


@pytest.mark.parametrize(("pooled", "is_failure"), [(0.0, True), (0.4, False), (None, False)])
def test_a_selected_model_that_finds_no_lesion_is_called_that_beside_its_best_score(
    pooled, is_failure, monkeypatch, capsys
):
    history = [{"step": 2, "eval_dice_pooled": pooled}, {"step": 4, "eval_dice_pooled": 0.9 - (pooled or 0)}]
    history = history if pooled is not None else [{"step": 2, "loss": 1.0}]
    state = SimpleNamespace(best_metric=0.56, best_global_step=2, log_history=history)
    args = SimpleNamespace(metric_for_best_model="dice", output_dir="run", load_best_model_at_end=True)
    ended = SimpleNamespace(state=state, args=args, end=lambda: None)
    monkeypatch.setattr("tevia_hf.training.recipe.train_from_recipe", lambda *words: ended)
    assert main(["train", "recipe.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "best validation: Dice, mean over images 0.560" in shown and ("recall 0" in shown) == is_failure
    assert ("`tevia check-data`" in validation_failure(ended)) == is_failure
    args.load_best_model_at_end = False  # the last one is saved
    assert validation_failure(ended) == ""


def test_a_lower_rate_as_the_message_advises_trains_to_the_end(recipe, few, tmp_path, capsys):
    assert main(["train", recipe, "--learning_rate", "1e20"]) == 2
    assert main(["train", recipe, "--learning_rate", "1e-4", "--overwrite"]) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
