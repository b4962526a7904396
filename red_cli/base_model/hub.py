"""A base's folder, wherever the base is; and the way back to the Hub. The only module here that uses a network."""

from __future__ import annotations

from pathlib import Path

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
    """The folder of a base: `name` itself, its snapshot in the cache, or one that is fetched now.

    Raises:
        UserError: there is no such folder, or neither cache nor Hub has it.
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
            hint="Check the name and the network, or say where the base is: --base FOLDER",
        ) from None
    raise UserError(
        "base-not-found",
        f"base {name}: its weights are not all here, as safetensors or pytorch_model.bin, and cannot be fetched",
        hint="Check the network, or say where the base is: --base FOLDER",
    )


def require_model_folder(name: str) -> None:
    """Refuse the path of a model folder that does not exist; names on the Hub are not looked up.

    Raises:
        UserError: there is no such folder.
    """
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise UserError("base-not-found", f"model.name_or_path: no such model folder: {name}")


def require_local_base(name: str) -> None:
    """Refuse the path of a base's folder that does not exist; names on the Hub are not looked up.

    Raises:
        UserError: there is no such folder.
    """
    local = Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if local and not Path(name).is_dir():
        raise UserError("base-not-found", f"no such model folder: {name}", hint="Say where the base is: --base FOLDER")


def cached_folder(name: str, revision: str | None) -> Path | None:
    """The snapshot of a base in the local cache, if all its weights are there; no network is used."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if _complete(folder) else None


def commit_of(folder: Path) -> str | None:
    """The commit that a snapshot folder of the cache holds; None for any other folder."""
    name = folder.resolve().name
    is_commit = len(name) == _COMMIT_LENGTH and all(letter in "0123456789abcdef" for letter in name)
    return name if is_commit and folder.resolve().parent.name == "snapshots" else None


def require_free_name(repository: str) -> None:
    """Find out before any work whether `repository` can be written to.

    Raises:
        UserError: it is no name, or there is no token for the Hub.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise UserError(
            "unavailable", f"--push-to-hub {repository}: not a name on the Hub", hint="Give USER/NAME."
        ) from None
    if repository.count("/") != 1:
        raise UserError("unavailable", f"--push-to-hub {repository}: not a name on the Hub", hint="Give USER/NAME.")
    if get_token() is None:
        raise UserError("unavailable", "--push-to-hub: no token for the Hub", hint="Run: hf auth login")


def push(folder: Path, repository: str) -> str:
    """Upload `folder` to `repository`, which is made if there is none, as a private one.

    Returns:
        Its address.

    Raises:
        RunFailed: the Hub refused or cannot be reached; the folder stays.
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
            hint=f"The export itself is done: {folder}",
        ) from None
    return str(address)


def _complete(folder: Path) -> bool:
    """Whether a snapshot has its configuration and all its weights."""
    from red_cli.base_model.files import BIN_FILE, BIN_INDEX_FILE, INDEX_FILE, SINGLE_FILE, read_index

    if not (folder / "config.json").is_file():
        return False
    for single, index in ((folder / SINGLE_FILE, folder / INDEX_FILE), (folder / BIN_FILE, folder / BIN_INDEX_FILE)):
        if single.is_file():
            return True
        if index.is_file():
            return all((folder / shard).is_file() for shard in read_index(index).values())
    return False
