"""One run, or one trunk: its parts put together, trained, evaluated and recorded."""

from __future__ import annotations

import shutil
from datetime import datetime
from typing import TYPE_CHECKING

from transformers import PrinterCallback, set_seed

from finetune.errors import RunError, RunStopped
from finetune.evaluation.record import (
    HISTORY,
    MODEL,
    PREDICTIONS,
    RECIPE,
    RECORD,
    Beside,
    Results,
    RunRecord,
    SplitResult,
    StoppedEarly,
    StudyPart,
    Weights,
    write_atomically,
    write_record,
)
from finetune.report.model_card import write_card
from finetune.schedules import CooldownOnRequest
from finetune.training.arguments import training_arguments
from finetune.training.averaging import Averages
from finetune.training.cadence import Cadence
from finetune.training.checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    checkpoint_of,
    kept_model,
    remove_old,
    write_checkpoint,
    write_identity,
)
from finetune.training.clock import TrainingClock
from finetune.training.cooldown import REQUEST
from finetune.training.early_stopping import early_stopping
from finetune.training.environment import effective_precision
from finetune.training.execution import prepare_execution
from finetune.training.failures import errors_of_workers, failure_of
from finetune.training.heap import keep_freed_memory
from finetune.training.history import History, Row
from finetune.training.layer_preparation import GradualUnfreezing
from finetune.training.losses import training_loss
from finetune.training.plan import Plan, show_plan
from finetune.training.progress import RunProgress, say, show_results
from finetune.training.random_state import seed_of_process
from finetune.training.recording import Finished, build_record, write_predictions
from finetune.training.resuming import Start, identity_of
from finetune.training.selection import Evaluation, Selection, score
from finetune.training.stopping import CalledOffError, StopRequest
from finetune.training.tracking import TENSORBOARD, Tracking, label_run
from finetune.training.trainer import ScheduledTrainer
from finetune.training.weights import load_weights, publish_merged, publish_model, save_model

if TYPE_CHECKING:
    from rich.console import Console

    from finetune.tasks.base import Judgement, Outputs


