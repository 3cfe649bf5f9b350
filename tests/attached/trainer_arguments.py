"""How the tests run the Trainer of transformers: plain steps whose gradients can be compared."""

import transformers as tr


def sgd(
    folder, batch, accumulate, num_steps, *, learning_rate, kind=tr.TrainingArguments, **options
):
    plain = {
        "output_dir": str(folder),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulate,
        "max_steps": num_steps,
        "logging_steps": 1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return kind(**{**plain, **options})
