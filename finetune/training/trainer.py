"""transformers' Trainer with our schedules, optimizers and batches, measured update by update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, set_seed

from finetune.errors import RunError
from finetune.schedules import Run, ScheduledLR, ScheduleMixin
from finetune.tasks.encoding import NO_LABEL
from finetune.tasks.pretrained import quiet_transformers
from finetune.training.adapters import is_length, with_b_rate
from finetune.training.averaging import Averages
from finetune.training.batches import TrainingLoader
from finetune.training.checkpoints import read_checkpoint
from finetune.training.clock import TrainingClock
from finetune.training.failures import is_out_of_memory
from finetune.training.layer_preparation import groups_of_model
from finetune.training.losses import ClassLoss
from finetune.training.micro_batches import Count, MicroBatches, count_of
from finetune.training.parallelism import let_accelerate_shard, parallelism_asked_for, settle_shards, unfuse
from finetune.training.parameter_groups import base_of, parameter_groups
from finetune.training.prediction import in_first_order, kept_of_batch
from finetune.training.random_state import preserved_random_state, seed_of_process, set_random_state
from finetune.training.shards import made_whole, optimizer_state_in_shards
from finetune.training.stopping import CalledOffError
from finetune.training.weights import load_weights

if TYPE_CHECKING:
    from finetune.recipe import Recipe
    from finetune.schedules.continuation import ChangePolicy
    from finetune.tasks.base import Outputs, Split
    from finetune.training.batches import LengthGroupedBatches


IDLE = "idle"
AGREE_EVERY = 10  # batches of an evaluation, on several processes


@dataclass(frozen=True)
class Update:
    """What one update was made with, this process's part, as scalars still on the device.

    `loss`: sum over micro-batches; its mean over processes is the mean over the batch's examples. `gradient_norm`: of
    the whole batch, before clipping; `skipped`: whether it was left out, its gradient not being finite.
    """

    loss: torch.Tensor
    gradient_norm: torch.Tensor
    skipped: bool


class ScheduledTrainer(ScheduleMixin, Trainer):
    """A Trainer of a recipe whose batches are given, and whose evaluations leave no trace.

    `validate` is called whenever an evaluation is due and returns its metrics; a schedule that is driven by one is told
    the one that selects models, and whether it's the better the greater. `checkpoint` is called whenever a checkpoint
    is due. The random state after `validate`, and after `predict_split`, is what it was before. `wants_to_stop` says
    whether this process is to stop: an evaluation is then broken off, and `called_off`. `say` is given a line on what
    the run had to change by itself; `averages` are those that checkpoints hold beside the weights.
    """

    def __init__(
        self,
        *args: Any,
        recipe: Recipe,
        batches: LengthGroupedBatches,
        lengths: Run,
        validate: Callable[[ScheduledTrainer], dict[str, float]],
        checkpoint: Callable[[ScheduledTrainer], None],
        clock: TrainingClock,
        averages: Averages | None = None,
        greater_is_better: bool = True,
        wants_to_stop: Callable[[], bool] = lambda: False,
        on_change: ChangePolicy = "refuse",
        say: Callable[[str], None] = lambda _: None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, schedule=recipe.schedule, on_change=on_change, **kwargs)
        self._loss_shifts_labels = False  # whatever the model's class does, the task's loss takes labels as they are
        self.adapter = recipe.adapter
        self._recipe = recipe
        self._batches = batches
        self._lengths = lengths
        self._validate = validate
        self._checkpoint = checkpoint
        self._generators: list[dict[str, Any]] = []
        self._clock = clock
        self.averages = averages or Averages(None)
        self._greater_is_better = greater_is_better
        self._wants_to_stop = wants_to_stop
        self.called_off = False
        self._batches_predicted = 0
        self.micro_batches = MicroBatches(
            lambda inputs, count: super(ScheduledTrainer, self).training_step(self.model_wrapped, inputs, count),
            halves=recipe.training.on_out_of_memory == "halve" and self.args.world_size == 1,
            clear=lambda: self.model_wrapped.zero_grad(),
            where=lambda: f"{self.args.device}, in update {self.state.global_step + 1}",
            say=say,
        )
        self._gradient_norm: torch.Tensor | None = None
        self._is_skipping = False
        self._idle: list[bool] = []

    def create_accelerator_and_postprocess(self) -> None:
        """Trainer's own, with the model in shards where the launcher asks for it."""
        in_shards = parallelism_asked_for() == "fsdp2"
        if in_shards:
            let_accelerate_shard(self.args)
        super().create_accelerator_and_postprocess()
        if in_shards:
            settle_shards(self.accelerator, self.model)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Builds the described optimizer, once, over the recipe's own groups, its layers', "decay" and "no_decay"."""
        if self.optimizer is None:
            trained: Any = self.model if model is None else model
            optimizer = self._recipe.optimizer
            layers = groups_of_model(trained, self._recipe, self._lengths)
            names = self.get_decay_parameter_names(trained)
            groups = parameter_groups(
                trained,
                weight_decay=optimizer.weight_decay,
                decayed={name for name in names if not is_length(name)},
                own=self._recipe.groups,
                layers=layers,
            )
            if self.adapter is not None and self.adapter.b_rate is not None:
                groups = with_b_rate(groups, trained, ratio=self.adapter.b_rate, peak=optimizer.learning_rate)
            self.optimizer = optimizer.build(groups)
            if self.accelerator.is_fsdp2:
                unfuse(self.optimizer)
            bases = {group["name"]: base_of(group["name"]) for group in groups}
            self._groups = {
                name: self._recipe.schedule_of(base) for name, base in bases.items() if base in self._recipe.groups
            }
            starts = {layer.name: layer.start for layer in layers.values() if layer.start}
            self._starts = {name: starts[base] for name, base in bases.items() if base in starts}
        made: torch.optim.Optimizer = self.optimizer
        return made

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> ScheduledLR:
        """As the mixin's; its steps are timed by the clock, and none is made for an update that is skipped."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        step = scheduler.step

        def timed(*args: Any) -> None:
            with self._clock.scheduling():
                if not self._is_skipping:
                    step(*args)

        scheduler.step = timed  # type: ignore[assignment,method-assign]
        return scheduler

    def get_train_dataloader(self) -> TrainingLoader:
        """Returns a loader that Accelerate must not shard: each process already draws its own share."""
        dataset: Any = self.train_dataset
        return TrainingLoader(
            dataset,
            self._batches,
            self.data_collator,
            workers=self.args.dataloader_num_workers,
            pin_memory=self.args.device.type == "cuda",
        )

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Trainer's own; the number of examples stays on the CPU where no process has to add it to its own.

        To copy it would be to wait until a GPU has done all that it was given before.
        """
        place = torch.device("cpu") if self.args.world_size == 1 else device
        update = self.state.global_step % self._batches.updates_per_epoch
        self._idle = [self._batches.is_idle(update, micro_batch) for micro_batch in range(num_batches)]
        samples, count = super().get_batch_samples(epoch_iterator, num_batches, place)
        marked = [as_idle(batch) if idle else batch for batch, idle in zip(samples, self._idle, strict=False)]
        return marked, count

    def _prepare_input(self, data: Any) -> Any:
        if self.args.device.type == "cuda" and isinstance(data, torch.Tensor) and data.is_pinned():
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Returns 0: nobody reads Trainer's count, for which it walks through all parameters in every update."""
        return 0

    def describe_run(self, total_steps: int) -> Run:
        """Returns the lengths that were planned, tokens included."""
        return replace(self._lengths, total_steps=total_steps)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Trainer's own, unless no update is left to be made: it would make one before it looks."""
        is_over = self.state.global_step >= self.state.max_steps or self.control.should_training_stop
        if self.called_off or is_over:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Count = None
    ) -> torch.Tensor:
        """Trainer's own, with the loss kept for `take_update`, unsynchronised, and memory that runs out seen to."""
        return self.micro_batches.add(inputs, num_items_in_batch)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Trainer's own, and 0 for a micro-batch that stands where this process has no example."""
        is_idle = inputs.pop(IDLE, None) is not None
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        return loss * 0 if is_idle else loss  # a part of the graph, as all processes add up gradients

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        self._gradient_norm = made_whole(torch.as_tensor(norm), keep=True)
        # fp16 has a scaler, which leaves such an update out by itself, and needs its gradients to see that it must.
        skips = self._recipe.training.on_non_finite == "skip" and self.accelerator.scaler is None
        self._is_skipping = skips and not bool(self._gradient_norm.isfinite())
        if self._is_skipping:
            model.zero_grad()  # no optimizer touches a parameter without a gradient
        return norm

    @property
    def is_skipped(self) -> bool:
        """Whether the update just made was left out."""
        return self._is_skipping or self.accelerator.optimizer_step_was_skipped

    def take_update(self) -> Update:
        """Returns the measurements of the update just made, and forgets them."""
        assert self._gradient_norm is not None  # noqa: S101 - set in every update
        return Update(self.micro_batches.take_loss(), self._gradient_norm, self.is_skipped)

    def mean_over_processes(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the mean of each process's `values`; every process must call it."""
        mean: torch.Tensor = self.accelerator.reduce(values, "mean")
        return mean

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return self.evaluate_validation()

    def evaluate_validation(self) -> dict[str, float]:
        """Evaluates, tells the schedule and the callbacks, and returns the metrics: none where it was broken off."""
        try:
            with self._clock.paused():
                metrics = self._validate(self)
        except CalledOffError:
            self.called_off = self.control.should_save = self.control.should_training_stop = True
            return {}
        self.lr_scheduler.observe(metrics[self._recipe.evaluation.selecting], greater_is_better=self._greater_is_better)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self._clock.paused(), quiet_transformers():
            self._checkpoint(self)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        load_weights(self, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = read_checkpoint(Path(checkpoint))
        groups = self.optimizer.param_groups
        self.optimizer.load_state_dict(optimizer_state_in_shards(state["optimizer"], groups))
        self.lr_scheduler.load_state_dict(state["scheduler"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self._generators = state["random"]
        self.micro_batches.pieces = state.get("pieces", 1)
        if state.get("averages") is not None:
            self.averages.load(state["averages"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Sets this process's generators to what was read; Trainer calls it last, in the epoch that it resumes in.

        Those of a process that wasn't there when the checkpoint was written begin anew.
        """
        rank = self.args.process_index
        if rank < len(self._generators):
            set_random_state(self._generators[rank])
        elif checkpoint is not None:
            set_seed(seed_of_process(self._recipe.training.seed, rank, begun_at=self.state.global_step))

    def prediction_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Returns what the task keeps of the outputs on a batch, in Trainer's terms its logits.

        Raises CalledOffError, on all processes in the same batch, where one of them is to stop.
        """
        self._batches_predicted += 1
        if self._is_called_off():
            raise CalledOffError
        prepared: dict[str, Any] = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return None, kept_of_batch(self._recipe.task, model, prepared), None

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """Trainer's own, by which labels of −100 don't count; but one that is a float isn't a mark.

        Where classes have weights, the sum of those of all labels, on all processes.
        """
        loss = self.compute_loss_func
        labels = [
            torch.full_like(batch["labels"], NO_LABEL, dtype=torch.int64) if idle else batch["labels"]
            for batch, idle in zip(batch_samples, self._idle, strict=False)
        ]
        if isinstance(loss, ClassLoss) and loss.weights is not None:
            weight = torch.stack([loss.count(each) for each in labels]).sum().to(device)
            return self.accelerator.gather(weight).sum() if self.args.world_size > 1 else weight
        return super()._get_num_items_in_batch([{"labels": _marks(each)} for each in labels], device)

    def _is_called_off(self) -> bool:
        wants = self._wants_to_stop()
        if self.args.world_size == 1:
            return wants
        if self._batches_predicted % AGREE_EVERY:
            return False
        return bool(self.mean_over_processes(torch.tensor(float(wants), device=self.args.device)) > 0)

    def predict_split(self, split: Split) -> Outputs:
        """Returns what the task keeps of the outputs on every example of a whole split, in order; on every process."""
        ordered: Any = split.sorted_by_length()
        try:
            with preserved_random_state():
                found: Any = self.evaluation_loop(
                    self.get_test_dataloader(ordered), description="Prediction", prediction_loss_only=False
                ).predictions
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size = self.args.per_device_eval_batch_size
            raise RunError(
                f"out of memory on {self.args.device}, in an evaluation of {size} examples at a time: set "
                f"evaluation.batch_size to {max(1, size // 2)}"
            ) from error
        return in_first_order(found, ordered)


def as_idle(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns a micro-batch that is to count for nothing."""
    return {**inputs, IDLE: torch.zeros(count_of(inputs))}


def _marks(labels: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(labels) if labels.is_floating_point() else labels
