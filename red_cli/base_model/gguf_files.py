"""GGUF files: refused as bases, and converted to ordinary model folders.

transformers reads their weights, unpacked or in the blocks of the file, by version and device. A run would depend on
that, so a base is unpacked once, and what the run then reads is an ordinary folder.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from red_cli.errors import UserError, first_line
from red_cli.files import replacing_folder

SUFFIX = ".gguf"
INSTALL_GGUF = "Install it: pip install 'red-finetune[gguf]'"
_ORIGINAL = "Take the original model, as a folder or by its name on the Hub."


def is_gguf(name: str) -> bool:
    """Whether a base's name is that of a GGUF file."""
    return name.lower().endswith(SUFFIX)


def require_no_gguf(name: str) -> None:
    """Check that a base is neither a GGUF file nor a folder of nothing else.

    Raises:
        UserError: it is; the hint is the command that converts it.
    """
    path = Path(name)
    if is_gguf(name):
        _require_file(path)
        raise UserError(
            "unsupported-file",
            f"{name} is a GGUF file; a base of red is an ordinary model folder",
            hint=_how_to_convert(path),
        )
    if path.is_dir() and not (path / "config.json").is_file() and (files := _files_in(path)):
        several = f"; it has {', '.join(file.name for file in files)}" if len(files) > 1 else ""
        raise UserError(
            "unsupported-file",
            f"{name} has no config.json, only GGUF files",
            hint=_how_to_convert(files[0]) + several,
        )


def convert_gguf(file: Path, output: Path) -> dict[str, Any]:
    """Convert a GGUF file to an ordinary model folder: unpacked weights, configuration and tokenizer.

    Returns:
        "output", "architecture", "parameters" and "dtype".

    Raises:
        UserError: the file is missing or damaged, the package gguf is not installed, transformers does not read this
            architecture or all of its weights, or `output` is not empty.
    """
    _require_file(file)
    if importlib.util.find_spec("gguf") is None:
        raise UserError("missing-dependency", f"{file}: the package gguf is not installed", hint=INSTALL_GGUF)
    from transformers import AutoTokenizer

    with replacing_folder(output) as folder:
        try:
            model = _unpacked(file)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except (MemoryError, UserError):
            raise
        except Exception as error:  # transformers and gguf raise many kinds of errors
            raise UserError(
                "unsupported-model", f"{file}: transformers cannot read it: {first_line(error)}", hint=_ORIGINAL
            ) from None
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return {
        "output": str(output),
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _unpacked(file: Path) -> Any:
    """The model in a GGUF file, every weight unpacked.

    Raises:
        UserError: the file has weights that the model of its architecture has no place for.
    """
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    options = {}
    if hasattr(transformers, "GgufConfig"):  # without it, recent versions keep the blocks of the file
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    loaded = kind.from_pretrained(file.parent, gguf_file=file.name, dtype="auto", **options)
    _require_all_read(file, loaded)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(loaded)(config).to(loaded.dtype)  # without what loading attaches to a model of a GGUF file
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    return plain


def _require_all_read(file: Path, model: Any) -> None:
    """Check that no bias of the file is left out: transformers reads a LLaMA's, say, without a word."""
    import gguf

    biases = [tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name.endswith(".bias")]
    known = sum(parameter.numel() for name, parameter in model.named_parameters() if name.endswith("bias"))
    if sum(int(tensor.n_elements) for tensor in biases) > known:
        raise UserError(
            "unsupported-model",
            f"{file} has biases that transformers leaves out, such as {biases[0].name}",
            hint=_ORIGINAL,
        )


def _require_file(file: Path) -> None:
    """Check that a GGUF file exists; the error lists the other GGUF files of its folder."""
    if not file.is_file():
        others = ", ".join(str(other) for other in _files_in(file.parent))
        raise UserError("base-not-found", f"no such GGUF file: {file}", hint=others and f"There is: {others}")


def _files_in(folder: Path) -> list[Path]:
    """The GGUF files of a folder, sorted; none if the folder does not exist."""
    return sorted(file for file in folder.glob("*") if is_gguf(file.name)) if folder.is_dir() else []


def _how_to_convert(file: Path) -> str:
    """The hint that gives the command to convert a GGUF file to an ordinary model folder."""
    return f"Convert it once, then name that folder: red convert {file} --output {file.with_suffix('')}"
