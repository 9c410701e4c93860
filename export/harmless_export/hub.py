"""Download a checkpoint from the Hugging Face hub, and tell what to do if that fails."""

import errno
import logging
from pathlib import Path

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
)

from harmless_export.weight_files import PICKLE
from harmless_runtime.errors import CheckpointError, one_line

# All files of the model and its tokenizer, and neither a pickle nor a Python file.
_WANTED = ["*.safetensors", "*.json", "merges.txt"]
_PICKLES = [PICKLE, PICKLE.replace(".bin", "-*.bin")]
_ATTEMPTS = 5

logger = logging.getLogger(__name__)


def download(model: str, revision: str | None, *, allow_pickle: bool) -> Path:
    """Download a checkpoint, with a progress bar, and return the folder that it is in.

    An interrupted download is continued. Pickles are downloaded only if they are allowed and no
    safetensors file is there.

    Raises:
        CheckpointError: there is no such model or revision, it may not be read, the hub cannot be
            reached, or the disk is full.
    """
    from huggingface_hub import errors as hub

    try:
        folder = _snapshot(model, revision, _WANTED)
        if allow_pickle and not any(folder.glob("*.safetensors")):
            _snapshot(model, revision, _PICKLES)
    except hub.HFValidationError as error:
        raise CheckpointError(f"{model} is neither a folder nor a valid Hugging Face id") from error
    except hub.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{model} is not a folder here, and the Hugging Face hub cannot be reached to download "
            "it",
            "check the name and the network, or name the folder of a copy",
        ) from error
    except hub.GatedRepoError as error:
        raise CheckpointError(
            f"{model} is gated: its owner has to let you in",
            f"ask for access on the model's page, then log in: {_LOGIN}",
        ) from error
    except hub.RevisionNotFoundError as error:
        raise CheckpointError(
            f"{model} has no revision {revision}", "`revision` is a branch, a tag or a commit"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no folder {model}, and the Hugging Face hub shows no model of this name: it "
            "does not exist, or it is private",
            f"check the name, or log in: {_LOGIN}",
        ) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise _failed(model, error) from error
        raise CheckpointError(
            f"cannot download {model}: the disk is full",
            "make room, or set HF_HOME to a folder on another disk; the same command then "
            "downloads what is missing",
        ) from error
    except Exception as error:  # requests' errors, httpx's, or those of the hub's own transfer
        raise _failed(model, error) from error
    return folder


def _snapshot(model: str, revision: str | None, files: list[str]) -> Path:
    """Download some files of a model. If the connection breaks, try again from where it broke."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    def may_pass(error: BaseException) -> bool:
        is_full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        is_answer = isinstance(error, HfHubHTTPError | HFValidationError)
        return isinstance(error, Exception) and not is_full and not is_answer

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning("the download of %s broke, and is continued: %s", model, one_line(error))

    attempts = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=0.5, max=20),
        before_sleep=tell,
        reraise=True,
    )
    return Path(attempts(snapshot_download, model, revision=revision, allow_patterns=files))


_LOGIN = "hf auth login, or set HF_TOKEN"


def _failed(model: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"cannot download {model}: {one_line(error) or type(error).__name__}",
        "the same command downloads what is missing",
    )
