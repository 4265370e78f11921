"""A benchmark measures what it names, and writes it as a page."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_cli.benchmark import VARIANTS as VARIANTS_OF_THE_COMMAND
from tevia_hf import benchmark_model
from tevia_hf.benchmark import run as running
from tevia_hf.benchmark import variants
from tevia_hf.benchmark.machine import Machine, interleaved
from tevia_hf.benchmark.memory import peak_of
from tevia_hf.benchmark.report import Costs, floor_ms
from tevia_hf.benchmark.time_shares import time_shares
from tevia_hf.benchmark.variants import VARIANTS, Case, Inputs, Subject

MACHINE = Machine("a processor", "AVX2", 2, gflops=100, gbytes=10)
CASE = Case(2, 64, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_reader().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def small(monkeypatch):
    """A benchmark of a second: one row in each table and figure, and no other process."""
    monkeypatch.setattr(running.Machine, "measured", lambda: MACHINE)
    monkeypatch.setattr(running, "peak_of", lambda variant, *_: {"plain": 20.0}.get(variant, 10.0))
    monkeypatch.setattr(variants, "LARGE", 64)
    monkeypatch.setattr(running, "SWEEPS", {"side": (32, 64), "batch": (1, 2), "tokens": (4, 400)})


def test_the_page_holds_every_variant_and_the_figure(folder, small, tmp_path):
    costs = benchmark_model(folder, tmp_path / "out", ["text once"], side=32, tokens=4, rounds=1)
    assert [row["variant"] for row in costs.rows] == ["plain", "text once", "fused"] * 2
    assert {row["peak_mb"] for row in costs.rows if row["variant"] == "plain"} == {20.0, None}
    assert all(row["speedup"] == 1 for row in costs.rows if row["variant"] == "plain")
    page = (tmp_path / "out" / "performance.md").read_text(encoding="utf-8")
    assert "a processor, AVX2, 2 threads" in page and page.count("| text once |") == 3
    assert all(f"| `{name}` | {share:.0%} |" in page for name, share in costs.time_shares.items())
    assert [row["value"] for row in costs.sweeps["tokens"]] == [4]  # more than the model takes are left out
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text(encoding="utf-8"))["rows"] == costs.rows
    assert np.asarray(Image.open(tmp_path / "out" / "costs.png")).std() > 5


def test_unknown_variants_and_numbers_out_of_range_are_refused(tmp_path):
    for options in ({"variants": ["tensorrt"]}, {"side": 0}, {"rounds": 0}, {"tokens": 1.5}):
        with pytest.raises(ValueError, match=r"plain, text once|give a whole number"):
            benchmark_model(None, tmp_path / "out", **options)


def test_more_tokens_than_the_model_takes_are_refused_and_the_earlier_output_stays(folder, small, tmp_path):
    benchmark_model(folder, tmp_path / "out", [], side=32, tokens=4, rounds=1)
    with pytest.raises(ValueError, match="`tokens` is 400, of which the model takes 24"):
        benchmark_model(folder, tmp_path / "out", [], side=32, tokens=400, overwrite=True)
    assert (tmp_path / "out" / "performance.md").is_file()


@torch.no_grad()
def test_all_ways_in_torch_compute_the_same_logits(folder, tmp_path):
    subject, inputs = Subject(folder, tmp_path), Inputs.of(CASE)
    expected = VARIANTS["plain"](subject, inputs)().logits
    for name, tolerance in (("text once", 1e-5), ("fused", 1e-4), ("bfloat16", 0.1)):
        logits = VARIANTS[name](subject, inputs)().logits.float()
        torch.testing.assert_close(logits, expected, atol=tolerance, rtol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("name", ["CLIPSeg", "U-Net"])
def test_the_models_beside_it_segment_the_same_images(name, tmp_path):
    output = VARIANTS[name](Subject(None, tmp_path), Inputs.of(CASE))()
    logits = output if name == "U-Net" else output.logits
    assert logits.shape[0] == 2 and logits.shape[-1] == 64


def test_the_command_names_every_variant():
    assert all(name in VARIANTS_OF_THE_COMMAND for name in VARIANTS)


def test_images_have_the_side_of_the_processor_by_default(folder, tmp_path):
    assert (Subject(folder, tmp_path).usual_side, Subject(None, tmp_path).usual_side) == (32, 224)


def test_variants_take_turns_and_their_first_run_does_not_count():
    order = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3 and set(times) == {"a", "b"}


def test_the_time_is_divided_among_operations():
    numbers = torch.ones(64, 64)
    shares = time_shares(lambda: (numbers @ numbers).exp(), rounds=2)
    assert {"mm", "exp"} <= shares.keys() and 0 < sum(shares.values()) <= 1 + 1e-9


def test_the_floor_is_the_time_of_operations_or_of_reading_the_weights():
    costs = Costs("a model", MACHINE, CASE, rounds=1, weights_mb=50)
    assert floor_ms(costs, gflop=2, batch=1) == pytest.approx(20)
    assert floor_ms(costs, gflop=0.1, batch=1) == pytest.approx(5)
    assert floor_ms(costs, gflop=0.1, batch=4) == pytest.approx(1.25)


def test_the_peak_of_a_process_is_measured(folder, tmp_path):
    assert 100 < peak_of("plain", Subject(folder, tmp_path), CASE) < 4000


@pytest.mark.parametrize("is_native", [True, False])
def test_bfloat16_is_measured_by_default_where_the_processor_computes_in_it(is_native, monkeypatch):
    monkeypatch.setattr(running, "has_bfloat16", lambda: is_native)
    assert ("bfloat16" in running.usual_variants()) == ("openvino bfloat16" in running.usual_variants()) == is_native
    assert "compiled" not in running.usual_variants() and "onnx" in running.usual_variants()
