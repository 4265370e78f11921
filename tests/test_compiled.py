"""Compiled models train as others do, in one graph and with the same prototypes. No test needs a C++ compiler."""

import pytest
import torch
from stock import labelled, new_model, stock_trainer
from tiny import tiny_processor

from tevia_hf import MomentumPrototypeCallback, TeViAForSegmentation, build_trainer
from tevia_hf.training.arguments import TeViATrainingArguments


def trained(model, folder, **settings):
    """A run of two epochs: one collects the prototypes, the other takes momentum steps."""
    args = TeViATrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=2,
        prototype_warmup_epochs=0,
        train_sampling_strategy="sequential",
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        **settings,
    )
    trainer = build_trainer(model, tiny_processor(), args, labelled(4))
    trainer.train()
    trainer.save_model()
    return trainer


def losses_of(trainer) -> list[float]:
    names = ("loss", "segmentation_loss", "alignment_loss", "grad_norm")
    return [record[name] for record in trainer.state.log_history if "loss" in record for name in names]


@pytest.fixture(scope="module")
def eager(tmp_path_factory):
    return trained(new_model(), tmp_path_factory.mktemp("eager"))


@pytest.fixture(autouse=True)
def compiled_anew():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def assert_trained_alike(trainer, eager):
    assert losses_of(trainer) == pytest.approx(losses_of(eager), rel=1e-5)
    saved = TeViAForSegmentation.from_pretrained(trainer.args.output_dir)
    assert saved.prototype_memory.is_active
    for ours, theirs in zip(saved.prototype_memory.prototypes, eager.model.prototype_memory.prototypes, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_run_that_compiles_gets_the_losses_and_prototypes_of_one_that_does_not(eager, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_FULLGRAPH", "True")  # a graph break is an error
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_DYNAMIC", "True")
    assert_trained_alike(trained(new_model(), tmp_path, torch_compile=True, torch_compile_backend="eager"), eager)


def test_a_model_that_is_compiled_in_place_trains_likewise_in_a_single_graph(eager, tmp_path):
    model, graphs = new_model(), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    model.compile(backend=backend, fullgraph=True)
    assert_trained_alike(trained(model, tmp_path), eager)
    assert len(graphs) == 1


def wrapped() -> torch.nn.Module:
    return torch.compile(new_model(), backend="eager")


def test_a_wrapped_model_is_refused_with_the_way_to_compile(tmp_path):
    with pytest.raises(ValueError, match="`torch_compile=True` in the training arguments"):
        trained(wrapped(), tmp_path)
    with pytest.raises(ValueError, match="`torch_compile=True` in the training arguments"):
        stock_trainer(wrapped(), labelled(2), tmp_path)


def test_a_wrapped_model_is_refused_by_a_callback_that_is_added_later(tmp_path):
    trainer = stock_trainer(wrapped(), labelled(2), tmp_path, callbacks=[])
    trainer.add_callback(MomentumPrototypeCallback())
    with pytest.raises(ValueError, match="`torch_compile=True` in the training arguments"):
        trainer.train()
