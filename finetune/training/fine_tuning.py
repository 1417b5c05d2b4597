"""One run from recipe to record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import PrinterCallback, TrainingArguments, set_seed

from finetune.errors import RecordError, RunStopped
from finetune.evaluation.record import (
    HISTORY,
    MODEL,
    PREDICTIONS,
    RECIPE,
    RECORD,
    Evaluated,
    Results,
    RunRecord,
    SplitResult,
    StudyPart,
    read_record,
    write_atomically,
    write_record,
)
from finetune.metrics import load_metric
from finetune.schedules import CooldownOnRequest
from finetune.training.cadence import Cadence
from finetune.training.checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    kept_model,
    newest_checkpoint,
    read_fingerprints,
    remove_old,
    write_checkpoint,
    write_fingerprints,
)
from finetune.training.clock import TrainingClock
from finetune.training.cooldown import REQUEST
from finetune.training.environment import effective_precision
from finetune.training.history import History, Row
from finetune.training.layout import layout_of
from finetune.training.material import Library, RawData
from finetune.training.plan import Plan, make_plan, show_plan
from finetune.training.progress import RunProgress, say, say_table
from finetune.training.recording import Finished, build_record, write_predictions
from finetune.training.run_directory import claim, run_directory
from finetune.training.run_lock import held
from finetune.training.selection import Logits, Selection, score
from finetune.training.stopping import StopRequest
from finetune.training.tracking import TENSORBOARD, Tracking, check_trackers, label_run
from finetune.training.trainer import ScheduledTrainer
from finetune.training.weights import load_weights, publish_model, save_model

if TYPE_CHECKING:
    from rich.console import Console

    from finetune.recipe import Recipe


def fine_tune(
    recipe: Recipe,
    *,
    source: Path,
    console: Console,
    repeat: bool = False,
    study: StudyPart | None = None,
    library: Library | None = None,
) -> RunRecord:
    """Runs `recipe`, read from the file `source`, and returns its record, which lies in `run_directory`.

    A run already recorded on the same data is not run again unless `repeat`; one that was interrupted goes on from its
    newest checkpoint. `study`: what the run is for, if it is part of one. `library`: holds data that other runs have
    read. Under a launcher every process calls this; the main one writes and speaks. On SIGTERM, Ctrl-C or the end of
    its launcher a run saves a checkpoint and raises RunStopped. Raises FinetuneError for whatever the recipe, the data,
    the model or the machine can't give, before training, and where the run can't be written on the way.
    """
    started = datetime.now(UTC)
    run = run_directory(recipe, source=source)
    layout = layout_of(recipe)
    console.quiet = console.quiet or not layout.is_main
    library = library or Library()
    recorded = not repeat and (run / RECORD).exists()
    if not recorded:
        check_trackers(recipe.tracking)
    data = library.data(recipe)
    if recorded:
        return _recorded(run, data, console)
    if layout.is_main:
        claim(run)
    with held(run) if layout.is_main else nullcontext():
        checkpoint = None if repeat else newest_checkpoint(run, say=lambda line: say(console, line))
        if checkpoint is not None:
            _refuse_other_data(run, read_fingerprints(run), data)
        plan = make_plan(recipe, run=run, layout=layout, library=library)
        return _Training(plan, study, started, console).run(checkpoint)


def _recorded(run: Path, data: RawData, console: Console) -> RunRecord:
    record = read_record(run)
    was = {split: identity.fingerprint for split, identity in record.identity.data.items()}
    _refuse_other_data(run, was, data)
    say(console, f"{run}: already recorded; --repeat runs it again")
    show_results(record, console)
    return record


def _refuse_other_data(run: Path, was: Mapping[str, str], data: RawData) -> None:
    changed = [split for split, fingerprint in data.fingerprints.items() if was.get(split) != fingerprint]
    if changed:
        raise RecordError(
            f"{run}: made on other data: the {', '.join(changed)} split has changed since; give the recipe another "
            "name or output to keep both, or pass --repeat to begin anew"
        )


class _Training:
    """The parts of one run, put together."""

    def __init__(self, plan: Plan, study: StudyPart | None, started: datetime, console: Console) -> None:
        recipe = plan.recipe
        self.plan = plan
        self.study = study
        self.started = started
        self.console = console
        self.clock = TrainingClock()
        self.progress = RunProgress(console)
        self.metrics = [load_metric(name) for name in recipe.evaluation.metrics]
        self.selection = Selection(
            plan.material.splits["validation"],
            task=recipe.task,
            metrics=self.metrics,
            select=recipe.evaluation.select,
            keep=recipe.evaluation.keep,
            save=self._keep_model,
        )
        self.stop = StopRequest()
        self.trainer = ScheduledTrainer(
            model=plan.loaded.model,
            args=training_arguments(plan),
            recipe=recipe,
            batches=plan.batches,
            lengths=plan.horizon.run,
            compute_loss_func=recipe.task.training_loss,
            validate=self.selection.validate,
            checkpoint=self._write_checkpoint,
            clock=self.clock,
            data_collator=recipe.task.collator(plan.material.tokenizer),
            train_dataset=plan.train,
            processing_class=plan.material.tokenizer,
        )
        self.tracking = Tracking(
            recipe.tracking if plan.layout.is_main else (),
            trainer=self.trainer,
            label=label_run(plan, study=study, started=started),
            folder=plan.run / TENSORBOARD,
            say=lambda line: say(console, f"  {line}"),
        )
        self.history = History(
            plan.run / HISTORY if plan.layout.is_main else None,
            clock=self.clock,
            take_update=self.trainer.take_update,
            mean_over_processes=self.trainer.mean_over_processes,
            show=self.progress.show,
            track=self.tracking.write,
            reason_to_stop=lambda: self.stop.reason,
            alone=plan.layout.processes == 1,
        )
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.add_callback(
            CooldownOnRequest(self.trainer, plan.run / REQUEST, say=lambda line: say(self.console, f"  {line}"))
        )
        self.trainer.add_callback(
            Cadence(evaluate_every=plan.horizon.evaluate_every, save_every=plan.horizon.save_every)
        )
        self.trainer.add_callback(self.history)
        self.trainer.add_callback(self.progress)

    def _keep_model(self, trainer: ScheduledTrainer) -> None:
        save_model(trainer, kept_model(self.plan.run, trainer.state.global_step))
        self._remove_old()

    def _write_checkpoint(self, trainer: ScheduledTrainer) -> None:
        best = self.selection.best if self.plan.recipe.evaluation.keep == "best" else None
        write_checkpoint(trainer, self.plan.run, kept_step=best.step if best else None)
        self._remove_old()

    def _remove_old(self) -> None:
        if self.plan.layout.is_main:
            keep = self.plan.recipe.checkpoints.keep
            remove_old(self.plan.run, keep=keep, ranked_first=self.selection.ranked_first)

    def run(self, checkpoint: Checkpoint | None) -> RunRecord:
        """Trains, on from `checkpoint` if there is one, keeps a model, reads the test split, and writes the record."""
        plan, main = self.plan, self.plan.layout.is_main
        step = checkpoint.step if checkpoint else 0
        self.trainer.accelerator.wait_for_everyone()
        if main:
            _clear(plan, keep_checkpoints=checkpoint is not None)
        show_plan(plan, self.console, precision=effective_precision(self.trainer), resumed_at=step)
        with self.tracking.during():
            self._train(checkpoint)
            results = None if self.history.diverged_at_step else self._conclude()
            if results is not None:
                self.tracking.conclude(results)
        record = build_record(
            Finished(
                recipe=plan.recipe,
                material=plan.material,
                horizon=plan.horizon,
                trainer=self.trainer,
                history=self.history,
                clock=self.clock,
                started=self.started,
                model=plan.model,
                examples=len(plan.train),
                batches=plan.batches.fingerprint(plan.train.rows),
                resumed_at=step,
                study=self.study,
            ),
            results,
        )
        if main:
            write_record(plan.run, record)
            shutil.rmtree(plan.run / CHECKPOINTS, ignore_errors=True)
        show_results(record, self.console)
        return record

    def _train(self, checkpoint: Checkpoint | None) -> None:
        plan = self.plan
        rows: list[Row] = checkpoint.rows if checkpoint else []
        self.selection.resume(rows)
        self.history.resume(rows)
        # Dropout must differ between processes, and be the same however many runs this process made before.
        set_seed(int(np.random.SeedSequence([plan.recipe.training.seed, plan.layout.rank]).generate_state(1)[0]))
        self.clock.start(seconds=rows[-1]["seconds"] if rows else 0.0)
        try:
            with self.stop.listening():
                self.trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        finally:
            self.progress.stop()
        if self.history.stopped_at_step is not None:
            raise RunStopped(self.stop.reason or "a signal to another process", self.history.stopped_at_step)

    def _conclude(self) -> Results:
        """Keeps the best or the last model and evaluates it on every split but the one it was trained on."""
        plan, last = self.plan, self.selection.last
        assert last is not None  # noqa: S101 - the cadence evaluates after the last update
        best = self.selection.best or last
        keep = plan.recipe.evaluation.keep
        kept = best if keep == "best" else last
        folder = kept_model(plan.run, kept.step)
        if keep == "last" or self.selection.best is None:
            save_model(self.trainer, folder)
        elif kept.step != last.step:
            load_weights(self.trainer, folder)
        splits = {"validation": self._evaluate("validation", kept.logits)}
        if "test" in plan.material.splits:
            splits["test"] = self._evaluate("test", None)
        if plan.layout.is_main:
            publish_model(folder, plan.run / MODEL)
        return Results(
            select=plan.recipe.evaluation.select,
            kept=keep,
            kept_step=kept.step,
            splits=splits,
            best=Evaluated(step=best.step, validation=dict(best.values)),
            last=Evaluated(step=last.step, validation=dict(last.values)),
        )

    def _evaluate(self, name: str, logits: Logits | None) -> SplitResult:
        split, task = self.plan.material.splits[name], self.plan.recipe.task
        if logits is None:
            logits = self.trainer.predict_split(split)
        if self.plan.layout.is_main:
            classes = self.plan.material.classes
            columns = task.prediction_columns(logits, classes)
            write_predictions(self.plan.run, name, columns=columns, labels=split.labels, classes=classes)
        return score(task, self.metrics, logits, split.labels)


def _clear(plan: Plan, *, keep_checkpoints: bool) -> None:
    """Leaves nothing of an earlier run in the directory but what this one goes on from, and writes the recipe."""
    run = plan.run
    (run / RECORD).unlink(missing_ok=True)
    (run / REQUEST).unlink(missing_ok=True)
    for folder in (run / PREDICTIONS, run / TENSORBOARD):
        shutil.rmtree(folder, ignore_errors=True)
    if not keep_checkpoints:
        for folder in (run / CHECKPOINTS, run / MODEL):
            shutil.rmtree(folder, ignore_errors=True)
    write_fingerprints(run, {split: identity.fingerprint for split, identity in plan.material.identities.items()})
    text = plan.recipe.to_yaml()
    write_atomically(run / RECIPE, lambda path: path.write_text(text, encoding="utf-8"))


def training_arguments(plan: Plan) -> TrainingArguments:
    training = plan.recipe.training
    arguments = TrainingArguments(
        output_dir=str(plan.run / CHECKPOINTS),
        use_cpu=plan.layout.device.type == "cpu",
        max_steps=plan.horizon.total_steps,
        per_device_train_batch_size=plan.layout.micro_batch_size,
        per_device_eval_batch_size=plan.recipe.evaluation.batch_size,
        gradient_accumulation_steps=plan.layout.accumulation,
        learning_rate=plan.recipe.optimizer.learning_rate,
        max_grad_norm=training.gradient_clipping or 0.0,
        bf16=plan.precision == "bf16",
        fp16=plan.precision == "fp16",
        seed=training.seed,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        save_total_limit=plan.recipe.checkpoints.keep,
        dataloader_num_workers=training.workers,
        dataloader_pin_memory=plan.layout.device.type == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        # Its filter would replace a loss that isn't finite by the mean of those before.
        logging_nan_inf_filter=False,
        log_level="error",
        disable_tqdm=True,
        report_to="none",
    )
    # Without a launcher Trainer would spread each batch over all visible GPUs by DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def show_results(record: RunRecord, console: Console) -> None:
    """Prints what came of a run."""
    if record.results is None:
        say(console, f"  diverged: the loss was not finite at update {record.diverged_at_step}; lower the peak rate")
        return
    kept = f"the {record.results.kept} model, of update {record.results.kept_step}"
    rows = []
    for split, result in record.results.splits.items():
        scores = ", ".join(
            f"{name} {score.value:.4f} ± {score.standard_error:.4f}" for name, score in result.metrics.items()
        )
        rows.append((split, f"{scores} (value ± standard error over {result.count:,} examples)"))
    timing = record.timing
    rows.append(("kept", kept))
    rows.append(
        (
            "time",
            f"{timing.train_seconds:.1f} s of training at {timing.samples_per_second:.0f} samples/s, "
            f"{timing.total_seconds:.1f} s in all",
        )
    )
    say_table(console, rows)
