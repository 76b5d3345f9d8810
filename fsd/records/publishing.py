"""Uploading a finished run's folder to the Hugging Face hub. Imports only light modules."""

import logging
from pathlib import Path

from fsd.records.output_folder import CARD_FILE, PREDICTIONS, RUN_FILES, is_our_card
from fsd.system.errors import InputError

logger = logging.getLogger(__name__)


def check_push(name):
    """Raise an ``InputError`` if nothing could be uploaded to the hub's repository ``name``; asks nobody."""
    import huggingface_hub  # takes 0.2 s, so only for runs that upload
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        token = huggingface_hub.get_token()
    except Exception as error:  # the library's own classes, for the name and for the token
        raise InputError(f"--push_to_hub {name}: {' '.join(str(error).split())}") from error
    if huggingface_hub.is_offline_mode():
        raise InputError("--push_to_hub: HF_HUB_OFFLINE is set; unset it")
    if not token:
        raise InputError("--push_to_hub needs a token of the hub; log in with `hf auth login`, or set HF_TOKEN")


def push_to_hub(name, output_dir, task):
    """Upload what a finished run on ``task`` wrote into its folder: no checkpoints, and no files of the user's own.

    The repository is made if it is missing, public or private as the hub does by default.

    Raises:
        InputError: the hub refuses it or cannot be reached.
    """
    import huggingface_hub

    files = files_to_push(output_dir, task)
    try:
        api = huggingface_hub.HfApi()
        repository = api.create_repo(name, exist_ok=True).repo_id
        address = api.upload_folder(repo_id=repository, folder_path=output_dir, allow_patterns=files,
                                    commit_message=f"A model of {task.name}").repo_url
    except Exception as error:  # many classes, from a wrong token to a broken connection
        remedy = f"the run is whole in {output_dir}; the same command with --resume uploads it"
        raise InputError(f"--push_to_hub {name}: {' '.join(str(error).split())}; {remedy}") from error
    logger.info("uploaded %d files to %s", len(files), address)


def files_to_push(output_dir, task):
    """The paths within the folder of what a finished run wrote."""
    folder = Path(output_dir)
    names = [*RUN_FILES, *(f"{PREDICTIONS}/{name}" for name in task.leaderboard_files.values())]
    return [name for name in names if (folder / name).is_file()] + [CARD_FILE] * is_our_card(folder / CARD_FILE)
