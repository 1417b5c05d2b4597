"""A plan in the terms of transformers' Trainer."""

from __future__ import annotations

from transformers import TrainingArguments

from finetune.training.checkpoints import CHECKPOINTS
from finetune.training.plan import Plan


def training_arguments(plan: Plan) -> TrainingArguments:
    """Returns Trainer's arguments, by which it neither schedules, evaluates, logs nor saves anything by itself."""
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
