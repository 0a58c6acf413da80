"""Uploads an exported folder to a model repository of the Hub.

Runs in the export, in two parts: a check before it, and the upload after it. It must not know what
the folder contains.
"""

from __future__ import annotations

from pathlib import Path

from sweeps.builders.hub import reason
from sweeps.errors import SweepError, UserError


def check_upload(repo: str) -> None:
    """Check everything that can be checked before the export.

    Raises:
        UserError: There is no token, or the repository's name is invalid.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented

    if constants.HF_HUB_OFFLINE:
        raise UserError("--push-to-hub: HF_HUB_OFFLINE is set; unset it to upload")
    if get_token() is None:
        raise UserError(
            "--push-to-hub: no Hugging Face token; log in with `hf auth login`, or set HF_TOKEN"
            " to a token with write access (https://huggingface.co/settings/tokens)"
        )
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--push-to-hub {repo!r}: {reason(error)}") from None


def upload(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Upload a folder in one commit; return the address of that commit.

    Args:
        folder: The folder to upload.
        repo: `NAME` or `OWNER/NAME`; created if it does not exist.
        private: Whether a newly created repository is private.
        message: The commit message.

    Raises:
        SweepError: The upload fails.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        commit = api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message=message)
    except Exception as error:  # HTTP errors are httpx's, or httpx2's since huggingface_hub 2
        retry = f"hf upload {repo} {folder}{' --private' if private else ''}"
        raise SweepError(
            f"{repo}: the upload to the Hub failed: {reason(error)}"
            f"\n  the export in {folder} is complete; to retry: {retry}"
        ) from error
    return str(commit.commit_url)
