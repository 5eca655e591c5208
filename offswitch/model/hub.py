"""Where a hub model comes from: the hub if it answers, else its local cache.

Left alone, transformers retries for three quarters of a minute before it admits that there is no
network. One question beforehand, with a time limit, decides between the hub and the local cache.
"""

from __future__ import annotations

from typing import Any, Final

from offswitch.errors import UserError

_PATIENCE: Final = 8.0


def on_hub(repository: str, revision: str | None, first: str = "config.json") -> dict[str, Any]:
    """The arguments with which `from_pretrained` finds a hub model; offline, its cached copy only.

    `first` is a file that a cached copy has.

    Raises:
        UserError: no such repository or revision, or the hub is silent and nothing is cached.
    """
    from huggingface_hub import HfApi, errors, try_to_load_from_cache

    where = {"pretrained_model_name_or_path": repository, "revision": revision}
    try:
        HfApi().model_info(repository, revision=revision, timeout=_PATIENCE)
    except errors.HFValidationError as error:
        raise UserError(f"model '{repository}' is neither a folder nor a hub model's id") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"model '{repository}' has no revision '{revision}'") from error
    except errors.GatedRepoError:
        return where
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"model '{repository}': no such folder, nor such a hub model") from error
    except Exception as error:  # no network; the transport's classes for it change by version
        cached = try_to_load_from_cache(repository, first, revision=revision)
        if isinstance(cached, str):
            return where | {"local_files_only": True}
        raise UserError(
            f"model '{repository}': no such folder, the hub does not answer, and no copy is cached"
        ) from error
    return where
