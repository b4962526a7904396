"""Find or download the folder of a base, and upload exports to the Hub. No other module uses the network."""

from __future__ import annotations

from pathlib import Path

from red_cli.base_model.gguf_files import require_no_gguf
from red_cli.errors import RunFailed, UserError, first_line

# Files of a base that belong to any model made from it, by name.
AUXILIARY_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "*.model", "*.spm", "*.tiktoken", "*.jinja", "additional_chat_templates/*.jinja",
    "chat_template.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "normalizer.json", "LICENSE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
_COMMIT_LENGTH = 40


def base_folder(name: str, revision: str | None) -> Path:
    """The folder of a base: `name` itself, its snapshot in the cache, or a new download.

    Raises:
        UserError: the folder does not exist, or neither cache nor Hub has the base.
    """
    require_local_base(name)
    if Path(name).is_dir():
        return Path(name)
    cached = cached_folder(name, revision)
    if cached is not None:
        return cached
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    small_files = ["config.json", *AUXILIARY_FILES]
    try:
        for kind in ("*.safetensors*", "pytorch_model*.bin*"):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*small_files, kind]))
            if _complete(folder):
                return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            "base-not-found",
            f"base {name}: {first_line(error)}",
            hint="Check the name and the network, or name a local folder: --base FOLDER",
        ) from None
    raise UserError(
        "base-not-found",
        f"base {name}: its weights (safetensors or pytorch_model.bin) are incomplete and cannot be downloaded",
        hint="Check the network, or name a local folder: --base FOLDER",
    )


def require_model_folder(name: str) -> None:
    """Check that `name` is a folder if it is an absolute path rather than a name on the Hub. The Hub is not asked.

    Raises:
        UserError: the folder does not exist, or it is a GGUF file or has no others.
    """
    require_no_gguf(name)
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise UserError("base-not-found", f"model.name_or_path: no such model folder: {name}")


def require_local_base(name: str) -> None:
    """Check that `name` is a folder if it looks like a path and not like a name on the Hub.

    Raises:
        UserError: the folder does not exist, or it is a GGUF file or has no others.
    """
    require_no_gguf(name)
    local = Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if local and not Path(name).is_dir():
        raise UserError("base-not-found", f"no such model folder: {name}", hint="Name a local folder: --base FOLDER")


def cached_folder(name: str, revision: str | None) -> Path | None:
    """The snapshot of a base in the local cache, or None if it is incomplete. No network is used."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if _complete(folder) else None


def model_folder(name: str, revision: str | None) -> Path | None:
    """The folder of a base's files: local, or the Hub's cached snapshot; None without either."""
    return Path(name) if Path(name).is_dir() else cached_folder(name, revision)


def commit_of(folder: Path) -> str | None:
    """The commit of a snapshot folder in the cache; None for any other folder."""
    name = folder.resolve().name
    is_commit = len(name) == _COMMIT_LENGTH and all(letter in "0123456789abcdef" for letter in name)
    return name if is_commit and folder.resolve().parent.name == "snapshots" else None


def stored_shapes_on_hub(name: str, revision: str | None) -> list[tuple[str, tuple[int, ...]]]:
    """What tensors a base on the Hub stores, by the headers of its safetensors files.

    Returns:
        safetensors' name of the dtype and the shape of each; none if there are no such files, or the Hub does not
        answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # of the client that this version of the library uses
        NotASafetensorsRepoError,
        SafetensorsParsingError,
    )

    try:
        files = HfApi().get_safetensors_metadata(name, revision=revision).files_metadata
        return [(str(stored.dtype), tuple(stored.shape)) for file in files.values() for stored in file.tensors.values()]
    except (HTTPError, HFValidationError, NotASafetensorsRepoError, SafetensorsParsingError, OSError):
        return []


def require_hub_access(repository: str) -> None:
    """Check access to the Hub before an upload: `repository` is a valid name, and the user has a token.

    Raises:
        UserError: the name is invalid, or there is no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        valid = repository.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise UserError("invalid-option", f"--push-to-hub {repository}: not a name on the Hub", hint="Give USER/NAME.")
    if get_token() is None:
        raise UserError("unavailable", "--push-to-hub: no token for the Hub", hint="Run: hf auth login")


def push_to_hub(folder: Path, repository: str) -> str:
    """Upload `folder` to the Hub's `repository`, which is created as a private one if it does not exist.

    Returns:
        The address of the repository.

    Raises:
        RunFailed: the Hub cannot be reached or refuses the upload; the folder is kept.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    client = HfApi()
    try:
        address = client.create_repo(repository, private=True, exist_ok=True)
        client.upload_folder(folder_path=folder, repo_id=repository, commit_message="Upload by red export")
    except (HfHubHTTPError, OSError) as error:
        raise RunFailed(
            "unavailable",
            f"could not upload to {repository}: {first_line(error)}",
            hint=f"The export is complete: {folder}",
        ) from None
    return str(address)


def _complete(folder: Path) -> bool:
    """Whether a snapshot has its configuration and all its weights."""
    from red_cli.base_model.base_files import BIN_FILE, BIN_INDEX_FILE, INDEX_FILE, SINGLE_FILE, read_index

    if not (folder / "config.json").is_file():
        return False
    for single, index in ((folder / SINGLE_FILE, folder / INDEX_FILE), (folder / BIN_FILE, folder / BIN_INDEX_FILE)):
        if single.is_file():
            return True
        if index.is_file():
            return all((folder / shard).is_file() for shard in read_index(index).values())
    return False
