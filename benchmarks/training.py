"""Time and peak memory of a training step: the way that `tevia train` takes, and ways without its measures.

    python benchmarks/training.py [--model mobilenet] [--variants plain default compiled] [--steps 8]

Prints a Markdown table. Models have random weights, images are synthetic, 224 pixels wide. Every variant is a stock
`Trainer` in a process of its own; the processes take their steps in turn, so that whatever else the machine does meets
all of them alike. A step is forward, backward, clipping, update and callbacks; its time is the median without the first
step, by the clock and by the processors' time (which suffers less from other work on the machine). The memory is the
peak of the process from the second step on; ratios are to the first variant. `--waits default` adds the share of a
run's time in which the loop waits for batches, with no worker and with one.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

MODELS = ("convnext", "mobilenet")
# Cumulative up to "default": what `tevia train` does. Those after it change one argument of it.
VARIANTS = {
    "plain": {"optim": "adamw_torch"},
    "cached": {"optim": "adamw_torch"},
    "channels-last": {"optim": "adamw_torch"},
    "default": {},
    "compiled": {"torch_compile": True},
    "bf16": {"bf16": True},
    "compiled, bf16": {"torch_compile": True, "bf16": True},
}
SIDE, WARM_UP = 224, 1
PROCESSOR = Path(__file__).parents[1] / "hub_configs" / "tevia-tiny"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODELS[0], choices=MODELS)
    parser.add_argument("--variants", nargs="+", default=["plain", "default", "compiled", "bf16"], choices=VARIANTS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--waits", choices=VARIANTS, help="measure also how long this variant waits for batches")
    parser.add_argument("--variant", help=argparse.SUPPRESS)  # of a process that this one starts
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant is not None:
        train(args)
        return
    processes = {name: start(args, name) for name in args.variants}
    times: dict[str, list[float]] = {name: [] for name in processes}
    cpu_times: dict[str, list[float]] = {name: [] for name in processes}
    for process in processes.values():
        read(process)  # until all are ready
    for _ in range(args.steps + WARM_UP):
        for name, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            wall, cpu = map(float, read(process).split())
            times[name].append(wall)
            cpu_times[name].append(cpu)
            print(f"{name}: {wall:.2f} s, of a processor {cpu:.2f} s", file=sys.stderr, flush=True)
    memory = {name: float(read(process)) for name, process in processes.items()}
    print(f"| {args.model}, batch {args.batch} | step, s | ratio | CPU, s | ratio | peak, MB | ratio | first step, s |")
    print("|---|---|---|---|---|---|---|---|")
    step, cpu_step = ({n: median(v[WARM_UP:]) for n, v in part.items()} for part in (times, cpu_times))
    first = args.variants[0]
    for name in processes:
        columns = [f"{step[name]:.2f} | {step[first] / step[name]:.2f}"]
        columns += [f"{cpu_step[name]:.2f} | {cpu_step[first] / cpu_step[name]:.2f}"]
        columns += [f"{memory[name]:.0f} | {memory[name] / memory[first]:.2f}", f"{times[name][0]:.0f}"]
        print(f"| {name} | {' | '.join(columns)} |", flush=True)
    for workers in (0, 1) if args.waits else ():
        share = float(read(start(args, args.waits, workers)))
        print(f"\n{args.waits}, {workers} workers: waits for batches in {share:.1%} of the time.", flush=True)


def start(args: argparse.Namespace, variant: str, workers: int | None = None) -> subprocess.Popen:
    """The process of a variant, which takes its steps one by one on request, or at once if `workers` are given."""
    command = [sys.executable, __file__, "--model", args.model, "--variant", variant]
    command += ["--batch", str(args.batch), "--steps", str(args.steps)]
    command += [] if workers is None else ["--workers", str(workers)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read(process: subprocess.Popen) -> str:
    """The next value that a process reports; the Trainer's own output is skipped."""
    for line in process.stdout or ():
        if line.startswith("> "):
            return line[2:]
    raise RuntimeError(f"A process ended with code {process.wait()}: its error is above.")


def train(args: argparse.Namespace) -> None:
    """Trains a variant, and reports the time of each step and the peak memory, or the share of waiting."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        begun = ended = time.perf_counter()
        cpu_begun = 0.0
        steps, waits = [], []

        def on_step_begin(self, training_args, state, control, **kwargs):
            self.waits.append(time.perf_counter() - self.ended)
            if args.workers is None:
                sys.stdin.readline()
            if state.global_step == WARM_UP:
                Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            self.begun, self.cpu_begun = time.perf_counter(), time.process_time()

        def on_step_end(self, training_args, state, control, **kwargs):
            self.ended = time.perf_counter()
            self.steps.append(self.ended - self.begun)
            if args.workers is None:
                print(f"> {self.steps[-1]} {time.process_time() - self.cpu_begun}", flush=True)

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(args, folder)
        trainer.add_callback(clock)
        if args.workers is None:
            print("> ready", flush=True)
        trainer.train()
    if args.workers is None:
        status = Path("/proc/self/status").read_text()
        print(f"> {int(status.partition('VmHWM:')[2].split()[0]) / 1024}", flush=True)
    else:
        waits, steps = sum(clock.waits[WARM_UP:]), sum(clock.steps[WARM_UP:])
        print(f"> {waits / (waits + steps)}", flush=True)


def build(args: argparse.Namespace, folder: str):
    """The Trainer of a variant."""
    import torch

    from tevia_hf import TeViAImageProcessor, TeViAProcessor, build_trainer
    from tevia_hf.data.collate import SegmentationCollator
    from tevia_hf.data.synthetic import synthetic_dataset
    from tevia_hf.training.arguments import TeViATrainingArguments

    torch.manual_seed(0)
    model = new_model(args.model)
    tokenizer = TeViAProcessor.from_pretrained(PROCESSOR).tokenizer
    processor = TeViAProcessor(TeViAImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer)
    settings = TeViATrainingArguments(
        output_dir=folder,
        max_steps=args.steps + WARM_UP,
        per_device_train_batch_size=args.batch,
        prototype_warmup_epochs=0,
        dataloader_num_workers=args.workers or 0,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **VARIANTS[args.variant],
    )
    images = synthetic_dataset(size=SIDE, count=(args.steps + WARM_UP) * args.batch // 2)  # two epochs
    trainer = build_trainer(model, processor, settings, images)
    position = list(VARIANTS).index(args.variant)
    if position < list(VARIANTS).index("cached"):
        trainer.data_collator = SegmentationCollator(processor, white_is_lesion=True, with_ids=True)
    if position < list(VARIANTS).index("channels-last"):
        model.to(memory_format=torch.contiguous_format)
    return trainer


def new_model(name: str):
    """ConvNeXt-Tiny and BERT-base, or MobileNetV2 and a BERT of MiniLM's size, with the decoder of its recipe."""
    from transformers import BertConfig, ConvNextConfig, MobileNetV2Config

    from tevia_hf import TeViAConfig, TeViAForSegmentation

    if name == "convnext":
        return TeViAForSegmentation(TeViAConfig(backbone_config=ConvNextConfig(), text_config=BertConfig()))
    text = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    config = TeViAConfig(backbone_config=MobileNetV2Config(), text_config=text, decoder_channels=[256, 128, 64, 32])
    return TeViAForSegmentation(config)


if __name__ == "__main__":
    main()
