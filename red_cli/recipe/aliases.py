"""Aliases: names of other toolkits for commands, options and recipe keys, and what to write in their place.

The toolkits are Transformers (TrainingArguments), PEFT (LoraConfig), TRL, axolotl and LLaMA-Factory.
"""

from __future__ import annotations

from typing import NamedTuple


class Alias(NamedTuple):
    """What to write instead of a name of another toolkit.

    Attributes:
        keys: the recipe keys that stand for it, the likeliest first; `key=value` if the value is fixed; none if there
            is no such key.
        note: how the meaning differs, or why there is no such key.
    """

    keys: tuple[str, ...]
    note: str = ""


# A command of another toolkit -> the commands to type instead
COMMANDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("finetune", "fine-tune", "ft", "sft", "fit", "run", "start", "launch"), ("red train RECIPE",)),
    **dict.fromkeys(("resume", "continue"), ("red train RECIPE --resume",)),
    **dict.fromkeys(("evaluate", "evaluation", "test", "metrics"), ("red eval RUN",)),
    **dict.fromkeys(("benchmark", "lm-eval", "lm_eval", "harness"), ("red eval RUN --suite open-llm",)),
    **dict.fromkeys(("inference", "infer", "classify"), ("red predict RUN FILE", "red eval RUN")),
    **dict.fromkeys(("generate", "complete", "sample"), ("red predict RUN FILE", "red chat RUN")),
    **dict.fromkeys(("talk", "ask", "webchat", "repl", "cli"), ("red chat RUN",)),
    **dict.fromkeys(("serve", "server", "api", "deploy", "vllm"), ("red export RUN --output FOLDER", "red chat RUN")),
    **dict.fromkeys(("merge", "merge-lora", "merge_lora", "fold", "save", "fuse"), ("red export RUN --output FOLDER",)),
    **dict.fromkeys(
        ("push", "upload", "publish", "push-to-hub"), ("red export RUN --output FOLDER --push-to-hub USER/NAME",)
    ),
    **dict.fromkeys(("import",), ("red convert FILE --output FOLDER",)),
    "gguf": ("red export RUN --format gguf --output FOLDER", "red convert FILE.gguf --output FOLDER"),
    **dict.fromkeys(("validate", "lint", "plan", "dry-run", "dryrun", "preprocess"), ("red check RECIPE",)),
    **dict.fromkeys(("ablate", "methods"), ("red compare RECIPE --methods red,lora",)),
    **dict.fromkeys(("sweep", "grid"), ("red compare RECIPE --grid train.learning_rate=1e-3,1e-2",)),
    **dict.fromkeys(("plot", "summary", "summarize", "results", "show"), ("red report RUN",)),
    **dict.fromkeys(("list", "ls", "status", "ps"), ("red runs", "red recipes")),
    **dict.fromkeys(("templates", "examples", "models", "recipe", "configs"), ("red recipes",)),
    **dict.fromkeys(("init", "new", "create", "copy"), ("red recipes copy quickstart",)),
    **dict.fromkeys(("key", "config", "params", "parameters", "arguments", "options", "settings"), ("red keys",)),
    **dict.fromkeys(("bleu", "rouge"), ("red score --predictions FILE --references FILE",)),
    "help": ("red --help",),
    "version": ("red --version",),
}

# An option of another toolkit -> the option of red, where a command has it
OPTIONS: dict[str, str] = {
    **dict.fromkeys(("output_dir", "out", "out_dir", "save_dir", "save_path", "export_dir", "outfile"), "--output"),
    **dict.fromkeys(("resume_from_checkpoint", "resume_from", "continue"), "--resume"),
    **dict.fromkeys(("base_model", "model_name_or_path", "model", "model_name"), "--base"),
    **dict.fromkeys(("task", "tasks", "benchmark"), "--suite"),
    **dict.fromkeys(("max_samples", "num_samples", "max_eval_samples", "max_rows"), "--limit"),
    **dict.fromkeys(("num_fewshot", "n_shot", "fewshot"), "--shots"),
    **dict.fromkeys(("system_prompt", "default_system", "system_message"), "--system"),
    **dict.fromkeys(("num_seeds", "seed_list"), "--seeds"),
    **dict.fromkeys(("method", "finetuning_type", "peft_type", "adapter"), "--methods"),
    **dict.fromkeys(("hub_model_id", "repo_id", "push"), "--push-to-hub"),
    **dict.fromkeys(("torch_dtype", "precision", "outtype"), "--dtype"),
    **dict.fromkeys(("hypotheses", "hyp", "generated"), "--predictions"),
    **dict.fromkeys(("targets", "refs", "gold"), "--references"),
}

