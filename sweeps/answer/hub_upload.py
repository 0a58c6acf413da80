"""Uploads an exported folder to a model repository of the Hub.

Runs with the export, in two parts: the check before it, the upload after it. It must not know what
the folder holds.
"""

from __future__ import annotations

from pathlib import Path

from sweeps.builders.hub import reason
from sweeps.errors import SweepError, UserError


def check_upload(repo: str) -> None:
    """Check what can be known before the export.

    Raises:
        UserError: There is no token, or the repository's name is none.
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
        folder: What is uploaded.
        repo: `NAME` or `OWNER/NAME`; made if it is not there.
        private: Whether a repository that is made is private.
        message: Of the commit.

    Raises:
        SweepError: The Hub does not take it.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        commit = api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message=message)
    except Exception as error:  # its HTTP errors: httpx's in 1.x, httpx2's in 2.x
        raise SweepError(
            f"{repo}: the Hub rejected the export: {reason(error)}"
            f"\n  the export in {folder} is complete; to try again: hf upload {repo} {folder}"
        ) from error
    return str(commit.commit_url)
