"""When prototypes are collected and updated, by how much, and when patience starts to count."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from PIL import Image
from safetensors.torch import load_file
from stock import stock_trainer
from tiny import tiny_config, tiny_processor
from transformers import TrainerCallback, TrainerState, TrainingArguments

from tevia_hf import MomentumPrototypeCallback, TeViAForSegmentation, build_trainer
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.training.arguments import TeViATrainingArguments
from tevia_hf.training.callbacks import PrototypeAwareEarlyStopping

STEPS = 3  # of two samples each, the last of one
MOMENTUM = 0.9


@dataclass
class Step:
    """The outputs of the model in one optimizer step, and its memory after it."""

    visual: list[list[torch.Tensor]]  # by forward pass, then by scale
    gate_was_on: list[bool]
    prototypes: list[torch.Tensor]
    count: int
    active: bool

    def foreground(self) -> list[torch.Tensor]:
        """The vectors of the samples that have foreground, `(samples, channels)` a scale."""
        scales = [torch.cat(vectors) for vectors in zip(*self.visual, strict=True)]
        return [vectors[vectors.abs().sum(1) > 0].double() for vectors in scales]


class Recorder(TrainerCallback):
    def __init__(self):
        self.steps, self.visual, self.gates = [], [], []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.hook = model.register_forward_hook(self.note)

    def note(self, model, inputs, outputs):
        if model.training:
            self.visual.append([vectors.clone() for vectors in outputs.visual_embeddings])
            self.gates.append(model.prototype_memory.is_active)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        memory = model.prototype_memory
        prototypes = [prototype.clone() for prototype in memory.prototypes]
        self.steps.append(Step(self.visual, self.gates, prototypes, int(memory.count), memory.is_active))
        self.visual, self.gates = [], []

    def on_train_end(self, args, state, control, **kwargs):
        self.hook.remove()


@pytest.fixture(scope="module")
def examples():
    """Five images, one of them without a lesion."""
    healthy = {
        "id": "healthy",
        "group": "healthy",
        "text": "all lung",
        "image": Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)),
        "mask": Image.fromarray(np.zeros((32, 32), dtype=np.uint8)),
    }
    return concatenate_datasets([synthetic_dataset(size=32, count=4), dataset_from_rows([healthy])])


def arguments(folder, **settings) -> TeViATrainingArguments:
    defaults = {
        "per_device_train_batch_size": 2,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TeViATrainingArguments(output_dir=str(folder), **{**defaults, **settings})


def new_model(**settings) -> TeViAForSegmentation:
    torch.manual_seed(0)
    return TeViAForSegmentation(tiny_config(**{"prototype_momentum": MOMENTUM, **settings}))


def recorded(model, examples, folder, callbacks=(), **settings) -> list[Step]:
    recorder = Recorder()
    trainer = build_trainer(
        model, tiny_processor(), arguments(folder, **settings), examples, examples, callbacks=[*callbacks, recorder]
    )
    trainer.train()
    return recorder.steps


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
        {"eval_strategy": "steps", "eval_steps": 1},
    ],
    ids=["plain", "accumulated", "evaluated at every step"],
)
def run(request, examples, tmp_path_factory):
    """Four epochs: one before, one collecting, two of momentum."""
    settings = {"num_train_epochs": 4, "prototype_warmup_epochs": 1, **request.param}
    return recorded(new_model(), examples, tmp_path_factory.mktemp("run"), **settings)


def epoch_of(run: list[Step], epoch: int) -> list[Step]:
    assert len(run) == 4 * STEPS
    return run[epoch * STEPS : (epoch + 1) * STEPS]


def assert_near(prototypes, expected):
    for prototype, value in zip(prototypes, expected, strict=True):
        torch.testing.assert_close(prototype.double(), value, rtol=1e-5, atol=1e-6)


def assert_momentum_steps(steps: list[Step], prototypes: list[torch.Tensor]) -> None:
    for step in steps:
        expected = [prototype.double() for prototype in prototypes]
        if len(step.foreground()[0]):
            means = [vectors.mean(0) for vectors in step.foreground()]
            expected = [MOMENTUM * p + (1 - MOMENTUM) * v for p, v in zip(expected, means, strict=True)]
            assert any((e - p).abs().max() > 1e-3 for e, p in zip(expected, prototypes, strict=True))
        assert_near(step.prototypes, expected)
        prototypes = step.prototypes


def test_nothing_happens_before_the_collecting_epoch(run):
    for step in epoch_of(run, 0):
        assert step.count == 0 and not step.active and not any(p.any() for p in step.prototypes)


def test_the_collecting_epoch_gives_the_mean_over_its_samples_with_foreground(run):
    seen: list[list[torch.Tensor]] = []
    for step in epoch_of(run, 1):
        seen.append(step.foreground())
        samples = [torch.cat(vectors) for vectors in zip(*seen, strict=True)]
        assert step.count == len(samples[0])
        assert_near(step.prototypes, [vectors.mean(0) for vectors in samples])
    assert step.count == 4  # of five images


def test_the_gate_is_off_until_the_collecting_epoch_is_over(run):
    gates = [[on for step in epoch_of(run, epoch) for on in step.gate_was_on] for epoch in range(4)]
    assert not any(gates[0] + gates[1]) and all(gates[2] + gates[3])


def test_later_steps_move_prototypes_by_the_mean_of_their_samples(run):
    assert_momentum_steps(epoch_of(run, 2) + epoch_of(run, 3), epoch_of(run, 1)[-1].prototypes)


def test_a_step_without_any_foreground_changes_nothing(examples, tmp_path):
    model = new_model()
    model.prototype_memory.assign([torch.full_like(p, 0.5) for p in model.prototype_memory.prototypes])
    recorded(model, examples.select([4]), tmp_path, num_train_epochs=2)
    assert all(torch.equal(p, torch.full_like(p, 0.5)) for p in model.prototype_memory.prototypes)


def without_batch_statistics(model: TeViAForSegmentation) -> TeViAForSegmentation:
    """With these, the features of an image depend on the other images of the batch."""
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.eval()
        norm.train = lambda mode=True, norm=norm: norm
    return model


def test_two_accumulated_images_equal_a_batch_of_two(examples, tmp_path):
    batch, accumulated = (
        recorded(
            without_batch_statistics(new_model(text_dropout=0)),
            examples,
            tmp_path,
            num_train_epochs=4,
            learning_rate=0.0,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=2 // size,
        )
        for size in (2, 1)
    )
    assert len(accumulated[0].visual) == 2 and len(batch[0].visual) == 1
    for one, other in zip(batch, accumulated, strict=True):
        assert one.count == other.count and one.active == other.active
        for ours, theirs in zip(one.prototypes, other.prototypes, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_an_active_memory_takes_momentum_steps_at_once(examples, tmp_path):
    model = new_model()
    given = [torch.full_like(prototype, 0.5) for prototype in model.prototype_memory.prototypes]
    model.prototype_memory.assign(given)
    steps = recorded(model, examples, tmp_path, num_train_epochs=1, prototype_warmup_epochs=5)
    assert all(step.active for step in steps)
    assert_momentum_steps(steps, given)


def test_the_vision_only_network_trains_without_prototypes(examples, tmp_path):
    model = new_model(use_text=False)
    before = copy.deepcopy(model.state_dict())
    build_trainer(model, tiny_processor(), arguments(tmp_path, num_train_epochs=1), examples).train()
    assert model.prototype_memory is None and model.state_dict().keys() == before.keys()
    assert any(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_training_leaves_no_hook_behind(examples, tmp_path, tiny_model):
    class SeesHooks(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            assert len(model._forward_hooks) == 3  # of the prototypes, the losses and the divergence

    for _ in range(2):
        args = arguments(tmp_path, num_train_epochs=1)
        build_trainer(tiny_model, tiny_processor(), args, examples, callbacks=[SeesHooks()]).train()
        assert not tiny_model._forward_hooks


@pytest.mark.parametrize("uses_text", [True, False])
def test_a_callback_works_for_another_model_after_an_interrupted_run(uses_text, examples, tmp_path):
    class Fails(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    def prototypes_of(model, *callbacks):
        stock_trainer(model, examples, tmp_path, [*callbacks], num_train_epochs=2).train()
        assert not model._forward_hooks
        return [] if model.prototype_memory is None else model.prototype_memory.prototypes

    callback, first = MomentumPrototypeCallback(0), new_model()
    with pytest.raises(KeyboardInterrupt):
        prototypes_of(first, callback, Fails())
    expected = prototypes_of(new_model(), MomentumPrototypeCallback(0))
    for model in (new_model(use_text=uses_text), first):
        assert all(map(torch.equal, prototypes_of(model, callback), expected))
        assert not first._forward_hooks and callback.run is None


def test_the_trainer_gets_the_recipes_warm_up(examples, tmp_path, tiny_model):
    trainer = build_trainer(tiny_model, tiny_processor(), arguments(tmp_path, prototype_warmup_epochs=7), examples)
    (callback,) = [c for c in trainer.callback_handler.callbacks if isinstance(c, MomentumPrototypeCallback)]
    assert callback.warmup_epochs == 7


def test_the_best_checkpoint_comes_back_with_its_own_prototypes(examples, tmp_path, tiny_model):
    best = 3
    per_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    args = arguments(tmp_path, num_train_epochs=4, save_total_limit=4, **per_epoch)
    trainer = build_trainer(tiny_model, tiny_processor(), args, examples, examples)
    scores = iter([0.5] * (best - 1) + [0.9] + [0.5] * (4 - best))
    trainer.compute_metrics = lambda prediction: {"dice": next(scores)}
    trainer.train()
    own, last = (load_file(tmp_path / f"checkpoint-{STEPS * epoch}" / "model.safetensors") for epoch in (best, 4))
    memory = [name for name in own if "prototype_memory" in name]
    state_dict = trainer.model.state_dict()
    assert len(memory) == 5 and all(torch.equal(state_dict[name], own[name]) for name in memory)
    assert any(not torch.equal(own[name], last[name]) for name in memory)
    assert trainer.model.prototype_memory.is_active


# Early stopping


class StopsAfter(TrainerCallback):
    """Ends training after `epochs` epochs, when their checkpoint is written."""

    def __init__(self, epochs: int):
        self.epochs = epochs

    def on_save(self, args, state, control, **kwargs):
        if state.epoch >= self.epochs:
            control.should_training_stop = True


def train_at_constant_dice(examples, folder, resume=None, callbacks=(), epochs=7):
    """The number of epochs until patience is exhausted."""
    args = arguments(
        folder,
        num_train_epochs=epochs,
        prototype_warmup_epochs=1,
        early_stopping_patience=2,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    images = examples.select(range(2))
    trainer = build_trainer(new_model(), tiny_processor(), args, images, images, callbacks=callbacks)
    trainer.compute_metrics = lambda prediction: {"dice": 0.5}
    trainer.train(resume_from_checkpoint=resume)
    return trainer.state.epoch


def test_patience_begins_to_count_when_prototypes_are_active(examples, tmp_path):
    # After epochs 1 (before) and 2 (collecting) nothing counts; 3 is the first to choose from, 4 and 5 are no better.
    assert train_at_constant_dice(examples, tmp_path) == 5


def test_patience_survives_a_resume(examples, tmp_path):
    assert train_at_constant_dice(examples, tmp_path, callbacks=[StopsAfter(3)]) == 3
    assert train_at_constant_dice(examples, tmp_path, resume=str(tmp_path / "checkpoint-3")) == 5


def test_early_stopping_is_rebuilt_from_its_state_with_its_warm_up():
    state = PrototypeAwareEarlyStopping(4, 0.01, warmup_epochs=6).state()
    rebuilt = PrototypeAwareEarlyStopping(**state["args"])
    assert vars(rebuilt) == vars(PrototypeAwareEarlyStopping(4, 0.01, warmup_epochs=6))


def test_there_is_no_early_stopping_unless_it_is_set(examples, tmp_path, tiny_model):
    trainer = build_trainer(tiny_model, tiny_processor(), arguments(tmp_path), examples)
    assert not any(isinstance(c, PrototypeAwareEarlyStopping) for c in trainer.callback_handler.callbacks)


def test_each_scale_is_averaged_over_the_samples_that_it_sees(tiny_model):
    callback, memory = MomentumPrototypeCallback(warmup_epochs=0), tiny_model.prototype_memory
    state = TrainerState(global_step=1, num_train_epochs=2)
    callback.on_train_begin(TrainingArguments(), state, None, model=tiny_model)
    callback.sums = [
        torch.cat([torch.full_like(prototype, 6.0), torch.tensor([count])])
        for prototype, count in zip(memory.prototypes, (3.0, 2.0, 1.0), strict=True)
    ]
    callback.on_step_end(None, state, None, model=tiny_model)
    assert [float(prototype.unique()) for prototype in memory.prototypes] == [2.0, 3.0, 6.0]