_A_STEP = "It counts the sequences of an optimiser step, over all devices and micro-batches."
_FORWARD = "It counts the sequences of a forward pass on one device; train.batch_size counts those of a step."
_BFLOAT16 = "float16 autocast is not offered; bfloat16 is."
_LENGTH = "Longer texts are cut; data.too_long says otherwise."
_METHOD_LORA = "It has an effect with method=lora."
_ALWAYS_BEST = "The best evaluation is always the result."


def _same(key: str, *names: str, note: str = "") -> dict[str, Alias]:
    """Rows of the table: several names for one key."""
    return dict.fromkeys(names, Alias((key,), note))


# A key of another toolkit, in small letters -> what to write instead
KEYS: dict[str, Alias] = {
    # Model
    **_same("model.name_or_path", "model_name_or_path", "base_model", "model_name", "model_path", "base_model_name",
            "pretrained_model_name_or_path", "base_model_name_or_path", "model_id", "hub_model", "model",
            "tokenizer", "tokenizer_name", "pretrained"),
    **_same("model.revision", "model_revision", "revision_of_model", "base_model_revision"),
    **_same("model.dtype", "torch_dtype", "model_dtype", "precision", "compute_dtype"),
    **_same("model.quantization=nf4", "load_in_4bit", "bnb_4bit_quant_type", "use_4bit", "qlora"),
    **_same("model.quantization=int8", "load_in_8bit", "use_8bit"),
    **_same("model.quantization", "quantization_bit", "quantization_config", "bits", "quant", "quantize"),
    **_same("model.dropout", "hidden_dropout_prob", "attention_dropout", "hidden_dropout"),
    **_same("model.trust_remote_code", "trust_code", "allow_remote_code"),
    # Data
    **_same("data.path", "dataset", "datasets", "dataset_name", "dataset_path", "dataset_dir", "data_path", "data_dir",
            "data", "data_file", "data_files", "dataset_name_or_path", "datafile"),
    **_same("data.name", "dataset_config", "dataset_config_name", "dataset_subset"),
    **_same("data.train", "train_file", "train_path", "train_data", "train_dataset", "training_file"),
    **_same("data.validation", "validation_file", "eval_file", "eval_dataset", "test_datasets", "val_file", "dev_file",
            "valid_file", "val_data", "dev"),
    **_same("data.test", "test_file", "test_data", "predict_file"),
    **_same("data.validation_share", "val_set_size", "val_size", "test_size", "validation_split_percentage",
            "val_split", "eval_split_ratio", "validation_size", "dev_size", note="It is a fraction, such as 0.1."),
    **_same("data.max_length", "cutoff_len", "max_seq_length", "max_seq_len", "sequence_len", "max_sequence_length",
            "model_max_length", "max_source_length", "max_len", "seq_length", "seq_len", "block_size", "context_length",
            note=_LENGTH),
    **_same("data.max_train_rows", "max_samples", "max_train_samples", "num_train_samples", "train_samples"),
    **_same("data.columns.text", "dataset_text_field", "text_column", "text_field", "text_column_name", "field",
            "sentence1_key", "input_column"),
    **_same("data.columns.text_pair", "text_pair_column", "text2", "sentence2_key"),
    **_same("data.columns.label", "label_column", "label_column_name", "label_field", "target_column", "labels_column"),
    **_same("data.columns.messages", "messages_column", "field_messages", "conversation_column", "chat_column",
            "conversations"),
    **_same("data.columns.prompt", "prompt_column", "field_instruction", "instruction_column", "source_column"),
    **_same("data.columns.completion", "response_column", "completion_column", "answer_column", "field_output"),
    **_same("data.delimiter", "sep", "separator", "csv_delimiter"),
    # Task
    **_same("task.name", "task", "task_name", "task_type", "problem_type", "stage"),
    **_same("task.labels", "label_names", "label_list", "id2label", "class_names", "classes"),
    **_same("task.template", "chat_template", "prompt_format", "conversation_template"),
    **_same("task.train_on_prompt", "train_on_inputs", "train_on_input", "train_on_source"),
    **dict.fromkeys(("num_labels", "num_classes"), Alias((), "The labels are counted in the training split.")),
    **dict.fromkeys(
        ("completion_only_loss", "assistant_only_loss", "mask_prompt"),
        Alias(("task.train_on_prompt=false",), "The loss covers only the answers by default."),
    ),
    # Training
    **_same("train.learning_rate", "lr", "rate", "peak_lr", "max_lr", "adam_lr"),
    **_same("train.head_learning_rate", "head_lr", "classifier_lr", "classifier_learning_rate"),
    **_same("train.num_train_epochs", "epochs", "num_epochs", "n_epochs", "max_epochs", "train_epochs", "epoch",
            "num_train_epoch"),
    **_same("train.max_steps", "max_train_steps", "num_steps", "total_steps", "num_training_steps", "iters", "steps"),
    **_same("train.batch_size", "total_batch_size", "global_batch_size", "effective_batch_size", note=_A_STEP),
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_gpu_train_batch_size", "train_batch_size", "batch", "bs"),
        Alias(("train.batch_size", "train.micro_batch_size"), _A_STEP),
    ),
    **_same("train.micro_batch_size", "mini_batch_size", "device_batch_size", "microbatch_size", note=_FORWARD),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "grad_accum", "gradient_accumulation", "accumulate_grad_batches",
         "accumulation_steps"),
        Alias(("train.micro_batch_size", "train.batch_size"), "The accumulation follows from these two; both count "
              "sequences."),
    ),
    **_same("eval.max_rows", "max_eval_samples"),
    **_same("eval.batch_size", "per_device_eval_batch_size", "eval_batch_size", "per_gpu_eval_batch_size",
            "test_batch_size"),
    **dict.fromkeys(("auto_find_batch_size", "eval_accumulation_steps"),
                    Alias(("train.micro_batch_size",), "Without this key red finds the largest that fits.")),
    **_same("train.lr_scheduler_type", "lr_scheduler", "scheduler", "lr_schedule", "scheduler_type"),
    **_same("train.warmup_ratio", "warmup", "warmup_fraction", "warmup_proportion"),
    **_same("train.warmup_steps", "num_warmup_steps", "lr_warmup_steps"),
    **_same("train.weight_decay", "wd", "l2"),
    **_same("train.adam_beta1", "beta1", "adam_b1"),
    **_same("train.adam_beta2", "beta2", "adam_b2"),
    **_same("train.adam_epsilon", "eps", "epsilon", "adam_eps"),
    **_same("train.max_grad_norm", "gradient_clipping", "clip_grad_norm", "grad_clip", "clip", "gradient_clip_val"),
    **_same("train.bf16", "use_bf16", "mixed_precision", "amp"),
    **dict.fromkeys(("fp16", "half", "use_fp16", "fp16_full_eval"), Alias(("train.bf16=true",), _BFLOAT16)),
    **_same("train.gradient_checkpointing", "activation_checkpointing", "checkpoint_activations",
            "use_gradient_checkpointing"),
    **_same("train.compile", "torch_compile", "use_compile", "compile_model"),
    **_same("train.packing", "sample_packing", "pack", "neat_packing", "eval_packing", "padding_free"),
    **_same("train.group_by_length", "length_grouped", "train_sampling_strategy"),
    **_same("train.seed", "data_seed", "random_seed", "manual_seed", "split_seed"),
    **_same("train.logging_steps", "log_every", "log_steps", "logging_interval"),
    **_same("train.eval_steps", "evals_per_epoch", "eval_every", "evaluation_steps", "val_steps", "eval_interval"),
    **dict.fromkeys(
        ("evaluation_strategy", "eval_strategy", "do_eval"),
        Alias(("train.eval_steps",), "Without this key each epoch is evaluated."),
    ),
    **_same("train.save_steps", "saves_per_epoch", "save_every", "checkpoint_every", "checkpointing_steps"),
    **dict.fromkeys(
        ("save_strategy", "save_safetensors"),
        Alias(("train.save_steps",), "Without this key a checkpoint is saved at each evaluation."),
    ),
    **_same("train.save_total_limit", "max_checkpoints", "keep_checkpoints", "total_limit"),
    **_same("train.early_stopping_patience", "patience", "early_stopping"),
    **_same("train.report_to", "logger", "loggers", "log_with", "trackers", "wandb", "wandb_project", "use_tensorboard",
            "use_wandb"),
    **_same("train.resume_from_checkpoint", "resume", "auto_resume_from_checkpoints", "resume_from"),
    **_same("eval.metric", "metric_for_best_model", "metric_name", "monitor", "compute_metrics"),
    **dict.fromkeys(("load_best_model_at_end", "greater_is_better"), Alias(("eval.metric",), _ALWAYS_BEST)),
    **dict.fromkeys(("optim", "optimizer", "optimizer_name"), Alias((), "The optimiser is AdamW; train.adam_beta1, "
                    "train.adam_beta2, train.adam_epsilon and train.weight_decay are its keys.")),
    **dict.fromkeys(("label_smoothing_factor", "label_smoothing"),
                    Alias((), "The loss does not smooth labels; train.class_weights weighs classes.")),
    **_same("train.class_weights", "class_weight", "class_weights"),
    **_same("train.init_from", "init_from", "resume_adapter", "adapter_name_or_path"),
    **dict.fromkeys(
        ("do_train", "do_predict", "remove_unused_columns", "overwrite_output_dir", "dataloader_num_workers",
         "ddp_find_unused_parameters", "preprocessing_num_workers", "overwrite_cache", "logging_dir", "run_name",
         "disable_tqdm", "tf32", "flash_attention", "flash_attn", "attn_implementation", "strict", "plot_loss"),
        Alias((), "red needs no such key; remove it."),
    ),
    # Generation
    **_same("eval.generation.max_new_tokens", "max_gen_length", "generation_max_length", "max_tokens",
            "max_target_length", "max_completion_length", "max_gen_toks"),
    **_same("eval.generation.num_beams", "generation_num_beams", "beams", "beam_size", "eval_num_beams"),
    **_same("eval.generation.temperature", "sampling_temperature", "temp"),
    **_same("eval.generation.do_sample", "sampling", "sample"),
    **dict.fromkeys(("predict_with_generate", "eval_sample_packing"),
                    Alias(("eval.metric",), "The metric decides whether texts are generated.")),
    # Method
    **_same("method", "finetuning_type", "adapter", "peft_type", "peft_method", "tuner", "use_peft", "peft",
            "peft_config", "use_lora"),
    **_same("lora.rank", "lora_r", "lora_rank", "r", "lora_dim", note=_METHOD_LORA),
    **_same("lora.alpha", "lora_alpha", "alpha", note=_METHOD_LORA),
    **_same("lora.dropout", "lora_dropout", note=_METHOD_LORA),
    **dict.fromkeys(
        ("target_modules", "lora_target_modules", "lora_target", "lora_target_linear", "lora_modules_to_save"),
        Alias(("red.positions", "lora.positions"), "Or a regular expression in red.target_modules or "
              "lora.target_modules."),
    ),
    **_same("red.layers", "layers_to_transform", "freeze_trainable_layers", "num_layer_trainable", "lora_layers"),
    # Output and machines
    **_same("output.dir", "output_dir", "out_dir", "save_dir", "output_path", "out", "output", "save_path"),
    **_same("launch.num_processes", "nproc_per_node", "num_gpus", "n_gpu", "gpus", "devices", "nproc", "world_size"),
    **_same("launch.num_machines", "nnodes", "num_nodes", "nodes"),
    **_same("launch.shard_size", "fsdp_size", "dp_shard_size", "dp_replicate_size", "fsdp_sharding_strategy"),
    **_same("launch.machine_rank", "node_rank"),
    **_same("launch.main_process_ip", "master_addr", "master_address"),
    **_same("launch.main_process_port", "master_port"),
    **_same("launch.deepspeed_config", "deepspeed", "ds_config", "deepspeed_config_file"),
    **_same("launch.strategy", "fsdp", "fsdp_config", "ddp", "accelerator", "distributed_type", "zero_stage",
            "parallelism"),
}  # fmt: skip


def plain_name(name: str) -> str:
    """A name as the table of aliases writes it: small letters, underscores, no leading dashes."""
    return name.lstrip("-").replace("-", "_").lower()


def alias_of(name: str) -> Alias | None:
    """The alias that a key's name or dotted path has: of the whole path, else of its last part."""
    plain = plain_name(name)
    return KEYS.get(plain) or KEYS.get(plain.rpartition(".")[2])


def in_words(alias: Alias) -> str:
    """What to write instead of an alias, as a sentence of a message, with its note."""
    named = [key.replace("=", ", set to ") for key in alias.keys]
    right = f"In red it is {' or '.join(named)}." if named else ""
    return " ".join(part for part in (right, alias.note) if part)