class OneRun:
    """The parts of one run, put together; with `until`, of a trunk that ends there."""

    def __init__(
        self,
        plan: Plan,
        *,
        study: StudyPart | None,
        started: datetime,
        start: Start,
        stop: StopRequest,
        console: Console,
        until: int | None = None,
    ) -> None:
        recipe = plan.recipe
        if plan.layout.device.type == "cpu":
            keep_freed_memory()
        prepare_execution(plan.loaded.model, recipe, device=plan.layout.device, precision=plan.precision)
        self.plan = plan
        self.start = start
        self.saved_at = start.step
        self.study = study
        self.started = started
        self.console = console
        self.clock = TrainingClock()
        self.progress = RunProgress(console)
        self.averages = Averages(recipe.averaging, is_skipped=lambda: self.trainer.is_skipped)
        # An average of the last evaluations isn't there before them, to be the best of any.
        self.keep = "last" if self.averages.kept == "average" else recipe.evaluation.keep
        self.selection = Selection(
            plan.material.splits["validation"],
            task=recipe.task,
            classes=plan.material.classes,
            metrics=plan.metrics,
            select=recipe.evaluation.selecting,
            keep=self.keep,
            save=self._keep_model,
            averages=self.averages,
        )
        self.stop = stop

        def tell(line: str) -> None:
            say(console, f"  {line}")

        self.trainer = ScheduledTrainer(
            model=plan.loaded.model,
            args=training_arguments(plan),
            recipe=recipe,
            batches=plan.batches,
            lengths=plan.horizon.run,
            compute_loss_func=training_loss(recipe, classes=plan.material.classes, train=plan.train),
            validate=self.selection.validate,
            greater_is_better=self.selection.metric.greater_is_better,
            checkpoint=self._write_checkpoint,
            clock=self.clock,
            averages=self.averages,
            wants_to_stop=lambda: self.stop.reason is not None,
            on_change=start.on_change,
            say=tell,
            data_collator=recipe.task.collator(plan.material.processor),
            train_dataset=plan.train,
            processing_class=plan.material.processor,
        )
        self.tracking = Tracking(
            recipe.tracking if plan.layout.is_main and until is None else (),
            trainer=self.trainer,
            label=label_run(plan, study=study, started=started),
            folder=plan.run / TENSORBOARD,
            say=tell,
        )
        self.history = History(
            plan.run / HISTORY if plan.layout.is_main else None,
            clock=self.clock,
            take_update=self.trainer.take_update,
            mean_over_processes=self.trainer.mean_over_processes,
            show=self.progress.show,
            track=self.tracking.write,
            beside=lambda: self.selection.beside,
            reason_to_stop=lambda: self.stop.reason,
            alone=plan.layout.processes == 1,
            on_non_finite=recipe.training.on_non_finite,
        )
        self.trainer.remove_callback(PrinterCallback)
        if until is None:
            self.trainer.add_callback(CooldownOnRequest(self.trainer, plan.run / REQUEST, say=tell))
        if recipe.layers is not None and recipe.layers.unfreeze is not None:
            self.trainer.add_callback(GradualUnfreezing())
        self.early_stopping = early_stopping(recipe, self.selection.metric)
        for callback in (self.averages, self.early_stopping):
            if callback is not None:
                self.trainer.add_callback(callback)
        self.trainer.add_callback(self.progress)
        self.trainer.add_callback(
            Cadence(
                evaluate_every=plan.horizon.evaluate_every,
                save_every=plan.horizon.save_every,
                is_evaluated=self.history.is_evaluated,
                evaluate=self.trainer.evaluate_validation,
                until=until,
            )
        )
        self.trainer.add_callback(self.history)

    def _keep_model(self, trainer: ScheduledTrainer) -> None:
        save_model(trainer, kept_model(self.plan.run, trainer.state.global_step))
        self._remove_old()

    def _write_checkpoint(self, trainer: ScheduledTrainer) -> None:
        best = self.selection.best if self.keep == "best" else None
        kept_step = best.step if best else None
        write_checkpoint(trainer, self.plan.run, kept_step=kept_step, continued=self.start.continued)
        self.saved_at = trainer.state.global_step
        self._remove_old()

    def _remove_old(self) -> None:
        if self.plan.layout.is_main:
            keep = self.plan.recipe.checkpoints.keep
            remove_old(self.plan.run, keep=keep, ranked_first=self.selection.ranked_first)

    def run(self) -> RunRecord:
        """Trains, keeps a model, reads the test split, and writes the record."""
        plan, start, main = self.plan, self.start, self.plan.layout.is_main
        self.trainer.accelerator.wait_for_everyone()
        if main:
            _clear(plan, start.checkpoint)
        show_plan(plan, self.console, precision=effective_precision(self.trainer), resumed_at=start.step)
        with errors_of_workers(), self.tracking.during(), self.stop.listening():
            self._train(start.checkpoint)
            results = None if self.history.diverged_at_step else self._conclude_or_stop()
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
                resumed_at=start.step,
                study=self.study,
                continued=start.continued,
                stopped_early=self._stopped_early(),
            ),
            results,
        )
        if main:
            self.history.flush()  # the record says that the run is over, so nothing may still be missing
            write_record(plan.run, record)
            if results is not None:
                write_card(plan.run / MODEL, record)
            shutil.rmtree(plan.run / CHECKPOINTS, ignore_errors=True)
        show_results(record, self.console)
        return record

    def run_trunk(self, until: int) -> Checkpoint | None:
        """Trains up to update `until`, and returns the checkpoint after it; None where it diverges or stops early."""
        self.trainer.accelerator.wait_for_everyone()
        if self.plan.layout.is_main:
            _clear(self.plan, self.start.checkpoint)
        with self.stop.listening():
            self._train(self.start.checkpoint)
        self.trainer.accelerator.wait_for_everyone()
        if self.history.diverged_at_step is not None or self._stopped_early() is not None:
            return None
        made = checkpoint_of(self.plan.run, until)
        assert isinstance(made, Checkpoint), made  # noqa: S101 - it was written just now
        return made

    def _train(self, checkpoint: Checkpoint | None) -> None:
        plan = self.plan
        rows: list[Row] = checkpoint.rows if checkpoint else []
        self.selection.resume(rows)
        self.history.resume(rows)
        if self.early_stopping is not None:
            self.early_stopping.resume(rows)
        set_seed(seed_of_process(plan.recipe.training.seed, plan.layout.rank))  # however many runs were made before
        self.clock.start(seconds=rows[-1]["seconds"] if rows else 0.0)
        try:
            self.trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        except (RuntimeError, RunError) as error:
            failure = failure_of(error, processes=plan.layout.processes)
            if failure is None:
                raise
            saved = f"from update {self.saved_at} on" if self.saved_at else "anew, as no checkpoint was made yet"
            raise RunError(f"{failure}\nThe same command runs {saved}") from error
        finally:
            self.progress.stop()
        if self.history.stopped_at_step is not None or self.trainer.called_off:
            raise self._stopped()

    def _stopped(self) -> RunStopped:
        return RunStopped(self.stop.reason or "a signal to another process", self.trainer.state.global_step)

    def _conclude_or_stop(self) -> Results:
        try:
            return self._conclude()
        except CalledOffError:
            self._write_checkpoint(self.trainer)
            raise self._stopped() from None

    def _stopped_early(self) -> StoppedEarly | None:
        stopping, step = self.early_stopping, self.trainer.state.global_step
        if stopping is None or stopping.stopped_at_step is None:
            return None
        return StoppedEarly(step=step, planned=self.trainer.state.max_steps, best_step=stopping.best_step)

    def _conclude(self) -> Results:
        """Keeps the best or the last model and evaluates it on every split but the one it was trained on."""
        plan, weights = self.plan, self.averages.kept
        # The weights that aren't kept come first, while the model still has those of the last update.
        beside = {name: self._beside(name) for name in self.averages.evaluated_last if name != weights}
        best, last = self._ranked(weights)
        kept = best if self.keep == "best" else last
        folder = kept_model(plan.run, kept.step)
        with self.averages.using(weights):
            if self.keep == "last" or self.selection.best is None:
                save_model(self.trainer, folder)
            elif kept.step != last.step:
                load_weights(self.trainer, folder)
            splits = {"validation": self._evaluate("validation", kept.outputs)}
            if "test" in plan.material.splits:
                splits["test"] = self._evaluate("test", None)
            if plan.recipe.adapter is not None and plan.recipe.adapter.merge:
                publish_merged(self.trainer, plan.run / MODEL)
        if (plan.recipe.adapter is None or not plan.recipe.adapter.merge) and plan.layout.is_main:
            publish_model(folder, plan.run / MODEL)
        return Results(
            select=plan.recipe.evaluation.selecting,
            greater_is_better=self.selection.metric.greater_is_better,
            kept=self.keep,
            kept_step=kept.step,
            splits=splits,
            best=best.recorded(),
            last=last.recorded(),
            weights=weights,
            beside=beside or None,
        )

    def _ranked(self, weights: Weights) -> tuple[Evaluation, Evaluation]:
        """Returns the best and the last evaluation of some of the run's weights."""
        if weights == "average":
            at_end = self.selection.evaluate(self.trainer, weights)
            return at_end, at_end
        ranking = self.selection.rankings[weights]
        assert ranking.last is not None  # noqa: S101 - the cadence evaluates after the last update
        return ranking.best or ranking.last, ranking.last

    def _beside(self, weights: Weights) -> Beside:
        """Returns what comes of weights that aren't kept, as they are at the end."""
        best, last = self._ranked(weights)
        with self.averages.using(weights):
            splits = {"validation": self._score("validation", last.outputs)}
            if "test" in self.plan.material.splits:
                splits["test"] = self._score("test", None)
        return Beside(splits=splits, best=best.recorded(), last=last.recorded())

    def _score(self, name: str, outputs: Outputs | None) -> SplitResult:
        return score(self._judged(name, self._outputs(name, outputs)), self.plan.metrics)

    def _outputs(self, name: str, outputs: Outputs | None) -> Outputs:
        return self.trainer.predict_split(self.plan.material.splits[name]) if outputs is None else outputs

    def _judged(self, name: str, outputs: Outputs) -> Judgement:
        return self.plan.recipe.task.judge(outputs, self.plan.material.splits[name], self.plan.material.classes)

    def _evaluate(self, name: str, outputs: Outputs | None) -> SplitResult:
        """Returns what comes of the model at hand on a split, and writes its predictions."""
        split, task, classes = self.plan.material.splits[name], self.plan.recipe.task, self.plan.material.classes
        outputs = self._outputs(name, outputs)
        judgement = self._judged(name, outputs)
        if self.plan.layout.is_main:
            columns = task.label_columns(split, classes) | task.prediction_columns(outputs, split, classes)
            scores = self.selection.metric.of_each(judgement.answers)
            write_predictions(self.plan.run, name, columns=columns, scores=scores)
        return score(judgement, self.plan.metrics)


def _clear(plan: Plan, checkpoint: Checkpoint | None) -> None:
    """Leaves nothing of an earlier run in the directory but what this one goes on from, and writes the recipe."""
    run = plan.run
    goes_on_here = checkpoint is not None and checkpoint.run.resolve() == run.resolve()
    (run / RECORD).unlink(missing_ok=True)
    for folder in (run / PREDICTIONS, run / TENSORBOARD):
        shutil.rmtree(folder, ignore_errors=True)
    if not goes_on_here:
        (run / REQUEST).unlink(missing_ok=True)
        for folder in (run / CHECKPOINTS, run / MODEL):
            shutil.rmtree(folder, ignore_errors=True)
    if checkpoint is not None and checkpoint.kept_step is not None and not goes_on_here:
        shutil.copytree(
            kept_model(checkpoint.run, checkpoint.kept_step), kept_model(run, checkpoint.kept_step), dirs_exist_ok=True
        )
    write_identity(run, identity_of(plan))
    text = plan.recipe.to_yaml()
    write_atomically(run / RECIPE, lambda path: path.write_text(text, encoding="utf-8"))
